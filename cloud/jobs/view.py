"""A job as a reader sees it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from cloud.jobs.jobs import summary
from cloud.jobs.state import CLOUD, MERGING, RUNNING, Job, Part
from cloud.store.answers import JobPartView, JobView

READINGS, WINDOWS = "readings", "windows"


def view(job: Job, now: int, *, whole: bool = False) -> JobView:
    """Show a job; with its parts and its result only if `whole`."""
    counts, done = summary(job.parts), [part for part in job.parts.values() if part.outcome == "done"]
    asked: dict[str, Any] = msgspec.json.decode(job.asked) if job.asked else {}
    until = now if job.state in (RUNNING, MERGING) else job.ended
    return JobView(
        job.id,
        job.question.work,
        list(job.question.series),
        list(asked.get("gateways", [])),
        job.question.start,
        job.question.end,
        job.terms.priority,
        job.terms.deadline,
        job.state,
        job.reason,
        job.began,
        job.ended,
        round((until - job.began) / 1e9, 3),
        job.predicted,
        len(job.parts),
        counts["done"],
        counts["lost"],
        counts["asked"],
        round(counts["done"] / len(job.parts), 6),
        sum(part.readings for part in done),
        sum(part.size for part in done),
        round(sum(part.seconds for part in done), 3),
        _held(done),
        [_part(part) for part in job.parts.values()] if whole else [],
        msgspec.json.decode(job.result) if whole and job.result else None,
        job.makes.name if job.makes else "",
        sum(part.site == CLOUD for part in done),
    )


def _held(done: list[Part]) -> tuple[int, int]:
    spans = [part.held for part in done if part.readings]
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else (0, 0)


def _part(part: Part) -> JobPartView:
    state = part.outcome or ("asked" if part.leases else "open")
    return JobPartView(
        part.place.gateway,
        state,
        part.reason,
        part.attempt,
        part.readings,
        part.size,
        round(part.seconds, 3),
        part.place.seconds,
        part.asked,
        part.held,
        part.ended,
        WINDOWS if part.outcome == "done" and part.site == CLOUD else READINGS,
    )

"""What jobs that have ended tell of those to come: seconds that are no computing, by gateway, and for merging. Pure.

Nothing is kept for it: the newest RECENT jobs that are remembered say it, also after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from statistics import median

from cloud.jobs.state import DONE, Job, Part

RECENT = 16
"""Jobs looked at."""
SAMPLES = 8
"""Of those the newest count, by their median."""
SHORT = 10.0
"""Seconds of CPU: in a longer part what a busy machine has cost would pass for waiting."""
S = 1e9


def recent(jobs: Mapping[str, Job]) -> list[Job]:
    """Give the newest jobs that have a result, newest first."""
    return list(islice((job for job in reversed(list(jobs.values())) if job.state == DONE), RECENT))


def waiting(jobs: Iterable[Job], gateway: str, uplink: float, slowed: float) -> float | None:
    """Give the seconds between asking a gateway and its answer in which neither its CPU nor its link was at work.

    `uplink` is in bytes/s, and CPU time took `slowed` times as long. None: nothing was measured.
    """
    found = list(islice(_waits(jobs, gateway, uplink, slowed), SAMPLES))
    return median(found) if found else None


def _waits(jobs: Iterable[Job], gateway: str, uplink: float, slowed: float) -> Iterator[float]:
    for job in jobs:
        part = job.parts.get(gateway)
        if part is not None and part.outcome == DONE and part.site and part.began and part.seconds < SHORT:
            yield max(0.0, (part.ended - part.began) / S - part.seconds * slowed - part.size / uplink)


def merging(jobs: Iterable[Job], work: str) -> float | None:
    """Give the seconds that merging takes: of this work, else of any. None: nothing was measured."""
    took = [(job.question.work == work, (job.ended - max(map(_ended, job.parts.values()))) / S) for job in jobs]
    same = [seconds for alike, seconds in took if alike] or [seconds for _, seconds in took]
    return median(same[:SAMPLES]) if same else None


def _ended(part: Part) -> int:
    return part.ended

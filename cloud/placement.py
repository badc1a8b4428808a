"""Where each part of a job is computed, why, what that costs and when it ends: a plan, before anything runs. Pure.

Raw readings are on their gateway alone, so a part is computed there. Windows that the cloud has stored are of cleaned
readings, with means rounded to single precision: they never answer a question about raw history exactly, so nothing is
placed in the cloud by itself.

What a part is thought to take, in seconds:

    STARTS + readings / 1e6 * (seconds a million, measured there or DEFAULT_COST) * slowed + bytes / uplink

`readings` are those recorded there, by the share of the time asked for in the time that its journal goes back, and by
the share of series that match. `slowed` is how many want a core beyond those there are. The longest come first, so that
the last to end ends soonest (Graham 1969); who is away comes last.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from heapq import heappop, heappush
from typing import NamedTuple

import msgspec

from cloud.jobs import Bounds, Place, Question
from protocol.jobs import Cost, Resources

STARTS = 1.5
"""Seconds from a task's word to its child's first reading, and from its answer to the store's commit, on a slow Pi."""
DEFAULT_COST = 0.5
"""Seconds a million readings, where nothing was measured."""
DEFAULT_BYTES = 16_000
DEFAULT_UPLINK = 125_000.0
"""Bytes/s: 1 Mbit/s."""


class Known(NamedTuple):
    """What is known of a gateway; series are those stored of it, and those of them that the question means."""

    name: str
    online: bool
    readings: int
    series: int = 0
    matching: int = 0
    resources: Resources | None = None


class Step(msgspec.Struct, frozen=True):
    """One part: where, why, what it costs, and when it ends (seconds from the beginning; None: nobody can say)."""

    gateway: str
    where: str  # "gateway", or "nowhere"
    why: str
    readings: int
    seconds: float
    bytes: int
    ends: float | None


class Plan(msgspec.Struct, frozen=True):
    """All parts in the order in which they are asked; `seconds` until the last that can be told has ended."""

    steps: list[Step]
    seconds: float
    bytes: int

    @property
    def places(self) -> list[Place]:
        """What is to be asked, in this order."""
        return [Place(step.gateway, (step.gateway,), step.seconds) for step in self.steps if step.where != "nowhere"]


def plan(question: Question, gateways: Iterable[Known], bounds: Bounds, now: int) -> Plan:
    """Place every part."""
    steps = [_step(question, one, now) for one in gateways]
    steps.sort(key=lambda step: (step.where == "nowhere", step.ends is None, -step.seconds, step.gateway))
    free = [0.0] * bounds.most
    timed = []
    for step in steps:
        if step.ends is not None:
            ends = heappop(free) + step.seconds
            heappush(free, ends)
            step = msgspec.structs.replace(step, ends=round(ends, 3))  # noqa: PLW2901 - a frozen value, set once
        timed.append(step)
    return Plan(timed, max((step.ends or 0.0 for step in timed), default=0.0), sum(step.bytes for step in timed))


def _step(question: Question, known: Known, now: int) -> Step:
    found = known.resources or Resources()
    if found.allow and not any(fnmatchcase(question.work, pattern) for pattern in found.allow):
        return Step(known.name, "nowhere", f"its tasks.allow does not name {question.work}", 0, 0.0, 0, None)
    readings = _readings(question, known, found, now)
    cost = found.costs.get(question.work) or Cost(DEFAULT_COST, 0)
    slowed = max(1.0, (found.load or 0.0) / found.cores) if found.cores else 1.0
    size = cost.bytes or DEFAULT_BYTES
    seconds = STARTS + readings / 1e6 * cost.seconds * slowed + size / (found.uplink or DEFAULT_UPLINK)
    why = ["its readings are there", f"{cost.seconds:.3g} s a million " + ("measured" if cost.readings else "assumed")]
    if slowed > 1.0:
        why.append(f"{slowed:.1f} times slower, it is loaded")
    if found.oldest and 0 < question.start < found.oldest:
        why.append("its journal does not go back so far")
    if not known.online:
        why.append("away: asked when it is back")
    return Step(known.name, "gateway", "; ".join(why), readings, round(seconds, 3), size, 0.0 if known.online else None)


def _readings(question: Question, known: Known, found: Resources, now: int) -> int:
    held = found.readings or known.readings
    share = known.matching / known.series if known.series else 1.0
    if found.oldest and found.oldest < now:
        start, end = max(question.start, found.oldest), min(question.end or now, now)
        share *= max(0, end - start) / (now - found.oldest)
    return round(held * share)

"""Where each part of a job is computed, why, what that costs and when it ends: a plan, before anything runs. Pure.

Raw readings are on their gateway alone, so a part is computed there. Windows that the cloud has stored are another
answer (`stored`), so only a job that allows it is given one: of a gateway that is away, or whose journal lacks more
than LACKS of the time that its windows here are about.

What a part is thought to take, in seconds:

    waiting + (starting + unread / 1e6 * reading + readings / 1e6 * cost) * slowed + bytes / uplink

`waiting` is what passes beside computing and sending: of the gateway's last parts, else WAITS. `starting` is the CPU
before a task has its first reading. `unread` are bytes of the journal that are in no blocks yet: all of them are
read, whatever is asked for. `readings` are those recorded there, by the share of the time asked for in the time that
its journal goes back, and by the share of series that match. `cost` was measured there; if that work never ran there,
it is what WORKS says, by how many times slower than that the gateway reads. `slowed` is how many times its CPU time a
task has taken there, else how many want a core beyond those there are. The longest come first, so that the last to
end ends soonest (Graham 1969); who is away comes last. Merging comes after the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from heapq import heappop, heappush
from statistics import median
from typing import NamedTuple

import msgspec

from cloud.jobs import CLOUD, Bounds, Place, Question
from protocol.jobs import Resources

WAITS = 1.0
"""Seconds from a task's word to its child's first reading, and from its answer to the store's commit."""
MERGES = 0.8
"""Seconds from the last answer to the result."""


class Reference(NamedTuple):
    """What work costs where it was measured: CPU seconds a million readings in blocks, bytes of an answer a series."""

    seconds: float
    bytes: int


WORKS = {
    "moments": Reference(0.028, 60),
    "quantiles": Reference(0.041, 300),
    "histogram": Reference(0.13, 1_200),
    "top_anomalies": Reference(0.40, 5_000),
    "spectrum": Reference(0.16, 1_100),
    "covariance": Reference(0.20, 100),
    "correlation": Reference(0.20, 100),
    "ridge": Reference(0.20, 100),
    "sample": Reference(0.05, 200),
}
"""On one core of a Xeon of 2.1 GHz, 100 series (`python -m tests.bench work`)."""
OTHER = Reference(0.2, 500)
READING, STARTING = 0.3, 0.3
"""The same for reading 10^6 bytes as recorded, and for starting."""
SLOWER = 4.0
"""A Pi 4's core is so many times slower: for a gateway that says nothing of itself."""
NOTABLY = 1.2
"""Times slower: less is not worth a word."""
LACKS = 0.01
ADDING, PER_SERIES = 0.5, 0.005
"""Seconds of making a part of windows here, and more for each series."""
DEFAULT_SERIES = 30
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
    waiting: float | None = None  # seconds of its last parts that were neither computing nor sending
    stored: int = 0  # when the oldest window begins (ns) that the cloud has and the job may use; 0: there is none


class Step(msgspec.Struct, frozen=True):
    """One part: where, why, what it costs, and when it ends (seconds from the beginning; None: nobody can say)."""

    gateway: str
    where: str  # "gateway", "cloud" (of windows stored here), or "nowhere"
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
        placed = [step for step in self.steps if step.where != "nowhere"]
        sites = {"cloud": CLOUD}
        return [Place(step.gateway, (sites.get(step.where, step.gateway),), step.seconds) for step in placed]


def plan(question: Question, gateways: Iterable[Known], bounds: Bounds, now: int, merging: float | None = None) -> Plan:
    """Place every part; `merging` is how many seconds that has taken before."""
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
    last = max((step.ends or 0.0 for step in timed), default=0.0)
    return Plan(timed, round(last + (MERGES if merging is None else merging), 3), sum(step.bytes for step in timed))


def _step(question: Question, known: Known, now: int) -> Step:
    found = known.resources or Resources()
    if found.allow and not any(fnmatchcase(question.work, pattern) for pattern in found.allow):
        return Step(known.name, "nowhere", f"its tasks.allow does not name {question.work}", 0, 0.0, 0, None)
    readings = _readings(question, known, found, now)
    if why_stored := _why_stored(question, known, found, now):
        seconds = ADDING + PER_SERIES * known.matching
        return Step(known.name, "cloud", why_stored, readings, round(seconds, 3), 0, 0.0)
    cost, how = _cost(question.work, found)
    unread = max(0, found.bytes - found.blocked)
    pace = _pace(found)
    starting, reading = found.starting or STARTING * pace, found.reading or READING * pace
    slowed = slowed_by(found)
    size = _size(question.work, known, found)
    seconds = (starting + unread / 1e6 * reading + readings / 1e6 * cost) * slowed
    seconds += (WAITS if known.waiting is None else known.waiting) + size / (found.uplink or DEFAULT_UPLINK)
    why = ["its readings are there", f"{cost:.3g} s a million {how}"]
    if unread / 1e6 * reading > 1.0:
        why.append(f"{unread / 1e6:.0f} MB to read as recorded")
    if slowed > NOTABLY:
        why.append(f"{slowed:.1f} times slower, it is loaded")
    if found.oldest and 0 < question.start < found.oldest:
        why.append("its journal does not go back so far")
    if not known.online:
        why.append("away: asked when it is back")
    return Step(known.name, "gateway", "; ".join(why), readings, round(seconds, 3), size, 0.0 if known.online else None)


def _why_stored(question: Question, known: Known, found: Resources, now: int) -> str:
    """Say why a part is to be made of windows stored here, "" if it is not."""
    end = min(question.end or now, now)
    if not known.stored or known.stored >= end:
        return ""
    about = f"of cleaned readings, stored here since {_day(known.stored)}"
    if not known.online:
        return f"it is away; windows {about}"
    begin = max(question.start, known.stored)
    if found.oldest - begin <= LACKS * (end - begin):
        return ""
    return f"its journal goes back to {_day(found.oldest)} only; windows {about}"


def _day(stamp: int) -> str:
    return f"{datetime.fromtimestamp(stamp // 10**9, UTC):%Y-%m-%d %H:%M}"


def slowed_by(found: Resources) -> float:
    """Say how many times its CPU time a task takes."""
    return found.slowed or (max(1.0, (found.load or 0.0) / found.cores) if found.cores else 1.0)


def _pace(found: Resources) -> float:
    """Say how many times slower a gateway is than where WORKS was measured."""
    if found.reading:
        return found.reading / READING
    known = [cost.seconds / WORKS[name].seconds for name, cost in found.costs.items() if name in WORKS]
    return median(known) if known else SLOWER


def _cost(work: str, found: Resources) -> tuple[float, str]:
    """Give seconds a million readings, and where that is from."""
    if (cost := found.costs.get(work)) is not None:
        return cost.seconds, "measured"
    how = "by how fast it reads" if found.reading else "by what others cost there" if found.costs else "assumed"
    return WORKS.get(work, OTHER).seconds * _pace(found), how


def _size(work: str, known: Known, found: Resources) -> int:
    cost = found.costs.get(work)
    if cost is None or not cost.bytes:
        return WORKS.get(work, OTHER).bytes * (known.matching or DEFAULT_SERIES)
    return round(cost.bytes * known.matching / cost.series) if known.matching and cost.series else cost.bytes


def _readings(question: Question, known: Known, found: Resources, now: int) -> int:
    held = found.readings or known.readings
    share = known.matching / known.series if known.series else 1.0
    if found.oldest and found.oldest < now:
        start, end = max(question.start, found.oldest), min(question.end or now, now)
        share *= max(0, end - start) / (now - found.oldest)
    return round(held * share)

"""Standing jobs: which of their runs are due. Pure.

Rules:

1. Intervals end at whole multiples of `every` since 1970 (UTC). A run is due `wait` after its interval's end, and asks
   for the event times [end - `over`, end).
2. A run is (name, end), and its job's id says both. None begins twice: how far each job is, is kept together with the
   jobs themselves.
3. Of intervals that ended while nobody looked, the newest `catch_up` are run, oldest first; the others are passed over,
   and counted. A job that is new begins with the newest.
4. A clock that is set back lets nothing begin until it has caught up. Who is more than AHEAD before it was misled, and
   begins anew.

| may fill | bound | answer when full |
|---|---|---|
| jobs that are remembered, configured or not | MAX_REMEMBERED | those whose last run is oldest are forgotten |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from cloud.config.standing import Standing
from cloud.jobs.spec import Spec
from cloud.jobs.state import NEVER

AHEAD = 86400 * 10**9
MAX_REMEMBERED = 256


class Run(NamedTuple):
    """One run of a standing job: its interval ends at `end` (ns)."""

    job: Standing
    end: int

    @property
    def id(self) -> str:
        """Give the job's id; no other job's ends so."""
        return f"{self.job.name}.{self.end // 10**9}"

    @property
    def spec(self) -> Spec:
        """Give what is asked for."""
        job = self.job
        return Spec(
            work=job.work,
            series=job.series,
            gateways=job.gateways,
            start=max(0, self.end - job.span),
            end=self.end,
            params=job.params,
            priority=job.priority,
            deadline=f"{job.lasts}ns",
            windows=job.windows,
        )


class Begun(msgspec.Struct, array_like=True):
    """How far a standing job is: the end of its last run's interval, and how many were passed over so far."""

    end: int
    passed: int = 0


class Timetable:
    """See the rules above; `state` is what an earlier one gave, or nothing."""

    def __init__(self, jobs: Iterable[Standing], state: bytes = b"") -> None:
        self.jobs = {job.name: job for job in jobs}
        kept = msgspec.msgpack.decode(state, type=dict[str, Begun] | int) if state else {}
        self.begun: dict[str, Begun] = kept if isinstance(kept, dict) else {}  # a number: before there were any
        self._not_before = 0

    def snapshot(self) -> bytes:
        """Give all that lasts."""
        newest = sorted(self.begun.items(), key=lambda item: -item[1].end)[:MAX_REMEMBERED]
        return msgspec.msgpack.encode(dict(newest))

    def due(self) -> int:
        """When (ns) a run is due."""
        if not self.jobs:
            return NEVER
        return max(self._not_before, min(map(self.next, self.jobs.values())))

    def next(self, job: Standing) -> int:
        """When (ns) this job's next run is due; long ago where it was never run."""
        begun = self.begun.get(job.name)
        return _following(job, begun.end if begun else 0) + job.wait

    def tick(self, now: int) -> list[Run]:
        """Give the runs that are due, until it is said that they have begun."""
        if now < self._not_before:
            return []
        return [run for job in self.jobs.values() for run in self._due(job, now)]

    def note(self, run: Run) -> None:
        """Take note that a run has begun, or never will."""
        begun = self.begun.get(run.job.name)
        passed = max(0, (run.end - _following(run.job, begun.end)) // run.job.every) + begun.passed if begun else 0
        self.begun[run.job.name] = Begun(run.end, passed)

    def put_off(self, until: int) -> None:
        """Give nothing before that time (ns)."""
        self._not_before = until

    def _due(self, job: Standing, now: int) -> list[Run]:
        newest = (now - job.wait) // job.every * job.every
        begun = self.begun.get(job.name)
        if begun and begun.end > newest + max(AHEAD, job.every):
            del self.begun[job.name]
            begun = None
        first = max(_following(job, begun.end), newest - (job.catch_up - 1) * job.every) if begun else newest
        return [Run(job, end) for end in range(first, newest + 1, job.every) if end > 0]


def _following(job: Standing, end: int) -> int:
    """Give the end of the interval after one that ended then."""
    return (end // job.every + 1) * job.every

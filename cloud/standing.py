"""Standing jobs carried out: their runs become jobs when they are due, and what those come to becomes series.

When a run is due is `jobs.timetable`'s decision. A run is a job like any other, and its result is final: a part that
comes after its end changes nothing of the numbers in its series. They are recorded before the job's end is kept, so a
cloud that was killed in between records the same again, which changes nothing.

| may fill | bound | answer when full |
|---|---|---|
| numbers of a run | MAX_NUMBERS | those that come last by name are left out, and logged |
| series of all jobs | `store.MAX_OURS` | names that are new are left out, and logged |
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from hashlib import blake2b

import msgspec

from cloud.config.standing import Standing
from cloud.jobs import Instruction, Job, Jobs, Makes, Question, Run, Spec, Timetable, question, scalars, terms
from cloud.placement import Plan
from cloud.store import Results, Store, Stored
from cloud.store.answers import StandingView
from learning.work import registry
from protocol.errors import ConfigurationRefused, JobRefused, TaskRefused

log = logging.getLogger("fieldgate.standing")

MAX_NUMBERS = 10_000
PUT_OFF_NS = 30 * 10**9
"""A run that finds no room among the jobs is tried again after that time."""


def check(jobs: tuple[Standing, ...]) -> None:
    """ConfigurationRefused if a job asks for work that is not installed here, or with parameters that are not its."""
    for number, job in enumerate(jobs):
        try:
            question(Run(job, 0).spec, registry.find(job.work), 0)
        except (TaskRefused, JobRefused) as refused:
            key = "params" if refused.reason == "params" else "work"
            value: object = job.params if key == "params" else job.work
            expectation = f"work that is installed, and its parameters ({refused.detail})"
            raise ConfigurationRefused(f"job[{number}].{key}", value, expectation) from None


class StandingJobs:
    """See the rules above; `show` is given the rows that were recorded."""

    def __init__(self, jobs: tuple[Standing, ...], store: Store, show: Callable[[list[Stored]], None]) -> None:
        self._jobs, self._store, self._show = jobs, store, show
        self.timetable = Timetable(jobs)
        self._lacking: dict[str, str] = {}

    def begin(self, state: bytes) -> None:
        """Go on from what was kept."""
        self.timetable = Timetable(self._jobs, state)

    async def submit(
        self, jobs: Jobs, plan: Callable[[Spec, int], Awaitable[tuple[Question, Plan]]], now: int
    ) -> list[Instruction] | None:
        """Make jobs of the runs that are due; None if none is."""
        due, decided = self.timetable.tick(now), list[Instruction]()
        for run in due:
            try:
                decided += await _submit(run, jobs, plan, now)
                self._lacking.pop(run.job.name, None)
            except JobRefused as refused:
                log.warning("standing: %s: %s", run.id, refused)
                self._lacking[run.job.name] = str(refused)
                if refused.reason == "busy":
                    self.timetable.put_off(now + PUT_OFF_NS)
                    break
            self.timetable.note(run)
        return decided if due else None

    async def record(self, job: Job, result: bytes) -> None:
        """Let the numbers of a result become rows, if it is a standing job's."""
        if job.makes is None or not result:
            return
        found = _numbers(job.makes, result)
        if found:
            stored = await self._store.record(_results(job, job.makes, dict(found[:MAX_NUMBERS])))
            self._show([stored])
            if len(stored.series) < len(found):
                log.warning("standing: %s: %d numbers found no series", job.id, len(found) - len(stored.series))

    def views(self) -> list[StandingView]:
        """Give all standing jobs, as configured."""
        return [self._view(job) for job in self._jobs]

    def _view(self, job: Standing) -> StandingView:
        begun = self.timetable.begun.get(job.name)
        last = begun.end if begun else 0
        return StandingView(
            job.name,
            job.work,
            list(job.series),
            list(job.gateways),
            int(job.every),
            int(job.span),
            last,
            Run(job, last).id if last else "",
            self.timetable.next(job),
            begun.passed if begun else 0,
            self._lacking.get(job.name, ""),
        )


async def _submit(
    run: Run, jobs: Jobs, plan: Callable[[Spec, int], Awaitable[tuple[Question, Plan]]], now: int
) -> list[Instruction]:
    if run.id in jobs.jobs:
        return []
    spec, job = run.spec, run.job
    asked, planned = await plan(spec, now)
    makes = Makes(job.name, int(min(job.every, job.span)), job.keep)
    packed = msgspec.json.encode(spec)
    how = terms(spec, now)
    return jobs.submit(run.id, asked, planned.places, how, now, predicted=planned.seconds, asked=packed, makes=makes)


def _numbers(makes: Makes, result: bytes) -> list[tuple[str, float]]:
    found = sorted(scalars(msgspec.json.decode(result)).items())
    return [
        (f"{makes.name}/{name}", value)
        for name, value in found
        if any(fnmatchcase(name, pattern) for pattern in makes.keep)
    ]


def _results(job: Job, makes: Makes, values: dict[str, float]) -> Results:
    asked, how = job.question, msgspec.json.decode(job.asked)
    named = (asked.work, asked.version, asked.series, how["gateways"], asked.params)
    digest = f"job {blake2b(msgspec.msgpack.encode(named), digest_size=16).hexdigest()}"
    return Results(digest, asked.end - asked.start, makes.hop, asked.start, values)

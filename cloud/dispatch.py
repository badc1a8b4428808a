"""Jobs carried out: what is asked is planned, sent to gateways, gathered, merged, and kept.

    api ──spec──▶ placement ──plan──▶ jobs ──asked──▶ leases ──▶ gateways
    stored ───parts of windows───────▶ │
    standing ──runs──────────────────▶ ▲  └── merge ──▶ merging ──result──▶ store
    leases ──answers───────────────────┘

Who is asked when is `jobs`' decision, where it is computed `placement`'s; how gateways hear of it, and what is kept
when, is `leases`'. A job is a row of the store, each answer one beside it until the job has ended.

| may fill | bound | answer when full |
|---|---|---|
| wishes that are not decided | MAX_WISHES | JobRefused("busy") |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from cloud.compute import choose
from cloud.config import Compute
from cloud.config.standing import Standing
from cloud.fleet import Fleet
from cloud.jobs import (
    CLOUD,
    NEVER,
    Ask,
    Bounds,
    Ended,
    Instruction,
    Job,
    Jobs,
    Keep,
    Merge,
    Spec,
    TakeBack,
    terms,
)
from cloud.jobs.state import MERGING
from cloud.jobs.view import view
from cloud.leases import Kept, Leases
from cloud.merging import Merging, Outcome
from cloud.placement import Plan
from cloud.planning import Planning
from cloud.standing import StandingJobs
from cloud.store import Part, Store, Stored
from cloud.store.answers import JobView, StandingView
from cloud.stored import StoredParts
from protocol import jobs as wire
from protocol.bus import Bus
from protocol.errors import ComputeUnavailable, JobRefused, StoreUnavailable
from protocol.identity import Signer
from protocol.tasks import Task
from protocol.topics import topic

log = logging.getLogger("fieldgate.jobs")

MACHINE = "jobs"
LOOK_S = 2.0
RETRY_S = 5.0
LONGEST_WAIT_NS = 86400 * 10**9
"""After its deadline a job waits so long for somebody who merges it; then it has failed: `compute`."""
MAX_WISHES = 256
ROWS = 16
"""Jobs read at once: a row may be megabytes."""


class _Wish(NamedTuple):
    """What somebody wants done, and whom to tell when it is kept."""

    do: Callable[[int], list[Instruction]]
    done: asyncio.Future[None]


def _nobody(_rows: list[Stored]) -> None:
    pass


class Dispatch:
    """See the rules above; `tell` is told of every job that changed, `show` given what standing jobs recorded."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        compute: Compute,
        labels: Mapping[str, tuple[str, ...]],
        *,
        signer: Signer,
        clock: Callable[[], int],
        tell: Callable[[JobView], None],
        standing: tuple[Standing, ...] = (),
        show: Callable[[list[Stored]], None] = _nobody,
    ) -> None:
        self._bounds = Bounds(compute.at_once, compute.per_gateway, compute.workers)
        self.jobs = Jobs(self._bounds)
        self._store, self._fleet = store, fleet
        self._clock, self._tell = clock, tell
        self._forgotten = False  # by a broker, perhaps
        self._leases = Leases(MACHINE, store, signer, self)
        computing = choose(compute)
        self._merging = Merging(computing)
        self._stored = StoredParts(store, computing, self._leases.look)
        self._planning = Planning(store, fleet, labels, self._bounds, lambda: self.jobs.jobs)
        self._standing = StandingJobs(standing, store, show)
        self._begun = False
        self._wishes: list[_Wish] = []
        self._granted = 0
        self._merged: list[tuple[str, Outcome]] = []
        self._merges: dict[str, asyncio.Task[None]] = {}
        self._decided: list[Instruction] = []
        self._touched: set[str] = set()
        self._tasks: asyncio.TaskGroup | None = None

    def look(self) -> None:
        """Decide soon: answers have come, or somebody has."""
        self._leases.look()

    def on_state(self, connected: bool, _why: str) -> None:
        """Ask again when the bus is back: a broker may have forgotten."""
        if connected:
            self._forgotten = True
            self._leases.look()

    async def run(self, bus: Bus) -> None:
        """Carry out until cancelled."""
        async with bus.subscribe(topic("+", "status")) as heard, asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._planning.hear(heard), name="jobs-hear")
            tasks.create_task(self._leases.run(bus), name="jobs-lease")

    # What somebody wants.

    async def plan(self, spec: Spec) -> Plan:
        """Say where each part would be computed, without running it; JobRefused for what cannot be."""
        return (await self._planning.plan(spec, self._clock()))[1]

    async def submit(self, spec: Spec) -> JobView:
        """Begin a job; it is kept when this returns. JobRefused says why not."""
        now = self._clock()
        asked, planned = await self._planning.plan(spec, now)
        name = ""

        def begin(now: int) -> list[Instruction]:
            nonlocal name
            name = self._name(spec.work, now)  # not earlier: another wish may have taken it meanwhile
            how, packed = terms(spec, now), msgspec.json.encode(spec)
            return self.jobs.submit(name, asked, planned.places, how, now, predicted=planned.seconds, asked=packed)

        await self._want(begin)
        return view(self.jobs.jobs[name], self._clock())

    async def cancel(self, name: str) -> JobView:
        """End a job; KeyError if there is none."""
        self._job(name)
        await self._want(lambda now: self.jobs.cancel(name, now))
        return view(self.jobs.jobs[name], self._clock())

    def views(self) -> list[JobView]:
        """Give all jobs, newest first, without their parts and results."""
        self._check()
        now = self._clock()
        return [view(job, now) for job in reversed(self.jobs.jobs.values())]

    def standing(self) -> list[StandingView]:
        """Give all standing jobs, as configured."""
        self._check()
        return self._standing.views()

    def view(self, name: str) -> JobView:
        """Give a job with its parts and its result; KeyError if there is none."""
        return view(self._job(name), self._clock(), whole=True)

    def _job(self, name: str) -> Job:
        self._check()
        return self.jobs.jobs[name]

    def _check(self) -> None:
        if not self._begun:
            raise StoreUnavailable("jobs are being read")

    def _name(self, work: str, now: int) -> str:
        """Name a job as none was named before: gateways remember what they have answered."""
        number = now // 10**9
        while f"{work}-{number}" in self.jobs.jobs:
            number += 1
        return f"{work}-{number}"

    async def _want(self, do: Callable[[int], list[Instruction]]) -> None:
        if self._tasks is None:
            raise JobRefused("bus", "this cloud reaches no gateway: its configuration has no [bus]")
        if len(self._wishes) >= MAX_WISHES:
            raise JobRefused("busy", f"{MAX_WISHES} wishes wait")
        wish = _Wish(do, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        self._leases.look()
        await wish.done

    # What leases asks of a machine.

    async def begin(self, state: bytes) -> None:
        """Go on from what was kept, and ask again."""
        found: list[bytes] = []
        after = ""
        while rows := await self._store.rows(MACHINE, "job/", after, ROWS):
            found += [value for _key, value in rows]
            after = rows[-1][0]
        self._standing.begin(state)
        self.jobs, self._begun = Jobs.restore(found, self._bounds), True
        self._carry_out(self.jobs.again())

    async def decide(self, parts: list[Part]) -> Kept | None:
        """Handle answers, wishes, what was merged, who is there, and what is due."""
        self._ask_again()
        now = self._clock()
        decided = self.jobs.present([one.name for one in self._fleet.views() if one.online], now)
        for _number, gateway, body in parts:
            decided += self.jobs.part(gateway, body, now)
        for gateway, body in self._stored.take():
            decided += self.jobs.part(gateway, body, now)
        decided += self._grant(now)
        decided += await self._take_merged(now)
        decided += self.jobs.tick(now)
        begun = await self._standing.submit(self.jobs, self._planning.plan, now)
        decided += begun or []
        if not decided and not self.jobs.changed and not self._granted and begun is None:
            return None
        self._decided, self._touched = decided, set(self.jobs.changed)
        self.jobs.changed.clear()
        return Kept(self._standing.timetable.snapshot(), self._rows(decided))

    async def _take_merged(self, now: int) -> list[Instruction]:
        decided: list[Instruction] = []
        merged, self._merged = self._merged, []
        for name, (result, reason, refused) in merged:
            if (job := self._merging_job(name)) is not None:
                await self._standing.record(job, result)
            decided += self.jobs.merged(name, result, reason, now, refused)
        return decided

    def _ask_again(self) -> None:
        """Say once more what was asked, if a broker may have forgotten: all that was decided so far is kept."""
        if self._forgotten:
            self._forgotten = False
            self._carry_out(self.jobs.again())

    def carry_out(self) -> None:
        """Do what was decided, and tell whom it concerns."""
        granted, self._wishes = self._wishes[: self._granted], self._wishes[self._granted :]
        self._granted = 0
        for wish in granted:
            if not wish.done.done():
                wish.done.set_result(None)
        decided, self._decided = self._decided, []
        self._carry_out(decided)
        for name in self._touched & self.jobs.jobs.keys():
            self._tell(view(self.jobs.jobs[name], self._clock()))
        self._touched = set()

    def until_due(self) -> float:
        """Seconds until something is due, or it is time to look who is there."""
        due = min(self.jobs.due(), self._standing.timetable.due())
        return LOOK_S if due == NEVER else min(LOOK_S, max(0.0, (due - self._clock()) / 1e9))

    def _grant(self, now: int) -> list[Instruction]:
        decided: list[Instruction] = []
        self._granted = len(self._wishes)
        for wish in self._wishes:
            try:
                decided += wish.do(now)
            except (JobRefused, KeyError) as refused:
                if not wish.done.done():  # it may have been told before a commit failed
                    wish.done.set_exception(refused)
        return decided

    def _rows(self, decided: Iterable[Instruction]) -> dict[str, bytes | None]:
        jobs = self.jobs
        rows = {f"job/{name}": jobs.snapshot(name) if name in jobs.jobs else None for name in self._touched}
        for one in decided:
            match one:
                case Keep(job, gateway, content):
                    rows[_answer(job, gateway)] = content
                case Ended(job, _state, gateways):
                    rows |= dict.fromkeys((_answer(job, gateway) for gateway in gateways), None)
        return rows

    def _carry_out(self, decided: Iterable[Instruction]) -> None:
        for one in decided:
            match one:
                case Ask(job, gateway, site, attempt) if site != CLOUD:
                    self._leases.ask(_task(self.jobs.jobs[job], gateway, attempt))
                case Ask(job, gateway, _here, attempt) if self._tasks is not None:
                    self._stored.begin(self._tasks, self.jobs.jobs[job], gateway, attempt)
                case TakeBack(job, gateway, site) if site != CLOUD:
                    self._leases.take_back(gateway, job)
                case Merge(job, gateways):
                    self._begin_merge(self.jobs.jobs[job], gateways)
                case Ended(job, state, gateways):
                    found = self.jobs.jobs.get(job)
                    why = f": {found.reason}" if found and found.reason else ""
                    log.info("jobs: %s: %s, %d answers%s", job, state, len(gateways), why)

    def _begin_merge(self, job: Job, gateways: tuple[str, ...]) -> None:
        merged = any(name == job.id for name, _ in self._merged)  # and its answers may be forgotten by then
        if merged or job.id in self._merges or self._tasks is None:
            return
        task = self._tasks.create_task(self._merge(job, gateways), name=f"merge {job.id}")
        self._merges[job.id] = task
        task.add_done_callback(lambda _task: self._merges.pop(job.id, None))

    def _merging_job(self, name: str) -> Job | None:
        job = self.jobs.jobs.get(name)
        return job if job is not None and job.state == MERGING else None

    async def _merge(self, job: Job, gateways: tuple[str, ...]) -> None:
        outcome: Outcome | None = None
        while outcome is None:
            if self._merging_job(job.id) is None:
                return  # cancelled: its answers are forgotten
            try:
                outcome = await self._merging.merge(
                    job.question, gateways, lambda name: self._store.row(MACHINE, _answer(job.id, name))
                )
            except (StoreUnavailable, ComputeUnavailable) as error:
                log.warning("jobs: %s: %s", job.id, error)
                if self._clock() > job.terms.deadline + LONGEST_WAIT_NS:
                    outcome = Outcome(b"", "compute")
                await asyncio.sleep(RETRY_S)
        self._merged.append((job.id, outcome))
        self._leases.look()


def _answer(job: str, gateway: str) -> str:
    return f"part/{job}/{gateway}"


def _task(job: Job, gateway: str, attempt: int) -> Task:
    asked = job.question
    packed = msgspec.msgpack.encode(wire.Question(asked.series, asked.start, asked.end, asked.params, asked.limit))
    named = (job.id, attempt, gateway, asked.work, asked.version)
    return Task(*named, packed, issued=job.began, deadline=job.terms.deadline, lean=True)

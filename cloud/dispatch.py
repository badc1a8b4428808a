"""Jobs carried out: what is asked is planned, sent to gateways, gathered, merged, and kept.

    api ──spec──▶ placement ──plan──▶ jobs ──asked──▶ leases ──▶ gateways
                                       ▲  └── merge ──▶ merging ──result──▶ store
    leases ──answers───────────────────┘

Who is asked when is `jobs`' decision, where it is computed `placement`'s; how gateways hear of it, and what is kept
when, is `leases`'. A job is a row of the store, each answer one beside it until the job has ended.

| may fill | bound | answer when full |
|---|---|---|
| wishes that are not decided | MAX_WISHES | JobRefused("busy") |
| gateways whose resources are known | those that have a name here | passed over |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from cloud.config import Compute
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
    chosen,
    question,
    terms,
)
from cloud.jobs.view import view
from cloud.leases import Kept, Leases
from cloud.merging import Merging, Outcome
from cloud.placement import Known, Plan, plan
from cloud.store import MAX_ROWS, Part, Store
from cloud.store.answers import JobView
from learning.work import registry
from protocol import jobs as wire
from protocol.bus import Bus, Subscription
from protocol.errors import JobRefused, StoreUnavailable, TaskRefused
from protocol.identity import Signer
from protocol.tasks import Task
from protocol.topics import gateway_of, topic

log = logging.getLogger("fieldgate.jobs")

MACHINE = "jobs"
LOOK_S = 2.0
MAX_WISHES = 256
ROWS = 16
"""Jobs read at once: a row may be megabytes."""


class _Wish(NamedTuple):
    """What somebody wants done, and whom to tell when it is kept."""

    do: Callable[[int], list[Instruction]]
    done: asyncio.Future[None]


class Dispatch:
    """See the rules above; `tell` is told of every job that changed."""

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
    ) -> None:
        self._bounds = Bounds(compute.at_once, compute.per_gateway, compute.workers)
        self.jobs = Jobs(self._bounds)
        self._store, self._fleet, self._labels = store, fleet, labels
        self._clock, self._tell = clock, tell
        self._leases = Leases(MACHINE, store, signer, self)
        self._merging = Merging(compute.workers)
        self._resources: dict[str, wire.Resources] = {}
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
            self._carry_out(self.jobs.again())

    async def run(self, bus: Bus) -> None:
        """Carry out until cancelled."""
        async with bus.subscribe(topic("+", "status")) as heard, asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._hear(heard), name="jobs-hear")
            tasks.create_task(self._leases.run(bus), name="jobs-lease")

    async def _hear(self, heard: Subscription) -> None:
        async for message in heard:
            name = gateway_of(message.topic) or ""
            found = wire.read_status(message.payload).resources
            if found is not None and self._fleet.knows(name):
                self._resources[name] = found

    # What somebody wants.

    async def plan(self, spec: Spec) -> Plan:
        """Say where each part would be computed, without running it; JobRefused for what cannot be."""
        return (await self._plan(spec, self._clock()))[1]

    async def submit(self, spec: Spec) -> JobView:
        """Begin a job; it is kept when this returns. JobRefused says why not."""
        now = self._clock()
        asked, planned = await self._plan(spec, now)
        name = self._name(spec.work, now)

        def begin(now: int) -> list[Instruction]:
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

    def view(self, name: str) -> JobView:
        """Give a job with its parts and its result; KeyError if there is none."""
        return view(self._job(name), self._clock(), whole=True)

    def _job(self, name: str) -> Job:
        self._check()
        return self.jobs.jobs[name]

    def _check(self) -> None:
        if not self._begun:
            raise StoreUnavailable("jobs are being read")

    async def _plan(self, spec: Spec, now: int) -> tuple[Any, Plan]:
        try:
            asked = question(spec, registry.find(spec.work), now)
        except TaskRefused as refused:
            raise JobRefused(refused.reason, refused.detail) from None
        names = chosen(spec, (one.name for one in self._fleet.views()), self._labels)
        if not names:
            raise JobRefused("gateways", f"no gateway that has called matches {', '.join(spec.gateways)}")
        matching = await self._matching(spec.series) if len(names) <= MAX_ROWS else {}
        return asked, plan(asked, self._known(names, matching), self._bounds, now)

    async def _matching(self, patterns: Iterable[str]) -> dict[str, int]:
        """Count series that match, by gateway; of so many as one answer of the store holds."""
        found: dict[str, set[int]] = {}
        for pattern in patterns:
            for one in await self._store.series(None, pattern, 0, MAX_ROWS):
                found.setdefault(one.gateway, set()).add(one.id)
        return {gateway: len(ids) for gateway, ids in found.items()}

    def _known(self, names: Iterable[str], matching: Mapping[str, int]) -> list[Known]:
        views = {one.name: one for one in self._fleet.views()}
        found = (views[name] for name in names)
        return [
            Known(
                one.name, one.online, one.readings, one.series, matching.get(one.name, 0), self._resources.get(one.name)
            )
            for one in found
        ]

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
        del state
        found: list[bytes] = []
        after = ""
        while rows := await self._store.rows(MACHINE, "job/", after, ROWS):
            found += [value for _key, value in rows]
            after = rows[-1][0]
        self.jobs, self._begun = Jobs.restore(found, self._bounds), True
        self._carry_out(self.jobs.again())

    async def decide(self, parts: list[Part]) -> Kept | None:
        """Handle answers, wishes, what was merged, who is there, and what is due."""
        now = self._clock()
        decided = self.jobs.present([one.name for one in self._fleet.views() if one.online], now)
        for _number, gateway, body in parts:
            decided += self.jobs.part(gateway, body, now)
        decided += self._grant(now)
        merged, self._merged = self._merged, []
        for name, (result, reason, refused) in merged:
            decided += self.jobs.merged(name, result, reason, now, refused)
        decided += self.jobs.tick(now)
        if not decided and not self.jobs.changed and not self._granted:
            return None
        self._decided, self._touched = decided, set(self.jobs.changed)
        self.jobs.changed.clear()
        return Kept(b"\x01", self._rows(decided))

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
        due = self.jobs.due()
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
                case TakeBack(job, gateway, site) if site != CLOUD:
                    self._leases.take_back(gateway, job)
                case Merge(job, gateways):
                    self._begin_merge(self.jobs.jobs[job], gateways)
                case Ended(job, state, gateways):
                    found = self.jobs.jobs.get(job)
                    why = f": {found.reason}" if found and found.reason else ""
                    log.info("jobs: %s: %s, %d answers%s", job, state, len(gateways), why)

    def _begin_merge(self, job: Job, gateways: tuple[str, ...]) -> None:
        if job.id in self._merges or self._tasks is None:
            return
        task = self._tasks.create_task(self._merge(job, gateways), name=f"merge {job.id}")
        self._merges[job.id] = task
        task.add_done_callback(lambda _task: self._merges.pop(job.id, None))

    async def _merge(self, job: Job, gateways: tuple[str, ...]) -> None:
        outcome: Outcome | None = None
        while outcome is None:
            try:
                outcome = await self._merging.merge(
                    job.question, gateways, lambda name: self._store.row(MACHINE, _answer(job.id, name))
                )
            except StoreUnavailable as error:
                log.warning("jobs: %s: %s", job.id, error)
                await asyncio.sleep(LOOK_S)
        self._merged.append((job.id, outcome))
        self._leases.look()


def _answer(job: str, gateway: str) -> str:
    return f"part/{job}/{gateway}"


def _task(job: Job, gateway: str, attempt: int) -> Task:
    asked = job.question
    packed = msgspec.msgpack.encode(wire.Question(asked.series, asked.start, asked.end, asked.params, asked.limit))
    return Task(
        job.id, attempt, gateway, asked.work, asked.version, packed, issued=job.began, deadline=job.terms.deadline
    )

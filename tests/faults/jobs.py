"""A gateway or the cloud killed with -9 at each step of a job: each job ends, and no part is counted twice.

Three gateways have recorded what they will be asked about, each another number of readings. Job follows job; whatever
dies meanwhile, the result of each is that of exactly the gateways which it says it holds: counts and histograms to the
last reading, moments to 1e-9. Every job holds all of them, but for those whose deadline passes while one is dead.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.broker import EmbeddedBroker
from cloud.store.sqlite import SqliteStore
from tests.faults.mortals import AWAY, RANDOM, WITHIN_S, Play, fleet_in, mortals, shuffled
from tests.faults.stage import Found
from tests.faults.trap import Step
from tests.journeys.fleet import MS
from tests.journeys.messages import send
from tests.journeys.site import Site
from tests.ports import free_port
from tests.waiting import until

GATEWAYS = 3
READINGS = 150
"""Of the first; each later one has twice as many, so no sum can be that of others."""
EDGES = [14.0, 17.0, 20.0, 20.5, 23.0]
WORKS: dict[str, dict[str, Any]] = {"moments": {}, "histogram": {"edges": EDGES}}
IN_TIME, TOO_SHORT = "90s", "1500ms"

GATEWAY_POINTS = [
    *(("task", when) for when in ("before", "after")),
    *(("spool.results.write", when) for when in ("before", "half", "after")),
    *(("spool.results.sync", when) for when in ("before", "after")),
]
CLOUD_POINTS = {"keep.jobs": 5, "say": 5, "apply": 3, "merge": 1}
"""And how often each is passed at least until a job has ended: leases, answers, the merge and its result are kept."""

STEPS = [
    *(Step("gateway", point, when, hit) for point, when in GATEWAY_POINTS for hit in (1, 2)),
    *(
        Step("cloud", point, when, hit)
        for point, most in CLOUD_POINTS.items()
        for when in ("before", "after")
        for hit in range(1, most + 1)
    ),
    *(Step(who, RANDOM, "") for who in ("gateway", "cloud") for _ in range(4)),
    *(Step("gateway", AWAY, "") for _ in range(3)),
]

BRIEF = [
    Step("gateway", "spool.results.sync", "before"),
    Step("cloud", "keep.jobs", "after", 2),
    Step("cloud", "merge", "after"),
    Step("gateway", AWAY, ""),
]

Values = NDArray[np.float64]


class Jobs:
    """What the gateways hold, the jobs that have been checked, and those that had no time."""

    def __init__(self, play: Play, held: dict[str, Values]) -> None:
        self.play, self.held = play, held
        self.checked: set[str] = set()
        self.short: set[str] = set()

    async def go_on(self) -> None:
        """Let a job begin and end; check it, and those that a dying cloud had begun without saying so."""
        await self._asked(IN_TIME)
        for one in (await self._all())["jobs"]:
            await self.ended(one["id"])

    async def without(self, gateway: str) -> None:
        """Let a job end while one of its gateways is dead."""
        job = await self._asked(TOO_SHORT)
        answered = [each["gateway"] for each in job["each"] if each["state"] == "done"]
        self.play.found.demand(gateway not in answered, f"{job['id']}: {gateway} was dead, and has answered")

    async def _asked(self, deadline: str) -> dict[str, Any]:
        work = self.play.chance.choice(list(WORKS))
        body = {"work": work, "series": ["*/x"], "params": WORKS[work], "deadline": deadline}
        before = {one["id"] for one in (await self._all())["jobs"]}
        begun = await self.play.begun("/v1/jobs", body)
        if deadline == TOO_SHORT:  # a dying cloud may have begun it twice
            self.short |= {one["id"] for one in (await self._all())["jobs"]} - before
        return await self.ended(begun["id"])

    async def _all(self) -> dict[str, Any]:
        answer: dict[str, Any] = await until(lambda: self.play.ask("/v1/jobs"), "the cloud answers", within=WITHIN_S)
        return answer

    async def ended(self, name: str) -> dict[str, Any]:
        """Wait for the end of a job, give it, and check it if that is new."""

        async def ended() -> dict[str, Any] | None:
            found: dict[str, Any] | None = await self.play.ask(f"/v1/jobs/{name}")
            return found if found and found["state"] not in ("running", "merging") else None

        job: dict[str, Any] = await until(ended, f"{name} ends", within=WITHIN_S, every=0.03)
        if name not in self.checked:
            self.checked.add(name)
            self._check(job)
        return job

    def _check(self, job: dict[str, Any]) -> None:
        found, name = self.play.found, job["id"]
        done = [each["gateway"] for each in job["each"] if each["state"] == "done"]
        whole = len(done) == len(self.held)
        found.sums.update(jobs=1, whole=whole, partial=not whole)
        found.demand(whole or name in self.short, f"{name}: {job['state']}, {job['reason']}: only {done}")
        told = (job["done"], job["complete"], job["reason"])
        found.demand(
            told == (len(done), round(len(done) / len(self.held), 6), "" if whole else "deadline"), f"{name}: {told}"
        )
        if not done:
            found.demand(job["state"] == "failed" and job["result"] is None, f"{name}: {job['state']} of nobody")
            return
        values = np.concatenate([self.held[gateway] for gateway in done])
        found.demand(job["state"] == "done" and job["readings"] == len(values), f"{name}: {job['readings']} readings")
        each = {one["gateway"]: one["readings"] for one in job["each"] if one["gateway"] in done}
        found.demand(each == {one: len(self.held[one]) for one in done}, f"{name}: readings {each}")
        found.demand(_is_exact(job["result"]["groups"], job["work"], values), f"{name}: {done}: {job['result']}")


def _is_exact(groups: dict[str, Any], work: str, values: Values) -> bool:
    """Whether a result is that of these values."""
    [group] = groups.values()
    if work == "histogram":
        place = np.searchsorted(EDGES, values, side="right")
        return bool(group == np.bincount(place, minlength=len(EDGES) + 1).tolist())
    whole = (group["count"], group["minimum"], group["maximum"]) == (len(values), values.min(), values.max())
    return whole and np.allclose([group["mean"], group["deviation"]], [values.mean(), values.std()], 1e-9, 0)


async def record(site: Site, number: int) -> Values:
    """Let a pump of a gateway say values; give them."""
    values = np.round(np.random.default_rng(number).normal(20, 3, READINGS << number), 3)
    first, topic = time.time_ns() - 60 * 10**9, site.topic.replace("{device}", "pump")
    said = [{"time": first + step * 20 * MS, "x": value} for step, value in enumerate(values.tolist())]
    await send(site, [(topic, json.dumps(one).encode()) for one in said])
    return values


async def play_all(directory: Path, steps: list[Step], broker: str, chance: Random) -> Found:
    """Let a job end undisturbed; then go through the steps, job after job."""
    async with mortals(fleet_in(directory, broker, values='values = { x = "x" }'), GATEWAYS, chance) as play:
        held = {site.name: await record(site, number) for number, site in enumerate(play.sites)}
        for number, values in enumerate(held.values()):
            await play.gateway(number).recorded(len(values))
        jobs = Jobs(play, held)
        await jobs.go_on()
        await play.kill_all(steps, jobs.go_on, jobs.without)
    await _nothing_is_left(play)
    return play.found


async def _nothing_is_left(play: Play) -> None:
    """Answers are kept until their job has ended."""
    store = SqliteStore(play.fleet.cloud.directory / "data" / "fieldgate.db", time.time_ns)
    await store.open()
    left = [key for key, _ in await store.rows("jobs", "part/", "", 100)]
    await store.close()
    play.found.demand(not left, f"answers are kept for nobody: {left}")


async def job_kill(directory: Path, cycles: int, chance: Random) -> Found:
    """Kill a gateway or the cloud at so many steps of jobs."""
    with EmbeddedBroker(directory, free_port(), free_port()) as broker:
        return await play_all(directory, shuffled(STEPS, cycles, chance), broker.url, chance)

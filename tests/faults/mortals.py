"""A cloud and gateways that are killed with -9 again and again while something goes on, and come back at once.

What goes on is not begun anew for a kill: each step is waited for in whatever goes on then, so one run or job may live
through several deaths. All are forked from interpreters that have imported everything.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from tests.faults.nursery import VICTIM, Nursery
from tests.faults.stage import Found, killed
from tests.faults.trap import Step, Trap
from tests.journeys.fleet import VALUES, Fleet
from tests.journeys.processes import Child
from tests.journeys.site import Gateway, Site
from tests.ports import free_port
from tests.waiting import until

CLOUD = "tests.faults.cloud_victim"
WITHIN_S = 100.0
RANDOM = "random"
"""The point that is a moment: the kill comes from outside."""
AWAY = "away"
"""The same, and it stays dead for a while."""
AT_MOST_S = 0.6
LATE, LATE_S = 0.4, 1.0
"""So many come back only after so many seconds: without a cloud a gateway that dies may answer twice."""

Away = Callable[[str], Awaitable[None]]


async def _at_once(_name: str) -> None:
    pass


@dataclass
class Mortal:
    """One process, which dies and comes back."""

    name: str
    trap: Trap
    nursery: Nursery
    log: Path
    arguments: list[str]
    child: Child | None = None

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self.child is not None and self.child.running

    async def live(self, after_s: float = 0.0) -> None:
        """Start it."""
        await asyncio.sleep(after_s)
        self.child = Child(await self.nursery.start(self.log, self.arguments), self.log)

    async def die(self, step: Step, chance: Random) -> None:
        """Wait until it has died at a step."""
        assert self.child is not None
        if step.point in (RANDOM, AWAY):
            await asyncio.sleep(chance.uniform(0.0, AT_MOST_S))
            await self.child.kill()
            return
        self.trap.set(step)
        await killed(self.child, f"{self.name}: death {step}", within=WITHIN_S)
        self.trap.open()


@dataclass
class Play:
    """The cloud, its gateways, and what was found."""

    fleet: Fleet
    sites: list[Site]
    cloud: Mortal
    gateways: list[Mortal]
    chance: Random
    found: Found = field(default_factory=Found)
    hits: Counter[str] = field(default_factory=Counter)

    def gateway(self, number: int) -> Gateway:
        """Give a gateway as it lives now."""
        mortal = self.gateways[number]
        assert mortal.child is not None
        return Gateway(mortal.child.process, mortal.log, f"http://127.0.0.1:{self.sites[number].port}")

    async def all_there(self) -> bool:
        """Whether the cloud sees all gateways."""
        answer = await self.ask("/v1/gateways")
        return bool(answer) and sum(one["online"] for one in answer["gateways"]) == len(self.gateways)

    async def ask(self, path: str) -> Any:
        """Give the JSON that the cloud answers; None while it does not."""
        answer = await self.fleet.cloud.ask(path)
        return None if answer and "error" in answer else answer

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask as the admin; None while the cloud does not answer, or cannot now."""
        url = f"http://127.0.0.1:{self.fleet.cloud.port}{path}"
        headers = {"Authorization": f"Bearer {self.fleet.cloud.admin}"}
        try:
            async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as answer:
                return await answer.json() if answer.status == 200 else None
        except aiohttp.ClientError:
            return None

    async def begun(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask until it is done; what it was asked twice, if it dies in between, it may do twice."""
        return await until(lambda: self.post(path, body), f"{path} is done", within=WITHIN_S, every=0.02)

    async def kill(self, step: Step, away: Away, tasks: asyncio.TaskGroup) -> None:
        """Let whom a step says die there, and come back; some while others die already."""
        began = time.monotonic()
        meant = [self.cloud] if step.who == "cloud" else self.gateways
        living = await until(lambda: [one for one in meant if one.lives], f"{step.who} lives", within=WITHIN_S)
        everybody = all(one.lives for one in (self.cloud, *self.gateways))
        mortal = self.chance.choice(living)
        await mortal.die(step, self.chance)
        if step.point == AWAY:
            await away(mortal.name)
        if everybody and self.chance.random() < LATE:
            tasks.create_task(mortal.live(LATE_S), name=f"{mortal.name} comes back")
        else:
            await mortal.live()
        self.found.times["death_s"].append(time.monotonic() - began)
        self.found.cycles += 1
        self.hits[str(step)] += 1

    async def kill_all(
        self, steps: list[Step], meanwhile: Callable[[], Awaitable[None]], away: Away = _at_once
    ) -> None:
        """Go through the steps, while one thing after another goes on; each that was begun ends.

        `away` is what is to happen while a gateway is AWAY.
        """
        over = asyncio.Event()

        async def go_on() -> None:
            while not over.is_set():
                await meanwhile()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(go_on(), name="meanwhile")
            for step in steps:
                await self.kill(step, away, tasks)
            over.set()
        self.found.more["failpoints"] = dict(sorted(self.hits.items()))


@asynccontextmanager
async def mortals(fleet: Fleet, gateways: int, chance: Random) -> AsyncIterator[Play]:
    """Let a cloud and so many gateways live; they are ready, and connected."""
    with ExitStack() as stack:
        sites = [fleet.site(number) for number in range(gateways)]
        nurseries = [stack.enter_context(Nursery(module)) for module in (CLOUD, *(VICTIM for _ in sites))]
        cloud = _cloud(fleet, nurseries[0])
        play = Play(fleet, sites, cloud, [_gateway(*one) for one in zip(sites, nurseries[1:], strict=True)], chance)
        everybody = [cloud, *play.gateways]
        try:
            for mortal in everybody:
                await mortal.live()
            for number in range(gateways):
                await play.gateway(number).ready()
            await until(play.all_there, "the cloud sees all gateways", within=WITHIN_S)
            yield play
        finally:
            for mortal in everybody:
                if mortal.child is not None:
                    await mortal.child.close()


def _cloud(fleet: Fleet, nursery: Nursery) -> Mortal:
    here = fleet.cloud.directory
    trap = here / "trap"
    return Mortal("cloud", Trap(trap), nursery, here / "cloud.log", [str(fleet.cloud.path), str(trap)])


def _gateway(site: Site, nursery: Nursery) -> Mortal:
    trap = site.directory / "trap"
    arguments = [str(site.path), "--archive", str(site.archive), "--trap", str(trap)]
    return Mortal(site.name, Trap(trap), nursery, site.directory / "gateway.log", arguments)


def shuffled(steps: list[Step], number: int, chance: Random) -> list[Step]:
    """Give so many steps: all of them in turn, each turn in another order."""
    turns = (chance.sample(steps, len(steps)) for _ in range(number // len(steps) + 1))
    return [step for turn in turns for step in turn][:number]


def fleet_in(directory: Path, broker: str, more: str = "", values: str = VALUES) -> Fleet:
    """Give a fleet on ports that are free."""
    return Fleet(directory, broker, free_port, more, values)

"""A gateway or the cloud killed with -9 at each step of a training round: the run ends, and nothing is counted twice.

Three gateways learn together. What a round makes depends only on what was counted, bit for bit, so each run is held
against the one that nobody disturbed: the same bases go out in it. Where a gateway was away when a round began, it was
not asked, and the run only has to end, with each gateway counted at most once in a round.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
import msgspec

from cli.broker import EmbeddedBroker
from protocol.identity import SIGNATURE_SIZE
from protocol.mqtt import MqttBus
from protocol.tasks import Task
from protocol.topics import topic
from protocol.training import Given
from tests.bench.rig import free_port
from tests.faults.nursery import Nursery
from tests.faults.stage import Found
from tests.journeys.fleet import TRAINING, Fleet, measure
from tests.journeys.processes import Child, python
from tests.journeys.site import Gateway, Site
from tests.waiting import until

GATEWAYS, ROUNDS = 3, 2
STAGES = ROUNDS + 2
ENDS_WITHIN_S = 100.0
MORTAL = python("-m", "tests.faults.cloud_victim")

CLOUD = f"""{TRAINING}
classes = 3
samples = 16
hop = 8
rounds = {ROUNDS}
fewest = {GATEWAYS}
margin = 1.0
deadline = "20s"
every = "0s"
"""
"""Nothing is so much better as to be promoted, but for the first: so all later runs begin alike."""


class Step(NamedTuple):
    """Where whom is killed: at the hit-th passing of a point."""

    who: str  # "gateway" or "cloud"
    point: str
    when: str
    hit: int

    def __str__(self) -> str:
        """Name it."""
        return f"{self.who} {self.when} {self.point} {self.hit}"


GATEWAY_POINTS = [
    *(("tasks.write", when) for when in ("before", "half", "after")),
    *(("tasks.sync", when) for when in ("before", "after")),
    *(("tasks.rename", when) for when in ("before", "after")),
    *(("spool.results.write", when) for when in ("before", "half", "after")),
    *(("spool.results.sync", when) for when in ("before", "after")),
]
CLOUD_POINTS = [(point, when) for point in ("apply", "keep", "say") for when in ("before", "after")]

STEPS = [
    *(Step("gateway", point, when, hit) for point, when in GATEWAY_POINTS for hit in range(1, STAGES + 1)),
    *(Step("cloud", point, when, hit) for point, when in CLOUD_POINTS for hit in range(1, GATEWAYS * STAGES + 1, 2)),
]

BRIEF = [
    Step("gateway", "spool.results.sync", "after", 3),
    Step("cloud", "keep", "before", 6),
]


@dataclass
class Play:
    """A cloud and its gateways; what went out, by run and round."""

    directory: Path
    broker: str
    nursery: Nursery
    found: Found = field(default_factory=Found)
    bases: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fleet = Fleet(self.directory, self.broker, free_port, CLOUD)
        self.cloud = fleet.cloud
        self.sites = [fleet.site(number) for number in range(GATEWAYS)]

    async def view(self) -> dict[str, Any] | None:
        """Give what the cloud says of the training; None while it does not answer."""
        answer = await self.cloud.ask("/v1/trainings")
        return dict(answer["trainings"][0]) if answer else None

    async def all_there(self) -> bool:
        """Whether all gateways are connected."""
        answer = await self.cloud.ask("/v1/gateways")
        return bool(answer) and sum(view["online"] for view in answer["gateways"]) == GATEWAYS

    async def begin(self) -> int:
        """Begin a run; give its number."""
        await until(self.all_there, "all are there", within=ENDS_WITHIN_S)
        view = await self.view()
        assert view is not None
        token = (self.directory / "cloud" / "data" / "admin.token").read_text().strip()
        url = f"http://127.0.0.1:{self.cloud.port}/v1/train?name=state"
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as session, session.post(url) as answer:
            assert answer.status == 200, await answer.text()
        return int(view["run"]) + 1

    async def ended(self, run: int) -> list[dict[str, Any]]:
        """Wait for the end of a run; give its stages."""

        async def rests() -> list[dict[str, Any]] | None:
            view = await self.view()
            ended = view and view["run"] == run and view["stage"] == "rest"
            return [stage for stage in view["history"] if stage["run"] == run] if view and ended else None

        stages: list[dict[str, Any]] = await until(rests, f"run {run} ends", within=ENDS_WITHIN_S, every=0.1)
        return stages

    async def eavesdrop(self) -> None:
        """Hear what goes out to all but the first, for ever."""
        host, port, _ = self.sites[0].config.devices.address
        bus = MqttBus(host, port, f"ear-of-{self.directory.name}", rng=Random(7))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bus.run())
            for site in self.sites[1:]:
                tasks.create_task(self._hear(bus, f"{topic(site.name, 'tasks')}/+"))

    async def _hear(self, bus: MqttBus, pattern: str) -> None:
        async with bus.subscribe(pattern) as heard:
            async for message in heard:
                task = msgspec.msgpack.decode(message.payload[SIGNATURE_SIZE:], type=Task) if message.payload else None
                if task is not None and task.name == "train":
                    _, run, number = task.job.split(".")
                    base = msgspec.msgpack.decode(task.content, type=Given).base
                    known = self.bases.setdefault(int(run), {}).setdefault(int(number), base)
                    self.found.demand(known == base, f"{task.job} went out with two bases")

    # Processes.

    @asynccontextmanager
    async def running(self, site: Site, step: Step | None = None) -> AsyncIterator[Gateway]:
        """Run a gateway that dies at a step, or not."""
        options = ("--point", step.point, "--hit", step.hit, "--when", step.when) if step else ()
        run = site.gateway(self.nursery.start, "--archive", site.archive, *options) if step else site.gateway()
        async with run as gateway:
            await gateway.ready()
            yield gateway

    @asynccontextmanager
    async def mortal(self, step: Step) -> AsyncIterator[Child]:
        """Run a cloud that dies at a step."""
        log = self.directory / "mortal.log"
        arguments = [str(self.cloud.path), step.point, step.when, str(step.hit)]
        child = Child(await MORTAL(log, arguments), log)
        try:
            yield child
        finally:
            await child.close()


async def cycle(play: Play, step: Step) -> None:
    """Kill at a step of a run, let whoever died come back, and hold the run against the undisturbed one."""
    async with AsyncExitStack() as stack:
        doomed_gateway = step if step.who == "gateway" else None
        for site in play.sites[1:]:
            await stack.enter_async_context(play.running(site))
        if step.who == "cloud":
            await stack.enter_async_context(play.running(play.sites[0]))
            async with play.mortal(step) as doomed:
                run = await play.begin()
                await doomed.ended(f"death {step}")
            async with play.cloud.running():
                stages = await play.ended(run)
        else:
            async with play.cloud.running():
                async with play.running(play.sites[0], doomed_gateway) as gateway:
                    run = await play.begin()
                    await gateway.ended(f"death {step}")
                async with play.running(play.sites[0]):
                    stages = await play.ended(run)
    check(play, step, run, stages)


def check(play: Play, step: Step, run: int, stages: list[dict[str, Any]]) -> None:
    """Note what does not hold of a run."""
    found = play.found
    found.cycles += 1
    found.sums[step.who] += 1
    names = [(stage["stage"], stage["round"]) for stage in stages]
    expected = [("survey", 0), *(("round", number) for number in range(1, ROUNDS + 1)), ("trial", ROUNDS + 1)]
    found.demand(names == expected, f"{step}: stages {names}")
    everybody = sorted(site.name for site in play.sites)
    counted = [sorted(stage["answered"]) for stage in stages]
    found.demand(all(len(set(one)) == len(one) for one in counted), f"{step}: counted twice: {counted}")
    if all(one == everybody for one in counted):
        found.sums["equal"] += play.bases[run] == play.bases[2]
        found.demand(play.bases[run] == play.bases[2], f"{step}: run {run} went another way")
    else:
        found.sums["without the dead"] += 1


async def play_all(directory: Path, steps: list[Step], broker: str) -> Found:
    """Let two runs be undisturbed, the first of which is promoted; then go through the steps."""
    with Nursery() as nursery:
        play = Play(directory, broker, nursery)
        ear = asyncio.create_task(play.eavesdrop(), name="ear")
        try:
            await _undisturbed(play)
            for step in steps:
                await cycle(play, step)
            versions = (await _models(play))[0]["version"]
            play.found.demand(versions == 1, f"{versions} versions of a model that was promoted once")
        finally:
            ear.cancel()
            await asyncio.gather(ear, return_exceptions=True)
    return play.found


async def _undisturbed(play: Play) -> None:
    async with AsyncExitStack() as stack:
        for seed, site in enumerate(play.sites):
            await stack.enter_async_context(play.running(site))
            await measure(site, seed)
        async with play.mortal(Step("cloud", "publish", "after", 1)) as cloud:
            first = await play.begin()
            await cloud.ended("death when the first is promoted")
        async with play.cloud.running():
            await play.ended(first)
            await play.ended(await play.begin())


async def _models(play: Play) -> list[dict[str, Any]]:
    async with play.cloud.running():
        models: list[dict[str, Any]] = (await play.cloud.ask("/v1/models"))["models"]
    return models


def shuffled(number: int, chance: Random) -> list[Step]:
    """Give so many steps: all of them in turn, each turn in another order."""
    turns = (chance.sample(STEPS, len(STEPS)) for _ in range(number // len(STEPS) + 1))
    return [step for turn in turns for step in turn][:number]


async def round_kill(directory: Path, cycles: int, chance: Random) -> Found:
    """Kill a gateway or the cloud at so many steps of rounds."""
    with EmbeddedBroker(directory, free_port(), free_port()) as broker:
        return await play_all(directory, shuffled(cycles, chance), broker.url)

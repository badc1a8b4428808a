"""A gateway or the cloud killed with -9 at each step of a training round: each run ends, nothing is counted twice.

Three gateways learn together, run after run. What a round makes depends only on what was counted, bit for bit, so each
run is held against the one that nobody disturbed: the same bases go out in it. Where a gateway missed the deadline of a
stage the run only has to end, with each gateway counted at most once in a stage.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from cli.broker import EmbeddedBroker
from protocol.identity import SIGNATURE_SIZE
from protocol.mqtt import MqttBus
from protocol.tasks import Task
from protocol.topics import topic
from protocol.training import Given
from tests.faults.mortals import RANDOM, WITHIN_S, Play, fleet_in, mortals, shuffled
from tests.faults.stage import Found
from tests.faults.trap import Step
from tests.journeys.fleet import TRAINING, measure
from tests.journeys.site import Site
from tests.ports import free_port
from tests.waiting import until

GATEWAYS, ROUNDS = 3, 2
NAMES = [("survey", 0), *(("round", number) for number in range(1, ROUNDS + 1)), ("trial", ROUNDS + 1)]
PROMOTED, UNDISTURBED = 1, 2
"""Runs: the first model is promoted, and no later one, so all after it begin alike."""

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
"""Nothing is so much better as to be promoted, but for the first."""

WRITES = [
    *(("write", when) for when in ("before", "half", "after")),
    *(("sync", when) for when in ("before", "after")),
]
RENAMES = [*WRITES, ("rename", "before"), ("rename", "after")]

GATEWAY_POINTS = [
    *(("task", when) for when in ("before", "after")),
    *((f"tasks.{operation}", when) for operation, when in RENAMES),
    *((f"spool.results.{operation}", when) for operation, when in WRITES),
]
CLOUD_POINTS = [(point, when) for point in ("apply", "keep.trainings", "say") for when in ("before", "after")]

STEPS = [
    *(Step("gateway", point, when, hit) for point, when in GATEWAY_POINTS for hit in (1, 2)),
    *(Step("cloud", point, when, hit) for point, when in CLOUD_POINTS for hit in (1, 2, 3)),
    *(Step(who, RANDOM, "") for who in ("gateway", "cloud") for _ in range(2)),
]

BRIEF = [
    Step("gateway", "spool.results.sync", "after"),
    Step("cloud", "keep.trainings", "before", 2),
    Step("gateway", "tasks.rename", "before"),
]


class Runs:
    """What is seen of the runs: the bases that went out, by run and round, and those that have been checked."""

    def __init__(self, play: Play) -> None:
        self.play, self.checked = play, 0
        self.bases: defaultdict[int, dict[int, bytes]] = defaultdict(dict)

    async def go_on(self) -> None:
        """Let a run begin and end, and check it."""
        view = await until(self._rested, "a run ends", within=WITHIN_S, every=0.03)
        for run in range(self.checked + 1, view["run"] + 1):
            self._check(run, [stage for stage in view["history"] if stage["run"] == run])
        self.checked = view["run"]

    async def _rested(self) -> dict[str, Any] | None:
        """Give the training when a run has ended; what a killed cloud was asked, it may have forgotten."""
        answer = await self.play.ask("/v1/trainings")
        view: dict[str, Any] | None = answer["trainings"][0] if answer else None
        if view is None or view["stage"] != "rest":
            return None
        self.play.found.demand(view["run"] >= self.checked, f"run {self.checked} had ended, and is forgotten")
        if view["run"] == self.checked:
            await self.play.post("/v1/train?name=state")
            return None
        return view

    def _check(self, run: int, stages: list[dict[str, Any]]) -> None:
        found, everybody = self.play.found, sorted(site.name for site in self.play.sites)
        found.sums["runs"] += 1
        names = [(stage["stage"], stage["round"]) for stage in stages]
        found.demand(names == NAMES, f"run {run}: stages {names}")
        counted = [sorted(stage["answered"]) for stage in stages]
        found.demand(all(len(set(one)) == len(one) for one in counted), f"run {run}: counted twice: {counted}")
        if not all(one == everybody for one in counted):
            found.sums["runs without the dead"] += 1
        elif run > PROMOTED:
            same = self.bases[run] == self.bases[UNDISTURBED]
            found.sums["runs equal"] += same
            found.demand(same, f"run {run} went another way")

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """Hear what goes out to all but the first, while the block runs."""
        host, port, _ = self.play.sites[0].config.devices.address
        bus = MqttBus(host, port, f"ear-of-{self.play.sites[0].name}", rng=Random(7))
        ears = [asyncio.create_task(self._hear(bus, site), name="ear") for site in self.play.sites[1:]]
        connection = asyncio.create_task(bus.run(), name="connection")
        try:
            yield
        finally:
            for task in (*ears, connection):  # one after the other: the ears still speak with the broker
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _hear(self, bus: MqttBus, site: Site) -> None:
        async with bus.subscribe(f"{topic(site.name, 'tasks')}/+") as heard:
            async for message in heard:
                task = msgspec.msgpack.decode(message.payload[SIGNATURE_SIZE:], type=Task) if message.payload else None
                if task is not None and task.name == "train":
                    _, run, number = task.job.split(".")
                    base = msgspec.msgpack.decode(task.content, type=Given).base
                    known = self.bases[int(run)].setdefault(int(number), base)
                    self.play.found.demand(known == base, f"{task.job} went out with two bases")


async def play_all(directory: Path, steps: list[Step], broker: str, chance: Random | None = None) -> Found:
    """Let a run be promoted, another undisturbed; then go through the steps, run after run."""
    async with mortals(fleet_in(directory, broker, CLOUD), GATEWAYS, chance or Random(1)) as play:
        runs = Runs(play)
        for seed, site in enumerate(play.sites):
            await measure(site, seed)
        async with runs.heard():
            await play.kill_all([Step("cloud", "publish", "after")], runs.go_on)
            while runs.checked < UNDISTURBED:
                await runs.go_on()
            play.found.cycles = 0
            await play.kill_all(steps, runs.go_on)
        answer = await until(lambda: play.ask("/v1/models"), "the cloud answers")
        versions = answer["models"][0]["version"]
        play.found.demand(versions == 1, f"{versions} versions of a model that was promoted once")
        return play.found


async def round_kill(directory: Path, cycles: int, chance: Random) -> Found:
    """Kill a gateway or the cloud at so many steps of rounds."""
    with EmbeddedBroker(directory, free_port(), free_port()) as broker:
        return await play_all(directory, shuffled(STEPS, cycles, chance), broker.url, chance)

"""What a gateway does with what it has learnt: it says what windows are, notices drift, and is trained anew for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from cli.ask import Asked, ask
from cli.broker import EmbeddedBroker
from gateway.classify.drift import BLOCK, REFERENCE
from protocol.errors import CloudRefused
from protocol.mqtt import MqttBus
from protocol.topics import topic
from tests.journeys.cloud_process import Cloud
from tests.journeys.fleet import TRAINING, Fleet
from tests.journeys.messages import send
from tests.journeys.site import Gateway, Site
from tests.waiting import until

CLOUD = (
    TRAINING
    + """
classes = 2
samples = 8
hop = 8
rounds = 1
every = "0s"
margin = 0.0
newest = 300
"""
)

MS = 10**6


class Pump:
    """Swings little or much, by its state; a sample each 20 ms of its own time."""

    def __init__(self, site: Site) -> None:
        self.site, self.rng, self.step = site, np.random.default_rng(5), 0
        self.first = time.time_ns() - 600 * 10**9
        self.off = 0.0  # what the sensor is off by

    def state(self, at: int) -> int:
        """Give the state at a time."""
        return (at - self.first) // (80 * 20 * MS) % 2

    async def run(self, windows: int) -> None:
        """Send what makes so many windows, half of each state."""
        said = []
        for _ in range(8 * windows):
            state = self.step // 80 % 2
            values = {"x": self.off + self.rng.normal() * (1 + 3 * state), "y": self.off + state + self.rng.normal()}
            sample = values | {"state": state, "time": self.first + self.step * 20 * MS}
            said.append((self.site.topic.replace("{device}", "pump"), json.dumps(sample).encode()))
            self.step += 1
        await send(self.site, said)


@asynccontextmanager
async def hearing(broker: str, name: str) -> AsyncIterator[list[dict[str, Any]]]:
    """Collect what a gateway says of windows, as somebody near it hears it."""
    heard: list[dict[str, Any]] = []
    bus = MqttBus("127.0.0.1", int(broker.rpartition(":")[2]), f"ear-of-{name}", rng=Random(1))

    async def listen() -> None:
        async with bus.subscribe(topic(name, "classes")) as said:
            async for message in said:
                heard.extend([json.loads(message.payload)])

    tasks = [asyncio.create_task(bus.run(), name="ear bus"), asyncio.create_task(listen(), name="ear")]
    try:
        await until(lambda: bus.connected, "somebody listens")
        yield heard
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def begun(cloud: Cloud) -> bool:
    """Ask for a run; False while too few gateways are there."""
    where = Asked(f"http://127.0.0.1:{cloud.port}", cloud.admin)
    try:
        await asyncio.to_thread(ask, where, "/v1/train", {"name": "state"}, "POST")
    except CloudRefused:
        return False
    return True


async def test_windows_are_classified_and_drift_begins_another_training(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    fleet = Fleet(tmp_path, embedded_broker.url, free_port, CLOUD)
    cloud, site = fleet.cloud, fleet.site("barn")
    pump = Pump(site)

    async def trained(run: int) -> Any:
        [found] = (await cloud.ask("/v1/trainings"))["trainings"]
        return found if found["run"] == run and found["stage"] == "rest" else None

    async def says(gateway: Gateway, version: int) -> bool:
        return (await gateway.metrics()).get('fieldgate_model_version{model="state"}') == version

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(cloud.running())
        gateway = await stack.enter_async_context(site.gateway())
        heard = await stack.enter_async_context(hearing(embedded_broker.url, site.name))
        await gateway.ready()
        await pump.run(300)
        await gateway.recorded(3 * 8 * 300)
        await until(lambda: begun(cloud), "a run begins")
        assert (await until(lambda: trained(1), "the first run ends", within=30))["verdict"] == "promoted"
        await until(lambda: says(gateway, 1), "the model is there")

        await pump.run(REFERENCE + BLOCK)
        await until(lambda: len(heard) >= REFERENCE, "windows are classified")
        assert {(one["device"], one["model"], one["version"]) for one in heard} == {("pump", "state", 1)}
        assert np.mean([one["class"] == pump.state(one["start"]) for one in heard]) > 0.8

        pump.off = 8.0
        await pump.run(300)
        again = await until(lambda: trained(2), "drift begins another run, which ends", within=30)
        assert again["verdict"] == "promoted"
        assert again["accuracy"] > again["before"]
        await until(lambda: says(gateway, 2), "the better model is there")
        [model] = (await cloud.ask("/v1/models"))["models"]
        assert model["gateways"][0]["drifted"]["version"] == 1
        seen = await gateway.metrics()
        assert seen['fieldgate_classifier_drifts_total{model="state",what="features"}'] >= 1
        assert sum(value for key, value in seen.items() if key.startswith("fieldgate_windows_classified_total")) > 500

"""A gateway whose model is unsure asks a larger one in the cloud, over real connections; it has no labels."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.ask import Asked, ask
from cli.broker import EmbeddedBroker
from gateway.past import JournalPast
from learning import classifier, features, spread
from learning.models import Batch
from protocol.training import Dataset, Learning
from tests.journeys.cloud_process import Cloud
from tests.journeys.fleet import MS, TRAINING, Fleet
from tests.journeys.messages import send
from tests.journeys.site import Gateway, Site
from tests.journeys.test_classes import hearing
from tests.waiting import until

SAMPLES = 8
DATASET = Dataset(("x", "y"), "state", 2, SAMPLES, SAMPLES)
RUNS = 10
"""Windows that a state lasts."""

CLOUD = (
    TRAINING
    + """
classes = 2
samples = 8
hop = 8
rounds = 1
every = "0s"
[[cascade]]
model = "state"
large = "{large}"
"""
)
ASKS = "[cascade]\nper_hour = 100000\nbytes_per_hour = '32MiB'\nwait = '500ms'\n"
FEWEST = 10


def swings(first: int, windows: int) -> NDArray[np.float64]:
    """Give samples of windows, (windows * SAMPLES, 2): little or much, by turns of RUNS windows."""
    rng = np.random.default_rng([5, first])
    state = np.repeat((first + np.arange(windows)) // RUNS % 2, SAMPLES)
    return np.column_stack([rng.normal(size=len(state)) * (1 + 3 * state), state + rng.normal(size=len(state))])


def taught(windows: int, model: str, epochs: int) -> bytes:
    """Give a classifier that has seen so many windows."""
    samples = swings(10_000, windows).reshape(windows, SAMPLES, 2)
    x, y = features.extract(DATASET.features, samples), (10_000 + np.arange(windows)) // RUNS % 2
    learning = Learning(model, 32, epochs=epochs)
    begun = classifier.begin(DATASET, learning, spread.of(x), np.random.default_rng(0))
    return classifier.encode(begun.fitted(Batch(begun.standardise(x), y), np.random.default_rng(0)))


class Pump:
    """Says samples, 50 a second of its own time, and never what state it is in."""

    def __init__(self, site: Site) -> None:
        self.site, self.windows = site, 0
        self.first = time.time_ns() - 600 * 10**9

    def state(self, at: int) -> int:
        """Give the state at a time."""
        return (at - self.first) // (RUNS * SAMPLES * 20 * MS) % 2

    async def run(self, windows: int) -> None:
        """Say what makes so many windows."""
        said = []
        for step, (x, y) in enumerate(swings(self.windows, windows).tolist()):
            sample = {"x": x, "y": y, "time": self.first + (self.windows * SAMPLES + step) * 20 * MS}
            said.append((self.site.topic.replace("{device}", "pump"), json.dumps(sample).encode()))
        self.windows += windows
        await send(self.site, said)


async def told(cloud: Cloud, path: str, query: dict[str, object], content: bytes | None = None) -> Any:
    """Ask the cloud to do something, as its operator."""
    where = Asked(f"http://127.0.0.1:{cloud.port}", cloud.admin)
    return await asyncio.to_thread(ask, where, path, query, "POST", content)


async def count(gateway: Gateway, name: str) -> float:
    """Give one of the gateway's counts of the cascade."""
    return (await gateway.metrics()).get(f'fieldgate_cascade_{name}{{model="state"}}', 0)


async def test_unsure_windows_are_asked_about_and_answers_are_said_and_learnt_from_also_when_the_cloud_was_away(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    large = tmp_path / "large.fg"
    large.write_bytes(taught(2_000, "perceptron", 5))
    config = CLOUD.replace("{large}", str(large))
    fleet = Fleet(tmp_path, embedded_broker.url, free_port, config, 'values = { x = "x", y = "y" }')
    site = fleet.site("barn")
    site.path.write_text(site.path.read_text() + ASKS)
    pump = Pump(site)

    async def here(gateway: Gateway) -> bool:
        return 'fieldgate_model_version{model="state"}' in await gateway.metrics()

    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(site.gateway())
        heard = await stack.enter_async_context(hearing(embedded_broker.url, site.name))
        await gateway.ready()

        async def answered() -> float:
            asked, answers = await count(gateway, "asked_total"), await count(gateway, "answered_total")
            return asked if asked == answers else 0

        async with fleet.cloud.running():
            await pump.run(1)
            await until(lambda: online(fleet.cloud), "the gateway is there")
            await told(fleet.cloud, "/v1/models", {"model": "state", "untried": 1}, taught(40, "softmax", 1))
            await until(lambda: here(gateway), "the small model is there")
            await pump.run(300)
            first = await until(answered, "what was asked is answered")
        await pump.run(300)

        async def asks() -> bool:
            return bool(await count(gateway, "asked_total") > first + FEWEST)

        await until(asks, "it asks while the cloud is away")
        async with fleet.cloud.running():
            number = await until(answered, "the cloud answers when it is back")
            assert number > first + FEWEST
            said = await until(lambda: by_cloud(heard, number), "all of it is heard")
            small = {(one["start"], one["end"]): one["class"] for one in heard if one["by"] == "active"}
            assert {(one["device"], one["model"], one["version"]) for one in said} == {("pump", "state", 1)}
            truth = [pump.state(one["start"]) for one in said]
            by_small = [small[one["start"], one["end"]] for one in said]
            assert np.equal([one["class"] for one in said], truth).sum() > np.equal(by_small, truth).sum()
            labels = {(one["device"], one["start"], one["end"], one["class"]) for one in said}
            await until(lambda: kept(site) == labels, "all of it is kept")

            await told(fleet.cloud, "/v1/train", {"name": "state"})
            ended = await until(lambda: history(fleet.cloud), "a run without other labels ends")
            assert [(one["stage"], one["answered"], one["refused"]) for one in ended] == [
                *[("survey", [site.name], {}), ("round", [site.name], {}), ("trial", [site.name], {})]
            ]


async def online(cloud: Cloud) -> bool:
    """Whether the gateway is connected."""
    return any(one["online"] for one in (await cloud.ask("/v1/gateways"))["gateways"])


async def history(cloud: Cloud) -> Any:
    """Give the stages of a run that has ended."""
    [found] = (await cloud.ask("/v1/trainings"))["trainings"]
    assert found["verdict"] in {"", "unproven"}, "nobody has labels to score by"
    return found["history"] if found["verdict"] else None


def by_cloud(heard: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Give what the cloud has said, if it is so many windows."""
    said = [one for one in heard if one["by"] == "cloud"]
    return said if len(said) == number else []


def kept(site: Site) -> set[tuple[str, int, int, int]]:
    """Give the labels that a task of this gateway would find."""
    past = JournalPast(site.data)
    try:
        return {(one.device, one.start, one.end, one.chosen) for one in past.told("state")}
    finally:
        past.close()

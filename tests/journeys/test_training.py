"""Three gateways learn together, each from its own journal; what they have learnt is promoted and comes back to all."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cli.broker import EmbeddedBroker
from tests.journeys.cloud_process import Cloud
from tests.journeys.messages import send
from tests.journeys.site import Gateway, Site
from tests.waiting import until

CLOUD = """
[bus]
url = "{broker}"
client_id = "cloud-of-{name}"
[[training]]
name = "state"
channels = ["x", "y"]
label = "state"
classes = 3
samples = 16
hop = 8
rounds = 2
goal = 3
"""

GATEWAY = """
[[window]]
size = "1s"
[models]
public_key = "{key}"
"""

VALUES = 'values = { x = "x", y = "y", state = "state" }'
MS = 10**6


class Fleet:
    """A cloud with a training, and gateways."""

    def __init__(self, directory: Path, broker: str, free_port: Callable[[], int]) -> None:
        self.directory, self.broker, self._free_port = directory, broker, free_port
        self.cloud = Cloud(directory / "cloud", free_port(), CLOUD.format(broker=broker, name=directory.name))

    def site(self, number: int) -> Site:
        """Make a gateway; its name is like nobody else's on a broker that serves many tests."""
        name = f"{self.directory.name}-{number}"
        more = GATEWAY.format(key=self.cloud.public_key) + self.cloud.enrol(name)
        return Site(self.directory / name, self.broker, self._free_port(), more, VALUES)

    async def training(self) -> dict[str, Any]:
        """Give what the cloud says of its training."""
        [found] = (await self.cloud.ask("/v1/trainings"))["trainings"]
        return dict(found)

    async def applied(self, name: str) -> set[str]:
        """Give the gateways that say they have applied the model."""
        models = (await self.cloud.ask("/v1/models"))["models"]
        runs = [run for model in models if model["name"] == name for run in model["gateways"]]
        return {run["gateway"] for run in runs if (run["reported"] or {}).get("outcome") == "applied"}


@asynccontextmanager
async def running(*sites: Site) -> AsyncIterator[list[Gateway]]:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(site.gateway()) for site in sites]
        for gateway in gateways:
            await gateway.ready()
        yield gateways


async def measure(site: Site, seed: int) -> None:
    """Let a pump go through its states, 50 samples a second; how it swings tells them apart."""
    rng = np.random.default_rng(seed)
    first = time.time_ns() - 60 * 10**9
    said = []
    for step in range(900):
        state = step // 50 % 3
        sample = {"time": first + step * 20 * MS, "x": rng.normal() * (1 + 3 * state), "y": state + rng.normal()}
        said.append((site.topic.replace("{device}", "pump-1"), json.dumps(sample | {"state": state}).encode()))
    await send(site, said)


async def test_gateways_learn_together_and_what_they_learnt_comes_back(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    fleet = Fleet(tmp_path, embedded_broker.url, free_port)
    sites = [fleet.site(number) for number in range(3)]
    async with running(*sites):
        for seed, site in enumerate(sites):
            await measure(site, seed)
        async with fleet.cloud.running():

            async def ended() -> Any:
                found = await fleet.training()
                return found if found["verdict"] else None

            found = await until(ended, "the run ends", within=60)
            names = [site.name for site in sites]
            assert [(one["stage"], one["round"], sorted(one["answered"])) for one in found["history"]] == [
                *[("survey", 0, names), ("round", 1, names), ("round", 2, names), ("trial", 3, names)]
            ]
            assert (found["verdict"], found["before"]) == ("promoted", None)
            assert found["accuracy"] > 0.8

            async def all_apply() -> bool:
                return await fleet.applied("state") == set(names)

            await until(all_apply, "all gateways have applied it")

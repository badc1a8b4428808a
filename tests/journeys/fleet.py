"""A cloud and its gateways on a broker that serves many tests: their names are like nobody else's there."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np

from tests.journeys.cloud_process import Cloud
from tests.journeys.messages import send
from tests.journeys.site import Gateway, Site

BUS = '[bus]\nurl = "{broker}"\nclient_id = "cloud-of-{name}"\n'
GATEWAY = '[[window]]\nsize = "1s"\n[models]\npublic_key = "{key}"\n'

VALUES = 'values = { x = "x", y = "y", state = "state" }'
"""What a device says: two measurements, and the state that it is in."""

TRAINING = """
[[training]]
name = "state"
channels = ["x", "y"]
label = "state"
"""

MS = 10**6


class Fleet:
    """`more` is the cloud's configuration beside its bus, `values` what the gateways read."""

    def __init__(
        self, directory: Path, broker: str, free_port: Callable[[], int], more: str = "", values: str = VALUES
    ) -> None:
        self.directory, self.broker, self._free_port, self._values = directory, broker, free_port, values
        bus = BUS.format(broker=broker, name=directory.name)
        self.cloud = Cloud(directory / "cloud", free_port(), bus + more)

    def site(self, word: int | str) -> Site:
        """Make a gateway."""
        name = f"{self.directory.name}-{word}"
        more = GATEWAY.format(key=self.cloud.public_key) + self.cloud.enrol(name)
        return Site(self.directory / name, self.broker, self._free_port(), more, self._values)


@asynccontextmanager
async def running(*sites: Site) -> AsyncIterator[list[Gateway]]:
    """Run gateways while the block runs; they are ready."""
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

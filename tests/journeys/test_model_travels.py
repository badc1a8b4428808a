"""What two gateways learn becomes one model, which both run, and which alerts where nothing has been learnt yet."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from protocol.identity import Signer
from protocol.mqtt import MqttBus
from protocol.topics import gateway_of, topic
from tests.journeys.cloud_process import Cloud
from tests.journeys.messages import send
from tests.journeys.site import Gateway, Site
from tests.waiting import until

S = 10**9
SIZE = S // 10
WARMUP = 20
MODEL = "pumps"

CLOUD = """
[bus]
url = "{broker}"
client_id = "cloud-of-{name}"
[models]
min_interval = "1s"
"""

GATEWAY = """
[[window]]
size = "100ms"
[[score]]
name = "{model}"
warmup = {warmup}
share = "200ms"
[[rule]]
name = "hot"
when = "value > 1000"
[models]
public_key = "{key}"
"""

CHANCE = Random(7)
NORMAL = [round(CHANCE.gauss(20, 1), 2) for _ in range(2 * WARMUP)]
OUTLIER = [20.0, 5_000.0, 20.0]


class Said(NamedTuple):
    """An alert."""

    series: tuple[str, ...]
    start: int
    rule: str
    version: int


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        return str(request.getfixturevalue("embedded_broker").url)
    return str(request.getfixturevalue("mosquitto")())


@asynccontextmanager
async def hearing(broker: str, name: str) -> AsyncIterator[dict[str, set[Said]]]:
    """Collect alerts, by gateway, as somebody near the gateways hears them."""
    heard: dict[str, set[Said]] = {}
    port = int(broker.rpartition(":")[2])
    bus = MqttBus("127.0.0.1", port, f"ear-of-{name}", rng=Random(1))

    async def listen() -> None:
        async with bus.subscribe(topic("+", "alerts")) as alerts:
            async for message in alerts:
                alert = json.loads(message.payload)
                said = Said(tuple(alert["series"]), alert["start"], alert["rule"], alert["version"])
                heard.setdefault(gateway_of(message.topic) or "", set()).add(said)

    tasks = [asyncio.create_task(bus.run(), name="ear bus"), asyncio.create_task(listen(), name="ear")]
    try:
        await until(lambda: bus.connected, "somebody listens")
        yield heard
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def measured(site: Site, devices: Sequence[str], values: Sequence[float], ago: int) -> list[int]:
    """Publish a reading a window for each device, as of some seconds ago; give the windows' starts."""
    first = (time.time_ns() - ago * S) // SIZE * SIZE
    starts = [first + number * SIZE for number in range(len(values))]
    said = [
        (site.topic.replace("{device}", device), f'{{"time":{start},"value":{value}}}'.encode())
        for start, value in zip(starts, values, strict=True)
        for device in devices
    ]
    await send(site, said)
    return starts


class Fleet:
    """A cloud that makes models, and gateways that share one."""

    def __init__(self, directory: Path, broker: str, free_port: Callable[[], int]) -> None:
        self.directory, self.broker, self._free_port = directory, broker, free_port
        self.cloud = Cloud(directory / "cloud", free_port(), CLOUD.format(broker=broker, name=directory.name))

    def site(self, word: str, key: str = "") -> Site:
        """Make a gateway of this fleet; its name is like nobody else's on a broker that serves many tests."""
        name = f"{self.directory.name}-{word}"
        more = GATEWAY.format(model=MODEL, warmup=WARMUP, key=key or self.cloud.public_key) + self.cloud.enrol(name)
        return Site(self.directory / name, self.broker, self._free_port(), more, 'measurement = "heat"')

    async def runs(self, site: Site) -> dict[str, Any]:
        """Give what the cloud knows of the model on a gateway."""
        answer = await self.cloud.ask("/v1/models") or {"models": []}
        runs = [run for model in answer["models"] if model["name"] == MODEL for run in model["gateways"]]
        return next((run for run in runs if run["gateway"] == site.name), {})

    async def version(self, site: Site) -> int:
        """Give the version that a gateway says it has applied; 0 for none."""
        reported = (await self.runs(site)).get("reported") or {}
        return int(reported["version"]) if reported.get("outcome") == "applied" else 0

    async def alerts(self, site: Site) -> set[Said]:
        """Give the alerts of a gateway that the cloud has stored; none may be there twice."""
        answer = await self.cloud.ask(f"/v1/alerts?gateway={site.name}")
        found = [Said(tuple(one["names"]), one["start"], one["rule"], one["version"]) for one in answer["alerts"]]
        assert len(set(found)) == len(found)
        return set(found)

    async def agree(self, site: Site, heard: dict[str, set[Said]], number: int) -> set[Said]:
        """Wait until so many alerts were heard and the same are stored, and give them."""

        async def same() -> bool:
            return len(heard.get(site.name, ())) >= number and await self.alerts(site) == heard[site.name]

        await until(same, f"{number} alerts of {site.name} are heard and stored")
        return heard[site.name]


async def running(stack: AsyncExitStack, *sites: Site) -> list[Gateway]:
    """Run gateways until the stack is left; they are ready."""
    gateways = [await stack.enter_async_context(site.gateway()) for site in sites]
    await asyncio.gather(*(gateway.ready() for gateway in gateways))
    return gateways


def outlier(device: str, start: int, version: int) -> set[Said]:
    """Give the alerts of one bad window: of what was learnt (version 0) or the model, and of the rule."""
    return {Said((f"{device}/heat",), start, MODEL, version), Said((f"{device}/heat",), start, "hot", 0)}


async def test_a_model_travels(tmp_path: Path, broker: str, free_port: Callable[[], int]) -> None:
    fleet = Fleet(tmp_path, broker, free_port)
    first, second, fresh = (fleet.site(word) for word in ("first", "second", "fresh"))
    stranger = fleet.site("stranger", key=Signer.from_seed(bytes(32)).public.hex())
    async with AsyncExitStack() as stack:
        heard = await stack.enter_async_context(hearing(broker, tmp_path.name))
        await stack.enter_async_context(fleet.cloud.running())
        await running(stack, first, second)

        for site in (first, second):
            await measured(site, ("pump-1", "pump-2"), NORMAL, ago=60)
        for site in (first, second):
            await until(partial(fleet.version, site), f"{site.name} applies a version")
            assert (await fleet.runs(site))["windows"] > 0
        for site in (first, second):
            _, start, _ = await measured(site, ["pump-1"], OUTLIER, ago=30)
            assert await fleet.agree(site, heard, 2) == outlier("pump-1", start, version=0)

        warming, wary = await running(stack, fresh, stranger)
        version = await until(lambda: fleet.version(fresh), "a gateway that has learnt nothing applies a version")
        _, start, _ = await measured(fresh, ["pump-9"], OUTLIER, ago=30)
        assert await fleet.agree(fresh, heard, 2) == outlier("pump-9", start, version)
        seen = await warming.metrics()
        groups = [seen[f'fieldgate_score_groups{{state="{state}"}}'] for state in ("warming", "scoring")]
        assert (groups, (await fleet.runs(fresh))["windows"]) == ([1, 0], 0)

        refused = await until(lambda: refusal(fleet, stranger), "a gateway that pins another key refuses")
        assert (refused["gateway"], refused["reason"]) == (stranger.name, "signature")
        assert (await fleet.runs(stranger))["version"] == 0
        assert f'fieldgate_model_version{{model="{MODEL}"}}' not in await wary.metrics()


async def refusal(fleet: Fleet, site: Site) -> Any:
    """Give the report of a refused model that a gateway sent, if it did."""
    reports = (await fleet.cloud.ask(f"/v1/models?gateway={site.name}"))["reports"]
    return next((report for report in reports if report["outcome"] == "refused"), None)

"""The processes: an embedded broker, a cloud, and gateways that reach it over links of a known rate."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cli.broker import EmbeddedBroker
from tests.bench.jobs.history import S
from tests.faults.proxy import Fault, Proxy, proxy_to
from tests.journeys.cloud_process import Cloud
from tests.journeys.processes import Child, python
from tests.journeys.site import Gateway, Site
from tests.ports import free_port
from tests.waiting import until

GATEWAYS = ("mill", "pump")
WRITE = python("-m", "tests.bench.jobs.history")
SOURCE = 'values = { n = "n" }'
MORE = '[[window]]\nsize = "60s"\n[models]\npublic_key = "{key}"\n'
LONG_S = 600.0
LOOK_S = 0.05


class Ran(NamedTuple):
    """A job: what its plan said, what became of it, seconds from the call to the result seen, bytes up on all links."""

    plan: dict[str, Any]
    job: dict[str, Any]
    seconds: float
    up: int


@dataclass
class Fleet:
    """What runs."""

    cloud: Cloud
    sites: list[Site]
    gateways: list[Gateway]
    links: list[Proxy]

    def limit(self, rate: float) -> None:
        """Give every gateway a link of so many bytes/s up."""
        for link in self.links:
            link.turn(Fault(rate=rate))

    async def run(self, asked: dict[str, Any]) -> Ran:
        """Plan a job, then run it to its end; nothing else goes up meanwhile."""
        await self.quiet()
        plan = await self.cloud.call("POST", "/v1/plan", asked)
        before, began = self.up, time.monotonic()
        begun = await self.cloud.call("POST", "/v1/jobs", asked)

        async def ended() -> Any:
            found = await self.cloud.ask(f"/v1/jobs/{begun['id']}")
            return found if found["state"] not in ("running", "merging") else None

        job = await until(ended, "the job ends", within=LONG_S, every=LOOK_S)
        assert (job["state"], job["complete"]) == ("done", 1.0), job
        return Ran(plan, job, time.monotonic() - began, self.up - before)

    @property
    def up(self) -> int:
        """Bytes that went up so far."""
        return sum(link.up for link in self.links)

    async def quiet(self) -> None:
        """Wait until nothing waits on the gateways."""

        async def sent() -> bool:
            seen = [await gateway.metrics() for gateway in self.gateways]
            lanes = ("definitions", "alerts", "results", "telemetry")
            return not any(one.get(f'fieldgate_spool_frames{{lane="{lane}"}}', 1) for one in seen for lane in lanes)

        await until(sent, "all is sent", within=LONG_S, every=0.2)


@asynccontextmanager
async def running(directory: Path, readings: int, more: str) -> AsyncIterator[Fleet]:
    """Write journals, then run the fleet while the block runs; everybody is there, and has replayed its journal."""
    async with contextlib.AsyncExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(directory, free_port(), free_port()))
        cloud = Cloud(directory / "cloud", free_port(), f'[bus]\nurl = "{broker.url}"\n')
        links = [await stack.enter_async_context(proxy_to(cloud.port)) for _ in GATEWAYS]
        more += MORE.format(key=cloud.public_key)
        sites = [
            Site(directory / name, broker.url, free_port(), more + cloud.enrol(name, link.port), SOURCE)
            for name, link in zip(GATEWAYS, links, strict=True)
        ]
        await _write(sites, readings)
        await stack.enter_async_context(cloud.running())
        gateways = [await stack.enter_async_context(site.gateway()) for site in sites]
        fleet = Fleet(cloud, sites, gateways, links)
        await until(lambda: _there(fleet), "all gateways are there", within=LONG_S, every=0.2)
        yield fleet


async def _write(sites: list[Site], readings: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        for seed, site in enumerate(sites):
            arguments = [str(site.path), str(seed), str(readings), str(time.time_ns() - 60 * S)]
            tasks.create_task(_wrote(site.directory / "history.log", arguments))


async def _wrote(log: Path, arguments: list[str]) -> None:
    child = Child(await WRITE(log, arguments), log)
    assert await child.process.wait() == 0, child.said()


async def _there(fleet: Fleet) -> bool:
    assert all(gateway.running for gateway in fleet.gateways), fleet.gateways[0].said() + fleet.gateways[1].said()
    found = await fleet.cloud.ask("/v1/gateways")
    return found is not None and sum(view["online"] for view in found["gateways"]) == len(fleet.sites)

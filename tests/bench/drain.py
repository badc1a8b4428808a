"""How soon what waits goes up once the link is back: uplinks behind a proxy each, to a cloud process of its own.

Cut: connections are reset and new ones refused. Hole: nothing passes and nothing ends, then it goes on; or then all
that hung in it is reset. Measured from the return of the link to the first receipt of a frame that waited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from gateway import config
from gateway.segment import OsFiles
from gateway.service import secret
from gateway.spool import Spool
from gateway.uplink import Meter, Uplink
from protocol import frame
from protocol.messages import AlertsBody, Cover, Hello, Kind
from tests.bench.rig import scratch
from tests.faults.proxy import NONE, Fault, Proxy, proxy_to
from tests.journeys.cloud_process import Cloud
from tests.ports import free_port
from tests.waiting import until

LINES, ROUNDS = 24, 5
SHORTEST_S, LONGEST_S = 0.1, 60.0
KINDS = ("cut", "hole", "hole, then reset")


@dataclass
class Line:
    """One gateway's uplink, its spool, and the proxy in between."""

    name: str
    spool: Spool
    proxy: Proxy
    uplink: Uplink
    chance: Random

    def spooled(self) -> None:
        """Let one more frame wait."""
        seq = self.spool.append("alerts", Kind.ALERTS, frame.dump(AlertsBody(Cover(), [])), Cover(), 1)
        self.spool.commit()
        self.uplink.appended("alerts", seq)

    async def drained(self) -> None:
        """Wait until nothing waits."""
        await until(lambda: not self.spool.frames("alerts"), "nothing waits", within=120, every=0.005)

    async def outage(self, kind: str) -> float:
        """Be away for a while; give the seconds from the return to the first receipt."""
        self.spooled()
        await self.drained()
        seconds = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** self.chance.random()
        if kind == "cut":
            self.proxy.shut()
        else:
            self.proxy.turn(Fault(black_hole=True))
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.spooled()
            await asyncio.sleep(min(left, 1.0))
        before, began = self.spool.receipted("alerts"), time.monotonic()
        if kind == "hole, then reset":
            self.proxy.cut()
        self.proxy.turn(NONE)
        await self.proxy.open()
        await until(
            lambda: self.spool.receipted("alerts") > before,
            "something that waited is receipted",
            within=120,
            every=0.005,
        )
        took = time.monotonic() - began
        await self.drained()
        return took


async def _nobody(_reason: str) -> None:
    pass


async def _line(stack: AsyncExitStack, directory: Path, cloud: Cloud, number: int) -> Line:
    name = f"line-{number}"
    proxy = await stack.enter_async_context(proxy_to(cloud.port))
    settings = config.parse(
        f'name = "{name}"\ndata = "x"\n[[source]]\ntopic = "{{device}}"\nmeasurement = "m"\n'
        + cloud.enrol(name, proxy.port)
    ).uplink
    spool = Spool.open(OsFiles(), directory / name, config.Spool(), new_epoch=lambda: number + 1)
    stack.callback(spool.close)
    uplink = Uplink(
        settings,
        secret("uplink", "token", file=settings.token_file, env="") or "",
        spool,
        lambda: Hello(name, spool.epoch, spool.heads()),
        rng=Random(number),
        on_fork=_nobody,
        on_gone=lambda *_: None,
        meter=Meter(spool.files, directory / "uplink.json", lambda: 0, dict),
    )
    return Line(name, spool, proxy, uplink, Random(number))


async def _all(directory: Path) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with AsyncExitStack() as stack:
        cloud = Cloud(directory / "cloud", free_port())
        await stack.enter_async_context(cloud.running())
        lines = [await _line(stack, directory, cloud, number) for number in range(LINES)]
        running = [asyncio.create_task(line.uplink.run(), name=line.name) for line in lines]

        async def live(number: int) -> None:
            for turn in range(ROUNDS):
                kind = KINDS[(number + turn) % len(KINDS)]
                took[kind].append(await lines[number].outage(kind))

        await asyncio.gather(*(live(number) for number in range(LINES)))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return took


def measure() -> Iterator[dict[str, object]]:
    """Give the quantiles of each kind of outage."""
    with scratch() as directory:
        for kind, seconds in asyncio.run(_all(directory)).items():
            quantiles = {f"p{q}_s": round(float(np.percentile(seconds, q)), 2) for q in (50, 99)}
            yield {"outage": kind, "outages": len(seconds), **quantiles, "most_s": round(max(seconds), 2)}

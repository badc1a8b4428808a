"""What networks and busy clouds do: cuts, black holes, single bytes, lost answers, refusals. All through the proxy."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from cli.publisher import Publisher
from tests.faults.kills import RATE
from tests.faults.proxy import NONE, Fault, Proxy, proxy_to
from tests.faults.stage import Found, Stage, passed, stage
from tests.journeys.site import Gateway, Site, publishing
from tests.waiting import until

RECEIPTED = "fieldgate_frames_receipted_total"
RECORDED = "fieldgate_readings_recorded_total"


@dataclass
class Line:
    """A gateway at work, and the proxy between it and one of its peers; `sign` counts what gets through."""

    here: Stage
    gateway: Gateway
    proxy: Proxy
    sign: str
    chance: Random

    async def cut(self) -> None:
        """Nobody answers for a while; how soon anything goes up again counts."""
        self.proxy.shut()
        await asyncio.sleep(self.chance.uniform(0.05, 1.5))
        self.proxy.watch()
        await self.proxy.open()
        await self._returned()

    async def black_hole(self) -> None:
        """Nothing passes and nothing ends; afterwards it goes on, or it turns out that all was reset meanwhile."""
        self.proxy.turn(Fault(black_hole=True))
        await asyncio.sleep(self.chance.uniform(0.2, 2.0))
        self.proxy.watch()
        if self.chance.random() < 0.5:
            self.proxy.cut()
        self.proxy.turn(NONE)
        await self._returned()

    async def _returned(self) -> None:
        began = time.monotonic()
        await until(lambda: self.proxy.passed_at, "anything goes up again", within=60)
        self.here.found.times["drain_s"].append(self.proxy.passed_at - began)

    async def slow(self) -> None:
        """All takes its time."""
        self.proxy.turn(Fault(delay_s=self.chance.uniform(0.05, 1.0)))
        await asyncio.sleep(1.0)

    async def single_bytes(self) -> None:
        """No two bytes arrive together."""
        self.proxy.turn(Fault(piece=1))
        self.proxy.cut()
        await asyncio.sleep(1.0)

    async def reset(self) -> None:
        """Connections end after so many bytes: in the handshake, in HELLO, in the middle of a frame."""
        self.proxy.turn(Fault(reset_after=self.chance.randint(0, 4096)))
        self.proxy.cut()
        await asyncio.sleep(self.chance.uniform(0.3, 1.0))

    async def stall(self) -> None:
        """What is sent arrives, and the answers take long."""
        self.proxy.turn(Fault(stall=True))
        await asyncio.sleep(self.chance.uniform(0.3, 1.5))

    async def answers_lost(self) -> None:
        """What is sent arrives and is committed, and an answer is lost; then the connection ends."""
        before = self.proxy.swallowed
        self.proxy.turn(Fault(mute=True))
        await until(lambda: self.proxy.swallowed > before, "an answer is swallowed", within=60)
        self.proxy.cut()

    async def well(self) -> None:
        """Heal, and see something get through."""
        self.proxy.turn(NONE)
        await self.proxy.open()
        before = (await self.gateway.metrics()).get(self.sign, 0.0)
        await passed(self.gateway, self.sign, before + 1)


Step = Callable[[Line], Awaitable[None]]

STEPS: list[Step] = [
    *(Line.cut, Line.black_hole, Line.slow, Line.single_bytes),
    *(Line.cut, Line.reset, Line.stall, Line.answers_lost),
]
"""In turns, so that of any number of cycles two in eight are cuts, and one each of the others."""

LINES = 4
"""Gateways that are hurt at once: each mostly waits."""


@dataclass
class Way:
    """A gateway at work, with a proxy on either side, and the devices, which are not behind one."""

    site: Site
    publisher: Publisher
    cloud: Line
    broker: Line


@asynccontextmanager
async def way(here: Stage, rate: float) -> AsyncIterator[Way]:
    """Run a gateway between two proxies while the block runs."""
    async with proxy_to(here.cloud.port) as up, proxy_to(urlsplit(here.broker).port or 1883) as down:
        site = here.site("line", broker=f"mqtt://127.0.0.1:{down.port}", cloud_port=up.port)
        inner = replace(site, directory=here.directory / "inner" / site.name, broker=here.broker)
        await site.subscribe()
        async with publishing(inner, rate=rate) as publisher, here.survivor(site) as gateway:
            chance = Random(here.chance.getrandbits(32))
            lines = Line(here, gateway, up, RECEIPTED, chance), Line(here, gateway, down, RECORDED, chance)
            yield Way(site, publisher, *lines)


async def _all_hurt(here: Stage, plan: Sequence[tuple[Step, bool]], rate: float) -> Found:
    """Take all steps, each to the cloud (True) or to the broker, on several gateways at once, and add up each."""
    done: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(way(here, rate)) for _ in range(min(LINES, -(-len(plan) // LINES)))]
        each = -(-len(plan) // len(ways))
        async with asyncio.TaskGroup() as tasks:
            for number, one in enumerate(ways):
                part = plan[number * each : (number + 1) * each]
                tasks.create_task(_hurt(here.found, one, part, done), name=one.site.name)
        for one in ways:
            await here.finale(one.site, one.publisher, one.cloud.gateway)
        proxies = [line.proxy for one in ways for line in (one.cloud, one.broker)]
    swallowed, resets = sum(proxy.swallowed for proxy in proxies), sum(proxy.resets for proxy in proxies)
    here.found.more |= {"faults": dict(sorted(done.items())), "answers_swallowed": swallowed, "resets": resets}
    return here.found


async def _hurt(found: Found, one: Way, plan: Sequence[tuple[Step, bool]], done: Counter[str]) -> None:
    for step, up in plan:
        line = one.cloud if up else one.broker
        await step(line)
        await line.well()
        done[f"{step.__name__} ({'cloud' if up else 'broker'})"] += 1
        found.cycles += 1


async def network_cut(directory: Path, cycles: int, chance: Random) -> Found:
    """Hurt the way to the cloud, or the way to the broker, once for each cycle."""
    async with stage(directory, chance) as here:
        plan = [(STEPS[number % len(STEPS)], number // len(STEPS) % 3 < 2) for number in range(cycles)]
        return await _all_hurt(here, plan, RATE / 2)


async def answers_lost(directory: Path, cycles: int, chance: Random) -> Found:
    """Lose an answer of the cloud, after its commit, once for each cycle."""
    async with stage(directory, chance) as here:
        found = await _all_hurt(here, [(Line.answers_lost, True)] * cycles, RATE / 4)
        found.demand(found.more["answers_swallowed"] >= cycles, "an answer came through")
        return found


REFUSALS = {
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "503": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "503 without a time": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "no HTTP": b"what?\r\n\r\n",
}


async def slow_cloud(directory: Path, cycles: int, chance: Random) -> Found:
    """Let the cloud refuse with each of REFUSALS, and stall; every tenth stall lasts 30 s."""
    async with stage(directory, chance) as here, proxy_to(here.cloud.port) as proxy:
        site = here.site("patient", cloud_port=proxy.port)
        await site.subscribe()
        kinds: Counter[str] = Counter()
        async with publishing(site, rate=RATE) as publisher, here.survivor(site) as gateway:
            line = Line(here, gateway, proxy, RECEIPTED, chance)
            for number in range(cycles):
                kind = [*REFUSALS, "stall"][number % (len(REFUSALS) + 1)]
                await _stall(line, number) if kind == "stall" else await _refused(line, REFUSALS[kind])
                kinds[kind] += 1
                here.found.cycles += 1
            await here.finale(site, publisher, gateway)
        here.found.more |= {"refusals": dict(sorted(kinds.items())), "connections_refused": proxy.answered}
        return here.found


async def _refused(line: Line, answer: bytes) -> None:
    before = line.proxy.answered
    line.proxy.turn(Fault(answer=answer))
    line.proxy.cut()
    await until(lambda: line.proxy.answered > before, "a connection is refused", within=70)
    line.proxy.watch()
    began = time.monotonic()
    await line.well()
    line.here.found.times["drain_s"].append(time.monotonic() - began)


async def _stall(line: Line, number: int) -> None:
    line.proxy.turn(Fault(black_hole=True))
    await asyncio.sleep(30.0 if number % 50 == 49 else 1.0)
    await line.well()

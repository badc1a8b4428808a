"""Brokers that die, forget, and drop what they have acknowledged."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from cli.broker import EmbeddedBroker
from cli.publisher import Publisher
from tests.faults.kills import RATE
from tests.faults.stage import VICTIM, Found, Stage, passed, stage
from tests.journeys.processes import Child, get
from tests.journeys.site import Gateway, publishing
from tests.ports import free_port
from tests.waiting import until

PERSISTENT = """
persistence true
persistence_location {directory}/
autosave_interval 1
max_queued_messages 0
max_queued_bytes 268435456
max_inflight_messages 1000
set_tcp_nodelay true
"""
"""As `deploy/mosquitto.conf`, but its sessions are on disk every second: what is younger, a kill takes."""

STOCK = "persistence false\nsys_interval 1\n"
"""1,000 messages are queued for a client, 20 in flight; it says each second how many were dropped."""

SAVED_S = 1.5
"""Without so long a rest nothing that was delivered is ever saved as such, and each life delivers more once more."""

QUEUE = 1000
"""Messages that it keeps for a client that is away."""

Act = Callable[[], Awaitable[None]]

RECORDED = "fieldgate_readings_recorded_total"


def mosquitto_program() -> str | None:
    """Find mosquitto."""
    return shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class Mosquitto:
    """A mosquitto on one port; processes come and go, its directory stays."""

    def __init__(self, directory: Path, lines: str) -> None:
        program = mosquitto_program()
        assert program, "mosquitto is not installed (Debian: apt-get install mosquitto)"
        self.port = free_port()
        self.log = directory / "mosquitto.log"
        self._program, self._path = program, directory / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""  # else it could not write here
        own = f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{user}"
        self._path.write_text(own + lines.format(directory=directory))
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with self.log.open("ab") as out:
            command = (self._program, "-c", str(self._path))
            process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out)
        self._child = Child(process, self.log)
        await until(lambda: _listens(self.port), "mosquitto takes connections")

    async def kill(self) -> None:
        """Kill -9."""
        if self._child is not None:
            await self._child.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def broker_kill(directory: Path, cycles: int, chance: Random) -> Found:
    """Kill a mosquitto that keeps its sessions on disk with -9."""
    async with Mosquitto(directory, PERSISTENT) as broker, stage(directory, chance, broker=broker.url) as here:
        return await _replaced(here, cycles, broker.kill, broker.start, SAVED_S)


async def broker_wiped(directory: Path, cycles: int, chance: Random) -> Found:
    """End a broker that keeps everything in memory, and start an empty one in its place."""
    broker = EmbeddedBroker(directory, free_port(), free_port())

    async def end() -> None:
        broker.__exit__(None, None, None)

    async def begin() -> None:
        broker.__enter__()

    await begin()
    try:
        async with stage(directory, chance, broker=broker.url) as here:
            return await _replaced(here, cycles, end, begin, 0.0)
    finally:
        await end()


async def _replaced(here: Stage, cycles: int, end: Act, begin: Act, rest_s: float) -> Found:
    here.blames_broker = True
    site, times = here.site("orphan"), here.found.times
    await site.subscribe()
    async with publishing(site, rate=RATE) as publisher, here.survivor(site) as gateway:
        await passed(gateway, RECORDED, 1)
        for _ in range(cycles):
            await end()
            await until(lambda: _lost(gateway), "it notices", within=60)
            await begin()
            began = time.monotonic()
            await until(lambda: _subscribed(gateway), "it has subscribed again", within=60)
            times["resubscribed_s"].append(time.monotonic() - began)
            await _more_recorded(gateway)
            times["recording_again_s"].append(time.monotonic() - began)
            here.found.cycles += 1
            await asyncio.sleep(rest_s + here.chance.uniform(0.0, 0.5))
        await here.finale(site, publisher, gateway)
    return here.found


async def _subscribed(gateway: Gateway) -> bool:
    """Whether the broker has accepted it: it asks for its topics in the same moment."""
    return await get(f"{gateway.url}/readyz") == b"ready\n"


async def _lost(gateway: Gateway) -> bool:
    return not await _subscribed(gateway)


async def _more_recorded(gateway: Gateway) -> None:
    before = (await gateway.metrics()).get(RECORDED, 0.0)
    await passed(gateway, RECORDED, before + 1)


async def _more_sent(publisher: Publisher, number: int) -> None:
    goal = publisher.sent + number
    await until(lambda: publisher.sent > goal, f"{number} more messages are sent")


async def _noticed(here: Stage, name: str) -> int:
    """Give how many messages the broker dropped, as far as the cloud has heard from the gateway."""
    answer = await here.cloud.ask("/v1/gateways")
    return sum(one["counts"].get("broker", 0) for one in answer["gateways"] if one["name"] == name)


async def _alerted(here: Stage, name: str) -> list[float]:
    """Give how many messages each alert about the broker speaks of, as the cloud has them; newest first."""
    answer = await here.cloud.ask(f"/v1/alerts?gateway={name}")
    return [one["score"] for one in answer["alerts"] if one["rule"] == "broker" and not one["series"]]


async def broker_defaults(directory: Path, cycles: int, chance: Random) -> Found:
    """Keep the gateway away from a stock mosquitto for longer than its queue lasts: the broker's loss, and noticed."""
    async with Mosquitto(directory, STOCK) as broker, stage(directory, chance, broker=broker.url) as here:
        here.blames_broker = True
        site = here.site("absent")
        await site.subscribe()
        async with publishing(site, rate=4 * RATE) as publisher:
            for _ in range(cycles):
                async with here.survivor(site, VICTIM, "--hear", 0.1) as gateway:
                    await passed(gateway, RECORDED, 1)
                    await until((site.data / "broker.json").exists, "the broker is heard")
                    await gateway.kill()
                await _more_sent(publisher, 2 * QUEUE)
                here.found.cycles += 1
            async with here.survivor(site, VICTIM, "--hear", 0.1) as gateway:
                await until(lambda: _noticed(here, site.name), "the cloud knows of drops")
                await until(lambda: _alerted(here, site.name), "the cloud has an alert about them")
                await here.finale(site, publisher, gateway)
                here.found.more["noticed"] = await _noticed(here, site.name)
                told = await _alerted(here, site.name)
                here.found.more["alerted"] = sum(told)
                here.found.demand(0 < sum(told) <= here.found.more["noticed"], f"alerts speak of {told} messages")
                here.found.demand(here.found.broker_lost > 0, "the stock broker lost nothing: nothing was tested")
        return here.found

"""Malformed payloads to a gateway, one in a hundred, and malformed frames to the cloud: neither line stops."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import aiohttp

from cli.publisher import Publisher
from cloud.tokens import Tokens
from protocol import frame
from protocol.messages import Hello, Kind
from tests.faults.stage import BITS, Found, Stage, stage
from tests.journeys.messages import send
from tests.journeys.site import Gateway, Metrics, Site, publishing
from tests.waiting import until

RATE = 800.0
"""Messages a second of each of four devices: good ones must be a hundred times as many as bad ones."""

LARGE = 64 << 10
"""More than a payload may have."""


class Bad(NamedTuple):
    """A payload, and the cause by which it is counted."""

    cause: str
    make: Callable[[Random], bytes]


PAYLOADS = [
    Bad("json", lambda chance: b'{"value": %d' % chance.randint(0, 9)),
    Bad("json", lambda _: b""),
    Bad("json", lambda chance: b"\xff" + chance.randbytes(chance.randint(1, 200))),
    Bad("json", lambda _: b'{"value": NaN}'),
    Bad("json", lambda _: b'{"value": 1} {"value": 2}'),
    Bad("type", lambda _: b'{"value": 1e999}'),
    Bad("type", lambda _: b'{"value": "warm"}'),
    Bad("type", lambda chance: b"[%d, 2, 3]" % chance.randint(0, 9)),
    Bad("missing", lambda _: b"{}"),
    Bad("time", lambda _: b'{"time": "yesterday", "value": 1}'),
    Bad("too_large", lambda _: b'{"value": 1, "note": "%b"}' % (b"x" * LARGE)),
    Bad("depth", lambda _: b'{"note": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
]


def _cut(data: bytes, chance: Random) -> bytes:
    return data[: chance.randint(1, len(data) - 1)]


def _flipped(data: bytes, chance: Random) -> bytes:
    at = chance.randrange(len(data) * 8)
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def _hello(name: str) -> bytes:
    return frame.message(Kind.HELLO, Hello(gateway=name, epoch=1, lanes={}))


FRAMES: dict[str, Callable[[Random], bytes | str]] = {
    "random bytes": lambda chance: chance.randbytes(chance.randint(1, 4000)),
    "nothing": lambda _: b"",
    "text": lambda _: "hello",
    "half a hello": lambda chance: _cut(_hello("crook"), chance),
    "a bit flipped": lambda chance: _flipped(_hello("crook"), chance),
    "another's name": lambda _: _hello("somebody"),
    "many zeros": lambda chance: bytes(chance.randint(1, 100_000)),
    "a large size": lambda _: _hello("crook")[:4] + b"\xff" * 24,
}


async def poison(directory: Path, cycles: int, chance: Random) -> Found:
    """Send every kind of payload, and a few malformed frames, once a cycle."""
    async with stage(directory, chance) as here:
        site = here.site("bitten", more=BITS)
        here.cloud.enrol("crook")
        await site.subscribe()
        sent: Counter[str] = Counter()
        frames: Counter[str] = Counter()
        async with publishing(site, rate=RATE) as publisher, here.survivor(site) as gateway:
            for _ in range(cycles):
                goal = publisher.sent + 100 * len(PAYLOADS)
                await _payloads(here, site, sent)
                await _frames(here, frames)
                await _sent(publisher, goal)
                here.found.cycles += 1
            await _counted(here, gateway, sent)
            await here.finale(site, publisher, gateway)
        here.found.more |= {"payloads": sum(sent.values()), "by_cause": dict(sent), "frames_sent": dict(frames)}
        return here.found


async def _sent(publisher: Publisher, goal: int) -> None:
    await until(lambda: publisher.sent >= goal, "good messages are sent", within=60)


async def _payloads(here: Stage, site: Site, sent: Counter[str]) -> None:
    made = [(bad.cause, bad.make(here.chance)) for bad in PAYLOADS]
    here.chance.shuffle(made)
    devices = [here.chance.randint(1, 4) for _ in made]
    await send(site, [(f"{site.name}/device-{at}", payload) for at, (_, payload) in zip(devices, made, strict=True)])
    sent.update(cause for cause, _ in made)


async def _counted(here: Stage, gateway: Gateway, sent: Counter[str]) -> None:
    """Hold the causes the gateway counts against what was sent."""

    async def all_counted() -> Counter[str]:
        seen = _dead(await gateway.metrics())
        return seen if sum(seen.values()) >= sum(sent.values()) else Counter()

    seen = await until(all_counted, "all bad payloads are counted", within=60)
    here.found.demand(seen == sent, f"dead: {dict(seen)}, sent: {dict(sent)}")


def _dead(seen: Metrics) -> Counter[str]:
    name = "fieldgate_messages_dead_total{"
    return Counter({key.split('"')[1]: round(value) for key, value in seen.items() if key.startswith(name) and value})


async def _frames(here: Stage, frames: Counter[str]) -> None:
    """Send one malformed frame of each kind on a connection of its own; the cloud ends each, and lives."""
    token = Tokens.open(here.cloud.directory / "data").token_file("crook").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for name in here.chance.sample(sorted(FRAMES), 2):
            await _frame(session, here.cloud.port, FRAMES[name](here.chance))
            frames[name] += 1


async def _frame(session: aiohttp.ClientSession, port: int, data: bytes | str) -> None:
    async with session.ws_connect(f"http://127.0.0.1:{port}/v1/uplink") as socket:
        await (socket.send_str(data) if isinstance(data, str) else socket.send_bytes(data))
        end = time.monotonic() + 15
        while not socket.closed:
            await socket.receive(timeout=end - time.monotonic())

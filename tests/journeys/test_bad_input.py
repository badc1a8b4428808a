"""Whatever devices, brokers and disks do, good readings get through, and what is bad is counted by cause."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cli.broker import EmbeddedBroker
from tests.journeys.kept import check_whole
from tests.journeys.messages import send
from tests.journeys.processes import get
from tests.journeys.site import Gateway, Metrics, Site, finished, publishing
from tests.waiting import until

YEAR = 365 * 86400
PADDING = b"x" * (64 << 10)

BAD: list[tuple[str, str, bytes]] = [
    ("json", "device-1", b'{"value": 1'),
    ("json", "device-2", b""),
    ("json", "device-3", b"\xff\xfe\x00"),
    ("json", "device-4", b'{"value": NaN}'),
    ("json", "device-1", b'{"value": 1} {"value": 2}'),
    ("type", "device-2", b'{"value": 1e999}'),
    ("type", "device-3", b'{"value": "warm"}'),
    ("type", "device-4", b"[1, 2, 3]"),
    ("type", "device-1", b'{"value": {"value": 1}}'),
    ("missing", "device-2", b"{}"),
    ("missing", "device-3", b'{"value": null}'),
    ("time", "device-4", b'{"time": "yesterday", "value": 1}'),
    ("time", "device-1", b'{"time": -5, "value": 1}'),
    ("time", "device-2", b'{"time": {}, "value": 1}'),
    ("too_large", "device-3", b'{"value": 1, "note": "%b"}' % PADDING),
    ("depth", "device-4", b'{"note": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    ("too_large", "device-4", b"[" * 100_000),
    ("topic", "d" * 300, b'{"value": 1}'),
]


async def test_bad_payloads_cost_nobody_elses_readings(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    here = Site(tmp_path, embedded_broker.url, free_port())
    await here.subscribe()
    async with here.gateway() as gateway, publishing(here) as publisher:
        await until(lambda: publisher.sent > 40, "devices publish")
        await until(lambda: windows(gateway), "their time has passed some windows")
        next_year = b'{"time": %d, "value": 3}' % (time.time() + YEAR)
        odd = [
            (f"{here.name}/device-1", b'{"time": 5, "value": 1}'),  # 1970
            (f"{here.name}/device-2", next_year),
            (f"{here.name}/device-3", b'{"value": 2, "note": "%b"}' % PADDING[:60_000]),  # large, and good
            (f"{here.name}-unknown/device-1", b'{"value": 4}'),  # nobody listens there
        ]
        for _, device, payload in BAD:
            odd.insert(len(odd) // 2, (f"{here.name}/{device}", payload))
        await send(here, odd)
        await until(lambda: publisher.sent > 80, "devices go on")
        await gateway.recorded(2 * await finished(publisher) + 3)
        seen = await gateway.settled()
        await gateway.stop()

    assert causes(seen, "fieldgate_messages_dead_total") == {
        cause: sum(cause == bad for bad, _, _ in BAD) for cause in {bad for bad, _, _ in BAD}
    }
    dropped = causes(seen, "fieldgate_readings_dropped_total")
    assert {reason: dropped[reason] for reason in ("future", "late")} == {"future": 1, "late": 1}
    assert set(dropped) <= {"future", "late", "duplicate"}
    check_whole(here, publisher)


async def windows(gateway: Gateway) -> bool:
    return (await gateway.metrics()).get("fieldgate_windows_closed_total", 0) > 4


def causes(seen: Metrics, name: str) -> dict[str, int]:
    """Give a counter by the value of its label."""
    return {key.split('"')[1]: round(value) for key, value in seen.items() if key.startswith(name + "{") and value}


async def test_a_broker_that_is_away_at_start(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    here = Site(tmp_path, f"mqtt://127.0.0.1:{port}", free_port())
    async with here.gateway() as gateway:
        said = await until(lambda: get(f"{gateway.url}/readyz"), "the gateway answers")
        assert said == b"intake: not connected to the broker\n"
        with EmbeddedBroker(tmp_path, port, free_port()):
            await gateway.ready()
            async with publishing(here) as publisher:
                await until(lambda: publisher.sent > 40, "devices publish")
                await gateway.recorded(2 * await finished(publisher))
            await gateway.settled()
            await gateway.stop()
    check_whole(here, publisher)

"""21 days without cloud, bus, names or clock, and with cold boots: the gateway works on, and tells it all afterwards.

Time is virtual: each boot wakes in 1970, and its power is cut without warning. Half an hour of readings makes a window.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec
import pytest
from aiohttp.test_utils import TestServer

from cloud import config as cloud_config
from cloud.api import Api
from cloud.app import API, create_app
from gateway import config, pipeline, recovery
from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.derive import Derive
from gateway.journal import Journal
from gateway.pipeline import Pipeline
from gateway.records import Alerts, Arrivals, Closed
from gateway.segment import OsFiles
from gateway.spool import Spool
from protocol import frame
from protocol.columns import decode_windows
from protocol.messages import Alert, Kind
from tests.waiting import until

S = 10**9
MINUTE, HOUR = 60 * S, 3600 * S
DAY = 24 * HOUR
DAYS = 21
BOOTS_A_DAY = 2
DEVICES = 4
EVERY = 10 * MINUTE
BAD_DAY = 17
"""On this day one device reads ten degrees more than it should, from ten to twelve o'clock."""

CONFIGURATION = """
name = "hut"
data = "{data}"

[devices]
url = "mqtt://nowhere.invalid:1883"

[bus]
url = "mqtt://nowhere.invalid:1884"

[[source]]
topic = "s/{{device}}/{{measurement}}"
format = "number"

[[window]]
size = "30m"

[[score]]
name = "hut"
threshold = 6
share = "1d"

[models]
public_key = "{key}"

[time]
idle = "20m"

[spool]
telemetry_bytes = "32KiB"
segment_bytes = "4KiB"

[journal]
checkpoint_interval = "1d"
"""

Row = tuple[str, str, int, int, int]
"""Domain, series, start, revision and count of a window."""


@dataclass
class World:
    """Virtual time, and what the devices measure."""

    random: Random = field(default_factory=lambda: Random(21))
    passed: int = 0  # since the first boot
    booted: int = 0  # when, in `passed`

    def wall(self) -> int:
        """What a board without a battery believes: it woke at the beginning of 1970."""
        return self.passed - self.booted + 20 * S

    def monotonic(self) -> int:
        """What the processor counts."""
        return self.passed - self.booted

    def readings(self) -> Arrivals:
        """One reading of each device."""
        hour = self.passed % DAY / HOUR
        bad = self.passed // DAY == BAD_DAY and 10 <= hour < 12
        values = [20 + device + self.random.gauss(0, 0.3) + 10 * (bad and not device) for device in range(DEVICES)]
        topics = [f"s/device-{device}/t" for device in range(DEVICES)]
        return Arrivals(topics, [b"%.2f" % value for value in values], [], range(0), None, 1)


@dataclass
class Expected:
    """What an uninterrupted gateway makes of the same journal."""

    windows: set[Row] = field(default_factory=set)
    alerts: list[tuple[str, Alert]] = field(default_factory=list)
    derive: Derive = field(default_factory=lambda: Derive(config.PipelineConfig()))


@pytest.fixture
def hut(tmp_path: Path) -> GatewayConfig:
    return config.parse(CONFIGURATION.format(data=tmp_path / "data", key="ab" * 32))


@asynccontextmanager
async def boot(hut: GatewayConfig, world: World, boot_file: Path) -> AsyncIterator[Pipeline]:
    """Power on; at the end power is cut, and what was not committed is gone."""
    world.booted = world.passed
    boot_file.write_text(f"boot-{world.booted // S}\n")  # noqa: ASYNC240 - nothing else runs on this loop
    clock = Clock(0, wall=world.wall, monotonic=world.monotonic)
    opened = recovery.recover(hut, OsFiles(), clock.now(), lambda: world.random.getrandbits(63))
    clock = Clock(opened.at.stamp, wall=world.wall, monotonic=world.monotonic)
    running = Pipeline(hut, opened, clock)
    running.inward.begin()
    try:
        yield running
    finally:
        running.stop()
        running.close()


async def live(running: Pipeline, world: World, until_: int) -> None:
    """Take readings until this moment; commit every few hours, so that a cut of the power costs something."""
    while world.passed < until_:
        world.passed += EVERY
        running.inward.arrived(world.readings())
        running.inward.tick()
        if world.passed % (3 * HOUR) == 0:
            assert await running.commit()
            assert await running.out.spool_now()
        if world.passed % DAY == 0:
            assert await running.checkpoint()


def replayed(hut: GatewayConfig) -> Expected:
    """Apply the whole journal to a fresh `derive`."""
    found = Expected()
    journal = Journal.open(OsFiles(), Path(hut.data) / "journal", hut.journal, about=dict)
    for _, record in journal.records(1):
        for item in found.derive.feed(record).items:
            if isinstance(item, Closed):
                found.windows |= set(rows_of(item.domain, item.rows, found.derive.names))
            elif isinstance(item, Alerts):
                found.alerts += [(item.domain, alert) for alert in item.alerts]
    journal.close()
    return found


def rows_of(domain: str, rows: object, names: list[str]) -> Iterator[Row]:
    for series, start, revision, count in zip(rows.series, rows.start, rows.revision, rows.count, strict=True):  # type: ignore[attr-defined]
        yield domain, names[series], int(start), int(revision), int(count)


def in_spool(hut: GatewayConfig, names: list[str]) -> tuple[set[Row], int]:
    """Give the windows that wait for the cloud, and how many frames of statistics."""
    spool = Spool.open(OsFiles(), Path(hut.data) / "spool", hut.spool, new_epoch=lambda: 1)
    windows: set[Row] = set()
    for held in spool.each("telemetry"):
        body = frame.load(held.kind, held.body)
        windows |= set(rows_of(body.domain, decode_windows(body.columns), names))
    statistics = sum(held.kind == Kind.STATISTICS for held in spool.each("results"))
    spool.close()
    return windows, statistics


@pytest.mark.timeout(120)
async def test_21_days_alone_with_cold_boots_and_then_the_link_is_back(
    hut: GatewayConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, boot_file = World(), tmp_path / "boot_id"
    monkeypatch.setattr("gateway.clock.BOOT_ID", boot_file)
    for number in range(1, DAYS * BOOTS_A_DAY + 1):
        async with boot(hut, world, boot_file) as running:
            cut = world.random.randrange(1, 12) * EVERY
            await live(running, world, number * DAY // BOOTS_A_DAY + cut)
    expected = replayed(hut)
    progress = expected.derive.progress()
    waiting, statistics = in_spool(hut, expected.derive.names)
    assert (progress.warming, progress.scoring) == (0, DEVICES)
    assert statistics > DAYS // 2, "what is learnt is told, for whenever somebody listens"
    assert waiting < expected.windows, "not all fitted"
    assert [alert.series for _, alert in expected.alerts if alert.score > 20] == [[0]], "the bad day, once"
    boot_file.write_text("boot-online\n")
    await the_link_is_back(hut, tmp_path, expected, waiting)


async def the_link_is_back(hut: GatewayConfig, directory: Path, expected: Expected, waiting: set[Row]) -> None:
    """With a clock, a name that resolves, and a cloud: all that fitted arrives, what did not is declared."""
    app = create_app(cloud_config.parse(f'data = "{directory}/cloud"'))
    api: Api = app[API]
    (directory / "token").write_text(api.tokens.issue("hut"))
    async with TestServer(app) as server:
        uplink = config.Uplink(url=str(server.make_url("/")), token_file=str(directory / "token"))
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        online = msgspec.structs.replace(hut, uplink=uplink)
        task = asyncio.create_task(pipeline.run(online, on_ready=ready.set_result, stop=stop))
        running: Pipeline = await ready
        await until(lambda: all(not frames for frames in running.vitals().spool_frames.values()), "all has gone up")
        domains = {row[0] for row in expected.windows}
        assert await stored(api, domains) >= waiting
        await nothing_is_missing_that_was_not_declared(api)
        await every_alert_is_there(api, expected)
        stop.set()
        await task
        everything = replayed(hut).windows
        assert everything > expected.windows, "the last boot's open windows are stated when it is known to be over"
        assert await stored(api, domains) <= everything


async def stored(api: Api, domains: set[str]) -> set[Row]:
    found: set[Row] = set()
    for series in await api.store.series(None, None, 0, 100):
        for domain in domains:
            page = await api.store.windows(series.id, None, domain, (0, 1 << 62), 10_000)
            assert page is not None
            found |= {(domain, series.name, one.start, one.revision, one.count) for one in page.windows}
    return found


async def nothing_is_missing_that_was_not_declared(api: Api) -> None:
    lanes = {lane.lane: lane for lane in await api.store.ledger("hut")}
    assert [lane.holes for lane in lanes.values()] == [[]] * len(lanes)
    dropped = {name: lane.dropped for name, lane in lanes.items() if lane.dropped}
    assert list(dropped) == ["telemetry"]
    assert {loss.cause for loss in dropped["telemetry"]} == {"spool_full"}


async def every_alert_is_there(api: Api, expected: Expected) -> None:
    page = await api.store.alerts("hut", 1 << 62, 1000)
    names = expected.derive.names
    assert sorted((one.domain, one.start, one.names) for one in page.alerts) == sorted(
        (domain, alert.start, [names[series] for series in alert.series]) for domain, alert in expected.alerts
    )

"""A gateway whose daily budget is short: coarse windows come, and the ledger says that fine ones do not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cli.broker import EmbeddedBroker
from gateway.budget import DAY_NS, RANGES, TELEMETRY, Spent
from tests.journeys.cloud_process import Cloud
from tests.journeys.site import WINDOWS, Site, publishing
from tests.waiting import until

LIMIT = 10 * 10**9
COARSE = 100 * 10**6


def short(now: int) -> Spent:
    """Give what is spent when the line is just passed, whatever the hour, and telemetry still may go."""
    line = TELEMETRY * LIMIT / 24 * (1 + (now % DAY_NS) * 24 / DAY_NS)
    return Spent(now // DAY_NS, int(min(line, TELEMETRY * LIMIT)) - 10**6)


async def test_coarse_windows_come_and_the_ledger_says_that_fine_ones_do_not(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    cloud = Cloud(tmp_path / "cloud", free_port())
    budget = f'max_per_day = "{LIMIT}B"\ncoarse = "100ms"\n'
    here = Site(
        tmp_path,
        embedded_broker.url,
        free_port(),
        WINDOWS.replace("200ms", "50ms") + cloud.enrol(tmp_path.name) + budget,
    )
    here.data.mkdir()
    (here.data / "uplink.json").write_bytes(msgspec.json.encode(short(time.time_ns())))

    async def declared() -> Any:
        lanes = (await cloud.ask("/v1/ledger") or {"ledger": []})["ledger"]
        return next((lane for lane in lanes if lane["lane"] == "telemetry" and lane["dropped"]), None)

    async with cloud.running(), here.gateway() as gateway, publishing(here):
        telemetry = await until(declared, f"{RANGES} ranges are declared", every=0.1)
        assert {drop["cause"] for drop in telemetry["dropped"]} == {"budget"}
        series = await cloud.series(here.name)
        page = await cloud.ask(f"/v1/windows?series={min(series.values())}&limit=100")
        assert {way["size"] for way in page["definitions"]} == {COARSE}
        metrics = await gateway.metrics()
        assert metrics['fieldgate_frames_dropped_total{cause="budget",lane="telemetry"}'] >= RANGES
        assert LIMIT / 2 * TELEMETRY / 24 < metrics["fieldgate_uplink_spent_bytes"] < TELEMETRY * LIMIT
        await gateway.stop()

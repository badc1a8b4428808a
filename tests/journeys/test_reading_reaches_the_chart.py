"""A reading, published to a broker, is in the cloud's answers and on its live stream a moment later."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp

from cli.broker import EmbeddedBroker
from tests.journeys.cloud_process import Cloud
from tests.journeys.site import WINDOWS, Site, publishing
from tests.waiting import DEADLINE_S, until


async def events(url: str) -> AsyncIterator[tuple[str, Any]]:
    """Give a stream's events: name and data."""
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as stream:
        name = ""
        async for line in stream.content:
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


async def test_a_reading_reaches_the_chart(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    cloud = Cloud(tmp_path / "cloud", free_port())
    here = Site(tmp_path, embedded_broker.url, free_port(), WINDOWS + cloud.enrol(tmp_path.name))
    async with cloud.running() as aggregator, here.gateway() as gateway:
        await gateway.ready()
        async with publishing(here, devices=1, rate=40):
            series = await until(lambda: cloud.series(here.name), "the cloud knows the series")
            assert set(series) == {"device-1/value", "device-1/n"}
            row = await first_window(f"http://127.0.0.1:{cloud.port}/v1/live?series={series['device-1/value']}")
        page = await cloud.ask(f"/v1/windows?series={series['device-1/value']}&from={row['start']}&limit=1")
        assert page["series"]["name"] == "device-1/value"
        assert {key: page["windows"][0][key] for key in ("start", "size", "revision", "count", "mean")} == {
            key: row[key] for key in ("start", "size", "revision", "count", "mean")
        }
        assert row["minimum"] <= row["mean"] <= row["maximum"]
        (fleet,) = (await cloud.ask("/v1/gateways"))["gateways"]
        assert (fleet["name"], fleet["online"]) == (here.name, True)
        await gateway.stop()
        await aggregator.stop()


async def first_window(url: str) -> dict[str, Any]:
    async for name, data in events(url):
        if name == "windows":
            row: dict[str, Any] = data["rows"][0]
            return row
    raise AssertionError("the stream ended without a window")

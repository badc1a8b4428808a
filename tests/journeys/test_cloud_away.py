"""A gateway that starts before its cloud, and outlives the cloud's death: afterwards nothing is missing or doubled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.broker import EmbeddedBroker
from tests.journeys.cloud_process import Cloud, agree, expected
from tests.journeys.kept import check_whole, replay
from tests.journeys.site import WINDOWS, Gateway, Site, finished, publishing
from tests.waiting import until


async def windows_closed(gateway: Gateway, number: float) -> float:
    """Wait until so many windows are closed, and give how many there are."""

    async def closed() -> float:
        seen = (await gateway.metrics()).get("fieldgate_windows_closed_total", 0.0)
        return seen if seen >= number else 0

    seen: float = await until(closed, f"{number} windows are closed")
    return seen


async def test_a_cloud_that_is_away_at_start_and_killed_later(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    cloud = Cloud(tmp_path / "cloud", free_port())
    here = Site(tmp_path, embedded_broker.url, free_port(), WINDOWS + cloud.enrol(tmp_path.name))
    await here.subscribe()
    async with here.gateway() as gateway, publishing(here) as publisher:
        without = await windows_closed(gateway, 10)
        async with cloud.running() as first:
            await until(lambda: cloud.windows(here.name), "the cloud has windows")
            await windows_closed(gateway, without + 20)
            await first.kill()
        await windows_closed(gateway, await windows_closed(gateway, 0) + 30)
        async with cloud.running() as second:
            await gateway.recorded(2 * await finished(publisher))
            await gateway.settled()
            await until(lambda: agree(cloud, here), "the cloud has what the gateway has", every=0.1)
            await gateway.stop()
            assert await cloud.windows(here.name) == expected(replay(here))
            await no_frame_is_missing(cloud)
            await second.stop()
    check_whole(here, publisher, spool=False)


async def no_frame_is_missing(cloud: Cloud) -> None:
    lanes = (await cloud.ask("/v1/ledger"))["ledger"]
    assert {lane["lane"] for lane in lanes if lane["received"]} == {"definitions", "telemetry"}
    for lane in lanes:
        assert (lane["holes"], lane["ranges"], lane["dropped"], lane["quarantined"]) == ([], [], [], 0)
        assert lane["upto"] == lane["received"]

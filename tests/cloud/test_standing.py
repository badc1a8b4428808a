"""Standing jobs over a bus in memory: runs begin when they are due, and what they come to is in series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.config.standing import Standing
from cloud.jobs.jobs import MAX_RUNS
from cloud.jobs.state import CLOUD
from cloud.standing import check
from cloud.store import MAX_ROWS
from protocol.bus import MemoryBroker
from protocol.errors import ConfigurationRefused
from protocol.settings import Duration
from tests.cloud.dispatching import Cloud, running
from tests.cloud.wire import Clock, S, Wire
from tests.waiting import until

HOUR = 3600 * S
HOURLY = Standing(name="hourly", work="moments", series=("*/x",), keep=("*.mean", "*.count"))


@pytest.fixture
def clock() -> Clock:
    return Clock(10 * HOUR + 30 * S)


async def series(cloud: Cloud) -> dict[str, list[tuple[int, float | None]]]:
    """Rows (start in h, value) of the cloud's own series, by name."""
    found = {}
    for one in await cloud.store.series("cloud", None, 0, MAX_ROWS):
        page = await cloud.store.windows(one.id, None, "", (0, 1 << 62), 100)
        assert page is not None
        found[one.name] = [(row.start // HOUR, row.mean) for row in page.windows]
    return found


async def test_every_hour_becomes_a_row_and_a_restart_runs_none_twice(tmp_path: Path, clock: Clock) -> None:
    broker, barn, path = MemoryBroker(), Wire("barn"), tmp_path / "test.db"
    async with running(path, broker, clock, barn, standing=(HOURLY,)) as cloud:
        task = await cloud.asked("barn", "hourly.36000")
        await cloud.answer(barn, task, 1.0, 2.0)
        found = await cloud.ended("hourly.36000")
        assert (found.state, found.standing, found.start, found.end) == ("done", "hourly", 9 * HOUR, 10 * HOUR)
        assert await series(cloud) == {"hourly/pump/x.count": [(9, 2.0)], "hourly/pump/x.mean": [(9, 1.5)]}
        [shown] = cloud.shown
        assert (shown.series.tolist(), shown.rows.mean.tolist()) == ([1, 2], [2.0, 1.5])
    async with running(path, broker, clock, barn, standing=(HOURLY,)) as cloud:
        clock.now = 11 * HOUR + 10 * S
        await cloud.answer(barn, await cloud.asked("barn", "hourly.39600"), 4.0)
        await cloud.ended("hourly.39600")
        assert [one.id for one in cloud.dispatch.views()] == ["hourly.39600", "hourly.36000"]
        assert (await series(cloud))["hourly/pump/x.mean"] == [(9, 1.5), (10, 4.0)]
        [view] = cloud.dispatch.standing()
        assert (view.last, view.run, view.next) == (11 * HOUR, "hourly.39600", 12 * HOUR + 10 * S)
    clock.now = 14 * HOUR + 10 * S
    async with running(path, broker, clock, barn, standing=(HOURLY,)) as cloud:
        await cloud.asked("barn", "hourly.50400")
        assert cloud.dispatch.standing()[0].passed == 2, "what ended while the cloud was away is not run, and counted"


async def test_a_result_is_final(tmp_path: Path, clock: Clock) -> None:
    barn, mill = Wire("barn"), Wire("mill")
    async with running(tmp_path / "test.db", MemoryBroker(), clock, barn, mill, standing=(HOURLY,)) as cloud:
        await cloud.answer(barn, await cloud.asked("barn", "hourly.36000"), 1.0)
        late = await cloud.asked("mill", "hourly.36000")
        clock.now += HOURLY.lasts
        found = await cloud.ended("hourly.36000")
        assert (found.state, found.reason, found.complete) == ("done", "deadline", 0.5)
        await cloud.answer(mill, late, 5.0)
        await until(lambda: cloud.retained("mill", "hourly.36000") is None, "the task is taken back")
        assert (await series(cloud))["hourly/pump/x.mean"] == [(9, 1.0)]


async def test_the_same_numbers_again_change_nothing(tmp_path: Path, clock: Clock) -> None:
    barn = Wire("barn")
    async with running(tmp_path / "test.db", MemoryBroker(), clock, barn, standing=(HOURLY,)) as cloud:
        await cloud.answer(barn, await cloud.asked("barn", "hourly.36000"), 1.0)
        await cloud.ended("hourly.36000")
        before = await series(cloud)
        again = msgspec.json.encode({"groups": {"pump/x": {"mean": 7.0, "count": 1}}})
        await cloud.dispatch._standing.record(cloud.dispatch.jobs.jobs["hourly.36000"], again)
        assert await series(cloud) == before


async def test_a_run_that_nobody_can_compute_is_passed_over_and_says_why(tmp_path: Path, clock: Clock) -> None:
    async with running(tmp_path / "test.db", MemoryBroker(), clock, standing=(HOURLY,)) as cloud:
        await until(lambda: cloud.dispatch.standing()[0].last, "the run is passed over")
        [view] = cloud.dispatch.standing()
        assert (view.last, view.lacking) == (10 * HOUR, "gateways: no gateway that has called matches *")
        assert cloud.dispatch.views() == []


async def test_only_the_newest_runs_are_remembered_and_others_stay(tmp_path: Path, clock: Clock) -> None:
    barn = Wire("barn")
    async with running(tmp_path / "test.db", MemoryBroker(), clock, barn, standing=(HOURLY,)) as cloud:
        for number in range(MAX_RUNS + 2):
            name = f"hourly.{(10 + number) * 3600}"
            await cloud.answer(barn, await cloud.asked("barn", name), float(number))
            await cloud.ended(name)
            clock.now += HOUR
        await until(lambda: len(cloud.dispatch.views()) <= MAX_RUNS + 1, "older runs are forgotten")
        assert len((await series(cloud))["hourly/pump/x.mean"]) == MAX_RUNS + 2


async def test_the_clouds_own_series_make_no_gateway(tmp_path: Path, clock: Clock) -> None:
    barn = Wire("barn")
    async with running(tmp_path / "test.db", MemoryBroker(), clock, barn, standing=(HOURLY,)) as cloud:
        await cloud.answer(barn, await cloud.asked("barn", "hourly.36000"), 1.0)
        await cloud.ended("hourly.36000")
        assert [one.name for one in await cloud.store.gateways()] == ["barn"]
        assert [one.gateway for one in await cloud.store.accounts(None)] == ["barn"]
        assert (await cloud.store.totals()).gateways == 1
        assert CLOUD not in {one.name for one in await cloud.store.gateways()}


@pytest.mark.parametrize(
    ("said", "key"),
    [({"work": "nothing"}, "job[0].work"), ({"params": {"x": 1}}, "job[0].params")],
    ids=["no such work", "no such parameter"],
)
def test_what_is_not_installed_is_refused_before_anything_runs(said: dict[str, Any], key: str) -> None:
    job = msgspec.structs.replace(HOURLY, every=Duration(HOUR), **said)
    with pytest.raises(ConfigurationRefused) as refused:
        check((job,))
    assert refused.value.key == key

"""Parts of windows that are stored here: only where a job allows it, as good as is said, and it is said of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud.config.standing import Standing
from cloud.jobs import CLOUD, Bounds, Place, Question, read_spec
from cloud.placement import Known, plan
from cloud.store import Sums, Windows
from cloud.store.sqlite import SqliteStore
from cloud.stored import part_of
from learning import summary
from learning.work import registry
from protocol.bus import MemoryBroker, MemoryBus
from protocol.jobs import Resources
from protocol.messages import WindowRows
from protocol.topics import topic
from tests.cloud.dispatching import running
from tests.cloud.wire import Clock, S, Wire, definitions
from tests.waiting import until

NOW = 1_000_000 * S
U = 2.0**-24
MOMENTS = registry.find("moments")
Values = NDArray[np.float64]


def windows(values: Values, *, size: int = 10, start: int = 0, series: int = 0) -> WindowRows:
    """Windows of `size` readings each, a reading a second from `start` (s) on, as a gateway sends them."""
    parts = values.reshape(-1, size)
    count = len(parts)
    return WindowRows(
        np.full(count, series, np.int32),
        np.zeros(count, np.int32),
        (start + np.arange(count) * size) * S,
        np.zeros(count, np.int32),
        np.full(count, size),
        parts.mean(1).astype(np.float32),
        parts.std(1).astype(np.float32),
        parts.min(1),
        parts.max(1),
        parts[:, 0],
        parts[:, -1],
    )


async def store_of(path: Path, wire: Wire, clock: Clock, *rows: WindowRows) -> None:
    """A database that has these windows of two series, each 10 s long."""
    store = SqliteStore(path, clock)
    await store.open()
    await store.hello(wire.hello(), 0)
    await store.apply(wire.batch(wire.arrived("definitions", definitions(("pump/x", "pump/y")))))
    await store.apply(wire.batch(*(wire.arrived("telemetry", Windows(part, "")) for part in rows)))
    await store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


def asking(**said: Any) -> Any:
    return read_spec(msgspec.json.encode({"work": "moments", "windows": "when away"} | said))


async def test_a_gateway_that_is_away_is_answered_for_by_its_windows_and_the_part_says_so(
    tmp_path: Path, clock: Clock
) -> None:
    barn, mill, path = Wire("barn"), Wire("mill"), tmp_path / "test.db"
    values = np.random.default_rng(1).normal(1_000, 0.1, 500)
    await store_of(path, mill, clock, windows(values, start=100), windows(values + 5, start=100, series=1))
    async with running(path, MemoryBroker(), clock, barn, mill) as cloud:
        cloud.fleet.closed("mill", 1, clock())
        planned = await cloud.dispatch.plan(asking(series=["*/x"]))
        assert [(step.gateway, step.where) for step in planned.steps] == [("barn", "gateway"), ("mill", "cloud")]
        assert planned.steps[1].why.startswith("it is away; windows of cleaned readings, stored here since 1970-01-01")
        job = (await cloud.dispatch.submit(asking(series=["*/x"]))).id
        await cloud.answer(barn, await cloud.asked("barn", job), 1_000.0, 1_001.0)
        found = await cloud.ended(job)
    group = found.result["groups"]["pump/x"]
    every = np.append(values, [1_000.0, 1_001.0])
    assert (found.state, found.complete, found.stored, found.readings) == ("done", 1.0, 1, 502)
    assert {part.gateway: part.source for part in found.each} == {"barn": "readings", "mill": "windows"}
    assert [part.held for part in found.each if part.gateway == "mill"] == [(100 * S, 600 * S)]
    assert (group["count"], group["minimum"], group["maximum"]) == (502, every.min(), every.max())
    assert abs(group["mean"] - every.mean()) <= 2 * U * every.max()
    assert abs(group["deviation"] - every.std()) <= 2 * U * every.max()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        pytest.param({"windows": "never"}, "away: asked when it is back", id="not allowed"),
        pytest.param({"work": "quantiles"}, "away: asked when it is back", id="not to be had of windows"),
        pytest.param({"series": ["nothing/*"]}, "away: asked when it is back", id="no such series"),
        pytest.param({"from": 1, "to": 2}, "away: asked when it is back", id="no window so early"),
    ],
)
async def test_otherwise_it_waits_for_the_gateway(tmp_path: Path, clock: Clock, said: dict[str, Any], why: str) -> None:
    mill = Wire("mill")
    await store_of(tmp_path / "test.db", mill, clock, windows(np.arange(20.0), start=100))
    async with running(tmp_path / "test.db", MemoryBroker(), clock, mill) as cloud:
        cloud.fleet.closed("mill", 0, clock())
        [step] = (await cloud.dispatch.plan(asking(**said))).steps
        assert (step.where, step.why.split("; ")[-1]) == ("gateway", why)


async def test_what_a_journal_has_no_more_is_taken_from_windows(tmp_path: Path, clock: Clock) -> None:
    mill, broker = Wire("mill"), MemoryBroker()
    await store_of(tmp_path / "test.db", mill, clock, windows(np.arange(100.0), start=NOW // S - 1000))
    async with running(tmp_path / "test.db", broker, clock, mill) as cloud:

        async def steps() -> Any:
            return (await cloud.dispatch.plan(asking())).steps

        assert [step.where for step in await steps()] == ["gateway"]
        with MemoryBus(broker) as bus:
            status = {"state": "online", "resources": {"oldest": NOW - 100 * S, "readings": 1}}
            await bus.publish(topic("mill", "status"), msgspec.json.encode(status), retain=True)

        async def moved() -> Any:
            [step] = await steps()
            return step if step.where == "cloud" else None

        step = await until(moved, "its status is heard")
        assert step.why.startswith("its journal goes back to 1970-01-12 13:45 only; windows of cleaned readings")


def test_no_window_makes_a_part_of_nothing() -> None:
    asked = Question("moments", 1, ("*",), 0, 0, b"\x80")
    part = part_of(asked, summary.encode(summary.of_sums({})))
    assert MOMENTS.result(part, registry.read_params(MOMENTS, asked.params)) == {"groups": {}}


@pytest.mark.parametrize(
    ("online", "oldest", "stored", "where"),
    [
        pytest.param(True, 0, 0, "gateway", id="nothing stored"),
        pytest.param(False, 0, 500, "cloud", id="away"),
        pytest.param(False, 0, 5_000, "gateway", id="away, and windows after what is asked for"),
        pytest.param(True, 100, 50, "gateway", id="the journal has all that is asked for"),
        pytest.param(True, 1_500, 500, "cloud", id="the journal begins in the middle of it"),
        pytest.param(True, 1_005, 500, "gateway", id="all but a little"),
        pytest.param(True, 1_500, 1_500, "gateway", id="windows do not go back further"),
    ],
)
def test_where_a_part_is_made(online: bool, oldest: int, stored: int, where: str) -> None:
    asked = Question("moments", 1, ("*",), 1_000 * S, 2_000 * S, b"\x80")
    known = Known("mill", online, 100, 4, 4, Resources(oldest=oldest * S, readings=100), stored=stored * S)
    found = plan(asked, [known], Bounds(), NOW)
    assert [step.where for step in found.steps] == [where]
    assert [place.sites for place in found.places] == [(CLOUD if where == "cloud" else "mill",)]
    assert isinstance(found.places[0], Place)


async def test_of_a_series_the_whole_tumbling_windows_with_most_readings_are_added_up(
    tmp_path: Path, clock: Clock
) -> None:
    wire, path = Wire("mill"), tmp_path / "test.db"
    await store_of(path, wire, clock, windows(np.arange(40.0), start=100))
    store = SqliteStore(path, clock)
    await store.open()
    other = Wire("mill", epoch=8)
    await store.hello(other.hello(), 0)
    coarse = other.arrived("definitions", definitions(("pump/x", "pump/y"), digest="coarse", size=20 * S))
    rows = windows(np.arange(20.0), size=20, start=100)
    await store.apply(other.batch(coarse, other.arrived("telemetry", Windows(rows, ""))))
    await store.apply(other.batch(other.arrived("telemetry", Windows(windows(np.zeros(100)), "boot"))))
    third = Wire("mill", epoch=9)
    await store.hello(third.hello(), 0)
    hopping = third.arrived("definitions", definitions(("pump/x", "pump/y"), digest="hopping", size=10 * S, hop=5 * S))
    both = [windows(np.zeros(100), start=50, series=number) for number in (0, 1)]
    await store.apply(third.batch(hopping, *(third.arrived("telemetry", Windows(rows, "")) for rows in both)))
    [series, _] = await store.series("mill", None, 0, 10)
    mean = np.arange(10.0, 30.0)
    found = await store.sums(series.id, 105 * S, 135 * S)
    assert found is not None
    assert found.scatter == pytest.approx(20 * mean.var(), rel=1e-6)
    assert found._replace(scatter=0.0) == Sums(20, mean.mean(), 0.0, 10.0, 29.0, 110 * S, 130 * S)
    assert (await store.sums(series.id, 0, 0) or Sums(0, 0, 0, 0, 0, 0, 0)).count == 40
    assert await store.sums(series.id, 0, 100 * S) is None
    assert (await store.oldest("mill", "*/x"), await store.oldest("mill", "*/y")) == (100 * S, None)
    await store.close()


@given(
    values=st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=10, max_size=100).map(
        lambda found: np.array(found[: len(found) // 10 * 10])
    ),
    by=st.sampled_from(["series", "measurement", "all"]),
)
def test_a_part_of_windows_is_that_of_their_readings_within_what_is_said(values: Values, by: str) -> None:
    rows = windows(values)
    weight, mean, deviation = rows.count, rows.mean.astype(np.float64), rows.deviation.astype(np.float64)
    middle = (weight * mean).sum() / weight.sum()
    scatter = (weight * (deviation**2 + (mean - middle) ** 2)).sum()
    sums = (int(weight.sum()), float(middle), float(scatter), float(values.min()), float(values.max()))
    packed = summary.encode(summary.of_sums({"p/x": sums, "q/x": sums, "none/x": (0, 0.0, 0.0, 0.0, 0.0)}))
    params = registry.pack_params(MOMENTS, {"by": by})
    asked = Question("moments", 1, ("*",), 0, 0, params)
    groups = MOMENTS.result(part_of(asked, packed), registry.read_params(MOMENTS, params))["groups"]
    names = {"series": ["p/x", "q/x"], "measurement": ["x"], "all": ["*"]}[by]
    assert list(groups) == names
    bound = 1.01 * U * (np.abs(mean).max() + values.std()) + 1e-9
    for found in groups.values():
        assert found["count"] == len(values) * 2 // len(names)
        assert abs(found["mean"] - values.mean()) <= bound
        assert abs(found["deviation"] - values.std()) <= bound
        assert (found["minimum"], found["maximum"]) == (values.min(), values.max())


async def test_a_standing_job_may_use_them_too(tmp_path: Path, clock: Clock) -> None:
    mill, path = Wire("mill"), tmp_path / "test.db"
    job = Standing(name="hourly", work="moments", keep=("*.count",), windows="when away")
    hour = (NOW // S) // 3600 * 3600
    await store_of(path, mill, clock, windows(np.arange(3600.0), start=hour))
    async with running(path, MemoryBroker(), clock, standing=(job,)) as cloud:
        cloud.fleet.opened(mill.hello(), 0, clock())
        cloud.fleet.closed("mill", 0, clock())
        clock.now += 3600 * S
        await until(lambda: len(cloud.dispatch.views()) and cloud.dispatch.views()[0].ended, "a run ends")
        [found] = cloud.dispatch.views()
        assert (found.state, found.stored, found.standing) == ("done", 1, "hourly")

"""clean: what is removed and why, and that the first of two equals wins, however they arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config
from gateway.clean import LIMIT, MAX_REMEMBERED, MAX_TIME, Clean, Remembered, in_order
from gateway.records import Readings
from protocol.columns import decode
from protocol.settings import Duration

SECOND = 10**9
Reading = tuple[int, float, float]  # series, time in s, value
MINUTE_WINDOW = config.Window(size=Duration(60 * SECOND), late="drop")


class Bench:
    """A Clean over the series a/x, a/y, b/x, fed in seconds."""

    def __init__(
        self, *rules: config.Clean, window: config.Window = MINUTE_WINDOW, max_remembered: int = 1 << 20
    ) -> None:
        self.config = config.PipelineConfig(clean=rules, window=(window,))
        self.clean = Clean(self.config, max_remembered=max_remembered)
        self.clean.define(["a/x", "a/y", "b/x"])

    def feed(self, at: float, *readings: Reading) -> tuple[list[Reading], dict[str, int]]:
        kept, removed = self.clean.feed(columns(readings), round(at * SECOND))
        seconds = [time / SECOND for time in kept.time.tolist()]
        return list(zip(kept.series.tolist(), seconds, kept.value.tolist(), strict=True)), removed


def columns(readings: Sequence[Reading]) -> Readings:
    return Readings(
        np.array([series for series, _, _ in readings], np.int32),
        np.array([round(time * SECOND) for _, time, _ in readings], np.int64),
        np.array([value for _, _, value in readings], np.float64),
    )


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        pytest.param((0, 99, math.nan), "non_finite", id="not a number"),
        pytest.param((0, 99, -math.inf), "non_finite", id="infinite"),
        pytest.param((0, 99, 50.5), "range", id="above the series' max"),
        pytest.param((0, 99, -0.5), "range", id="below the series' min"),
        pytest.param((1, 99, 2e150), "range", id="more than any sensor says"),
        pytest.param((1, -1, 1.0), "time", id="before 1970"),
        pytest.param((1, MAX_TIME / SECOND, 1.0), "time", id="after 2116"),
        pytest.param((1, 401, 1.0), "future", id="later than our clock and the skew allowed"),
        pytest.param((2, 99, 1e149), "range", id="scaled beyond what any sensor says"),
        pytest.param((0, 1000, math.nan), "non_finite", id="of several reasons the first is counted"),
    ],
)
def test_a_bad_reading_is_removed_for_one_reason_and_costs_no_other(reading: Reading, reason: str) -> None:
    bench = Bench(config.Clean(series="a/x", min=0.0, max=50.0), config.Clean(series="b/*", scale=100.0))
    assert bench.feed(100, reading, (1, 98, 7.0)) == ([(1, 98, 7.0)], {reason: 1})


def test_the_borders_of_range_and_skew_are_inside() -> None:
    bench = Bench(config.Clean(min=0.0, max=50.0))
    kept, removed = bench.feed(100, (0, 99, 0.0), (0, 400, 50.0), (1, 0, 1.0))
    assert (kept, removed) == ([(0, 99, 0.0), (0, 400, 50.0), (1, 0, 1.0)], {})


def test_a_rule_that_matches_first_wins_key_by_key() -> None:
    bench = Bench(
        config.Clean(series="a/x", max=10.0),
        config.Clean(series="a/*", max=5.0, min=1.0, scale=2.0),
        config.Clean(scale=3.0, offset=0.5),
    )
    kept, removed = bench.feed(100, (0, 99, 8.0), (1, 99, 8.0), (0, 98, 0.5), (2, 99, 8.0))
    assert kept == [(0, 99, 16.5), (2, 99, 24.5)]
    assert removed == {"range": 2}


def test_the_future_is_not_judged_while_our_own_clock_is_unsynchronised() -> None:
    bench = Bench()
    bench.clean.offset = None
    assert bench.feed(3, (0, 1_700_000_000, 1.0)) == ([(0, 1_700_000_000, 1.0)], {})


def test_what_is_kept_leaves_in_order_of_series_and_time() -> None:
    kept, removed = Bench().feed(100, (2, 5, 1.0), (0, 9, 2.0), (1, 7, 3.0), (0, 8, 4.0))
    assert kept == [(0, 8, 4.0), (0, 9, 2.0), (1, 7, 3.0), (2, 5, 1.0)]
    assert removed == {}


@pytest.mark.parametrize("highest", [0, (1 << 16) - 1, 1 << 16, config.MAX_SERIES - 1], ids="{:,}".format)
def test_however_many_series_there_are_order_is_by_series_and_ties_by_arrival(highest: int) -> None:
    series = np.array([highest, 0, highest, highest // 2, 0], np.int32)
    order = np.argsort(series, kind="stable")
    kept, repeated = in_order(Readings(series, np.arange(5), np.arange(5.0)))
    assert repeated is None
    assert [column.tolist() for column in kept] == [series[order].tolist(), order.tolist(), order.tolist()]


def test_nothing_in_nothing_out() -> None:
    assert Bench(config.Clean(scale=2.0)).feed(100) == ([], {})


def test_of_equal_identities_the_first_to_arrive_wins() -> None:
    bench = Bench()
    assert bench.feed(10, (0, 5, 1.0), (0, 5, 2.0), (1, 5, 3.0), (0, 4, 4.0), (0, 4, 5.0)) == (
        [(0, 4, 4.0), (0, 5, 1.0), (1, 5, 3.0)],
        {"duplicate": 2},
    )
    assert bench.feed(11, (0, 5, 6.0)) == ([], {"duplicate": 1})  # the latest of its series
    assert bench.feed(12, (0, 4, 7.0), (0, 4.5, 8.0)) == ([(0, 4.5, 8.0)], {"duplicate": 1})  # out of order
    assert bench.feed(13, (0, 4.5, 9.0), (0, 6, 10.0)) == ([(0, 6, 10.0)], {"duplicate": 1})


def test_a_reading_that_was_removed_is_not_remembered() -> None:
    bench = Bench(config.Clean(max=10.0))
    assert bench.feed(10, (0, 5, 99.0), (0, 6, 1.0))[1] == {"range": 1}
    assert bench.feed(11, (0, 5, 2.0)) == ([(0, 5, 2.0)], {})


def test_two_identities_with_the_same_mixed_key_are_not_confused() -> None:
    bench, far = Bench(), (1 << 44) / SECOND
    assert bench.feed(30_000, (0, far, 1.0), (0, 20_000, 1.0), (1, 5, 1.0))[1] == {}
    assert bench.feed(30_001, (1, 0, 1.0)) == ([(1, 0, 1.0)], {})  # mixes to the same key as (0, far)
    assert bench.feed(30_002, (0, far, 2.0), (1, 0, 2.0)) == ([], {"duplicate": 2})


def test_identities_are_forgotten_when_no_window_could_take_them_any_more() -> None:
    bench = Bench()
    bench.feed(100, (0, 90, 1.0), (0, 91, 1.0), (1, 91, 1.0))
    assert bench.feed(159, (0, 90, 2.0)) == ([], {"duplicate": 1})
    bench.feed(161, (1, 161, 1.0))
    assert bench.clean.remembered == 1
    assert bench.feed(162, (0, 90, 2.0), (0, 91, 2.0)) == ([(0, 90, 2.0)], {"duplicate": 1})  # the latest stays known


def test_a_full_memory_forgets_the_oldest_and_never_grows() -> None:
    bench = Bench(max_remembered=64)
    for second in range(200):
        bench.feed(300, (0, second, 1.0), (1, second, 1.0))
        assert bench.clean.remembered <= 64
    assert bench.feed(300, (0, 198, 2.0), (0, 1, 2.0)) == ([(0, 1, 2.0)], {"duplicate": 1})


def test_series_defined_later_follow_the_same_rules() -> None:
    bench = Bench(config.Clean(series="c/*", scale=2.0))
    bench.feed(10, (0, 5, 1.0))
    bench.clean.define(["c/x"])
    assert bench.feed(11, (3, 5, 1.0), (0, 5, 1.0)) == ([(3, 5, 2.0)], {"duplicate": 1})


def test_a_new_configuration_changes_the_rules_and_forgets_nothing() -> None:
    bench = Bench(config.Clean(max=10.0))
    assert bench.feed(10, (0, 5, 11.0), (1, 5, 1.0))[1] == {"range": 1}
    bench.clean.configure(config.PipelineConfig(clean=(config.Clean(scale=2.0),)))
    assert bench.feed(11, (0, 5, 11.0), (1, 5, 1.0)) == ([(0, 5, 22.0)], {"duplicate": 1})


values = st.one_of(st.floats(), st.sampled_from([LIMIT, -LIMIT, 1.0, -0.0]))
batches = st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), values), max_size=8), max_size=12)


@settings(max_examples=150, deadline=None)
@given(batches)
def test_the_kept_are_those_a_plain_set_would_keep(steps: list[list[Reading]]) -> None:
    bench, heard = Bench(), set[tuple[int, float]]()
    for at, readings in enumerate(steps):
        expected, removed = [], dict[str, int]()
        for series, time, value in readings:
            reason = ""
            if not math.isfinite(value):
                reason = "non_finite"
            elif abs(value) > LIMIT:
                reason = "range"
            elif (series, time) in heard:
                reason = "duplicate"
            else:
                heard.add((series, time))
                expected.append((series, time, value))
            if reason:
                removed[reason] = removed.get(reason, 0) + 1
        assert bench.feed(20 + at, *readings) == (sorted(expected), removed)


@settings(max_examples=60, deadline=None)
@given(batches, st.data())
def test_a_restored_snapshot_goes_on_bit_for_bit(steps: list[list[Reading]], data: st.DataObject) -> None:
    first = Bench(max_remembered=32)
    second = Bench(max_remembered=32)
    stamp = 20
    for readings in steps:
        stamp += data.draw(st.sampled_from([0, 1, 10]))
        if data.draw(st.booleans()):
            state = second.clean.snapshot()
            second = Bench(max_remembered=32)
            second.clean.restore(state)
        assert repr(first.feed(stamp, *readings)) == repr(second.feed(stamp, *readings))
    assert flat(first.clean.snapshot()) == flat(second.clean.snapshot())


def flat(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    if isinstance(state, list):
        return [flat(value) for value in state]
    return (state.dtype.str, state.tobytes()) if isinstance(state, np.ndarray) else state


@pytest.mark.parametrize("apart", [1, 1 << 50], ids=["close together", "too far apart to be sorted as one integer"])
@pytest.mark.parametrize("highest", [2, 999_999])
def test_a_snapshot_has_identities_by_series_and_time(apart: int, highest: int) -> None:
    memory = Remembered(1 << 60, MAX_REMEMBERED)
    series, time = np.array([highest, 0, highest, 1], np.int32), np.array([5, 2, 3, 4]) * apart
    memory.add(series, time, 0)
    [block] = memory.snapshot()["generations"]
    held = decode(block["packed"], {"series": np.int32, "time": np.int64}, max_rows=4)
    assert held["series"].tolist() == [0, 1, highest, highest]
    assert held["time"].tolist() == [2 * apart, 4 * apart, 3 * apart, 5 * apart]

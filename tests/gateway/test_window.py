"""window: timetables in seconds, then any orders and splits against a slow exact model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config
from gateway.clean import in_order
from gateway.records import NEVER, Readings
from gateway.window import Windowing
from gateway.window.absent import MOST
from gateway.window.moments import combine, gather, join, merge, select
from protocol.columns import encode_state
from protocol.messages import WINDOW_DTYPES, WindowRows
from protocol.settings import Duration

SECOND = 10**9
NAMES = ("a/x", "a/y", "b/x")
Reading = tuple[str, float, float]  # series, event time in s, value


def window(size: float = 10, hop: float | None = None, *, lateness: float = 0, **more: Any) -> config.Window:
    """Give a window definition in seconds; revise_for is 20 unless told."""
    return config.Window(
        size=seconds(size),
        hop=None if hop is None else seconds(hop),
        lateness=seconds(lateness),
        revise_for=seconds(more.pop("revise_for", 20)),
        **more,
    )


def seconds(number: float) -> Duration:
    return Duration(round(number * SECOND))


class Row(NamedTuple):
    series: str
    start: float
    revision: int
    readings: int
    mean: float
    deviation: float
    minimum: float
    maximum: float
    first: float
    last: float
    definition: int


def row(series: str, start: float, *values: float, revision: int = 0, definition: int = 0) -> Row:
    """Give the whole row that `values`, in order of event time, must make."""
    mean, deviation = exact(values)
    low, high = min(values), max(values)
    return Row(
        series, start, revision, len(values), f32(mean), f32(deviation), low, high, values[0], values[-1], definition
    )


def f32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def exact(values: Sequence[float]) -> tuple[float, float]:
    """Give mean and population deviation, rounded once."""
    exactly = [Fraction(value) for value in values]
    mean = sum(exactly, Fraction(0)) / len(exactly)
    variance = sum(((value - mean) ** 2 for value in exactly), Fraction(0)) / len(exactly)
    scale = max(abs(value - mean) for value in exactly) or Fraction(1)
    return float(mean), math.sqrt(float(variance / scale**2)) * float(scale)


class Bench:
    """A Windowing over a/x, a/y, b/x; idle after 5 s; the accounting is checked after every call."""

    def __init__(self, *windows: config.Window, max_windows: int = 1000) -> None:
        self.names = list(NAMES)
        self.config = config.PipelineConfig(window=windows, time=config.Time(idle=seconds(5)))
        self.max_windows = max_windows
        self.windowing = Windowing(self.config, max_windows=max_windows)
        self.windowing.define(self.names)
        self.recorded = self.late = self.windowed = self.removed = 0

    def feed(self, at: float, *readings: Reading) -> list[Row]:
        self.recorded += len(readings)
        return self._passed(*self.windowing.feed(in_order(columns(self.names, readings))[0], seconds(at)))

    def tick(self, at: float) -> list[Row]:
        return self._passed(*self.windowing.tick(seconds(at)))

    def configure(self, at: float, *windows: config.Window) -> list[Row]:
        self.config = config.PipelineConfig(window=windows, time=self.config.time)
        return self._passed(*self.windowing.configure(self.config, seconds(at)))

    def restart(self) -> None:
        state = self.windowing.snapshot()
        self.windowing = Windowing(self.config, max_windows=self.max_windows)
        self.windowing.define(self.names)
        self.windowing.restore(state)

    @property
    def due(self) -> float:
        return self.windowing.due() / SECOND

    def _passed(self, rows: WindowRows, passed: Any) -> list[Row]:
        self.late += passed.late
        self.windowed += passed.windowed
        self.removed += sum(passed.removed.values())
        assert self.recorded == self.windowed + self.removed + self.late + self.windowing.pending
        assert [column.dtype for column in rows] == [np.dtype(kind) for kind in WINDOW_DTYPES.values()]
        order = [
            (int(d), int(start), int(s)) for d, start, s in zip(rows.definition, rows.start, rows.series, strict=True)
        ]
        assert order == sorted(set(order))
        return [
            Row._make((self.names[series], start / SECOND, *rest, definition))
            for series, definition, start, *rest in zip(*(column.tolist() for column in rows), strict=True)
        ]


def columns(names: Sequence[str], readings: Sequence[Reading]) -> Readings:
    return Readings(
        np.array([names.index(series) for series, _, _ in readings], np.int32),
        np.array([round(time * SECOND) for _, time, _ in readings], np.int64),
        np.array([value for _, _, value in readings], np.float64),
    )


# Closing


def test_a_window_closes_when_its_device_passes_its_end() -> None:
    edge = Bench(window(10))
    assert edge.feed(1, ("a/x", 1, 4.0), ("a/x", 2, 2.0)) == []
    assert edge.feed(9, ("a/x", 9, 9.0)) == []
    assert edge.feed(11, ("a/x", 10, 7.0)) == [row("a/x", 0, 4.0, 2.0, 9.0)]
    assert edge.windowing.pending == 1


def test_the_watermark_is_the_devices_own_and_shared_by_its_series() -> None:
    edge = Bench(window(10))
    assert edge.feed(1, ("a/x", 1, 1.0), ("a/y", 2, 2.0), ("b/x", 3, 3.0)) == []
    assert edge.feed(5, ("a/y", 12, 5.0)) == [row("a/x", 0, 1.0), row("a/y", 0, 2.0)]
    assert edge.feed(6, ("b/x", 11, 6.0)) == [row("b/x", 0, 3.0)]


def test_lateness_holds_a_window_open() -> None:
    edge = Bench(window(10, lateness=3))
    assert edge.feed(1, ("a/x", 1, 1.0)) == []
    assert edge.feed(12, ("a/x", 12, 3.0)) == []
    assert edge.feed(12.5, ("a/x", 9, 2.0)) == []
    assert edge.feed(13, ("a/x", 13, 4.0)) == [row("a/x", 0, 1.0, 2.0)]


def test_the_order_within_a_batch_is_that_of_event_time() -> None:
    edge = Bench(window(10))
    assert edge.feed(1, ("a/x", 21, 5.0), ("a/x", 8, 2.0), ("a/x", 1, 1.0), ("a/x", 12, 3.0), ("a/x", 9, 2.5)) == [
        row("a/x", 0, 1.0, 2.0, 2.5),
        row("a/x", 10, 3.0),
    ]


def test_windows_between_two_readings_are_not_stated() -> None:
    edge = Bench(window(10))
    edge.feed(1, ("a/x", 1, 1.0))
    assert edge.feed(2, ("a/x", 95, 2.0)) == [row("a/x", 0, 1.0)]
    assert edge.feed(3, ("a/x", 100, 3.0)) == [row("a/x", 90, 2.0)]


def test_a_device_stuck_in_1970_costs_only_itself() -> None:
    edge = Bench(window(10))
    assert edge.feed(1000, ("a/x", 3, 1.0), ("b/x", 1000, 2.0)) == []
    assert edge.feed(1001, ("a/x", 4, 1.5), ("b/x", 1010, 3.0)) == [row("b/x", 1000, 2.0)]
    assert edge.feed(1002, ("a/x", 1002, 4.0)) == [row("a/x", 0, 1.0, 1.5)]


# Silence


def test_a_silent_device_closes_its_windows_by_our_clock() -> None:
    edge = Bench(window(10))
    edge.feed(101, ("a/x", 101, 1.0))
    assert edge.due == 110
    assert edge.tick(109) == []
    assert edge.tick(110) == [row("a/x", 100, 1.0)]
    assert edge.windowing.due() == NEVER


@pytest.mark.parametrize(
    ("at", "event", "lateness", "due"),
    [
        pytest.param(101, 101, 0, 110, id="the window's end"),
        pytest.param(109, 109, 0, 114, id="not before it has been silent long enough"),
        pytest.param(101, 101, 6, 116, id="the lateness after the end"),
        pytest.param(109, 101, 0, 118, id="its clock is behind ours"),
        pytest.param(101, 109, 0, 110, id="its clock is ahead: never beyond ours"),
    ],
)
def test_due_says_when_silence_closes_a_window(at: float, event: float, lateness: float, due: float) -> None:
    edge = Bench(window(10, lateness=lateness))
    edge.feed(at, ("a/x", event, 1.0))
    assert edge.due == due
    assert edge.tick(due - 0.001) == []
    assert edge.tick(due) == [row("a/x", 100, 1.0)]


def test_a_reading_ends_the_silence() -> None:
    edge = Bench(window(10))
    edge.feed(101, ("a/x", 101, 1.0), ("b/x", 102, 2.0))
    edge.feed(108, ("a/x", 108, 3.0))
    assert edge.due == 110  # b/x is ahead of our clock by 1 s, and not carried beyond it
    assert edge.tick(109.9) == []
    assert edge.tick(110) == [row("b/x", 100, 2.0)]
    assert edge.due == 113
    assert edge.tick(113) == [row("a/x", 100, 1.0, 3.0)]


def test_what_follows_on_silence_is_late_whether_or_not_a_tick_came() -> None:
    ticked, unticked = Bench(window(10, late="drop")), Bench(window(10, late="drop"))
    for edge in (ticked, unticked):
        edge.feed(101, ("a/x", 101, 1.0))
    assert ticked.tick(112) == [row("a/x", 100, 1.0)]
    assert ticked.feed(113, ("a/x", 102, 2.0)) == []
    assert unticked.feed(113, ("a/x", 102, 2.0)) == [row("a/x", 100, 1.0)]
    assert ticked.late == unticked.late == 1


def test_our_clock_jumping_from_1970_carries_no_device_beyond_it() -> None:
    edge = Bench(window(10))
    edge.feed(5, ("a/x", 1_700_000_001, 1.0))  # its clock is right, ours is not yet
    assert edge.tick(1_700_000_006) == []
    assert edge.feed(1_700_000_007, ("a/x", 1_700_000_007, 2.0)) == []
    assert edge.feed(1_700_000_011, ("a/x", 1_700_000_011, 3.0)) == [row("a/x", 1_700_000_000, 1.0, 2.0)]


# Late


def test_a_late_reading_revises_what_was_stated() -> None:
    edge = Bench(window(10))
    edge.feed(1, ("a/x", 1, 1.0))
    assert edge.feed(11, ("a/x", 11, 5.0)) == [row("a/x", 0, 1.0)]
    assert edge.feed(12, ("a/x", 9, 3.0), ("a/x", 0, 2.0)) == [row("a/x", 0, 2.0, 1.0, 3.0, revision=1)]
    assert edge.feed(13, ("a/x", 5, 4.0)) == [row("a/x", 0, 2.0, 1.0, 4.0, 3.0, revision=2)]
    assert edge.late == 0


def test_a_late_reading_of_a_window_that_had_none_states_it_at_once() -> None:
    edge = Bench(window(10))
    edge.feed(21, ("a/x", 21, 1.0))
    assert edge.feed(22, ("a/x", 3, 7.0)) == [row("a/x", 0, 7.0)]
    assert edge.feed(23, ("a/x", 4, 8.0)) == [row("a/x", 0, 7.0, 8.0, revision=1)]


def test_revising_and_closing_are_one_statement_in_one_call() -> None:
    edge = Bench(window(10))
    edge.feed(1, ("a/x", 1, 1.0))
    edge.feed(11, ("a/x", 11, 2.0))
    assert edge.feed(22, ("a/x", 21, 5.0), ("a/x", 12, 4.0), ("a/x", 2, 3.0)) == [
        row("a/x", 0, 1.0, 3.0, revision=1),
        row("a/x", 10, 2.0, 4.0),
    ]


def test_after_revise_for_a_reading_is_late_and_the_window_forgotten() -> None:
    edge = Bench(window(10, revise_for=20))
    edge.feed(1, ("a/x", 1, 1.0))
    edge.feed(29, ("a/x", 29.9, 2.0))
    assert edge.feed(29, ("a/x", 2, 3.0)) == [row("a/x", 0, 1.0, 3.0, revision=1)]
    assert edge.feed(30, ("a/x", 30, 4.0)) == [row("a/x", 20, 2.0)]
    assert edge.feed(30, ("a/x", 3, 5.0)) == []
    assert edge.late == 1


def test_dropping_counts_what_is_late_and_keeps_no_stated_window() -> None:
    edge = Bench(window(10, late="drop"))
    edge.feed(1, ("a/x", 1, 1.0))
    assert edge.feed(11, ("a/x", 11, 2.0)) == [row("a/x", 0, 1.0)]
    assert edge.feed(12, ("a/x", 9, 3.0), ("a/x", 12, 4.0)) == []
    assert (edge.late, edge.windowing.windows) == (1, 1)


# Hopping, and several definitions


def test_a_hopping_window_holds_each_reading_in_several_and_counts_it_once() -> None:
    edge = Bench(window(20, 10))
    assert edge.feed(12, ("a/x", 12, 1.0)) == []
    assert edge.feed(21, ("a/x", 21, 3.0)) == [row("a/x", 0, 1.0)]
    assert (edge.windowed, edge.windowing.pending) == (0, 2)  # 12 lies in 10..30 as well
    assert edge.feed(31, ("a/x", 31, 5.0)) == [row("a/x", 10, 1.0, 3.0)]
    assert (edge.windowed, edge.windowing.pending) == (1, 2)


def test_a_late_reading_revises_the_hops_that_were_stated_and_enters_the_others() -> None:
    edge = Bench(window(20, 10))
    edge.feed(12, ("a/x", 12, 1.0))
    edge.feed(21, ("a/x", 21, 3.0))
    assert edge.feed(22, ("a/x", 13, 2.0)) == [row("a/x", 0, 1.0, 2.0, revision=1)]
    assert edge.feed(31, ("a/x", 31, 5.0)) == [row("a/x", 10, 1.0, 2.0, 3.0)]


def test_a_window_before_1970_is_one_like_others() -> None:
    edge = Bench(window(20, 10))
    assert edge.feed(11, ("a/x", 1, 1.0), ("a/x", 11, 2.0)) == [row("a/x", -10, 1.0)]


def test_definitions_are_numbered_and_each_has_its_own_series_lateness_and_policy() -> None:
    edge = Bench(window(10, series="a/*", late="drop"), window(20, series="*/x", lateness=5))
    edge.feed(1, ("a/x", 1, 1.0), ("a/y", 2, 2.0), ("b/x", 3, 3.0))
    assert edge.feed(21, ("a/x", 21, 4.0)) == [row("a/x", 0, 1.0), row("a/y", 0, 2.0)]
    assert edge.feed(22, ("a/x", 9, 5.0)) == []
    assert edge.late == 1  # accounted in the first definition, though the second took it
    assert edge.feed(26, ("a/x", 25, 6.0)) == [row("a/x", 0, 1.0, 5.0, definition=1), row("b/x", 0, 3.0, definition=1)]


def test_a_reading_of_no_definition_is_removed_but_tells_its_devices_time() -> None:
    edge = Bench(window(10, series="a/x"))
    edge.feed(1, ("a/x", 1, 1.0))
    assert edge.feed(11, ("a/y", 11, 2.0)) == [row("a/x", 0, 1.0)]
    assert edge.removed == 1


def test_without_any_definition_every_reading_is_removed() -> None:
    edge = Bench()
    assert edge.feed(1, ("a/x", 1, 1.0)) == []
    assert (edge.removed, edge.tick(100), edge.windowing.due()) == (1, [], NEVER)


def test_a_name_without_a_device_is_its_own() -> None:
    edge = Bench(window(10))
    edge.names.extend(["p", "q"])
    edge.windowing.define(["p", "q"])
    edge.feed(1, ("p", 1, 1.0), ("q", 1, 2.0))
    assert edge.feed(2, ("p", 11, 3.0)) == [row("p", 0, 1.0)]


# Bounds


def test_memory_is_bounded_by_open_and_revisable_windows() -> None:
    edge = Bench(window(10, lateness=10, revise_for=30))
    most = 0
    for second in range(0, 20_000, 7):
        edge.feed(second, ("a/x", second, 1.0), ("b/x", second, 1.0))
        most = max(most, edge.windowing.windows)
    edge.restart()  # forgets what need not be kept
    assert edge.windowing.windows <= 2 * (3 + 4)
    assert most <= 2 * (3 + 4) + 1024
    assert edge.windowing.nbytes < 4096 * 128


def test_too_many_open_windows_close_the_earliest_before_their_time() -> None:
    edge = Bench(window(10, lateness=1000), max_windows=3)
    assert edge.feed(1, *(("a/x", start, 1.0) for start in (0, 10, 20))) == []
    assert edge.feed(2, ("a/x", 30, 2.0), ("b/x", 5, 2.0)) == [row("a/x", 0, 1.0), row("b/x", 0, 2.0)]
    assert edge.feed(3, ("a/x", 1, 3.0)) == [row("a/x", 0, 1.0, 3.0, revision=1)]
    assert edge.windowing.windows == 5


def test_too_many_revisable_windows_forget_the_earliest_and_say_late() -> None:
    edge = Bench(window(10, revise_for=10_000), max_windows=8)
    for second in range(0, 1000, 10):
        edge.feed(second, ("a/x", second, 1.0))
        assert edge.windowing.windows <= 8 + 2
    assert edge.feed(991, ("a/x", 985, 2.0)) == [row("a/x", 980, 1.0, 2.0, revision=1)]
    assert edge.feed(992, ("a/x", 5, 2.0)) == []
    assert edge.late == 1


# A change of configuration


def test_a_definition_that_vanishes_states_its_windows_and_one_that_stays_goes_on() -> None:
    edge = Bench(window(10), window(20))
    edge.feed(1, ("a/x", 1, 1.0))
    assert edge.configure(2, window(20), window(5)) == [row("a/x", 0, 1.0)]
    assert edge.feed(3, ("a/x", 3, 2.0)) == []
    assert edge.feed(21, ("a/x", 21, 3.0)) == [row("a/x", 0, 1.0, 2.0), row("a/x", 0, 2.0, definition=1)]


def test_a_definition_that_stays_takes_its_new_lateness_and_never_revives_what_it_forgot() -> None:
    edge = Bench(window(10, late="drop"))
    edge.feed(1, ("a/x", 1, 1.0))
    assert edge.feed(11, ("a/x", 11, 2.0)) == [row("a/x", 0, 1.0)]
    assert edge.configure(12, window(10, lateness=5, late="revise")) == []
    assert edge.feed(13, ("a/x", 2, 3.0)) == []
    assert edge.late == 1
    assert edge.feed(21, ("a/x", 21, 4.0)) == []
    assert edge.feed(25, ("a/x", 25, 5.0)) == [row("a/x", 10, 2.0)]
    assert edge.feed(26, ("a/x", 12, 6.0)) == [row("a/x", 10, 2.0, 6.0, revision=1)]


Step = tuple[float, Reading | bool, list[Row]]  # at, a reading or whether the definition is there from here on, rows


@pytest.mark.parametrize("restarts", [False, True], ids=["", "across restarts"])
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                (1, ("a/x", 1, 1.0), []),
                (2, False, [row("a/x", 0, 1.0)]),
                (3, ("a/x", 3, 9.0), []),
                (4, True, []),
                (5, ("a/x", 5, 2.0), []),
                (11, ("a/x", 11, 3.0), [row("a/x", 0, 1.0, 2.0, revision=1)]),
                (12, ("a/x", 6, 4.0), [row("a/x", 0, 1.0, 2.0, 4.0, revision=2)]),
            ],
            id="what had not ended is open again",
        ),
        pytest.param(
            [
                (1, ("a/x", 1, 1.0), []),
                (11, ("a/x", 11, 2.0), [row("a/x", 0, 1.0)]),
                (12, ("a/x", 2, 3.0), [row("a/x", 0, 1.0, 3.0, revision=1)]),
                (13, False, [row("a/x", 10, 2.0)]),
                (24, ("a/x", 24, 9.0), []),
                (25, True, []),
                (26, ("a/x", 5, 4.0), [row("a/x", 0, 1.0, 3.0, 4.0, revision=2)]),
                (27, ("a/x", 15, 5.0), [row("a/x", 10, 2.0, 5.0, revision=1)]),
                (31, ("a/x", 31, 6.0), []),
            ],
            id="what ended before or meanwhile is revised",
        ),
        pytest.param(
            [
                (1, ("a/x", 1, 1.0), []),
                (2, False, [row("a/x", 0, 1.0)]),
                (31, ("a/x", 31, 9.0), []),
                (32, True, []),
                (33, ("a/x", 5, 4.0), []),
                (34, ("a/x", 41, 4.0), []),
            ],
            id="what may be revised no more is late",
        ),
        pytest.param(
            [
                (1, ("a/x", 1, 1.0), []),
                (2, False, [row("a/x", 0, 1.0)]),
                (3, True, []),
                (4, ("a/x", 4, 2.0), []),
                (5, False, [row("a/x", 0, 1.0, 2.0, revision=1)]),
                (6, True, []),
                (11, ("a/x", 11, 3.0), [row("a/x", 0, 1.0, 2.0, revision=2)]),
            ],
            id="there and back again, twice",
        ),
    ],
)
def test_a_definition_that_comes_back_says_nothing_again_by_a_lower_revision(
    steps: list[Step], *, restarts: bool
) -> None:
    edge = Bench(window(10))
    for at, step, rows in steps:
        if restarts:
            edge.restart()
        if isinstance(step, bool):
            assert edge.configure(at, *([window(10)] if step else [])) == rows
        else:
            assert edge.feed(at, step) == rows


def test_a_definition_that_comes_back_in_another_clock_domain_begins_there_and_is_back_behind_what_it_said() -> None:
    edge, series = Bench(window(10)), np.array([0], np.int32)
    edge.feed(1, ("a/x", 1, 1.0))
    assert edge.configure(2) == [row("a/x", 0, 1.0)]
    assert edge.windowing.leave(series)[0].rows == 0
    edge.windowing.drift(series)
    edge.configure(3, window(10))
    edge.feed(4, ("a/x", 4, 2.0))
    assert edge.feed(5, ("a/x", 15, 3.0)) == [row("a/x", 0, 2.0)]  # of another domain: another key
    edge.configure(6)
    edge.windowing.land()
    edge.windowing.landed()
    edge.configure(7, window(10))
    assert edge.feed(8, ("a/x", 9, 4.0)) == []
    assert edge.late == 1


def test_a_device_that_came_while_a_definition_was_away_is_in_its_windows_too() -> None:
    edge = Bench(window(10))
    edge.configure(1)
    edge.names.append("c/x")
    edge.windowing.define(["c/x"])
    edge.configure(2, window(10))
    edge.feed(3, ("c/x", 3, 1.0))
    assert edge.feed(11, ("c/x", 11, 2.0)) == [row("c/x", 0, 1.0)]


def test_a_checkpoint_of_before_any_definition_was_remembered_is_read() -> None:
    edge = Bench(window(10))
    edge.feed(1, ("a/x", 1, 1.0))
    state = edge.windowing.snapshot()
    del state["absent"]
    edge.windowing = Windowing(edge.config)
    edge.windowing.define(edge.names)
    edge.windowing.restore(state)
    assert edge.feed(11, ("a/x", 11, 2.0)) == [row("a/x", 0, 1.0)]


def test_when_a_snapshot_was_taken_shows_nowhere_although_it_forgets() -> None:
    def live(*, snapshot: bool) -> bytes:
        edge = Bench(window(10))
        edge.feed(1, ("a/x", 1, 1.0))
        edge.configure(2, window(20))
        edge.feed(90, ("a/x", 90, 2.0))  # what was stated of the one that is away may not be revised any more
        if snapshot:
            edge.windowing.snapshot()
        edge.windowing.leave(np.array([0], np.int32))
        return encode_state(edge.windowing.snapshot())

    assert live(snapshot=True) == live(snapshot=False)


def test_a_definition_that_comes_back_may_have_another_lateness() -> None:
    edge = Bench(window(10))
    edge.feed(1, ("a/x", 1, 1.0))
    assert edge.configure(2) == [row("a/x", 0, 1.0)]
    assert edge.configure(3, window(10, lateness=5, late="drop")) == []
    assert edge.feed(14, ("a/x", 14, 2.0)) == []
    assert edge.feed(15, ("a/x", 15, 3.0)) == [row("a/x", 0, 1.0, revision=1)]


def test_of_too_many_definitions_that_are_away_the_first_to_leave_is_forgotten_and_their_memory_is_given_back() -> None:
    edge = Bench(window(10))
    edge.feed(1, ("a/x", 1, 1.0))
    for size in range(11, 11 + MOST):
        edge.configure(2, window(size))
        edge.feed(2, ("a/x", 2, 2.0))
    assert edge.windowing.windows == 1 + MOST
    edge.configure(3)
    assert edge.windowing.windows == MOST
    edge.configure(4, window(10), window(11))
    edge.feed(5, ("a/x", 5, 3.0))
    again = row("a/x", 0, 2.0, 3.0, revision=1, definition=1)
    assert edge.feed(12, ("a/x", 12, 4.0)) == [row("a/x", 0, 3.0), again]
    edge.configure(13)
    edge.feed(100, ("a/x", 100, 9.0))
    edge.windowing.snapshot()
    assert (edge.windowing.windows, edge.windowing.nbytes) == (0, 0)


# Against a slow exact model


@dataclass
class Kept:
    """One window of the model: its readings as (time, arrival, value)."""

    readings: list[tuple[float, int, float]] = field(default_factory=list)
    revision: int = -1
    own: int = 0


class Model:
    """The rules again, one reading at a time, with dicts and exact sums; times in whole seconds."""

    def __init__(self, names: Sequence[str], windows: Sequence[tuple[int, int, int, int]], idle: int) -> None:
        self.names, self.windows, self.idle = names, windows, idle  # size, hop, lateness, revise_for
        self.event: dict[str, float] = {}
        self.arrived: dict[str, float] = {}
        self.stated: dict[tuple[int, str], float] = {}
        self.gone: dict[tuple[int, str], float] = {}
        self.held: dict[tuple[int, int, str], Kept] = {}
        self.arrivals = self.late = self.windowed = self.pending = 0

    def advance(self, device: str, event: float) -> None:
        for number, (_, _, lateness, revise_for) in enumerate(self.windows):
            mark = max(self.stated.get((number, device), -math.inf), event - lateness)
            self.stated[number, device] = mark
            self.gone[number, device] = max(self.gone.get((number, device), -math.inf), mark - revise_for)

    def feed(self, readings: Sequence[Reading], now: float) -> list[Row]:
        for device, event in self.event.items():
            if (silent := now - self.arrived[device]) >= self.idle:
                self.advance(device, min(event + silent, max(event, now)))
        changed = {key for reading in readings for key in self.take(*reading)}
        for series, time, _ in readings:
            device = series.rpartition("/")[0]
            self.event[device] = max(self.event.get(device, time), time)
            self.arrived[device] = now
        for device in {series.rpartition("/")[0] for series, _, _ in readings}:
            self.advance(device, self.event[device])
        return self.state(changed)

    def take(self, series: str, time: float, value: float) -> set[tuple[int, int, str]]:
        self.arrivals += 1
        device = series.rpartition("/")[0]
        changed = set()
        for number, (size, hop, _, _) in enumerate(self.windows):
            latest = int(time // hop) * hop
            for start in range(latest, latest - size, -hop):
                if start + size <= self.gone.get((number, device), -math.inf):
                    self.late += start == latest and number == 0
                    continue
                kept = self.held.setdefault((number, start, series), Kept())
                kept.readings.append((time, self.arrivals, value))
                if start == latest and number == 0:
                    kept.own += 1
                    if kept.revision >= 0:
                        self.windowed += 1
                    else:
                        self.pending += 1
                if kept.revision >= 0:
                    changed.add((number, start, series))
        return changed

    def state(self, changed: set[tuple[int, int, str]]) -> list[Row]:
        rows = []
        for key in sorted(self.held, key=lambda key: (key[0], key[1], self.names.index(key[2]))):
            number, start, series = key
            kept, end = self.held[key], start + self.windows[number][0]
            closes = kept.revision < 0 and end <= self.stated.get((number, series.rpartition("/")[0]), -math.inf)
            if closes:
                self.windowed += kept.own
                self.pending -= kept.own
            if closes or key in changed:
                kept.revision += 1
                values = [value for _, _, value in sorted(kept.readings)]
                rows.append(row(series, start, *values, revision=kept.revision, definition=number))
        return rows


def assert_rows(got: list[Row], expected: list[Row]) -> None:
    """Compare whole rows; mean and deviation may differ in the last place of float32."""
    assert [one._replace(mean=0, deviation=0) for one in got] == [one._replace(mean=0, deviation=0) for one in expected]
    for one, other in zip(got, expected, strict=True):
        for mine, theirs in ((one.mean, other.mean), (one.deviation, other.deviation)):
            assert mine == theirs or abs(mine - theirs) <= 2**-22 * max(abs(other.mean), other.deviation) + 1e-44


anything = st.one_of(
    st.floats(-1e150, 1e150),
    st.floats(-1, 1).map(lambda noise: 1e9 + noise),
    st.sampled_from([0.0, 1.0, -1.0, 20.5]),
)
readings_lists = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 60), anything), max_size=12)
steps = st.lists(st.tuples(st.sampled_from([0, 1, 3, 8, 30]), readings_lists), min_size=1, max_size=10)
shapes = st.lists(
    st.tuples(st.sampled_from([(10, 10), (20, 5), (6, 2)]), st.sampled_from([0, 3, 25]), st.sampled_from([0, 9, 20])),
    min_size=1,
    max_size=2,
)


@settings(max_examples=200, deadline=None)
@given(shapes, steps)
def test_any_feeds_and_ticks_give_what_the_model_gives(
    shapes: list[tuple[tuple[int, int], int, int]], steps: list[tuple[int, list[Reading]]]
) -> None:
    edge = Bench(*(window(*shape, lateness=lateness, revise_for=keep) for shape, lateness, keep in shapes))
    model = Model(edge.names, [(*shape, lateness, keep) for shape, lateness, keep in shapes], idle=5)
    now = 0
    for wait, readings in steps:
        now += wait
        assert_rows(edge.feed(now, *readings) if readings else edge.tick(now), model.feed(readings, now))
        assert (edge.late, edge.windowed, edge.windowing.pending) == (model.late, model.windowed, model.pending)


@settings(max_examples=100, deadline=None)
@given(shapes, steps, st.data())
def test_a_snapshot_at_any_step_goes_on_bit_for_bit(
    shapes: list[tuple[tuple[int, int], int, int]], steps: list[tuple[int, list[Reading]]], data: st.DataObject
) -> None:
    limit = data.draw(st.sampled_from([4, 1000]))
    windows = [window(*shape, lateness=lateness, revise_for=keep) for shape, lateness, keep in shapes]
    first, second = Bench(*windows, max_windows=limit), Bench(*windows, max_windows=limit)
    now = 0
    for wait, readings in steps:
        now += wait
        if data.draw(st.booleans()):
            second.restart()
        assert repr(first.feed(now, *readings)) == repr(second.feed(now, *readings))
        assert first.windowing.due() == second.windowing.due()
    assert flat(first.windowing.snapshot()) == flat(second.windowing.snapshot())


@settings(max_examples=100, deadline=None)
@given(steps, st.data())
def test_however_definitions_come_and_go_revisions_grow_and_a_snapshot_goes_on_bit_for_bit(
    steps: list[tuple[int, list[Reading]]], data: st.DataObject
) -> None:
    choice = [window(10), window(10, late="drop", lateness=3), window(20, 5, revise_for=9), window(6, 2)]
    kinds = st.lists(st.sampled_from(choice), unique_by=lambda one: int(one.size), max_size=2)
    first, second = Bench(choice[0]), Bench(choice[0])
    now, last = 0, dict[tuple[float, str, float], int]()
    for wait, readings in steps:
        now += wait
        if data.draw(st.booleans()):
            second.restart()
        before, windows = first.config.window, data.draw(kinds)
        said = [(before, first.configure(now, *windows)), (windows, first.feed(now, *readings))]
        assert repr([rows for _, rows in said]) == repr([second.configure(now, *windows), second.feed(now, *readings)])
        for there, one in ((there, one) for there, rows in said for one in rows):
            key = (float(there[one.definition].size), one.series, one.start)
            assert one.revision > last.get(key, -1)
            last[key] = one.revision
    assert flat(first.windowing.snapshot()) == flat(second.windowing.snapshot())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 60), anything), max_size=30), st.data())
def test_within_the_lateness_neither_order_nor_split_matters(readings: list[Reading], data: st.DataObject) -> None:
    readings = list({(series, time): (series, time, value) for series, time, value in readings}.values())
    whole, parts = Bench(window(20, 5, lateness=100)), Bench(window(20, 5, lateness=100))
    assert whole.feed(0, *readings) == []
    left = data.draw(st.permutations(readings))
    while left:
        cut = data.draw(st.integers(1, len(left)))
        assert parts.feed(0, *left[:cut]) == []
        left = left[cut:]
    assert_rows(parts.tick(1000), whole.tick(1000))


levels = st.sampled_from([0.0, 1.0, 1e9, -1e9, 1e15])
noises = st.lists(st.floats(-1, 1), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(levels, st.sampled_from([1e-3, 1.0, 1e6]), noises, st.data())
def test_moments_are_exact_to_one_in_a_thousand_million_for_any_split(
    level: float, scale: float, noises: list[float], data: st.DataObject
) -> None:
    values = [level + scale * noise for noise in noises]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(values) - 1)))) if len(values) > 1 else []
    times, keys = np.arange(len(values)), np.zeros(len(cuts) + 1, np.int64)
    rows = gather(keys, times, np.array(values), np.array([0, *cuts]))
    chained = select(rows, np.array([0]))
    for at in range(1, len(rows)):
        chained = merge(chained, select(rows, np.array([at])))
    mean, deviation = exact(values)
    for made in join(chained, combine(rows, np.array([0]))):
        assert made["count"] == len(values)
        assert made["shift"] + made["mean"] == pytest.approx(mean, rel=1e-9, abs=1e-9 * deviation)
        assert math.sqrt(made["squares"] / made["count"]) == pytest.approx(deviation, rel=1e-9, abs=1e-150)


def test_a_long_window_on_a_high_level_keeps_its_digits() -> None:
    values = 1e9 + np.random.default_rng(7).normal(0, 0.01, 20_000)
    values[0] = 0.0  # the worst shift: far from all that follow
    edge = Bench(window(100_000))
    for at in range(0, len(values), 500):
        part = [("a/x", at + number, float(value)) for number, value in enumerate(values[at : at + 500])]
        edge.feed(at, *part)
    assert_rows(edge.tick(300_000), [row("a/x", 0, *values.tolist())])


def flat(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    if isinstance(state, list):
        return [flat(value) for value in state]
    return (state.dtype.str, state.tobytes()) if isinstance(state, np.ndarray) else state

"""Two statements of the windows of one stream of readings, compared as they come."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.replay.windows import Compared, Shape, WindowDiff
from gateway.config import Duration, Window
from protocol.messages import WindowDefinition, WindowRows

S = 10**9
TEN = Window(size=Duration(10 * S))
MINUTE = Window(size=Duration(60 * S), hop=Duration(10 * S))
NAMES = ["pump/t", "pump/p", "fan/t"]

Row = tuple[int, int, int, int, float]
"""Series, definition, start in s, revision, and the value of all columns."""


def rows(*stated: Row) -> WindowRows:
    series, definition, start, revision, value = (list(column) for column in zip(*stated, strict=True))
    values = np.array(value)
    return WindowRows(
        np.array(series, np.int32),
        np.array(definition, np.int32),
        np.array(start, np.int64) * S,
        np.array(revision, np.int32),
        np.full(len(stated), 5, np.int64),
        values.astype(np.float32),
        np.zeros(len(stated), np.float32),
        *(values for _ in range(4)),
    )


def diff_of(
    a: tuple[Window, ...] = (TEN,), b: tuple[Window, ...] = (TEN,), *, ahead: int = 100, batch: int = 1
) -> WindowDiff:
    diff = WindowDiff((a, b), ahead=ahead, batch=batch)
    diff.define(NAMES[:1])
    diff.define(NAMES[1:])
    for side, windows in enumerate((a, b)):
        shapes = [WindowDefinition(at, "", int(one.size), one.step) for at, one in enumerate(windows)]
        diff.announce(side, shapes)
    return diff


def compared(diff: WindowDiff, steps: list[tuple[int, Row]]) -> dict[Shape, Compared]:
    for side, row in steps:
        diff.feed(side, rows(row))
        diff.settle()
    diff.finish()
    return diff.compared


TEN_S, MINUTE_S = Shape(10 * S, 10 * S), Shape(60 * S, 10 * S)


@pytest.mark.parametrize("batch", [1, 100], ids=["one by one", "together"])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], Compared()),
        ([(0, (0, 0, 0, 0, 1.0)), (1, (0, 0, 0, 0, 1.0))], Compared(same=1)),
        ([(1, (0, 0, 0, 0, 1.0)), (1, (1, 0, 0, 0, 1.0)), (0, (0, 0, 0, 0, 1.0))], Compared([0, 1], 1)),
        (
            [(0, (0, 0, 0, 0, 1.0)), (1, (0, 0, 0, 0, 2.0))],
            Compared(changed=1, columns=dict.fromkeys(("mean", "minimum", "maximum", "first", "last"), 1)),
        ),
        ([(0, (0, 0, 0, 0, 1.0)), (1, (0, 0, 10, 0, 1.0))], Compared([1, 1])),
        ([(0, (0, 0, 0, 0, 1.0)), (0, (0, 0, 0, 1, 2.0)), (1, (0, 0, 0, 0, 1.0))], Compared([1, 0], 1)),
        (
            [
                (0, (0, 0, 0, 0, 1.0)),
                (0, (0, 0, 0, 0, 2.0)),
                (1, (0, 0, 0, 0, 1.0)),
                (1, (0, 0, 0, 0, 2.0)),
                (1, (0, 0, 0, 0, 3.0)),
            ],
            Compared([0, 1], 2),
        ),
    ],
    ids=["nothing", "the same", "one more", "another value", "other starts", "a revision more", "stated twice"],
)
def test_windows_meet_by_series_start_and_revision(
    steps: list[tuple[int, Row]], expected: Compared, batch: int
) -> None:
    assert compared(diff_of(batch=batch), steps) == {TEN_S: expected}


def test_definitions_meet_by_size_and_hop_whatever_their_numbers_and_patterns() -> None:
    pumps = Window(series="pump/*", size=Duration(10 * S))
    diff = diff_of((TEN, MINUTE), (MINUTE, pumps), ahead=0)
    steps = [
        (0, (0, 0, 0, 0, 1.0)),
        (0, (2, 0, 0, 0, 1.0)),
        (0, (0, 1, 0, 0, 3.0)),
        (1, (0, 0, 0, 0, 3.0)),
        (1, (0, 1, 0, 0, 1.0)),
    ]
    diff.batch = len(steps)
    assert compared(diff, steps) == {TEN_S: Compared([1, 0], 1), MINUTE_S: Compared(same=1)}


def test_what_the_other_side_cannot_state_does_not_wait() -> None:
    diff = diff_of((TEN,), (MINUTE,), ahead=0)
    steps = [(0, (0, 0, start, 0, 1.0)) for start in range(0, 100, 10)]
    assert compared(diff, steps) == {TEN_S: Compared([10, 0]), MINUTE_S: Compared()}
    assert diff.early == 0


def test_what_has_waited_longest_is_decided_when_too_much_waits() -> None:
    diff = diff_of(ahead=4)
    steps = [(0, (0, 0, start, 0, 1.0)) for start in range(5)]
    for side, row in steps:
        diff.feed(side, rows(row))
        diff.settle()
    assert (diff.early, diff.compared[TEN_S]) == (3, Compared([3, 0]))
    assert compared(diff, [(1, row) for _, row in steps]) == {TEN_S: Compared([3, 3], 2)}
    assert diff.early == 3


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[int, Row]], int]:
    """Two sides' statements in any order, each window at most once a side, and how many are compared at a time."""
    row = st.tuples(st.integers(0, 2), st.just(0), st.integers(0, 3), st.integers(0, 1), st.sampled_from([1.0, 2.0]))
    sides = [draw(st.lists(row, unique_by=lambda one: one[:4], max_size=12)) for _ in range(2)]
    steps = [(side, one) for side in (0, 1) for one in sides[side]]
    return draw(st.permutations(steps)), draw(st.integers(1, 10))


@given(streams())
@settings(max_examples=100)
def test_the_order_of_statements_and_the_size_of_batches_change_nothing(
    drawn: tuple[list[tuple[int, Row]], int],
) -> None:
    steps, batch = drawn
    a, b = ({row[:4]: row[4] for side, row in steps if side == this} for this in (0, 1))
    met = a.keys() & b.keys()
    apart = Counter(a[key] == b[key] for key in met)
    columns = {} if not apart[False] else dict.fromkeys(("mean", "minimum", "maximum", "first", "last"), apart[False])
    expected = Compared([len(a.keys() - met), len(b.keys() - met)], apart[True], apart[False], columns)
    assert compared(diff_of(batch=batch), steps) == {TEN_S: expected}

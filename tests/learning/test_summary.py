"""Summaries of the parts of a fleet add up to the summary of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from learning import summary
from learning.summary import Summary
from learning.work import Batch
from learning.work.moments import Params, moments
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused

NAMES = ["pump/pressure", "pump/flow", "mill/speed"]
SERIES = np.array([0, 1, 0, 2, 0, 1], np.int32)
VALUES = np.array([1.0, 5.0, 3.0, np.nan, 8.0, -5.0])


def of(names: list[str], series: NDArray[np.int32], value: NDArray[np.float64]) -> Summary:
    """Summarise readings as `moments` does."""
    return summary.decode(moments.map([Batch(names, series, np.zeros(len(series), np.int64), value)], Params()))


def same(one: Summary, other: Summary) -> None:
    assert one.names == other.names
    assert one.count.tolist() == other.count.tolist()
    assert one.minimum.tolist() == other.minimum.tolist()
    assert one.maximum.tolist() == other.maximum.tolist()
    scale = np.maximum(np.abs(one.minimum), np.abs(one.maximum)) + 1e-300
    assert (np.abs(one.mean - other.mean) <= 1e-9 * scale).all()
    assert (np.abs(one.scatter - other.scatter) <= 1e-9 * (one.count * scale**2)).all()


def test_each_series_is_summarised_by_itself_and_sorted_by_name() -> None:
    found = of(NAMES, SERIES, VALUES)
    assert found.names == ("pump/flow", "pump/pressure")
    assert (found.count.tolist(), found.mean.tolist(), found.scatter.tolist()) == ([2, 3], [0.0, 4.0], [50.0, 26.0])
    assert (found.minimum.tolist(), found.maximum.tolist()) == ([-5.0, 1.0], [5.0, 8.0])
    assert summary.deviation(found).tolist() == [5.0, (26 / 3) ** 0.5]


def test_a_mean_far_from_zero_does_not_cost_the_deviation() -> None:
    found = of(["a"], np.zeros(1000, np.int32), np.float64(1e9) + np.arange(1000, dtype=np.float64) % 2)
    assert summary.deviation(found)[0] == pytest.approx(0.5, rel=1e-9)


def test_merging_with_nothing_changes_nothing() -> None:
    found = of(NAMES, SERIES, VALUES)
    same(summary.merge(found, summary.nothing()), found)
    same(summary.merge(summary.nothing(), found), found)


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6)), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_any_split_adds_up_to_the_whole_in_any_order(rows: list[tuple[int, float]], cuts: list[int]) -> None:
    names = ["d", "b", "a", "c"]
    series = np.array([number for number, _ in rows], np.int32)
    values = np.array([value for _, value in rows], np.float64)
    parts = [
        of(names, *piece) for piece in zip(np.split(series, sorted(cuts)), np.split(values, sorted(cuts)), strict=True)
    ]
    whole = of(names, series, values)
    same(whole, summary.merge_all(parts))
    same(whole, summary.merge_all(reversed(parts)))
    same(summary.decode(summary.encode(whole)), whole)


def changed(**changes: Any) -> bytes:
    state = decode_state(summary.encode(of(NAMES, SERIES, VALUES)))
    return encode_state(state | changes)


REFUSED: dict[str, bytes] = {
    "no bytes": b"",
    "something else": encode_state({"schema": "baseline/1"}),
    "names that are numbers": changed(names=[1, 2]),
    "a name twice": changed(names=["pump/flow", "pump/flow"]),
    "a name too many": changed(names=["a", "b", "c"]),
    "a count of none": changed(count=np.array([2, 0])),
    "a mean that is no number": changed(mean=np.array([0.0, np.nan])),
    "a negative scatter": changed(scatter=np.array([-1.0, 0.0])),
    "a minimum above the maximum": changed(minimum=np.array([9.0, 9.0])),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_can_be_nobodys_summary_is_refused(data: bytes) -> None:
    with pytest.raises(ModelRefused) as refused:
        summary.decode(data)
    assert refused.value.reason == "summary"

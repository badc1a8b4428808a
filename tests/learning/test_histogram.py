"""Histograms of parts add up to that of the whole; those over other edges are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import histogram
from learning.histogram import MAX_EDGES, Histogram
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused

EDGES = np.array([-1.0, 0, 2.5])
values = st.lists(st.floats(-4, 4), max_size=20).map(lambda numbers: np.array(numbers, np.float64))


def test_a_value_on_an_edge_is_in_the_bin_that_begins_there() -> None:
    numbers = np.array([-9, -1, -0.5, 0, 2, 2.5, np.inf, -np.inf, np.nan])
    assert histogram.of(numbers, EDGES).counts.tolist() == [2, 2, 2, 2]


@settings(max_examples=100, deadline=None)
@given(values, values)
def test_the_merge_of_parts_is_the_whole(one: np.ndarray, other: np.ndarray) -> None:
    parts = histogram.of(one, EDGES), histogram.of(other, EDGES)
    before = parts[0].counts.tolist()
    whole = histogram.of(np.concatenate([one, other]), EDGES)
    for merged in (histogram.merge(*parts), histogram.merge(*parts[::-1])):
        assert merged.counts.tolist() == whole.counts.tolist()
    assert parts[0].counts.tolist() == before


def test_inner_bins_are_those_of_numpy() -> None:
    numbers = np.random.default_rng(7).uniform(-1, 2.49, 1000)
    assert histogram.of(numbers, EDGES).counts[1:-1].tolist() == np.histogram(numbers, EDGES)[0].tolist()


def test_other_edges_are_refused() -> None:
    with pytest.raises(ModelRefused, match="different edges"):
        histogram.merge(histogram.of(EDGES, EDGES), histogram.of(EDGES, EDGES + 1))


GOOD = histogram.of(np.arange(5.0), EDGES)._asdict()
REFUSED = {
    "no edges": {"edges": np.zeros(0), "counts": np.zeros(1, np.int64)},
    "too many edges": {"edges": np.arange(MAX_EDGES + 1.0), "counts": np.zeros(MAX_EDGES + 2, np.int64)},
    "edges that descend": {"edges": EDGES[::-1].copy()},
    "an edge that is none": {"edges": np.array([-1, np.nan, 1])},
    "a count too few": {"counts": np.zeros(3, np.int64)},
    "a negative count": {"counts": np.array([0, -1, 0, 0])},
    "counts that are no integers": {"counts": np.zeros(4)},
}


def test_what_travels_comes_back() -> None:
    read = histogram.unpack(decode_state(encode_state(GOOD)))
    assert histogram.merge(read, Histogram(**GOOD)).counts.tolist() == (2 * GOOD["counts"]).tolist()


@pytest.mark.parametrize("other", REFUSED.values(), ids=REFUSED.keys())
def test_what_nobody_can_have_counted_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(ModelRefused) as refused:
        histogram.unpack(GOOD | other)
    assert refused.value.reason == "statistics"

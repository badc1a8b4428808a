"""Spreads obey the laws of merging, and are those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import spread
from learning.spread import Spread
from learning.statistics import Vector
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused


@st.composite
def vectors(draw: st.DrawFn) -> Vector:
    rows = draw(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=2), min_size=1, max_size=12))
    return draw(st.sampled_from([0.0, 1.0, -1e6])) + np.array(rows)


def assert_same(one: Spread, other: Spread) -> None:
    level = max(1.0, float(np.abs(other.mean).max()))
    assert one.weight == other.weight
    np.testing.assert_allclose(one.mean, other.mean, rtol=0, atol=1e-13 * level)
    np.testing.assert_allclose(one.squares, other.squares, rtol=1e-9, atol=1e-9 * level)


@settings(max_examples=100, deadline=None)
@given(st.lists(vectors(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_merge_of_parts_is_the_whole_in_any_order(parts: list[Vector], chance: object) -> None:
    whole = spread.of(np.concatenate(parts))
    shuffled = list(parts)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    before = [part.tobytes() for part in parts]
    level = max(float(np.abs(part).max()) for part in parts)
    for order in (parts, shuffled):
        merged = spread.merge_all(map(spread.of, order), 2)
        assert merged.weight == whole.weight
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=0, atol=1e-12 * max(level, 1))
        np.testing.assert_allclose(merged.squares, whole.squares, rtol=1e-9, atol=1e-9 * max(level, 1))
    assert before == [part.tobytes() for part in parts]


def test_nothing_is_the_neutral_element() -> None:
    one = spread.of(np.array([[1.0, 2], [3, 4]]))
    for merged in (spread.merge(one, spread.nothing(2)), spread.merge(spread.nothing(2), one)):
        assert_same(merged, one)
    assert spread.merge(spread.nothing(2), spread.nothing(2)).weight == 0


def test_variance_is_that_of_numpy() -> None:
    rows = np.random.default_rng(7).normal(5, 2, (40, 3))
    np.testing.assert_allclose(spread.variance(spread.of(rows)), rows.var(axis=0))


def test_spreads_of_different_features_are_refused() -> None:
    with pytest.raises(ModelRefused, match="2 features and 3"):
        spread.merge(spread.nothing(2), spread.nothing(3))


GOOD = spread.of(np.array([[1.0, 2], [3, 4]]))._asdict()
REFUSED = {
    "no weight": {"weight": None},
    "a negative weight": {"weight": -1.0},
    "a weight that is no number": {"weight": float("nan")},
    "a mean of integers": {"mean": np.zeros(2, np.int64)},
    "an infinite mean": {"mean": np.array([0, np.inf])},
    "squares of another length": {"squares": np.zeros(3)},
    "negative squares": {"squares": np.array([0.0, -1])},
}


def test_what_travels_comes_back() -> None:
    assert_same(spread.unpack(decode_state(encode_state(GOOD))), Spread(**GOOD))


@pytest.mark.parametrize("other", REFUSED.values(), ids=REFUSED.keys())
def test_what_nobody_can_have_learnt_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(ModelRefused) as refused:
        spread.unpack(GOOD | other)
    assert refused.value.reason == "statistics"

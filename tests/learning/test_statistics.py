"""Statistics obey the laws of merging, and refuse what nobody can have learnt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.statistics import (
    MAX_COUNT,
    MAX_FEATURES,
    Statistics,
    Vector,
    covariance,
    merge,
    merge_all,
    nothing,
    of,
    pack,
    unpack,
)
from protocol.errors import ModelRefused
from protocol.messages import Moments

LEVELS = st.sampled_from([0.0, 1.0, -1e6, 1e9])


@st.composite
def vectors(draw: st.DrawFn, features: int = 3) -> Vector:
    """Some vectors with noise of about 1 on a common level."""
    rows = draw(st.lists(st.lists(st.floats(-1, 1), min_size=features, max_size=features), min_size=1, max_size=12))
    return draw(LEVELS) + np.array(rows)


def assert_same(one: Statistics, other: Statistics) -> None:
    """Equal to rounding: of the level for means, and for scatter of level times noise."""
    assert one.weight == other.weight
    level = max(1.0, float(np.abs(one.mean).max(initial=0)))
    np.testing.assert_allclose(one.mean, other.mean, rtol=0, atol=1e-14 * level * max(one.weight, 1))
    np.testing.assert_allclose(one.scatter, other.scatter, rtol=1e-9, atol=1e-12 * level * max(one.weight, 1))


@settings(max_examples=100, deadline=None)
@given(vectors(), st.integers(0, 12))
def test_the_merge_of_parts_is_the_whole(whole: Vector, cut: int) -> None:
    parts = [of(part) for part in (whole[:cut], whole[cut:]) if len(part)]
    assert_same(merge_all(parts, 3), of(whole))


@settings(max_examples=100, deadline=None)
@given(vectors(), vectors(), vectors())
def test_merging_is_commutative_and_associative(a: Vector, b: Vector, c: Vector) -> None:
    one, two, three = of(a), of(b), of(c)
    level = max(float(np.abs(part.mean).max()) for part in (one, two, three))
    left, right = merge(merge(one, two), three), merge(one, merge(two, three))
    for other in (right, merge(three, merge(two, one))):
        assert other.weight == left.weight
        np.testing.assert_allclose(other.mean, left.mean, rtol=1e-12, atol=1e-12 * max(level, 1))
        np.testing.assert_allclose(other.scatter, left.scatter, rtol=1e-9, atol=1e-9 * max(level, 1))


@settings(max_examples=50, deadline=None)
@given(vectors(), vectors())
def test_inputs_are_untouched(a: Vector, b: Vector) -> None:
    one, other = of(a), of(b)
    before = [array.tobytes() for part in (one, other) for array in part[1:]] + [a.tobytes()]
    merge(one, other)
    covariance(one)
    pack(["a", "b", "c"], one)
    assert before == [array.tobytes() for part in (one, other) for array in part[1:]] + [a.tobytes()]


@settings(max_examples=50, deadline=None)
@given(vectors())
def test_nothing_is_the_neutral_element(a: Vector) -> None:
    for merged in (merge(nothing(3), of(a)), merge(of(a), nothing(3))):
        assert_same(merged, of(a))
    assert merge(nothing(3), nothing(3)).weight == 0


def test_covariance_is_that_of_numpy_and_zero_for_one_vector() -> None:
    rows = np.random.default_rng(7).normal(5, 2, (40, 3))
    np.testing.assert_allclose(covariance(of(rows)), np.cov(rows.T))
    assert not covariance(of(rows[:1])).any()


@settings(max_examples=50, deadline=None)
@given(vectors())
def test_what_travels_comes_back(a: Vector) -> None:
    packed = pack(["x", "y", "z"], of(a))
    again = unpack(packed)
    assert (packed.features, again.weight) == (["x", "y", "z"], len(a))
    np.testing.assert_array_equal(again.mean, of(a).mean)
    np.testing.assert_allclose(again.scatter, of(a).scatter, rtol=1e-15, atol=1e-300)
    np.testing.assert_array_equal(again.scatter, again.scatter.T)


REFUSED = {
    "no features": Moments([], 3, [], []),
    "too many features": Moments([str(n) for n in range(MAX_FEATURES + 1)], 3, [], []),
    "a feature twice": Moments(["a", "a"], 3, [0.0, 0.0], [0.0] * 4),
    "a mean too few": Moments(["a", "b"], 3, [0.0], [0.0] * 4),
    "a product too many": Moments(["a"], 3, [0.0], [0.0] * 2),
    "less than nothing": Moments(["a"], -1, [0.0], [0.0]),
    "more than can be added": Moments(["a"], MAX_COUNT, [0.0], [0.0]),
    "a mean that is none": Moments(["a"], 3, [float("nan")], [0.0]),
    "infinite scatter": Moments(["a"], 3, [0.0], [float("inf")]),
    "negative variance": Moments(["a"], 3, [0.0], [-1.0]),
}


@pytest.mark.parametrize("moments", REFUSED.values(), ids=REFUSED.keys())
def test_what_nobody_can_have_learnt_is_refused(moments: Moments) -> None:
    with pytest.raises(ModelRefused) as refused:
        unpack(moments)
    assert refused.value.reason == "statistics"

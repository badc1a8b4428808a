"""Sketches of parts are the sketch of the whole, bit for bit; quantiles are within the bound they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import quantiles
from learning.quantiles import ERROR, LARGE, LAST, TINY, Quantiles
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused

SHARES = (0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0)
values = st.lists(st.floats(-LARGE, LARGE), max_size=40).map(np.array)


def same(one: Quantiles, other: Quantiles) -> bool:
    return bool(np.array_equal(one.bins, other.bins) and np.array_equal(one.counts, other.counts))


@settings(max_examples=100, deadline=None)
@given(st.lists(values, min_size=1, max_size=4))
def test_the_merge_of_parts_is_the_whole_bit_for_bit_in_any_order(parts: list[np.ndarray]) -> None:
    whole = quantiles.of(np.concatenate(parts))
    for order in (parts, parts[::-1]):
        merged = quantiles.nothing()
        for part in order:
            merged = quantiles.merge(merged, quantiles.of(part))
        assert same(merged, whole)


@settings(max_examples=100, deadline=None)
@given(values.filter(len), st.floats(0, 1))
def test_a_quantile_is_off_by_its_bound_at_most(numbers: np.ndarray, share: float) -> None:
    got = quantiles.quantile(quantiles.of(numbers), share)
    rank = int(np.floor(share * (len(numbers) - 1)))
    exact = float(np.sort(numbers)[rank])
    assert abs(got - exact) <= max(ERROR * abs(exact) * (1 + 1e-9), TINY)


@pytest.mark.parametrize("name", ["normal", "lognormal", "exponential", "uniform", "standard_cauchy"])
def test_quantiles_of_many_values_are_those_of_numpy(name: str) -> None:
    numbers = getattr(np.random.default_rng(7), name)(size=20_000)
    sketch = quantiles.of(numbers)
    assert int(sketch.counts.sum()) == 20_000
    assert len(sketch.bins) < 2_000
    for share in SHARES:
        exact = np.quantile(numbers, share, method="lower")
        assert quantiles.quantile(sketch, share) == pytest.approx(exact, rel=ERROR * 1.001)


def test_it_is_bounded_whatever_the_values() -> None:
    numbers = np.concatenate([np.geomspace(1e-300, 1e300, 100_000), -np.geomspace(1e-300, 1e300, 100_000), [0.0, -0.0]])
    sketch = quantiles.of(numbers)
    assert len(sketch.bins) == 2 * LAST + 1 == 5_529
    assert quantiles.quantile(sketch, 1.0) == pytest.approx(LARGE, rel=ERROR)


def test_of_nothing_there_is_no_quantile() -> None:
    assert np.isnan(quantiles.quantile(quantiles.nothing(), 0.5))


def test_inputs_are_untouched() -> None:
    one, other = quantiles.of(np.array([1.0, 2])), quantiles.of(np.array([2.0, 3]))
    before = (one.counts.tobytes(), other.counts.tobytes())
    quantiles.merge(one, other)
    assert (one.counts.tobytes(), other.counts.tobytes()) == before


GOOD = quantiles.of(np.array([-1.0, 0, 3, 3]))._asdict()
REFUSED = {
    "no bins": {"bins": None},
    "a count too few": {"counts": np.ones(2, np.int64)},
    "bins that descend": {"bins": GOOD["bins"][::-1]},
    "a bin twice": {"bins": np.array([1, 1, 2])},
    "a bin beyond the last": {"bins": np.array([-1, 0, LAST + 1])},
    "an empty bin": {"counts": np.array([1, 0, 2])},
    "more than can be added": {"counts": np.array([1, 1, 1 << 53])},
}


def test_what_travels_comes_back() -> None:
    assert same(quantiles.unpack(decode_state(encode_state(GOOD))), Quantiles(**GOOD))


@pytest.mark.parametrize("other", REFUSED.values(), ids=REFUSED.keys())
def test_what_nobody_can_have_counted_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(ModelRefused) as refused:
        quantiles.unpack(GOOD | other)
    assert refused.value.reason == "statistics"

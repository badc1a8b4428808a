"""A baseline is the merge of many gateways' statistics; its bytes come back, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import baseline
from learning.baseline import MAX_ENTRIES, MAX_NAME, SCHEMA, Baseline
from learning.statistics import of, pack
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused
from protocol.messages import Moments

RNG = np.random.default_rng(7)


def moments(*features: str, windows: int = 20, level: float = 0.0) -> Moments:
    return pack(features, of(RNG.normal(level, 1, (windows, len(features)))))


def content(**entry: Any) -> bytes:
    """A content with one entry of two features, some of it replaced."""
    good = {"features": ["a", "b"], "weight": 9.0, "mean": np.zeros(2), "covariance": np.eye(2)}
    return encode_state({"schema": SCHEMA, "entries": [good | entry]})


def test_gateways_are_merged_group_of_features_by_group_of_features() -> None:
    rows = RNG.normal(3, 2, (50, 2))
    parts = [pack(("p", "t"), of(rows[:30])), moments("t"), pack(("p", "t"), of(rows[30:]))]
    made = baseline.merged(parts)
    assert list(made.entries) == [("p", "t"), ("t",)]
    entry = made.entries["p", "t"]
    assert entry.weight == 50
    np.testing.assert_allclose(entry.mean, rows.mean(axis=0))
    np.testing.assert_allclose(entry.covariance, np.cov(rows.T))


def test_the_order_of_gateways_changes_no_more_than_rounding() -> None:
    parts = [moments("a", "b", level=level) for level in range(5)]
    one, other = baseline.merged(parts).entries["a", "b"], baseline.merged(parts[::-1]).entries["a", "b"]
    assert one.weight == other.weight
    np.testing.assert_allclose(one.mean, other.mean)
    np.testing.assert_allclose(one.covariance, other.covariance)


def test_what_has_been_seen_once_says_nothing() -> None:
    assert baseline.merged([moments("a", windows=1)]).entries == {}


def test_one_gateway_that_sends_nonsense_is_refused() -> None:
    with pytest.raises(ModelRefused, match="statistics"):
        baseline.merged([moments("a"), Moments(["a"], 3, [float("nan")], [1.0])])


def test_beyond_the_bound_the_first_come_is_served() -> None:
    parts = [Moments([str(n)], 5, [1.0], [1.0]) for n in range(MAX_ENTRIES + 3)]
    assert list(baseline.merged([*parts, parts[0]]).entries) == [(str(n),) for n in range(MAX_ENTRIES)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([("a",), ("b",), ("a", "b"), ("a", "b", "c")]), min_size=1, max_size=6))
def test_bytes_come_back_and_are_the_same_for_the_same_content(groups: list[tuple[str, ...]]) -> None:
    made = baseline.merged([moments(*features) for features in groups])
    data = baseline.encode(made)
    again = baseline.decode(data)
    turned = Baseline(dict(reversed(again.entries.items())))
    assert baseline.encode(again) == baseline.encode(turned) == data
    for features, entry in made.entries.items():
        assert again.entries[features].weight == entry.weight
        np.testing.assert_array_equal(again.entries[features].covariance, entry.covariance)


def test_the_content_that_is_changed_below_is_good() -> None:
    assert list(baseline.decode(content()).entries) == [("a", "b")]


REFUSED = {
    "no state at all": b"\xc1",
    "another schema": encode_state({"schema": "baseline/2", "entries": []}),
    "no entries": encode_state({"schema": SCHEMA}),
    "too many entries": encode_state({"schema": SCHEMA, "entries": [0] * (MAX_ENTRIES + 1)}),
    "an entry that is none": encode_state({"schema": SCHEMA, "entries": [7]}),
    "no features": content(features=[]),
    "a feature that is a number": content(features=[1, 2]),
    "a feature with a long name": content(features=["a", "b" * (MAX_NAME + 1)]),
    "no weight": content(weight=0.0),
    "an endless weight": content(weight=float("inf")),
    "a weight that is a text": content(weight="9"),
    "a mean of another length": content(mean=np.zeros(3)),
    "a mean of integers": content(mean=np.zeros(2, np.int64)),
    "a mean that is none": content(mean=np.array([0.0, np.nan])),
    "a covariance of another shape": content(covariance=np.zeros(4)),
    "an infinite covariance": content(covariance=np.full((2, 2), np.inf)),
    "a negative variance": content(covariance=-np.eye(2)),
    "a covariance with two opinions": content(covariance=np.array([[1.0, 0.5], [0.4, 1.0]])),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_a_content_that_may_not_score_is_refused(data: bytes) -> None:
    with pytest.raises(ModelRefused) as refused:
        baseline.decode(data)
    assert refused.value.reason == "content"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.integers(1, 255))
def test_no_changed_byte_does_more_than_be_refused(at: int, flip: int) -> None:
    data = bytearray(content())
    data[at % len(data)] ^= flip
    try:
        read = baseline.decode(bytes(data))
    except ModelRefused:
        return
    assert decode_state(bytes(data))
    assert all(np.isfinite(entry.covariance).all() for entry in read.entries.values())

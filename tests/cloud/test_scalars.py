"""Which numbers of a result become series, and what they are called: of what each kind of work says."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloud.jobs import scalars
from learning.work import Batch, registry

TIME = np.arange(64) * 10**9
X = np.arange(64.0)


def said(work: str, params: dict[str, Any]) -> Any:
    """What `work` says of two series: x, and y = 2 x + 1."""
    found = registry.find(work)
    series = np.repeat(np.array([0, 1], np.int32), 64)
    batch = Batch(["p/x", "p/y"], series, np.concatenate([TIME, TIME]), np.concatenate([X, 2 * X + 1]))
    own = registry.read_params(found, registry.pack_params(found, params))
    return found.result(found.map([batch], own), own)


@pytest.mark.parametrize(
    ("work", "params", "some"),
    [
        pytest.param("moments", {}, {"p/x.count": 64, "p/x.mean": 31.5, "p/y.maximum": 127}, id="moments"),
        pytest.param("moments", {"by": "all"}, {"*.count": 128, "*.minimum": 0}, id="moments of all"),
        pytest.param("quantiles", {"shares": [0.0]}, {"p/x.q0": 0.0, "p/x.count": 64}, id="quantiles"),
        pytest.param(
            "correlation", {"features": ["x", "y"], "step": 10**9}, {"correlation.x~y": 1.0, "mean.y": 64.0}, id="pairs"
        ),
        pytest.param(
            "ridge", {"features": ["x"], "target": "y", "step": 10**9}, {"weights.x": 2.0, "intercept": 1.0}, id="ridge"
        ),
    ],
)
def test_numbers_have_a_name(work: str, params: dict[str, Any], some: dict[str, float]) -> None:
    found = scalars(said(work, params))
    assert {name: found.get(name) for name in some} == pytest.approx(some, abs=1e-6)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(None, id="nothing"),
        pytest.param([1.0], id="a list"),
        pytest.param({"series": {"p/x": {"time": [1], "value": [2.0]}}, "readings": 1}, id="raw readings"),
        pytest.param({"edges": [1.0], "groups": {"p/x": [3, 4]}}, id="counts"),
        pytest.param({"a": None, "b": True, "c": "x", "d": float("nan"), "e": float("inf"), "f": 10**400}, id="others"),
    ],
)
def test_what_is_no_number_becomes_no_series(result: Any) -> None:
    assert scalars(result) == {}


KEYS = st.sampled_from(["groups", "series", "shares", "features", "values", "x"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(result=st.dictionaries(KEYS, ANYTHING, max_size=5))
@example(result={"features": 3, "weights": [1, 2, 3]})
@example(result={"shares": None, "groups": {"p/x": {"values": [1]}}})
@example(result={"shares": ["half"], "groups": {"p/x": {"values": [1]}}})
def test_whatever_work_of_others_says_its_numbers_are_finite(result: dict[str, Any]) -> None:
    found = scalars(msgspec.json.decode(msgspec.json.encode(result)))
    assert all(np.isfinite(value) for value in found.values())

"""What is computed over a fleet keeps its laws, and says what a computation in one place says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from learning import grid
from learning.quantiles import ERROR, TINY
from learning.work import GROUP, Batch, Work, registry
from learning.work.aligned import Aligned
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused, TaskRefused

S = 10**9
NAMES = ["pump-1/flow", "pump-1/heat", "pump-2/flow", "pump-2/heat", "mill/speed"]


class Case(NamedTuple):
    """Work as it is asked for, and whether a split in time parts what belongs together."""

    name: str
    said: dict[str, Any]
    limit: int = 0
    whole_gateways: bool = False


FEATURES = {"features": ["flow", "heat"], "step": S}
CASES = {
    "moments": Case("moments", {}),
    "moments of measurements": Case("moments", {"by": "measurement"}),
    "quantiles": Case("quantiles", {"shares": [0.0, 0.5, 0.9, 1.0]}),
    "quantiles of all": Case("quantiles", {"by": "all"}),
    "histogram over edges": Case("histogram", {"edges": [-10.0, 0.0, 0.5, 10.0]}),
    "histogram on a grid": Case("histogram", {"bins": 8}),
    "top_anomalies": Case("top_anomalies", {"most": 3}),
    "sample": Case("sample", {}, limit=5),
    "covariance": Case("covariance", FEATURES, whole_gateways=True),
    "correlation": Case("correlation", FEATURES, whole_gateways=True),
    "ridge": Case("ridge", {"features": ["heat"], "target": "flow", "step": S}, whole_gateways=True),
    "spectrum": Case("spectrum", {"step": S, "samples": 8, "by": "measurement"}, whole_gateways=True),
}
every_work = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def work_of(case: Case) -> tuple[Work, Any]:
    work = registry.find(case.name)
    return work, registry.read_params(work, registry.pack_params(work, case.said), case.limit)


def batch(rows: Sequence[tuple[int, int, float]], names: Sequence[str] = NAMES) -> Batch:
    series, time, value = zip(*rows, strict=True) if rows else ((), (), ())
    return Batch(names, np.array(series, np.int32), np.array(time, np.int64), np.array(value, np.float64))


def same(one: object, other: object) -> bool:
    """Whether two results are equal, numbers to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-6, abs=1e-6)
    return one == other


rows_of_a_site = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 40).map(lambda second: second * S), st.floats(-1e3, 1e3, width=32)),
    max_size=60,
)
readings = st.lists(rows_of_a_site, min_size=1, max_size=4)


@every_work
@given(sites=readings, cuts=st.lists(st.integers(0, 60), max_size=3), order=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_parts_of_any_split_add_up_to_the_whole_in_any_order_and_grouping(
    case: Case, sites: list[list[tuple[int, int, float]]], cuts: list[int], order: Any
) -> None:
    work, params = work_of(case)
    named = [[f"site-{number}-{name}" for name in NAMES] for number in range(len(sites))]
    whole_names = [name for names in named for name in names]
    shift = len(NAMES)
    joined = [
        (series + number * shift, time, value) for number, rows in enumerate(sites) for series, time, value in rows
    ]
    whole = work.map([batch(joined, whole_names)], params)
    parts = [work.map([batch(rows, names)], params) for rows, names in zip(sites, named, strict=True)]
    if not case.whole_gateways:
        pieces = np.split(np.arange(len(joined)), sorted(min(cut, len(joined)) for cut in cuts))
        parts = [work.map([batch([joined[at] for at in piece], whole_names)], params) for piece in pieces]
    order.shuffle(parts)
    expected = work.result(whole, params)
    assert same(work.result(work.merge(parts, params), params), expected)
    first, rest = work.merge(parts[:1], params), work.merge(parts[1:], params)
    assert same(work.result(work.merge([rest, first], params), params), expected)
    nothing = work.map([], params)
    assert same(work.result(work.merge([nothing, whole, nothing], params), params), expected)
    json.dumps(expected, allow_nan=False)


@every_work
@given(rows=rows_of_a_site, order=st.randoms(use_true_random=False), size=st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_how_readings_come_changes_nothing(
    case: Case, rows: list[tuple[int, int, float]], order: Any, size: int
) -> None:
    work, params = work_of(case)
    expected = work.result(work.map([batch(rows)], params), params)
    order.shuffle(rows)
    batches = [batch(rows[at : at + size]) for at in range(0, len(rows), size)]
    assert same(work.result(work.map(batches, params), params), expected)


COUNTS = ("count", "counts", "segments")


@every_work
def test_a_part_of_a_stranger_is_refused(case: Case) -> None:
    work, params = work_of(case)
    rows = [(series, second * S, float(series + second % 7)) for second in range(40) for series in range(4)]
    part = work.map([batch(rows)], params)
    state = decode_state(part)
    strange = [b"", b"\xc1", part[:-3], encode_state({**state, "schema": "another/1"})]
    for key, value in state.items():
        for other in (None, [], -1, "x", np.full(3, np.nan), *([-value] if key in COUNTS else [])):
            strange.append(encode_state({**state, key: other}))  # noqa: PERF401 - a comprehension would hide it
    for data in strange:
        for take in (lambda data=data: work.merge([part, data], params), lambda data=data: work.result(data, params)):
            with pytest.raises(ModelRefused) as refused:
                take()
            assert refused.value.reason == "part"


# Against a computation in one place.

RNG = np.random.default_rng(11)
MANY = 40_000


def noise(size: int = MANY) -> NDArray[np.float64]:
    return RNG.normal(20.0, 3.0, size)


def spread_over(value: NDArray[np.float64], parts: int) -> list[Batch]:
    """Give the readings of one series, in `parts` batches."""
    time = np.arange(len(value)) * S
    pieces = zip(np.array_split(time, parts), np.array_split(value, parts), strict=True)
    return [Batch(["pump-1/flow"], np.zeros(len(at), np.int32), at, piece) for at, piece in pieces]


def merged(case: Case, value: NDArray[np.float64]) -> dict[str, Any]:
    work, params = work_of(case)
    parts = [work.map([each], params) for each in spread_over(value, 7)]
    return work.result(work.merge(parts, params), params)


def test_moments_equal_those_of_numpy() -> None:
    value = noise() + 1e6
    found = merged(Case("moments", {}), value)["groups"]["pump-1/flow"]
    expected = (len(value), value.mean(), value.std(), value.min(), value.max())
    assert list(found.values()) == pytest.approx(list(expected), rel=1e-9)
    assert (found["count"], found["minimum"], found["maximum"]) == (len(value), value.min(), value.max())


def test_quantiles_are_within_the_bound_that_they_state() -> None:
    value = RNG.lognormal(0.0, 4.0, MANY) * RNG.choice([-1, 1], MANY)
    found = merged(Case("quantiles", {"shares": [0.0, 0.01, 0.3, 0.5, 0.99, 1.0]}), value)
    exact = np.quantile(value, found["shares"], method="lower")
    assert found["relative_error"] == ERROR
    assert (np.abs(found["groups"]["pump-1/flow"]["values"] - exact) <= ERROR * np.abs(exact) * (1 + 1e-9) + TINY).all()


def test_a_histogram_over_edges_equals_that_of_numpy() -> None:
    value, edges = noise(), [10.0, 15.0, 20.0, 25.0, 30.0]
    counts = merged(Case("histogram", {"edges": edges}), value)["groups"]["pump-1/flow"]
    assert counts == np.histogram(value, [-np.inf, *edges, np.inf])[0].tolist()


def test_a_histogram_on_a_grid_counts_each_value_where_it_is_and_values_far_away_cost_no_fineness() -> None:
    value = np.concatenate([noise(), [1e9, -1e12]])
    found = merged(Case("histogram", {"bins": 64}), value)["groups"]["pump-1/flow"]
    lower = np.array(found["from"])
    exact = [np.count_nonzero((value >= low) & (value < low + found["width"])) for low in lower]
    assert (found["counts"], sum(found["counts"])) == (exact, len(value))
    assert (found["width"], len(lower) <= 64) == (0.5, True)


def test_covariance_and_correlation_equal_those_of_numpy() -> None:
    flow = noise(4_000)
    heat = 0.5 * flow + noise(4_000) + 1e4
    table = np.stack([flow, heat])
    time = np.tile(np.arange(4_000) * S, 2) + RNG.integers(0, S, 8_000)
    rows = Batch(["a/flow", "a/heat"], np.repeat([0, 1], 4_000).astype(np.int32), time, table.ravel())
    for name, expected in (("covariance", np.cov(table)), ("correlation", np.corrcoef(table))):
        work, params = work_of(Case(name, FEATURES))
        found = work.result(work.map([rows], params), params)
        assert np.array(found[name]) == pytest.approx(expected, rel=1e-9)
        assert (found["rows"], found["alone"], found["late"]) == (4_000, 0, 0)


def test_ridge_equals_a_solution_in_one_place() -> None:
    x = RNG.normal(5.0, 2.0, (3_000, 2)) + np.array([0.0, 1e5])
    y = x @ [1.5, -2.0] + 7.0 + RNG.normal(0.0, 0.1, 3_000)
    table = np.column_stack([x, y])
    names = ["a/p", "a/q", "a/y"]
    rows = Batch(names, np.tile(np.arange(3, dtype=np.int32), 3_000), np.repeat(np.arange(3_000) * S, 3), table.ravel())
    work, params = work_of(Case("ridge", {"features": ["p", "q"], "target": "y", "step": S, "penalty": 0.5}))
    found = work.result(work.map([rows], params), params)
    centred, about = x - x.mean(axis=0), y - y.mean()
    exact = np.linalg.solve(centred.T @ centred + 0.5 * np.eye(2), centred.T @ about)
    assert list(found["weights"].values()) == pytest.approx(exact, rel=1e-9)
    assert found["intercept"] == pytest.approx(y.mean() - x.mean(axis=0) @ exact, rel=1e-9)
    assert np.array(found["xtx"]) == pytest.approx(x.T @ x, rel=1e-9)
    assert found["xty"] == pytest.approx(x.T @ y, rel=1e-9)
    assert found["explained"] > 0.99


def test_a_spectrum_equals_welch_in_one_place_and_finds_a_tone() -> None:
    samples, value = 128, noise(4_096) + 10 * np.sin(2 * np.pi * np.arange(4_096) * 8 / 128)
    work, params = work_of(Case("spectrum", {"step": S, "samples": samples}))
    found = work.result(work.map(spread_over(value, 5), params), params)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)
    pieces = np.array([value[at : at + samples] for at in range(0, 4_096 - samples + 1, samples // 2)])
    density = np.abs(np.fft.rfft((pieces - pieces.mean(axis=1, keepdims=True)) * window)) ** 2 / (window @ window)
    density[:, 1:-1] *= 2
    group = found["groups"]["pump-1/flow"]
    assert group["density"] == pytest.approx(density.mean(axis=0), rel=1e-9)
    assert (group["segments"], int(np.argmax(group["density"]))) == (len(pieces), 8)
    assert found["frequencies"][8] == 8 / 128


def test_a_gap_ends_a_run_of_a_spectrum() -> None:
    work, params = work_of(Case("spectrum", {"step": S, "samples": 8}))
    rows = [(0, second * S, 1.0 * second) for second in (*range(12), *range(20, 27), *range(40, 48))]
    found = work.result(work.map([batch(rows)], params), params)
    assert found["groups"]["pump-1/flow"]["segments"] == 3


def test_the_furthest_readings_are_told_with_their_series_and_time() -> None:
    value = noise(5_000)
    value[[100, 4_000]] = 500.0, -300.0
    work, params = work_of(Case("top_anomalies", {"most": 2}))
    parts = [work.map([each], params) for each in spread_over(value, 3)]
    found = work.result(work.merge(parts, params), params)
    told = [(one["series"], one["time"], one["value"]) for one in found["anomalies"]]
    assert told == [("pump-1/flow", 100 * S, 500.0), ("pump-1/flow", 4_000 * S, -300.0)]
    width = found["series"]["pump-1/flow"]["width"]
    middle = float(np.median(value))
    scale = 1.4826 * float(np.median(np.abs(value - middle)))
    assert abs(found["series"]["pump-1/flow"]["median"] - middle) <= width
    assert abs(found["series"]["pump-1/flow"]["scale"] - scale) <= 1.4826 * 1.5 * width
    assert width < scale / 20


def test_where_most_values_are_the_same_the_mean_stands_for_the_median_of_deviations() -> None:
    value = np.full(1_000, 20.0)
    value[:100] = 20.5
    value[7] = 90.0
    found = merged(Case("top_anomalies", {"most": 1}), value)
    assert [(one["time"], one["value"]) for one in found["anomalies"]] == [(7 * S, 90.0)]
    constant = merged(Case("top_anomalies", {"most": 1}), np.full(50, 3.0))
    assert constant["anomalies"][0]["deviation"] == 0.0


def test_a_sample_is_drawn_evenly_and_is_what_was_recorded() -> None:
    value = np.arange(20_000, dtype=np.float64)
    work, params = work_of(Case("sample", {}, limit=2_000))
    drawn = work.result(work.map(spread_over(value, 9), params), params)
    series = drawn["series"]["pump-1/flow"]
    assert drawn["readings"] == len(series["time"]) == 2_000
    assert [at // S for at in series["time"]] == series["value"]
    thirds = np.bincount(np.array(series["time"]) // S * 4 // 20_000)
    assert np.abs(thirds - 500).max() < 90


def test_cells_are_settled_when_they_hold_too_much_and_what_comes_later_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("learning.work.aligned.OPEN", 100)
    aligned, rows = Aligned(["flow", "heat"], S), list[NDArray[np.float64]]()
    for second in range(200):
        rows += aligned.feed(batch([(0, second * S, 1.0), (1, second * S, 2.0)]))
    rows += aligned.feed(batch([(0, 0, 5.0)]))
    rows += aligned.finish()
    assert (sum(map(len, rows)), aligned.alone, aligned.late) == (200, 0, 1)


def test_a_feature_that_has_stopped_does_not_hold_the_others_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learning.work.aligned.OPEN", 100)
    aligned = Aligned(["flow", "heat"], S)
    rows = [*aligned.feed(batch([(0, 0, 1.0), (1, 0, 2.0)]))]
    for second in range(1, 1_000):
        rows += aligned.feed(batch([(0, second * S, 1.0)]))
        assert aligned._size <= 101
    rows += aligned.finish()
    assert (sum(map(len, rows)), aligned.alone) == (1, 999)


def test_features_may_be_series_of_several_devices() -> None:
    work, params = work_of(Case("covariance", {"features": ["pump-1/flow", "mill/speed"], "step": S}))
    rows = [(series, second * S, float(second)) for second in range(10) for series in range(5)]
    found = work.result(work.map([batch(rows)], params), params)
    assert (found["rows"], found["alone"]) == (10, 0)


# What is asked.

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a key that is none": ("moments", {"bye": "series"}, "bye"),
    "what is not told apart": ("moments", {"by": "device"}, "by"),
    "a share above 1": ("quantiles", {"shares": [2.0]}, "shares"),
    "edges that descend": ("histogram", {"edges": [1.0, 0.0]}, "ascend"),
    "an edge that is no number": ("histogram", {"edges": [float("nan")]}, "finite"),
    "one feature": ("covariance", {"features": ["flow"], "step": S}, "at least 2"),
    "a feature twice": ("covariance", {"features": ["flow", "flow"], "step": S}, "each once"),
    "series and measurements": ("covariance", {"features": ["flow", "a/heat"], "step": S}, "not both"),
    "no step": ("covariance", {"features": ["flow", "heat"], "step": 0}, "step"),
    "a target among the features": ("ridge", {"features": ["flow"], "target": "flow", "step": S}, "each once"),
    "odd samples": ("spectrum", {"step": S, "samples": 9}, "even"),
    "too many anomalies": ("top_anomalies", {"most": 1_000}, "most"),
}


@pytest.mark.parametrize(("name", "said", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_asked_is_refused_and_said(name: str, said: dict[str, Any], why: str) -> None:
    work = registry.find(name)
    for refuse in (
        lambda: registry.pack_params(work, said),
        lambda: registry.read_params(work, msgspec.msgpack.encode(said)),
    ):
        with pytest.raises(TaskRefused) as refused:
            refuse()
        assert (refused.value.reason, why in refused.value.detail) == ("params", True)


def test_more_raw_readings_than_an_answer_holds_are_refused() -> None:
    with pytest.raises(TaskRefused, match="limit"):
        registry.read_params(registry.find("sample"), b"\x80", 10**9)
    with pytest.raises(TaskRefused, match="limit"):
        registry.find("sample").map([], registry.read_params(registry.find("sample"), b"\x80", 0))


def test_more_groups_than_a_part_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learning.work.anomalies.MAX_SERIES", 3)
    work, params = work_of(CASES["top_anomalies"])
    with pytest.raises(TaskRefused, match="groups"):
        work.map([batch([(series, 0, 1.0) for series in range(4)])], params)


# By name.


def test_all_that_is_built_in_is_found_and_says_whether_it_sends_readings() -> None:
    found = {name: registry.find(name) for name in registry.BUILT_IN}
    assert {name: work.name for name, work in found.items()} == {name: name for name in registry.BUILT_IN}
    assert [name for name, work in found.items() if registry.sends_readings(work)] == ["sample"]
    assert set(registry.BUILT_IN) <= set(registry.names())


@pytest.mark.parametrize(("name", "version"), [("nothing", 0), ("moments", 7)])
def test_what_is_not_installed_or_another_version_is_unknown(name: str, version: int) -> None:
    with pytest.raises(TaskRefused) as refused:
        registry.find(name, version)
    assert refused.value.reason == "unknown"


def test_a_user_s_own_work_is_found_by_its_entry_point_and_sends_readings_unless_it_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Own:
        name = "own"
        version = 3

    class Point:
        name = "own"

        def load(self) -> type[Own]:
            return Own

    points: Callable[..., list[Point]] = lambda group, name="own": [Point()] if (group, name) == (GROUP, "own") else []  # noqa: E731
    monkeypatch.setattr(registry, "entry_points", points)
    found: Any = registry.find("own", 3)
    assert (found, "own" in registry.names()) == (Own, True)
    assert registry.sends_readings(registry.find("own"))


# The grid.


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50),
    cut=st.integers(0, 50),
    most=st.integers(2, 9),
)
@settings(max_examples=150, deadline=None)
def test_grids_of_parts_are_the_grid_of_the_whole_bit_for_bit(values: list[float], cut: int, most: int) -> None:
    value, group = np.array(values), np.arange(len(values)) % 2
    whole = grid.of(2, group, value, most)
    parts = [grid.of(2, group[piece], value[piece], most) for piece in (slice(0, cut), slice(cut, None))]
    merged_ = grid.merge(parts, [np.arange(2)] * 2, 2, most)
    assert [column.tolist() for column in merged_] == [column.tolist() for column in whole]
    assert (np.bincount(whole.group) <= most).all()
    assert whole.count.sum() == len(values)

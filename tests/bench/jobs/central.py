"""The same computed in one place: by the work itself, to see what that costs, and by numpy, to see what is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from learning.work import registry
from tests.bench.work import batches

Values = np.ndarray[Any, np.dtype[np.float64]]
Said = dict[str, Any]

RTOL = 1e-9
PENALTY = 1e-6  # of a ridge, as installed


def computing(work: str, params: Said, sites: Iterable[Path]) -> float:
    """Give the seconds of CPU of a result over all readings of these data directories."""
    found = registry.find(work)
    own = registry.read_params(found, registry.pack_params(found, params))
    began = time.thread_time()
    parts = [found.map(batches(data), own) for data in sites]
    found.result(found.merge(parts, own), own)
    return time.thread_time() - began


def values(sites: Iterable[Path]) -> dict[str, Values]:
    """Give the values of each series, as they were recorded."""
    held: dict[str, list[Values]] = {}
    for data in sites:
        for batch in batches(data):
            order = np.argsort(batch.series, kind="stable")
            series, starts = np.unique(batch.series[order], return_index=True)
            for number, part in zip(series.tolist(), np.split(batch.value[order], starts[1:]), strict=True):
                held.setdefault(batch.names[number], []).append(part)
    return {name: np.concatenate(parts) for name, parts in held.items()}


def furthest(work: str, params: Said, result: Said, plain: Mapping[str, Values]) -> float:
    """Say how far a result is from what numpy makes of the values; AssertionError if that is more than it may be.

    Counts are equal; quantiles within the relative error that they state, all else within RTOL of the largest number of
    its kind.
    """
    wide = {"quantiles": result.get("relative_error", 0.0)}.get(work, RTOL)
    found = max(_differences(result, EXPECTED[work](params, result, plain), each=work == "quantiles"), default=0.0)
    assert found <= wide, (work, found)
    return found


def _differences(found: Any, expected: Any, *, each: bool) -> Iterable[float]:
    if isinstance(expected, dict):
        assert found.keys() >= expected.keys()
        for key, value in expected.items():
            yield from _differences(found[key], value, each=each)
        return
    one, other = np.asarray(found), np.asarray(expected)
    assert one.shape == other.shape
    if other.dtype.kind != "f":
        np.testing.assert_array_equal(one, other)
        return
    scale = np.abs(other) if each else np.abs(other).max()
    yield float((np.abs(one - other) / scale).max())


def _grouped(params: Said, plain: Mapping[str, Values]) -> dict[str, list[Values]]:
    groups: dict[str, list[Values]] = {}
    for name, value in plain.items():
        groups.setdefault(name.rpartition("/")[2] if params.get("by") == "measurement" else name, []).append(value)
    return groups


def _moments(params: Said, _result: Said, plain: Mapping[str, Values]) -> Said:
    return {"groups": {name: _of(np.concatenate(parts)) for name, parts in _grouped(params, plain).items()}}


def _of(value: Values) -> Said:
    edges = {"minimum": value.min(), "maximum": value.max()}
    return {"count": len(value), "mean": value.mean(), "deviation": value.std()} | edges


def _quantiles(params: Said, result: Said, plain: Mapping[str, Values]) -> Said:
    joined = {name: np.concatenate(parts) for name, parts in _grouped(params, plain).items()}
    said = {name: np.quantile(value, result["shares"], method="lower") for name, value in joined.items()}
    return {"groups": {name: {"count": len(value), "values": said[name]} for name, value in joined.items()}}


def _histogram(params: Said, result: Said, plain: Mapping[str, Values]) -> Said:
    groups = {}
    for name, parts in _grouped(params, plain).items():
        width = result["groups"][name]["width"]
        bins, counts = np.unique(np.floor(np.concatenate(parts) / width), return_counts=True)
        groups[name] = {"from": bins * width, "counts": counts}
    return {"groups": groups}


def _rows(names: Iterable[str], plain: Mapping[str, Values]) -> Values:
    machines = sorted({name.rpartition("/")[0] for name in plain})
    return np.column_stack([np.concatenate([plain[f"{machine}/{name}"] for machine in machines]) for name in names])


def _covariance(params: Said, _result: Said, plain: Mapping[str, Values]) -> Said:
    rows = _rows(params["features"], plain)
    counts = {"rows": len(rows), "alone": 0, "late": 0}
    return counts | {"mean": rows.mean(axis=0), "covariance": np.cov(rows, rowvar=False)}


def _ridge(params: Said, _result: Said, plain: Mapping[str, Values]) -> Said:
    x, y = _rows(params["features"], plain), _rows([params["target"]], plain)[:, 0]
    about = x - x.mean(axis=0)
    weights = np.linalg.solve(about.T @ about + PENALTY * np.eye(x.shape[1]), about.T @ (y - y.mean()))
    counts = {"rows": len(x), "alone": 0, "late": 0}
    said = {
        "weights": dict(zip(params["features"], weights, strict=True)),
        "intercept": y.mean() - x.mean(axis=0) @ weights,
    }
    return counts | said | {"xtx": x.T @ x, "xty": x.T @ y}


def _spectrum(params: Said, result: Said, plain: Mapping[str, Values]) -> Said:
    samples = 2 * (len(result["frequencies"]) - 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)
    scale = np.full(samples // 2 + 1, 2 * params["step"] / 1e9 / (window @ window))
    scale[[0, -1]] /= 2
    groups = {}
    for name, parts in _grouped(params, plain).items():
        if name not in result["groups"]:  # too few in a row: it is not sampled so often
            continue
        power, count = np.zeros(len(scale)), 0
        for value in parts:
            runs = sliding_window_view(value, samples)[:: samples // 2]
            runs = runs - runs.mean(axis=1, keepdims=True)
            power += np.square(np.abs(np.fft.rfft(runs * window))).sum(axis=0)
            count += len(runs)
        groups[name] = {"segments": count, "density": power * scale / count}
    return {"groups": groups, "late": 0}


EXPECTED: dict[str, Callable[[Said, Said, Mapping[str, Values]], Said]] = {
    "moments": _moments,
    "quantiles": _quantiles,
    "histogram": _histogram,
    "covariance": _covariance,
    "ridge": _ridge,
    "spectrum": _spectrum,
}

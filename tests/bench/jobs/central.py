"""The same computed in one place: by the work itself over all readings, and by numpy over plain arrays."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from learning.work import Batch, registry
from tests.bench.work import batches

RTOL = 1e-9


def readings(sites: Iterable[Path]) -> Iterator[Batch]:
    """Give all readings of these data directories, whose series are numbered one after the other."""
    names: list[str] = []
    for data in sites:
        before = list(names)
        for batch in batches(data):
            names = before + list(batch.names)
            yield Batch(names, batch.series + np.int32(len(before)), batch.time, batch.value)


def compute(work: str, params: dict[str, Any], sites: Iterable[Path]) -> tuple[Any, float]:
    """Give the result of all readings, and the seconds of CPU that took."""
    found = registry.find(work)
    own = registry.read_params(found, registry.pack_params(found, params))
    began = time.thread_time()
    result = found.result(found.map(readings(sites), own), own)
    return result, time.thread_time() - began


def values(sites: Iterable[Path]) -> dict[str, np.ndarray]:
    """Give the values of each series."""
    held: dict[str, list[np.ndarray]] = {}
    for batch in readings(sites):
        order = np.argsort(batch.series, kind="stable")
        series, starts = np.unique(batch.series[order], return_index=True)
        for number, part in zip(series.tolist(), np.split(batch.value[order], starts[1:]), strict=True):
            held.setdefault(batch.names[number], []).append(part)
    return {name: np.concatenate(parts) for name, parts in held.items()}


def check_plainly(work: str, result: dict[str, Any], plain: dict[str, np.ndarray]) -> None:
    """AssertionError if a result by series is not what numpy says: exactly, to RTOL, or within the bound it states."""
    groups = result["groups"]
    assert groups.keys() == plain.keys()
    for name, value in plain.items():
        group = groups[name]
        if work == "quantiles":
            exact = np.quantile(value, result["shares"], method="lower")
            assert group["count"] == len(value)
            np.testing.assert_allclose(group["values"], exact, rtol=result["relative_error"])
        else:
            assert (group["count"], group["minimum"], group["maximum"]) == (len(value), value.min(), value.max())
            np.testing.assert_allclose([group["mean"], group["deviation"]], [value.mean(), value.std()], rtol=RTOL)


def furthest(found: Any, expected: Any) -> float:
    """Give the largest relative difference of two results; AssertionError where they differ in more than numbers.

    Numbers of one list are measured by the largest of them: one that ought to be zero is as far off as the others.
    """
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        return max((furthest(found[key], expected[key]) for key in expected), default=0.0)
    if isinstance(expected, list | tuple | float):
        one, other = np.array(found), np.array(expected)
        assert one.shape == other.shape
        if other.dtype.kind in "fi" and one.dtype.kind in "fi":
            return float(np.abs(one - other).max(initial=0) / (np.abs(other).max(initial=0) or 1))
        assert one.tolist() == other.tolist()
        return 0.0
    assert found == expected
    return 0.0

"""The fleet's baseline as a detector uses it: entries of one size, ready to be compared with many groups at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.score.groups import NOBODY
from learning import gaussian
from learning.baseline import Baseline, Entry, Features
from learning.gaussian import Mask
from learning.statistics import Vector

NO_ENTRY = NOBODY


class Model:
    """The entries with d features; without a baseline there are none."""

    def __init__(self, features: int, baseline: Baseline | None = None) -> None:
        entries = [(key, one) for key, one in (baseline.entries if baseline else {}).items() if len(key) == features]
        self._entries = {key: number for number, (key, _) in enumerate(entries)}
        shape = (len(entries), features)
        self._mean = np.array([entry.mean for _, entry in entries]).reshape(shape)
        self._deviation = np.array([_deviation(entry) for _, entry in entries]).reshape(shape)
        self._correlation = np.array([_correlation(entry) for _, entry in entries]).reshape(*shape, features)

    def entry(self, features: Features) -> int:
        """Give the number of the entry for these features, or NO_ENTRY."""
        return self._entries.get(features, NO_ENTRY)

    def distances(self, entry: NDArray[np.int64], x: Vector, there: Mask) -> tuple[Vector, Vector]:
        """Give T2, (k,), and its parts, (k, d), of vectors x, (k, d), about an entry each; anything for NO_ENTRY."""
        standard = gaussian.standardise(np.where(there, x, 0.0) - self._mean[entry], self._deviation[entry])
        return gaussian.distances(standard, self._correlation[entry], there)


def _deviation(entry: Entry) -> Vector:
    return gaussian.deviations(entry.mean, np.diagonal(entry.covariance))


def _correlation(entry: Entry) -> Vector:
    deviation = _deviation(entry)
    with np.errstate(over="ignore", invalid="ignore"):
        plain = entry.covariance / (deviation[:, None] * deviation[None, :])
    return gaussian.repair(np.nan_to_num(plain))

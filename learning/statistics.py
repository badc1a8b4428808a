"""Mergeable statistics of vectors: count, mean and scatter, so that the parts of a fleet add up to the whole.

Laws (`tests/learning/test_statistics.py`): merging is commutative and associative to rounding; the merge of parts is
the statistics of the whole; inputs are untouched. Formulas: Chan, Golub and LeVeque, "Updating formulae and a pairwise
algorithm for computing sample variances" (1979), in their form for vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol import messages
from protocol.errors import ModelRefused

Vector = NDArray[np.float64]

MAX_FEATURES = 64
"""Features in one group: a scatter of 64 x 64 is 32 kB."""

MAX_COUNT = 1 << 53
"""Windows in one statistic: counts are added as floats."""


class Statistics(NamedTuple):
    """Of `weight` vectors with d features: mean, shape (d,), and scatter, the sum of (x - mean)(x - mean)^T, (d, d)."""

    weight: float
    mean: Vector
    scatter: Vector


def nothing(features: int) -> Statistics:
    """Give the statistics of no vectors."""
    return Statistics(0.0, np.zeros(features), np.zeros((features, features)))


def of(vectors: Vector) -> Statistics:
    """Give the statistics of vectors, shape (n, d), n at least 1."""
    mean = vectors.mean(axis=0)
    about = vectors - mean
    return Statistics(float(len(vectors)), mean, about.T @ about)


def merge(one: Statistics, other: Statistics) -> Statistics:
    """Give the statistics of both together."""
    weight = one.weight + other.weight
    if not weight:
        return one
    delta = other.mean - one.mean
    share = other.weight / weight
    scatter = one.scatter + other.scatter + np.outer(delta, delta) * (one.weight * share)
    return Statistics(weight, one.mean + delta * share, scatter)


def merge_all(parts: Iterable[Statistics], features: int) -> Statistics:
    """Give the statistics of all parts together."""
    return reduce(merge, parts, nothing(features))


def covariance(statistics: Statistics) -> Vector:
    """Give the sample covariance, shape (d, d); zeros for fewer than two vectors."""
    return statistics.scatter / max(statistics.weight - 1.0, 1.0)


def pack(features: Sequence[str], statistics: Statistics) -> messages.Moments:
    """Give statistics as they travel."""
    mean, scatter = statistics.mean.tolist(), statistics.scatter.ravel().tolist()
    return messages.Moments(list(features), round(statistics.weight), mean, scatter)


def unpack(moments: messages.Moments) -> Statistics:
    """Read statistics that travelled; ModelRefused("statistics") if they can be nobody's."""
    size = len(moments.features)
    if not 0 < size <= MAX_FEATURES or len(set(moments.features)) < size:
        raise ModelRefused("statistics", f"{size} features, or one of them twice")
    if len(moments.mean) != size or len(moments.scatter) != size * size or not 0 <= moments.count < MAX_COUNT:
        raise ModelRefused(
            "statistics", f"{len(moments.mean)} means and {len(moments.scatter)} products of {size} features"
        )
    mean, scatter = np.array(moments.mean, np.float64), np.array(moments.scatter, np.float64).reshape(size, size)
    if not (np.isfinite(mean).all() and np.isfinite(scatter).all() and (np.diagonal(scatter) >= 0).all()):
        raise ModelRefused("statistics", "a number that is not finite, or a negative variance")
    return Statistics(float(moments.count), mean, (scatter + scatter.T) / 2)

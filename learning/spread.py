"""Mergeable count, mean and sum of squares of each feature alone: what a standardiser learns from.

`statistics` has the same with every product of two features: d^2 numbers, where this has 2 d. Formulas: Chan, Golub and
LeVeque (1979). Laws as there: merging is commutative and associative to rounding, the merge of parts is the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from learning import reading
from learning.parameters import Array
from learning.statistics import Vector
from protocol.errors import ModelRefused


class Spread(NamedTuple):
    """Of `weight` vectors with d features: mean, shape (d,), and the sum of squares about it, (d,)."""

    weight: float
    mean: Vector
    squares: Vector


def nothing(features: int) -> Spread:
    """Give the spread of no vectors."""
    return Spread(0.0, np.zeros(features), np.zeros(features))


def of(vectors: Array) -> Spread:
    """Give the spread of vectors, shape (n, d), n at least 1."""
    wide = vectors.astype(np.float64)
    mean = wide.mean(axis=0)
    return Spread(float(len(wide)), mean, ((wide - mean) ** 2).sum(axis=0))


def merge(one: Spread, other: Spread) -> Spread:
    """Give the spread of both together; ModelRefused("statistics") if they are not of the same features."""
    if one.mean.shape != other.mean.shape:
        raise ModelRefused("statistics", f"{len(one.mean)} features and {len(other.mean)}")
    weight = one.weight + other.weight
    if not weight:
        return one
    delta, share = other.mean - one.mean, other.weight / weight
    return Spread(weight, one.mean + delta * share, one.squares + other.squares + delta**2 * (one.weight * share))


def merge_all(parts: Iterable[Spread], features: int) -> Spread:
    """Give the spread of all parts together."""
    return reduce(merge, parts, nothing(features))


def variance(spread: Spread) -> Vector:
    """Give the population variance of each feature, shape (d,)."""
    return spread.squares / max(spread.weight, 1.0)


def unpack(state: Mapping[str, Any]) -> Spread:
    """Read what `_asdict` gave and a State carried; ModelRefused("statistics") if it can be nobody's."""
    weight = reading.number(state, "weight", "statistics")
    mean = reading.array(state, "mean", np.float64, (-1,), "statistics")
    squares = reading.array(state, "squares", np.float64, mean.shape, "statistics")
    if (squares < 0).any():
        raise ModelRefused("statistics", "a negative variance")
    return Spread(weight, mean, squares)

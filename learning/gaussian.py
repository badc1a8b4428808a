"""How unusual a vector is: Hotelling's T2 about a mean and covariance, and the limit that it seldom passes.

T2 = u^T R^-1 u for the standardised vector u and the correlation R (Hotelling, "Multivariate quality control", 1947).
For d normal features it is distributed as chi-square with d degrees of freedom (Abramowitz and Stegun, 26.4), and for
one feature it is z squared. So a threshold in deviations of one feature has its like for any number of them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from learning.statistics import Vector

Mask = NDArray[np.bool_]

RIDGE = 0.02
"""How far correlations are drawn to zero, so that equal or constant features cannot make them singular."""

FLOOR = 1e-6
"""A deviation is at least this share of the mean: features travel as float32, whose last place is 6e-8 of a value."""

TINY = 1e-12
"""A deviation is at least this, where the mean is 0 too."""

FURTHEST = 1e9
"""In deviations: what is further away is as unusual, and its square is still far from overflowing."""


def beyond(square: float, features: int) -> float:
    """Give the chance that T2 of so many normal features is larger (Abramowitz and Stegun 26.4.4 and 26.4.5)."""
    if features % 2:
        total, term = math.erfc(math.sqrt(square / 2)), math.sqrt(2 * square / math.pi) * math.exp(-square / 2)
        first = 3
    else:
        total, term = 0.0, math.exp(-square / 2)
        first = 2
    for number in range(first, features + 1, 2):
        total += term
        term *= square / number
    return total


@lru_cache(maxsize=4096)
def limit(deviations: float, features: int) -> float:
    """Give the T2 of so many features that is as unlikely as `deviations` (at most 30) of one."""
    chance = math.erfc(deviations / math.sqrt(2))
    low, high = 0.0, 4.0 * (deviations**2 + features + 10)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle, features) > chance else (low, middle)
    return high


def deviations(mean: Vector, variance: Vector) -> Vector:
    """Give standard deviations that are never zero; shapes are equal."""
    return np.sqrt(variance) + (FLOOR * np.abs(mean) + TINY)


def standardise(about: Vector, deviation: Vector) -> Vector:
    """Give distances from the mean in deviations, FURTHEST at most."""
    return np.clip(about / deviation, -FURTHEST, FURTHEST)


def correlations(covariance: Vector, deviation: Vector) -> Vector:
    """Give regular correlations of covariances, shape (k, d, d), and deviations, (k, d)."""
    scaled = covariance / (deviation[:, :, None] * deviation[:, None, :])
    scaled *= 1.0 - RIDGE
    diagonal = np.arange(scaled.shape[1])
    scaled[:, diagonal, diagonal] = 1.0
    return scaled


def repair(correlation: Vector) -> Vector:
    """Make a symmetric matrix, shape (d, d), that a stranger calls a correlation into a regular one."""
    values, vectors = np.linalg.eigh(np.clip(correlation, -1.0, 1.0))
    repaired: Vector = (vectors * np.maximum(values, RIDGE)) @ vectors.T
    return repaired


def distances(standard: Vector, correlation: Vector, there: Mask) -> tuple[Vector, Vector]:
    """Give T2, shape (k,), of the features that are there, and what each adds to it, (k, d): 0 where it is missing.

    `standard` is (k, d), `correlation` (k, d, d), regular, `there` (k, d).
    """
    seen = np.where(there, standard, 0.0)
    if standard.shape[1] == 1:
        parts = seen * seen
    elif there.all():
        parts = seen * np.linalg.solve(correlation, seen[:, :, None])[:, :, 0]
    else:
        both = there[:, :, None] & there[:, None, :]
        left = np.where(both, correlation, np.eye(standard.shape[1]))
        parts = seen * np.linalg.solve(left, seen[:, :, None])[:, :, 0]
    return np.maximum(parts.sum(axis=1), 0.0), parts

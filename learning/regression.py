"""What linear regression needs of a fleet: X'X and X'Y, as blocks of mergeable statistics of the joined (x, y).

    sum x x' = scatter_xx + n mean_x mean_x'        sum x y' = scatter_xy + n mean_x mean_y'

They are kept centred, so that a feature that is far from 0 costs no precision. `statistics.merge` merges them.
"""

from __future__ import annotations

import numpy as np

from learning import statistics
from learning.parameters import Array
from learning.statistics import Statistics, Vector


def of(x: Array, y: Array) -> Statistics:
    """Give the statistics of rows x, shape (n, d), joined with y, (n, t), n at least 1."""
    return statistics.of(np.hstack([x, y]).astype(np.float64))


def products(merged: Statistics, features: int) -> tuple[Vector, Vector]:
    """Give X'X, shape (d, d), and X'Y, (d, t), of all rows, not centred; the first d columns are x."""
    whole = merged.scatter + merged.weight * np.outer(merged.mean, merged.mean)
    return whole[:features, :features], whole[:features, features:]


def solve(merged: Statistics, features: int, penalty: float) -> tuple[Vector, Vector]:
    """Give weights, shape (d, t), and intercept, (t,); the penalty (above 0) is not on the intercept."""
    square = merged.scatter[:features, :features] + penalty * np.eye(features)
    weights = np.asarray(np.linalg.solve(square, merged.scatter[:features, features:]), np.float64)
    mean_x, mean_y = merged.mean[:features], merged.mean[features:]
    return weights, mean_y - mean_x @ weights

"""X'X and X'Y of parts are those of the whole, and what is solved from them is least squares."""

from __future__ import annotations

import numpy as np
import pytest

from learning import regression, statistics

RNG = np.random.default_rng(7)
X = RNG.normal(size=(60, 4)) + 1e4
Y = (X - 1e4) @ RNG.normal(size=(4, 2)) + 5 + RNG.normal(size=(60, 2)) / 100


def test_products_of_merged_parts_are_those_of_all_rows() -> None:
    parts = [regression.of(X[cut], Y[cut]) for cut in (slice(0, 1), slice(1, 20), slice(20, 60))]
    square, across = regression.products(statistics.merge_all(parts, 6), 4)
    np.testing.assert_allclose(square, X.T @ X, rtol=1e-12)
    np.testing.assert_allclose(across, X.T @ Y, rtol=1e-9)


@pytest.mark.parametrize("level", [0.0, 1e4])
def test_with_hardly_a_penalty_it_is_least_squares_however_far_from_0(level: float) -> None:
    weights, intercept = regression.solve(regression.of(X - 1e4 + level, Y), 4, 1e-9)
    expected = np.linalg.lstsq(np.hstack([X - 1e4, np.ones((60, 1))]), Y)[0]
    np.testing.assert_allclose(weights, expected[:4], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(intercept + level * weights.sum(axis=0), expected[4], rtol=1e-6)


def test_a_penalty_makes_weights_smaller_and_equal_features_share_them() -> None:
    twice = np.hstack([X[:, :1], X[:, :1]])
    for penalty in (0.1, 1e6):
        weights, _ = regression.solve(regression.of(twice, Y[:, :1]), 2, penalty)
        assert weights[0] == pytest.approx(weights[1])
    assert abs(weights[0, 0]) < 1e-3

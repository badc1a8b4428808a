"""Limits mean the same for any number of features; T2 is that of a textbook, and nothing makes it fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import gaussian

TABLE = [  # chance, degrees of freedom, chi-square: Abramowitz and Stegun, table 26.8
    (0.05, 1, 3.84146),
    (0.01, 2, 9.21034),
    (0.05, 3, 7.81473),
    (0.001, 8, 26.125),
    (0.01, 10, 23.2093),
    (0.005, 30, 53.6720),
]


@pytest.mark.parametrize(("chance", "features", "square"), TABLE)
def test_chances_are_those_of_the_table(chance: float, features: int, square: float) -> None:
    assert gaussian.beyond(square, features) == pytest.approx(chance, rel=1e-3)


@pytest.mark.parametrize("deviations", [0.5, 1, 3, 3.5, 6, 12, 30])
def test_the_limit_of_one_feature_is_the_square_of_its_deviations(deviations: float) -> None:
    assert gaussian.limit(deviations, 1) == pytest.approx(deviations**2)


@pytest.mark.parametrize("features", [2, 3, 8, 17, 64])
@pytest.mark.parametrize("deviations", [1.0, 3.5, 30.0])
def test_the_limit_of_many_is_as_unlikely_as_that_of_one(deviations: float, features: int) -> None:
    chance = gaussian.beyond(gaussian.limit(deviations, features), features)
    assert chance == pytest.approx(math.erfc(deviations / math.sqrt(2)), rel=1e-6)


def distance(u: list[float], correlation: list[list[float]], there: list[bool]) -> tuple[float, list[float]]:
    square, parts = gaussian.distances(np.array([u]), np.array([correlation]), np.array([there]))
    return float(square[0]), parts[0].tolist()


def test_a_pair_that_breaks_its_correlation_is_far_although_each_is_near() -> None:
    apart, _ = distance([1.5, -1.5], [[1.0, 0.9], [0.9, 1.0]], [True, True])
    together, _ = distance([1.5, 1.5], [[1.0, 0.9], [0.9, 1.0]], [True, True])
    assert apart == pytest.approx(45.0)
    assert together == pytest.approx(2.368, abs=1e-3)


def test_what_is_missing_adds_nothing_and_the_rest_is_as_if_it_had_never_been() -> None:
    square, parts = distance([2.0, 99.0, 1.0], [[1, 0.9, 0.5], [0.9, 1, 0], [0.5, 0, 1]], [True, False, True])
    alone, _ = distance([2.0, 1.0], [[1, 0.5], [0.5, 1]], [True, True])
    assert square == pytest.approx(alone)
    assert parts[1] == 0
    assert sum(parts) == pytest.approx(square)
    assert distance([2.0, 1.0], [[1, 0.5], [0.5, 1]], [False, False]) == (0.0, [0.0, 0.0])


def test_equal_constant_and_opposite_features_have_a_regular_correlation() -> None:
    x = np.random.default_rng(7).normal(size=50)
    covariance = np.cov(np.array([x, x, -x, np.zeros(50)]))[None]
    deviation = gaussian.deviations(np.zeros((1, 4)), np.diagonal(covariance[0])[None])
    correlation = gaussian.correlations(covariance, deviation)
    assert np.linalg.eigvalsh(correlation[0]).min() >= gaussian.RIDGE * 0.99


matrices = st.lists(st.floats(-1e300, 1e300), min_size=9, max_size=9)


@settings(max_examples=100, deadline=None)
@given(matrices)
def test_a_strangers_correlation_is_made_regular(numbers: list[float]) -> None:
    half = np.array(numbers).reshape(3, 3) / 2
    repaired = gaussian.repair(half + half.T)
    assert np.linalg.eigvalsh(repaired).min() >= gaussian.RIDGE * 0.99
    square, _ = gaussian.distances(np.full((1, 3), 1e9), repaired[None], np.ones((1, 3), bool))
    assert np.isfinite(square).all()


def test_a_value_beyond_all_measure_is_far_and_no_more() -> None:
    assert gaussian.standardise(np.array([[1e150, -1e150]]), np.array([[1e-12, 1.0]])).tolist() == [[1e9, -1e9]]


def test_a_deviation_is_never_smaller_than_what_float32_can_tell() -> None:
    assert gaussian.deviations(np.array([1e6, 0.0]), np.zeros(2)).tolist() == pytest.approx([1.0, 1e-12])

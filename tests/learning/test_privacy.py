"""The ledger is that of dp-accounting, the noise is as large as it says, and the budget ends a training."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest

from learning import privacy
from learning.aggregation import Admitted
from learning.privacy import Ledger, Privacy

DELTA = 1e-5
TABLE = [(0.3, 20), (0.7, 1), (1.0, 1), (1.0, 20), (2.0, 20), (5.0, 100), (10.0, 20), (50.0, 3)]
"""Noise, and releases."""


def ledger(noise: float, releases: int) -> Ledger:
    return Ledger(releases / (2 * noise**2), releases)


def admitted(vectors: list[list[float]]) -> Admitted:
    rows = np.array(vectors, np.float32)
    return Admitted(tuple(map(str, range(len(rows)))), rows, np.ones(len(rows)), np.linalg.norm(rows, axis=1))


def oracle() -> Any:
    """The library dp-accounting, or the reason why there is nothing to compare with."""
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed: it comes with the extra `dev`")
    return importlib.import_module("dp_accounting")


@pytest.mark.parametrize(("noise", "releases"), TABLE)
def test_epsilon_is_that_of_dp_accounting(noise: float, releases: int) -> None:
    accounting = oracle()
    rdp = importlib.import_module("dp_accounting.rdp")
    accountant = rdp.RdpAccountant(np.concatenate([1 + np.logspace(-1.9, 3, 2000)]))
    accountant.compose(accounting.GaussianDpEvent(noise), releases)
    ours = privacy.epsilon(ledger(noise, releases), DELTA)
    assert ours == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-3)
    exact = accounting.get_epsilon_gaussian(noise / math.sqrt(releases), DELTA)
    assert exact <= ours < 1.3 * exact + 0.1


@pytest.mark.parametrize(("noise", "releases"), TABLE)
def test_epsilon_is_at_most_that_of_the_simple_formula(noise: float, releases: int) -> None:
    """Bun and Steinke, proposition 1.3."""
    rho = releases / (2 * noise**2)
    assert 0 < privacy.epsilon(ledger(noise, releases), DELTA) <= rho + 2 * math.sqrt(rho * math.log(1 / DELTA))


def test_nothing_released_is_nothing_spent() -> None:
    assert privacy.epsilon(Ledger(), DELTA) == 0


def test_a_release_is_the_clipped_sum_over_the_goal_with_noise_of_its_size() -> None:
    how = Privacy(clip=1.0, noise=0.5, epsilon=1e9)
    updates = admitted([[30.0, 0, 0], [30.0, 0, 0], [30.0, 0, 0], [0, 0.5, 0]])
    chance = np.random.default_rng(7)
    means = [privacy.release(updates, 5, how, Ledger(), chance).mean for _ in range(1000)]
    assert all(mean is not None and mean.dtype == np.float32 for mean in means)
    drawn = np.array(means)
    assert drawn.mean(axis=0) == pytest.approx([0.6, 0.1, 0], abs=0.015)
    assert drawn.std(axis=0) == pytest.approx(0.1, rel=0.1)


def test_a_training_ends_when_its_budget_is_spent() -> None:
    how = Privacy(clip=1.0, noise=2.0, epsilon=8.0)
    spent, made = Ledger(), 0
    while (done := privacy.release(admitted([[1, 0]]), 1, how, spent, np.random.default_rng(made))).mean is not None:
        spent, made = done.ledger, made + 1
    assert made == spent.releases == privacy.releases(how) == 9
    assert done.ledger == spent
    assert privacy.epsilon(spent, how.delta) <= 8.0 < privacy.epsilon(privacy.charged(how, spent), how.delta)


def test_an_update_that_may_have_been_any_other_costs_as_much_as_half_the_noise() -> None:
    exchanged = Privacy(clip=1.0, noise=3.0, epsilon=8.0, moves=privacy.EXCHANGED)
    there_or_not = Privacy(clip=1.0, noise=1.5, epsilon=8.0)
    assert privacy.charged(exchanged, Ledger()) == privacy.charged(there_or_not, Ledger()) == Ledger(2 / 9, 1)
    assert privacy.releases(exchanged) == privacy.releases(there_or_not) > 0


def test_what_is_left_of_a_budget_is_what_it_covers_less_what_was_released() -> None:
    how = Privacy(clip=1.0, noise=2.0, epsilon=8.0)
    assert [privacy.releases(how, ledger(2.0, made)) for made in (0, 1, 8, 9, 100)] == [9, 8, 1, 0, 0]


@pytest.mark.parametrize("noise", [0.0, -1.0])
def test_without_noise_nothing_is_released(noise: float) -> None:
    how = Privacy(clip=1.0, noise=noise, epsilon=1e9)
    assert privacy.release(admitted([[1, 0]]), 1, how, Ledger(), np.random.default_rng(7)) == (None, Ledger())
    assert privacy.releases(how) == 0


@pytest.mark.parametrize(("gateways", "warned"), [(1, True), (10, True), (99, True), (100, False), (1000, False)])
def test_few_gateways_are_warned_about(gateways: int, warned: bool) -> None:
    said = privacy.warning(gateways, Privacy(1.0, 10.0, 2.0))
    assert bool(said) is warned
    assert not warned or f"{gateways} gateways" in said

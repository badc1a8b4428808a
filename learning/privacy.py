"""Differential privacy of gateways: clipped updates, Gaussian noise on their sum, and a ledger of what was spent.

    release = (sum of vectors, each shortened to `clip`, + N(0, (noise clip)^2 I)) / goal

How many updates there are may be known; what one gateway's say is hidden. So a release is the Gaussian mechanism, of
sensitivity `moves` times `clip`, with rho = moves^2 / (2 noise^2) of zero-concentrated privacy: `moves` is 1 where a
gateway is there or not and nobody takes its place, 2 where its update may have been any other. No gateway is hidden by
being left out by chance (no subsampling): each is charged with each release. rho adds up, also where what comes later
depends on what was released (Bun and Steinke, 2016, propositions 1.6 and 1.7). That is Renyi privacy of every order a:
(a, a rho), from which

    epsilon = min over a > 1 of  a rho + log(1 - 1/a) - log(a delta) / (a - 1)

(Canonne, Kamath and Steinke, "The discrete Gaussian", 2020, proposition 12). The tests check it against dp-accounting.

Rules: `goal` is fixed before the round, or the number of gateways would leak; a release that the budget does not cover
is not made; the generator is seeded by the operating system. What stays open: noise is float64, not discrete, and
whoever runs the cloud sees the updates before it is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from learning.aggregation import Admitted
from learning.aggregation import clip as shorten
from learning.parameters import Flat

FEWEST = 100
"""With fewer gateways than this the noise that protects one drowns what all have learnt."""

EXCHANGED = 2.0
"""How far one gateway moves a sum, in times of `clip`, if its update is exchanged for any other."""

_ORDERS = 1 + np.logspace(-4, 8, 6001)


@dataclass(frozen=True, slots=True)
class Privacy:
    """The longest update, the noise in times of it, and the budget: epsilon at delta, over a whole training."""

    clip: float
    noise: float
    epsilon: float
    delta: float = 1e-5
    moves: float = 1.0

    @property
    def rho(self) -> float:
        """What one release costs."""
        return self.moves**2 / (2 * self.noise**2)


class Ledger(NamedTuple):
    """What a training has spent so far; rho adds up over its releases."""

    rho: float = 0.0
    releases: int = 0


class Release(NamedTuple):
    """The mean with its noise, shape (size,), or None where the budget would be overspent; the ledger after it."""

    mean: Flat | None
    ledger: Ledger


def release(admitted: Admitted, goal: int, how: Privacy, ledger: Ledger, rng: Generator) -> Release:
    """Give the noisy mean of updates for a goal fixed before the round, and charge the ledger; each counts the same."""
    if not affordable(how, ledger):
        return Release(None, ledger)
    total = shorten(admitted, how.clip).vectors.sum(axis=0, dtype=np.float64)
    noise = rng.normal(0.0, how.noise * how.clip, total.shape)
    return Release(((total + noise) / goal).astype(np.float32), charged(how, ledger))


def charged(how: Privacy, ledger: Ledger) -> Ledger:
    """Give the ledger after one more release."""
    return Ledger(ledger.rho + how.rho, ledger.releases + 1)


def affordable(how: Privacy, ledger: Ledger) -> bool:
    """Whether one more release stays within the budget; never without noise."""
    return how.noise > 0 and epsilon(charged(how, ledger), how.delta) <= how.epsilon


def epsilon(ledger: Ledger, delta: float) -> float:
    """Give what has been spent: epsilon at delta, 0 before the first release."""
    if not ledger.rho:
        return 0.0
    bounds = _ORDERS * ledger.rho + np.log1p(-1 / _ORDERS) - np.log(_ORDERS * delta) / (_ORDERS - 1)
    return max(float(bounds.min()), 0.0)


@lru_cache(maxsize=64)
def releases(how: Privacy, ledger: Ledger | None = None) -> int:
    """Give how many more releases the budget covers after those of a ledger."""
    before = ledger or Ledger()
    if not how.noise > 0:
        return 0

    def inside(count: int) -> bool:
        return epsilon(Ledger(before.rho + count * how.rho), how.delta) <= how.epsilon

    covered, beyond = 0, 1
    while inside(beyond) and beyond < 1 << 40:
        covered, beyond = beyond, 2 * beyond
    while beyond - covered > 1:
        middle = (covered + beyond) // 2
        covered, beyond = (middle, beyond) if inside(middle) else (covered, middle)
    return covered


def warning(gateways: int, how: Privacy) -> str:
    """Say what an operator should know before a training, or nothing."""
    if not 0 < gateways < FEWEST:
        return ""
    return (
        f"{gateways} gateways, fewer than {FEWEST}: noise on each number of their mean is {how.noise / gateways:.2g} "
        f"times the length of one update, to be private within epsilon {how.epsilon:g}; expect a poor model"
    )

"""How far a vector is from what was learnt: T2, and MEWMA, which is T2 of a smoothed vector.

    T2 = u' R^-1 u for the standardised u and the correlation R       (Hotelling, 1947; `learning.gaussian` has limits)
    z_i = s u_i + (1 - s) z_{i-1};  MEWMA_i = z_i' R^-1 z_i / v_i,  v_i = s / (2 - s) (1 - (1 - s)^2i)
                                                                     (Lowry, Woodall, Champ and Rigdon, 1992)

T2 sees a jump at once, MEWMA a small lasting shift. Both are best learnt where they run: on valve data, means and
covariances of 16 gateways together gave F1 0.593 against 0.755. R is far from singular, as correlations are drawn to 0
by `gaussian.RIDGE`: so parameters may be float32.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from learning import gaussian, statistics
from learning.models.contract import Batch, Held
from learning.parameters import Array, Tensor, flatten
from learning.statistics import Statistics, Vector

BLOCK = 64
"""Rows smoothed by one product of matrices."""


class Distance(Held):
    """Parameters: mean (d,), deviation (d,) and correlation (d, d). Predicts T2, which is d in the mean when normal."""

    def __init__(self, features: int) -> None:
        shapes = {"mean": (features,), "deviation": (features,), "correlation": (features, features)}
        layout = tuple(Tensor(name, shape, "float64") for name, shape in shapes.items())
        start = {"mean": np.zeros(features), "deviation": np.ones(features), "correlation": np.eye(features)}
        super().__init__(layout, flatten(layout, start))

    def set(self, vector: Array) -> None:
        """Take parameters; ModelRefused("content") for what is not of the layout, or not finite."""
        super().set(vector)
        given = self.parts["correlation"]
        self._regular = gaussian.repair(np.clip((given + given.T) / 2, -1, 1))
        self._deviation = np.maximum(np.abs(self.parts["deviation"]), gaussian.TINY)

    def fit(self, batch: Batch, rng: Generator) -> None:  # noqa: ARG002  # the contract has it; nothing is by chance
        """Take mean and covariance of this batch."""
        self.learn(statistics.of(batch.x.astype(np.float64)))

    def learn(self, merged: Statistics) -> None:
        """Take mean and covariance of all that was merged; ModelRefused("content") if they are not finite."""
        covariance = statistics.covariance(merged)
        deviation = gaussian.deviations(merged.mean, np.diagonal(covariance))
        correlation = gaussian.correlations(covariance[None], deviation[None])[0]
        parts = {"mean": merged.mean, "deviation": deviation, "correlation": correlation}
        self.set(flatten(self.layout, parts))

    def predict(self, x: Array) -> Array:
        """Give T2 of each vector, (n,)."""
        return self._square(self._standard(x))

    def loss(self, batch: Batch) -> float:
        """Give the mean of -log of the normal density, less its constant."""
        scale = float(np.log(self._deviation).sum() + np.linalg.slogdet(self._regular)[1] / 2)
        return float(self._square(self._standard(batch.x)).mean() / 2) + scale

    def _standard(self, x: Array) -> Vector:
        return gaussian.standardise(x - self.parts["mean"], self._deviation)

    def _square(self, standard: Vector) -> Vector:
        parts = standard * np.linalg.solve(self._regular, standard.T).T
        return np.asarray(np.maximum(parts.sum(axis=1), 0))


class Smoothed(Distance):
    """MEWMA: parameters as Distance; `share` is what a new vector counts, 1 is T2. Smoothing begins with the batch."""

    def __init__(self, features: int, *, share: float = 0.2) -> None:
        self.share = share
        super().__init__(features)

    def predict(self, x: Array) -> Array:
        """Give MEWMA after each vector, (n,), the first being the oldest."""
        smooth = smoothed(self._standard(x), self.share)
        kept = (1 - self.share) ** (2 * np.arange(1, len(x) + 1))
        return self._square(smooth) / (self.share / (2 - self.share) * (1 - kept))


def smoothed(rows: Vector, share: float) -> Vector:
    """Give the exponentially weighted mean after each row, shape (n, d), beginning at 0."""
    powers = np.arange(BLOCK)[:, None] - np.arange(BLOCK)
    weights = np.where(powers >= 0, share * (1 - share) ** np.maximum(powers, 0), 0.0)
    fading = (1 - share) ** np.arange(1, BLOCK + 1)
    out = np.empty_like(rows)
    last = np.zeros(rows.shape[1])
    for at in range(0, len(rows), BLOCK):
        part = rows[at : at + BLOCK]
        size = len(part)
        out[at : at + size] = weights[:size, :size] @ part + fading[:size, None] * last
        last = out[at + size - 1]
    return out

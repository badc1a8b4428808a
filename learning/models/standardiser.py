"""Each feature in its own deviations: (x - mean) / deviation. Learnt in one step, and exactly so from a fleet.

Every model that descends wants its features so. Over a fleet, `learn` from the merged spreads of all gateways
(`learning.spread`): averaging deviations instead would forget how far the gateways are apart.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from learning import spread
from learning.gaussian import TINY, deviations, standardise
from learning.models.contract import Batch, Held
from learning.parameters import Array, Tensor, flatten
from learning.spread import Spread


class Standardiser(Held):
    """Parameters: mean (d,) and deviation (d,) of d features."""

    def __init__(self, features: int) -> None:
        layout = (Tensor("mean", (features,), "float64"), Tensor("deviation", (features,), "float64"))
        super().__init__(layout, np.repeat([np.float32(0), np.float32(1)], features))

    def fit(self, batch: Batch, rng: Generator) -> None:  # noqa: ARG002  # the contract has it; nothing is by chance
        """Take mean and deviation of this batch."""
        self.learn(spread.of(batch.x))

    def learn(self, merged: Spread) -> None:
        """Take mean and deviation of all that was merged; ModelRefused("content") if they are not finite."""
        deviation = deviations(merged.mean, spread.variance(merged))
        self.set(flatten(self.layout, {"mean": merged.mean, "deviation": deviation}))

    def predict(self, x: Array) -> Array:
        """Give standardised vectors, (n, d) float32."""
        scale = np.maximum(np.abs(self.parts["deviation"]), TINY)
        return standardise(x - self.parts["mean"], scale).astype(np.float32)

    def original(self, x: Array) -> Array:
        """Give vectors, (n, d) float64, of what `predict` made of them."""
        return x * np.maximum(np.abs(self.parts["deviation"]), TINY) + self.parts["mean"]

    def loss(self, batch: Batch) -> float:
        """Give the mean over rows and features of -log of the normal density, less its constant."""
        scale = np.maximum(np.abs(self.parts["deviation"]), TINY)
        apart = self.predict(batch.x).astype(np.float64)
        return float((apart**2 / 2).mean() + np.log(scale).mean())

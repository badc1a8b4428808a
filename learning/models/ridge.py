"""Ridge regression: linear, with a penalty on the weights (Hoerl and Kennard, 1970). One step, no tuning.

    W = (X'X + penalty I)^-1 X'Y over centred X and Y;  intercept = mean(Y) - mean(X) W

X'X and X'Y are blocks of the scatter of the joined vectors (x, y), which merge exactly (`learning.regression`): so over
a fleet, `learn` from the merged statistics gives the same weights as all rows in one place would.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from learning import regression
from learning.models.contract import Batch, Held
from learning.parameters import Array, Tensor, flatten
from learning.statistics import Statistics


class Ridge(Held):
    """Parameters: weights (d, t) and intercept (t,), from d features to t targets."""

    def __init__(self, features: int, targets: int = 1, *, penalty: float = 1.0) -> None:
        self.penalty = penalty
        super().__init__(
            (Tensor("weights", (features, targets), "float64"), Tensor("intercept", (targets,), "float64"))
        )

    def fit(self, batch: Batch, rng: Generator) -> None:  # noqa: ARG002  # the contract has it; nothing is by chance
        """Take what is best for this batch; its targets are (n, t), or (n,) where t is 1."""
        self.learn(regression.of(batch.x, self._targets(batch)))

    def learn(self, merged: Statistics) -> None:
        """Take what is best for all rows that were merged; ModelRefused("content") if it is not finite."""
        weights, intercept = regression.solve(merged, len(self.parts["weights"]), self.penalty)
        self.set(flatten(self.layout, {"weights": weights, "intercept": intercept}))

    def predict(self, x: Array) -> Array:
        """Give targets, (n, t)."""
        return np.asarray(x @ self.parts["weights"] + self.parts["intercept"])

    def loss(self, batch: Batch) -> float:
        """Give half the square error in the mean of the rows, and the penalty's share of a row."""
        apart = self.predict(batch.x) - self._targets(batch)
        return float(((apart**2).sum() + self.penalty * (self.parts["weights"] ** 2).sum()) / (2 * len(apart)))

    def _targets(self, batch: Batch) -> Array:
        assert batch.y is not None, "this model learns from targets"
        return batch.y.reshape(len(batch.x), -1)

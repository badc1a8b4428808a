"""Softmax regression: multinomial logistic regression by stochastic gradient descent.

    p = softmax(x W + b);  loss = mean of -log p[y] + penalty / 2 |W|^2;  d loss / d(x W + b) = (p - onehot(y)) / n

(Bishop, "Pattern recognition and machine learning", 4.3.4.) On ten people's movements it is as good as a perceptron at
a tenth of its bytes: begin with it.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from learning.models.contract import Batch, Held, labels
from learning.models.descent import Descent, descend
from learning.parameters import Array, Tensor, unflatten


class Softmax(Held):
    """Parameters: weights (d, k) and bias (k,), from d features, best standardised, to k classes."""

    def __init__(self, features: int, classes: int, *, penalty: float = 0.0, how: Descent | None = None) -> None:
        self.penalty, self.how = penalty, how or Descent()
        super().__init__((Tensor("weights", (features, classes)), Tensor("bias", (classes,))))

    def fit(self, batch: Batch, rng: Generator) -> None:
        """Descend from where the parameters stand."""
        self.set(descend(self.layout, self.vector, self.gradient, batch, rng, how=self.how))

    def predict(self, x: Array) -> Array:
        """Give the probability of each class, (n, k)."""
        return probabilities(x.astype(np.float64) @ self.parts["weights"] + self.parts["bias"])

    def loss(self, batch: Batch) -> float:
        """Give the cross entropy and the penalty."""
        return self.gradient(self.vector.astype(np.float64), batch)[0]

    def gradient(self, vector: Array, batch: Batch) -> tuple[float, Array]:
        """Give the loss at a vector, and its gradient, flat and in the vector's dtype."""
        parts = unflatten(self.layout, vector)
        slope = np.empty_like(vector)
        into = unflatten(self.layout, slope)
        loss, wrong = cross_entropy(batch.x @ parts["weights"] + parts["bias"], labels(batch))
        into["weights"][:] = batch.x.T @ wrong + self.penalty * parts["weights"]
        into["bias"][:] = wrong.sum(axis=0)
        return loss + self.penalty / 2 * float((parts["weights"] ** 2).sum()), slope


def probabilities(scores: Array) -> Array:
    """Give softmax of scores, (n, k), which may be as large as they like."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = raised / raised.sum(axis=1, keepdims=True)
    return shares


def cross_entropy(scores: Array, classes: Array) -> tuple[float, Array]:
    """Give the mean of -log p[class], and its gradient by the scores, (n, k)."""
    low = scores - scores.max(axis=1, keepdims=True)
    logs = low - np.log(np.exp(low).sum(axis=1, keepdims=True))
    rows = np.arange(len(scores))
    wrong = np.exp(logs)
    wrong[rows, classes] -= 1
    return float(-logs[rows, classes].mean()), wrong / len(scores)

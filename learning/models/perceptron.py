"""A multilayer perceptron with one hidden layer, for classes: backpropagation written out.

    h = max(0, x W1 + b1);  p = softmax(h W2 + b2);  loss = mean of -log p[y] + penalty / 2 (|W1|^2 + |W2|^2)

(Rumelhart, Hinton and Williams, 1986.) It begins with weights of variance 2 / inputs (He et al., 2015), as averaging
wants one beginning for all. A personal head is `how=Descent(only=HEAD)`.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from learning.models.contract import Batch, Held, labels
from learning.models.descent import Descent, descend
from learning.models.softmax import cross_entropy, probabilities
from learning.parameters import Array, Tensor, flatten, unflatten

HEAD = ("out", "out_bias")
"""The tensors behind the hidden layer."""


class Perceptron(Held):
    """Parameters: into (d, hidden), into_bias, out (hidden, k), out_bias; from d features, best standardised."""

    def __init__(
        self,
        features: int,
        hidden: int,
        classes: int,
        rng: Generator,
        *,
        penalty: float = 0.0,
        how: Descent | None = None,
    ) -> None:
        self.penalty, self.how = penalty, how or Descent()
        layout = (
            *(Tensor("into", (features, hidden)), Tensor("into_bias", (hidden,))),
            *(Tensor("out", (hidden, classes)), Tensor("out_bias", (classes,))),
        )
        super().__init__(layout, flatten(layout, {tensor.name: beginning(tensor, rng) for tensor in layout}))

    def fit(self, batch: Batch, rng: Generator) -> None:
        """Descend from where the parameters stand."""
        self.set(descend(self.layout, self.vector, self.gradient, batch, rng, how=self.how))

    def predict(self, x: Array) -> Array:
        """Give the probability of each class, (n, k)."""
        hidden = np.maximum(x.astype(np.float64) @ self.parts["into"] + self.parts["into_bias"], 0)
        return probabilities(hidden @ self.parts["out"] + self.parts["out_bias"])

    def loss(self, batch: Batch) -> float:
        """Give the cross entropy and the penalty."""
        return self.gradient(self.vector.astype(np.float64), batch)[0]

    def gradient(self, vector: Array, batch: Batch) -> tuple[float, Array]:
        """Give the loss at a vector, and its gradient, flat and in the vector's dtype."""
        parts = unflatten(self.layout, vector)
        slope = np.empty_like(vector)
        into = unflatten(self.layout, slope)
        hidden = np.maximum(batch.x @ parts["into"] + parts["into_bias"], 0)
        loss, wrong = cross_entropy(hidden @ parts["out"] + parts["out_bias"], labels(batch))
        into["out"][:] = hidden.T @ wrong + self.penalty * parts["out"]
        into["out_bias"][:] = wrong.sum(axis=0)
        back = (wrong @ parts["out"].T) * (hidden > 0)
        into["into"][:] = batch.x.T @ back + self.penalty * parts["into"]
        into["into_bias"][:] = back.sum(axis=0)
        squares = float((parts["into"] ** 2).sum() + (parts["out"] ** 2).sum())
        return loss + self.penalty / 2 * squares, slope


def beginning(tensor: Tensor, rng: Generator) -> Array:
    """Give weights to begin with: by chance for a matrix, 0 for a bias."""
    if len(tensor.shape) < 2:
        return np.zeros(tensor.shape)
    return rng.normal(0, np.sqrt(2 / tensor.shape[0]), tensor.shape)

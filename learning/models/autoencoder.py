"""A dense autoencoder: how badly a narrow network reproduces a vector tells how unlike it is to what was learnt.

    a = tanh(x W1 + b1), code = tanh(a W2 + b2), c = tanh(code W3 + b3), back = c W4 + b4;  error = mean of (back - x)^2

d-wide-narrow-wide-d (Hinton and Salakhutdinov, 2006). On valve data T2 is better (F1 0.755 against 0.662) for one
matrix: this is for vectors whose normal states lie on a bend.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from learning.models.contract import Batch, Held
from learning.models.descent import Descent, descend
from learning.models.perceptron import beginning
from learning.parameters import Array, Tensor, flatten, unflatten

LAYERS = ("into", "narrow", "wide", "back")


class Autoencoder(Held):
    """Parameters: for each of LAYERS a matrix and its bias; d features, best standardised."""

    def __init__(self, features: int, wide: int, narrow: int, rng: Generator, *, how: Descent | None = None) -> None:
        self.how = how or Descent()
        widths = (features, wide, narrow, wide, features)
        shapes = list(zip(LAYERS, widths, widths[1:], strict=False))
        layout = tuple(
            tensor
            for name, before, after in shapes
            for tensor in (Tensor(name, (before, after)), Tensor(f"{name}_bias", (after,)))
        )
        half = {tensor.name: beginning(tensor, rng) / np.sqrt(2) for tensor in layout}  # variance 1 / inputs, for tanh
        super().__init__(layout, flatten(layout, half))

    def fit(self, batch: Batch, rng: Generator) -> None:
        """Descend from where the parameters stand."""
        self.set(descend(self.layout, self.vector, self.gradient, batch, rng, how=self.how))

    def predict(self, x: Array) -> Array:
        """Give the square error of each vector in the mean of its features, (n,)."""
        wide = x.astype(np.float64)
        return np.asarray(((_forward(self.parts, wide)[-1] - wide) ** 2).mean(axis=1))

    def loss(self, batch: Batch) -> float:
        """Give the square error in the mean of rows and features."""
        return float(self.predict(batch.x).mean())

    def gradient(self, vector: Array, batch: Batch) -> tuple[float, Array]:
        """Give the loss at a vector, and its gradient, flat and in the vector's dtype."""
        parts = unflatten(self.layout, vector)
        slope = np.empty_like(vector)
        into = unflatten(self.layout, slope)
        values = _forward(parts, batch.x)
        apart = values[-1] - batch.x
        wrong = 2 * apart / apart.size
        for name, before in zip(reversed(LAYERS), reversed(values[:-1]), strict=True):
            into[name][:] = before.T @ wrong
            into[f"{name}_bias"][:] = wrong.sum(axis=0)
            wrong = (wrong @ parts[name].T) * (1 - before**2)
        return float((apart**2).mean()), slope


def _forward(parts: dict[str, Array], x: Array) -> list[Array]:
    """Give what goes into each layer, and what comes out of the last."""
    values = [x]
    for name in LAYERS:
        sums = values[-1] @ parts[name] + parts[f"{name}_bias"]
        values.append(sums if name == LAYERS[-1] else np.tanh(sums))
    return values

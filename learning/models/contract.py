"""What every model keeps, and what it may count on.

Rules:

1. A model predicts before it has learnt, and after any vector that `set` takes: what it gives is finite.
2. `get` gives a vector of its own; `set(get())` changes nothing; `set` refuses what is not of its layout.
3. `fit` changes the model alone, never the batch; the same batch, vector and generator give the same vector.
4. Rows of a batch are in the order of time.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from learning.parameters import Array, Flat, Layout, checked, size_of, unflatten


class Batch(NamedTuple):
    """Vectors, shape (n, d), and what belongs to each: class (n,) int, or targets (n, t) float, or None."""

    x: Array
    y: Array | None = None

    def rows(self, which: Any) -> Batch:
        """Give some of the rows."""
        return Batch(self.x[which], None if self.y is None else self.y[which])


class Model(Protocol):
    """Something that learns: a vector of parameters, and what it makes of vectors of features."""

    @property
    def layout(self) -> Layout:
        """What the vector is made of."""

    def get(self) -> Flat:
        """Give the parameters."""

    def set(self, vector: Array) -> None:
        """Take parameters; ModelRefused("content") for what is not of the layout, or not finite."""

    def fit(self, batch: Batch, rng: Generator) -> None:
        """Learn from a batch of at least one row, beginning where the parameters stand."""

    def predict(self, x: Array) -> Array:
        """Give for each vector what the model says of it: (n,) or (n, k), finite."""

    def loss(self, batch: Batch) -> float:
        """Give what `fit` makes smaller, in the mean of the rows."""


class Held:
    """The part of the contract that is the same for all: the vector, and views into it by name."""

    def __init__(self, layout: Layout, vector: Flat | None = None) -> None:
        self.layout = layout
        self.vector: Flat = np.zeros(size_of(layout), np.float32)
        self.set(self.vector if vector is None else vector)

    def get(self) -> Flat:
        """Give the parameters: shape (size,), a copy."""
        return self.vector.copy()

    def set(self, vector: Array) -> None:
        """Take parameters; ModelRefused("content") for what is not of the layout, or not finite."""
        self.vector = checked(self.layout, vector)
        self.parts = unflatten(self.layout, self.vector)


def labels(batch: Batch) -> NDArray[np.intp]:
    """Give the classes of a batch that has them."""
    assert batch.y is not None, "this model learns from labels"
    return np.asarray(batch.y, np.intp)


def accuracy(model: Model, batch: Batch) -> float:
    """Give the share of rows whose class is the one the model thinks likeliest."""
    return float((model.predict(batch.x).argmax(axis=1) == labels(batch)).mean())

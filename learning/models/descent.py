"""Stochastic gradient descent over a flat vector: how the models without a closed form learn.

    w <- w - rate * (g(w; rows) + proximal * (w - w0))

Momentum is left to the server. `proximal` is FedProx (Li et al., "Federated optimization in heterogeneous networks",
2020), 0 for plain FedAvg: on ten people's data it gained nothing. Five passes in batches of 16 at a rate of 0.1 are
level with all rows in one place after ten rounds there; two passes are a point behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from learning.models.contract import Batch
from learning.parameters import Array, Flat, Layout, where

Gradient = Callable[[Array, Batch], tuple[float, Array]]
"""Of a vector and a batch: the loss, and its gradient in the dtype of the vector."""

STEEPEST = 10.0
"""A gradient longer than this is shortened to it (Pascanu et al., 2013), so that no batch makes a vector infinite."""


@dataclass(frozen=True, slots=True)
class Descent:
    """How to descend; `only` names the tensors that learn (a personal head), all without a name."""

    epochs: int = 5
    rate: float = 0.1
    rows: int = 16
    proximal: float = 0.0
    only: tuple[str, ...] = ()


def descend(layout: Layout, start: Flat, gradient: Gradient, batch: Batch, rng: Generator, *, how: Descent) -> Flat:
    """Give the vector after `how.epochs` passes over the batch, each in an order of its own."""
    vector = start.copy()
    learns = where(layout, how.only).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite in the end is refused by `set`
        for _ in range(how.epochs):
            mixed = batch.rows(rng.permutation(len(batch.x)))
            for at in range(0, len(mixed.x), how.rows):
                _, slope = gradient(vector, mixed.rows(slice(at, at + how.rows)))
                if how.proximal:
                    slope += how.proximal * (vector - start)
                if how.only:
                    slope *= learns
                length = math.sqrt(np.vdot(slope, slope))
                slope *= how.rate * STEEPEST / max(length, STEEPEST)
                vector -= slope
    return vector

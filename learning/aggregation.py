"""Many updates into one, and one step of the global model. Pure functions on flat vectors.

    admit    each update checked: its head, its size, its numbers, its norm; what is refused comes back with the reason
    clip     longer ones are shortened to the median norm: a scaled-up update counts no more than another
    combine  mean, trimmed mean or median (Yin et al., "Byzantine-robust distributed learning", 2018)
    step     sgd with momentum, or adam (`learning.server`)

With two of ten poisoned (labels flipped, scaled by -5) a plain mean falls from 0.91 to 0.58; trimmed, median and
clipping lose a point at most, and nothing when all are honest. Krum was worse in every row.

Rules: whatever the offers are, `admit` gives every one back once, admitted or refused; the order of offers changes a
result by rounding only; inputs are untouched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from learning import reading, updates
from learning.parameters import Flat
from learning.statistics import MAX_COUNT, Vector
from protocol.errors import ModelRefused

Rule = Literal["mean", "trimmed", "median"]
RULES: tuple[Rule, ...] = get_args(Rule)

Rows = NDArray[np.float32]

TRIM = 0.2
"""How much is cut from each end: 2 of 10 poisoned are cut off whole."""

HEAVIEST = 10.0
"""An update weighs at most so many times the median: what a gateway says of its own data is only its word."""


class Offer(NamedTuple):
    """An update as it came: from whom, over how many windows, its bytes, and how many versions its base is behind."""

    gateway: str
    windows: int
    payload: bytes
    stale: int = 0


class Refused(NamedTuple):
    """An update that is not counted, and why: one word, fit for a counter, and the rest of the sentence."""

    gateway: str
    reason: Literal["update", "windows", "norm", "stale"]
    detail: str


class Admitted(NamedTuple):
    """Updates that count: vectors, shape (k, size), their weights, (k,), above 0, and their norms, (k,)."""

    gateways: tuple[str, ...]
    vectors: Rows
    weights: Vector
    norms: Vector


@dataclass(frozen=True, slots=True)
class Limits:
    """What an update may be."""

    norm: float = 1e4
    stale: int = 10


def admit(offers: Sequence[Offer], size: int, limits: Limits | None = None) -> tuple[Admitted, list[Refused]]:
    """Check offers and decode them, `size` numbers each."""
    vectors: list[Flat] = []
    good: list[tuple[Offer, float]] = []
    refused: list[Refused] = []
    for offer in offers:
        taken = _checked(offer, size, limits or Limits())
        if isinstance(taken, Refused):
            refused.append(taken)
        else:
            vectors.append(taken)
            good.append((offer, reading.norm(taken)))
    rows = np.array(vectors, np.float32).reshape(len(vectors), size)
    norms = np.array([norm for _, norm in good], np.float64)
    return Admitted(
        tuple(offer.gateway for offer, _ in good), rows, _weights(offer for offer, _ in good), norms
    ), refused


def _checked(offer: Offer, size: int, limits: Limits) -> Flat | Refused:
    if not 0 < offer.windows < MAX_COUNT:
        return Refused(offer.gateway, "windows", f"learnt from {offer.windows} windows")
    if not 0 <= offer.stale <= limits.stale:
        return Refused(offer.gateway, "stale", f"{offer.stale} versions behind, at most {limits.stale}")
    try:
        vector = updates.decode(offer.payload, size)
    except ModelRefused as error:
        return Refused(offer.gateway, "update", error.detail)
    if (norm := reading.norm(vector)) > limits.norm:
        return Refused(offer.gateway, "norm", f"of norm {norm:.6g}, at most {limits.norm:.6g}")
    return vector


def _weights(offers: Iterable[Offer]) -> Vector:
    """Give windows, HEAVIEST times the median at most, less the staler (FedBuff: Nguyen et al., 2022)."""
    pairs = np.array([(offer.windows, offer.stale) for offer in offers], np.float64).reshape(-1, 2)
    if not len(pairs):
        return np.zeros(0)
    windows, stale = pairs.T
    weights: Vector = np.minimum(windows, HEAVIEST * np.median(windows)) / np.sqrt(1 + stale)
    return weights


def clip(admitted: Admitted, most: float | None = None) -> Admitted:
    """Shorten the vectors that are longer than `most`, or than the median norm without it."""
    if not len(admitted.norms):
        return admitted
    bound = float(np.median(admitted.norms)) if most is None else most
    kept = np.minimum(1.0, bound / np.maximum(admitted.norms, np.finfo(np.float64).tiny))
    vectors = (admitted.vectors * kept[:, None]).astype(np.float32)
    return admitted._replace(vectors=vectors, norms=admitted.norms * kept)


def combine(rule: Rule, admitted: Admitted, *, trim: float = TRIM) -> Flat:
    """Give one vector, shape (size,), for at least one admitted.

    `mean` and `trimmed` weigh; `trimmed` leaves out, number by number, a share of `trim` at each end, rounded up, as
    long as one is left; `median` does not weigh.
    """
    match rule:
        case "mean":
            return _mean(admitted.vectors, admitted.weights[:, None])
        case "median":
            return np.median(admitted.vectors, axis=0).astype(np.float32)
        case "trimmed":
            count = len(admitted.vectors)
            cut = min(math.ceil(trim * count - 1e-9), (count - 1) // 2)
            order = np.argsort(admitted.vectors, axis=0, kind="stable")[cut : count - cut]
            return _mean(np.take_along_axis(admitted.vectors, order, axis=0), admitted.weights[order])


def _mean(rows: Rows, weights: Vector) -> Flat:
    mean = (rows * weights).sum(axis=0) / np.broadcast_to(weights, rows.shape).sum(axis=0)
    return np.asarray(mean, np.float32)

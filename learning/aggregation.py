"""Many updates into one, and one step of the global model. Pure functions on flat vectors.

    admit    each update checked: its head, its size, its numbers, its norm, and that it is no outlier among the others;
             what is refused comes back with the reason
    clip     longer ones are shortened to SLACK times the median norm: a scaled-up update counts little more
    combine  mean, trimmed mean or median (Yin et al., "Byzantine-robust distributed learning", 2018)
    step     stretched, by sgd with momentum, or adam (`learning.server`)

An update's norm betrays that it was scaled (Sun et al., "Can you really backdoor federated learning?", 2019). On ten
people's data honest ones were up to 2.4 times as long as the median one; poisoned ones (labels flipped, scaled by -5)
4.6 times in the first round, and 60 times in the tenth, as who teaches against the others never comes to rest. Their
direction betrays nothing: its cosine to the others' median is above 0. To clip all to the median norm and to trim a
fifth costs a point when all are honest: what few gateways have learnt is cut off too.

Rules: whatever the offers are, `admit` gives every one back once, admitted or refused; the order of offers changes a
result by rounding only; inputs are untouched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
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

TRIM = 0.1
"""How much is cut from each end: of 10 the farthest, in each number. What liars within OUTLIER can do takes more."""

TINY = np.finfo(np.float64).tiny
OUTLIER = 3.0
SLACK = 2.0

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
    reason: Literal["update", "windows", "norm", "stale", "outlier"]
    detail: str


class Admitted(NamedTuple):
    """Updates that count: vectors, shape (k, size), their weights, (k,), above 0, and their norms, (k,)."""

    gateways: tuple[str, ...]
    vectors: Rows
    weights: Vector
    norms: Vector


@dataclass(frozen=True, slots=True)
class Limits:
    """What an update may be; one of the newest version is an outlier if it is `outlier` times as long as the median.

    Of an older version it may be long for that alone: it is only clipped, and weighs less.
    """

    norm: float = 1e4
    stale: int = 10
    outlier: float = OUTLIER


def admit(offers: Sequence[Offer], size: int, limits: Limits | None = None) -> tuple[Admitted, list[Refused]]:
    """Check offers and decode them, `size` numbers each."""
    limits = limits or Limits()
    sound: list[tuple[Offer, Flat]] = []
    refused: list[Refused] = []
    for offer in offers:
        taken = _checked(offer, size, limits)
        if isinstance(taken, Refused):
            refused.append(taken)
        else:
            sound.append((offer, taken))
    norms = np.array([reading.norm(vector) for _, vector in sound], np.float64)
    bound = limits.outlier * max(float(np.median(norms)), TINY) if sound else 0.0
    inside = [offer.stale > 0 or norm <= bound for (offer, _), norm in zip(sound, norms, strict=True)]
    for (offer, _), norm, is_inside in zip(sound, norms, inside, strict=True):
        if not is_inside:
            refused.append(Refused(offer.gateway, "outlier", f"of norm {norm:.6g}, beside others at most {bound:.6g}"))
    good = list(compress(sound, inside))
    rows = np.array([vector for _, vector in good], np.float32).reshape(len(good), size)
    names = tuple(offer.gateway for offer, _ in good)
    return Admitted(names, rows, _weights(offer for offer, _ in good), norms[np.array(inside, np.bool_)]), refused


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
    """Shorten the vectors that are longer than `most`, or than SLACK times the median norm without it."""
    if not len(admitted.norms):
        return admitted
    bound = SLACK * float(np.median(admitted.norms)) if most is None else most
    kept = np.minimum(1.0, bound / np.maximum(admitted.norms, TINY))
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

"""A mergeable sketch of quantiles: DDSketch (Masson, Rim and Lee, VLDB 2019), in bins of a bounded number.

A value v falls in bin sign(v) * ceil(log_g(|v| / TINY)), g = (1 + ERROR) / (1 - ERROR); bin 0 holds those up to TINY.
What is said for a bin is within ERROR of all in it. Of the sketches at hand it is the one whose merge of parts *is* the
sketch of the whole, bit for bit and in any order: t-digest and KLL only promise a like error.

Bound: a quantile is off by at most ERROR of itself, or TINY if that is more. Values beyond LARGE count as LARGE. There
are at most 5,529 bins, 86 KiB, whatever the values; a few hundred for most series.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learning import reading
from learning.parameters import Array
from learning.statistics import MAX_COUNT
from protocol.errors import ModelRefused

ERROR = 0.01
TINY = 1e-12
LARGE = 1e12

_GROWTH = math.log((1 + ERROR) / (1 - ERROR))
LAST = math.ceil(math.log(LARGE / TINY) / _GROWTH)
"""The outermost bin on each side."""


class Quantiles(NamedTuple):
    """Bins that are not empty, shape (b,), ascending, and how many values fell in each."""

    bins: NDArray[np.int64]
    counts: NDArray[np.int64]


def nothing() -> Quantiles:
    """Give the sketch of no values."""
    return Quantiles(np.zeros(0, np.int64), np.zeros(0, np.int64))


def bins_of(values: Array) -> NDArray[np.int64]:
    """Give the bin of each finite value, shape (n,)."""
    size = np.clip(np.abs(values.astype(np.float64)), TINY, LARGE)
    bins = np.minimum(np.ceil(np.log(size / TINY) / _GROWTH), LAST) * np.sign(values)
    return bins.astype(np.int64)


def of(values: Array) -> Quantiles:
    """Give the sketch of finite values, shape (n,)."""
    return Quantiles(*np.unique(bins_of(values), return_counts=True))


def merge(one: Quantiles, other: Quantiles) -> Quantiles:
    """Give the sketch of both together."""
    bins, place = np.unique(np.concatenate([one.bins, other.bins]), return_inverse=True)
    counts = np.zeros(len(bins), np.int64)
    np.add.at(counts, place, np.concatenate([one.counts, other.counts]))
    return Quantiles(bins, counts)


def quantile(sketch: Quantiles, share: float) -> float:
    """Give the value that `share` (0 to 1) of the values are at most, as the lower of two; NaN for a sketch of none."""
    if not len(sketch.bins):
        return math.nan
    rank = math.floor(share * (int(sketch.counts.sum()) - 1))
    at = int(sketch.bins[np.searchsorted(np.cumsum(sketch.counts), rank, side="right")])
    if at == 0:
        return 0.0
    middle = TINY * math.exp(abs(at) * _GROWTH) * (1 - ERROR)
    return math.copysign(middle, at)


def unpack(state: Mapping[str, Any]) -> Quantiles:
    """Read what `_asdict` gave and a State carried; ModelRefused("statistics") if it can be nobody's."""
    bins = reading.array(state, "bins", np.int64, (-1,), "statistics")
    counts = reading.array(state, "counts", np.int64, bins.shape, "statistics")
    if (np.diff(bins) <= 0).any() or ((bins < -LAST) | (bins > LAST)).any():
        raise ModelRefused("statistics", "bins that do not ascend, or are none")
    if (counts < 1).any() or counts.sum(dtype=np.float64) >= MAX_COUNT:
        raise ModelRefused("statistics", "a count that is none")
    return Quantiles(bins, counts)

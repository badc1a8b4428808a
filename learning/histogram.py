"""A mergeable histogram over edges that are agreed on: whole counts, so the merge of parts is the whole, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learning import reading
from learning.parameters import Array
from learning.statistics import MAX_COUNT, Vector
from protocol.errors import ModelRefused

MAX_EDGES = 4096


class Histogram(NamedTuple):
    """Edges, shape (e,), ascending, and counts, (e + 1,): below the first, from each edge on, from the last on."""

    edges: Vector
    counts: NDArray[np.int64]  # values that are no number are in none


def of(values: Array, edges: Vector) -> Histogram:
    """Count values, shape (n,): one that is on an edge is in the bin that begins there."""
    place = np.searchsorted(edges, values[~np.isnan(values)], side="right")
    return Histogram(edges, np.bincount(place, minlength=len(edges) + 1).astype(np.int64))


def merge(one: Histogram, other: Histogram) -> Histogram:
    """Give the histogram of both together; ModelRefused("statistics") if their edges differ."""
    if not np.array_equal(one.edges, other.edges):
        raise ModelRefused("statistics", "histograms over different edges")
    return Histogram(one.edges, one.counts + other.counts)


def unpack(state: Mapping[str, Any]) -> Histogram:
    """Read what `_asdict` gave and a State carried; ModelRefused("statistics") if it can be nobody's."""
    edges = reading.array(state, "edges", np.float64, (-1,), "statistics")
    counts = reading.array(state, "counts", np.int64, (len(edges) + 1,), "statistics")
    if not 0 < len(edges) <= MAX_EDGES or (np.diff(edges) <= 0).any():
        raise ModelRefused("statistics", f"{len(edges)} edges, or they do not ascend")
    if (counts < 0).any() or counts.sum(dtype=np.float64) >= MAX_COUNT:
        raise ModelRefused("statistics", "a count that is none")
    return Histogram(edges, counts)

"""What can be said of each series by itself: count, mean, scatter, least and greatest value; parts of a fleet add up.

Laws (`tests/learning/test_summary.py`): merging is associative and commutative, counts and extremes exactly, moments to
rounding; the merge of the parts of any split is the summary of the whole. Formulas: Chan, Golub and LeVeque, "Updating
formulae and a pairwise algorithm for computing sample variances" (1979).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learning import reading
from protocol.columns import encode_state
from protocol.errors import ModelRefused

SCHEMA = "summary/1"
MAX_SERIES = 1_000_000


class Summary(NamedTuple):
    """Of n series: names sorted, arrays of shape (n,). Non-finite values are left out."""

    names: tuple[str, ...]
    count: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.count, which nobody asks of columns
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]  # sum of (x - mean)^2
    minimum: NDArray[np.float64]  # +inf where count is 0
    maximum: NDArray[np.float64]  # -inf where count is 0


def nothing() -> Summary:
    """Give the summary of no series."""
    empty = np.empty(0)
    return Summary((), np.empty(0, np.int64), empty, empty, empty, empty)


def of_sums(sums: Mapping[str, tuple[int, float, float, float, float]]) -> Summary:
    """Give the summary of series, each (count, mean, scatter, minimum, maximum); without those of no reading."""
    names = tuple(sorted(name for name, (count, *_) in sums.items() if count > 0))
    columns = [np.array([sums[name][number] for name in names], np.float64) for number in range(5)]
    return Summary(names, columns[0].astype(np.int64), *columns[1:])


def merge(one: Summary, other: Summary) -> Summary:
    """Give the summary of both together."""
    if not one.names or not other.names:
        return one if one.names else other
    names = tuple(sorted({*one.names, *other.names}))
    left, right = _spread(one, names), _spread(other, names)
    count = left.count + right.count
    delta = right.mean - left.mean
    share = right.count / np.maximum(count, 1)
    scatter = left.scatter + right.scatter + delta**2 * (left.count * share)
    least, most = np.minimum(left.minimum, right.minimum), np.maximum(left.maximum, right.maximum)
    return Summary(names, count, left.mean + delta * share, scatter, least, most)


def merge_all(parts: Iterable[Summary]) -> Summary:
    """Give the summary of all parts together."""
    merged = nothing()
    for part in parts:
        merged = merge(merged, part)
    return merged


def deviation(summary: Summary) -> NDArray[np.float64]:
    """Give the population standard deviations, shape (n,)."""
    return np.sqrt(summary.scatter / np.maximum(summary.count, 1))


def encode(summary: Summary) -> bytes:
    """Give a summary's bytes."""
    return encode_state({"schema": SCHEMA, **summary._asdict(), "names": list(summary.names)})


def decode(data: bytes) -> Summary:
    """Read a summary; ModelRefused("summary") if it can be nobody's."""
    state = reading.state(data, SCHEMA, "summary")
    names = state.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MAX_SERIES:
        raise ModelRefused("summary", "names of series are missing")
    if names != sorted(set(names)):
        raise ModelRefused("summary", "names are not sorted, or one comes twice")
    size = (len(names),)
    count = reading.array(state, "count", np.int64, size, "summary")
    floats = {key: reading.array(state, key, np.float64, size, "summary") for key in Summary._fields[2:]}
    if (count < 1).any() or (floats["scatter"] < 0).any() or (floats["minimum"] > floats["maximum"]).any():
        raise ModelRefused("summary", "a count below 1, a negative scatter, or a minimum above its maximum")
    return Summary(tuple(names), count, **floats)


def _spread(summary: Summary, names: Sequence[str]) -> Summary:
    """Give the same among more series."""
    places = {name: place for place, name in enumerate(names)}
    at = [places[name] for name in summary.names]

    def wide(column: NDArray[Any], fill: float) -> NDArray[Any]:
        spread = np.full(len(names), fill, column.dtype)
        spread[at] = column
        return spread

    extremes = wide(summary.minimum, np.inf), wide(summary.maximum, -np.inf)
    return Summary(tuple(names), wide(summary.count, 0), wide(summary.mean, 0.0), wide(summary.scatter, 0.0), *extremes)

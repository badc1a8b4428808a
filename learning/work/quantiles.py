"""`quantiles`: of each group, by a sketch whose parts merge to the sketch of the whole, bit for bit.

What it says is within the sketch's bound (`learning.quantiles`): ERROR of the value, or TINY if that is more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from learning import quantiles as sketches
from learning import reading
from learning.quantiles import ERROR, LARGE, LAST, TINY, Quantiles
from learning.work.contract import Batch
from learning.work.groups import By, Groups, finite, merged_names, read_names
from protocol.columns import encode_state
from protocol.errors import ModelRefused

SCHEMA = "quantiles/1"
SPAN = 2 * LAST + 1
"""Bins that a sketch can have."""

GATHERED = 1 << 18
"""Bins, repeats among them, that are held before they are added up."""

Keys = NDArray[np.int64]  # group * SPAN + LAST + bin
Counts = NDArray[np.int64]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which quantiles, and what is told apart."""

    shares: Annotated[tuple[Annotated[float, Meta(ge=0, le=1)], ...], Meta(min_length=1, max_length=1000)] = (
        *(0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0),
    )
    by: By = "series"


class QuantilesWork:
    """See `learning.work.contract`."""

    name = "quantiles"
    version = 1
    params = Params
    raw = False

    def map(self, batches: Iterable[Batch], params: Params) -> bytes:
        """Sketch each group."""
        groups, held = Groups(params.by), _Held()
        for batch in batches:
            of, value = groups.of(batch), batch.value
            if (sound := finite(value)) is not None:
                of, value = of[sound], value[sound]
            held.add(of * SPAN + (LAST + sketches.bins_of(value)))
        names, [at] = merged_names([groups.names])
        keys, counts = held.total()
        return _encode(names, at[keys // SPAN] * SPAN + keys % SPAN, counts)

    def merge(self, parts: Sequence[bytes], params: Params) -> bytes:  # noqa: ARG002 - a part says all
        """Add up the bins."""
        found = [_decode(part) for part in parts]
        names, places = merged_names([names for names, _, _ in found])
        keys = [at[keys // SPAN] * SPAN + keys % SPAN for at, (_, keys, _) in zip(places, found, strict=True)]
        return _encode(names, _joined(keys), _joined([counts for *_, counts in found]))

    def result(self, part: bytes, params: Params) -> dict[str, Any]:
        """Give each group's quantiles, in the order of the shares."""
        names, keys, counts = _decode(part)
        ends = np.searchsorted(keys, np.arange(1, len(names) + 1) * SPAN)
        said = {}
        for name, (begin, end) in zip(names, pairwise([0, *ends.tolist()]), strict=True):
            sketch = Quantiles(keys[begin:end] % SPAN - LAST, counts[begin:end])
            values = [sketches.quantile(sketch, share) for share in params.shares]
            said[name] = {"count": int(sketch.counts.sum()), "values": values}
        return {
            "shares": list(params.shares),
            "groups": said,
            "relative_error": ERROR,
            "smallest": TINY,
            "largest": LARGE,
        }


class _Held:
    """Bins as they come, added up whenever there are many."""

    def __init__(self) -> None:
        self._keys, self._counts = list[Keys](), list[Counts]()
        self._size = self._least = 0

    def add(self, keys: Keys) -> None:
        """Count bins, shape (n,)."""
        bins, counts = np.unique(keys, return_counts=True)
        self._keys.append(bins)
        self._counts.append(counts)
        self._size += len(bins)
        if self._size > max(GATHERED, 2 * self._least):
            self.total()

    def total(self) -> tuple[Keys, Counts]:
        """Give all bins so far, ascending, and how many fell in each."""
        keys, counts = _added(_joined(self._keys), _joined(self._counts))
        self._keys, self._counts = [keys], [counts]
        self._size = self._least = len(keys)
        return keys, counts


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _added(keys: Keys, counts: Counts) -> tuple[Keys, Counts]:
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def _encode(names: list[str], keys: Keys, counts: Counts) -> bytes:
    keys, counts = _added(keys, counts)
    present = np.unique(keys // SPAN)
    kept = [names[number] for number in present.tolist()]
    keys = np.searchsorted(present, keys // SPAN) * SPAN + keys % SPAN
    return encode_state({"schema": SCHEMA, "names": kept, "keys": keys, "counts": counts})


def _decode(part: bytes) -> tuple[list[str], Keys, Counts]:
    state = reading.state(part, SCHEMA, "part")
    names = read_names(state)
    keys = reading.array(state, "keys", np.int64, (-1,), "part")
    counts = reading.array(state, "counts", np.int64, keys.shape, "part")
    if (np.diff(keys) <= 0).any() or (len(keys) and not 0 <= keys[0] <= keys[-1] < len(names) * SPAN):
        raise ModelRefused("part", "bins that do not ascend, or are none")
    if (counts < 1).any() or counts.sum(dtype=np.float64) >= reading.MAX_WEIGHT:
        raise ModelRefused("part", "a count that is none")
    if len(np.unique(keys // SPAN)) != len(names):
        raise ModelRefused("part", "a group without a value")
    return names, keys, counts


quantiles = QuantilesWork()

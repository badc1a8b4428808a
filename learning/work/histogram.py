"""`histogram`: whole counts, so the merge of parts is the whole, exactly. Over edges that are given, or over a grid.

Without edges nobody has to know the range beforehand: bins are as wide as a power of two, the narrowest of which at
most `bins` have a value in them (`learning.grid`). Values that are no finite number are in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from learning import grid, reading
from learning.grid import Grids
from learning.histogram import MAX_EDGES
from learning.work.contract import Batch
from learning.work.groups import By, Groups, finite, gathered, merged_names, read_names
from protocol.columns import encode_state
from protocol.errors import ModelRefused

SCHEMA, EDGED = "histogram/1", "histogram-edges/1"
MAX_CELLS = 1 << 20
"""Groups times bins: 8 MB."""

Counts = NDArray[np.int64]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where bins are, and what is told apart."""

    edges: Annotated[tuple[float, ...], Meta(max_length=MAX_EDGES)] = ()  # ascending; values below and beyond count too
    bins: Annotated[int, Meta(ge=2, le=1024)] = 64  # at most, without edges
    by: By = "series"

    def __post_init__(self) -> None:
        """Refuse edges that are none."""
        if not np.isfinite(self.edges).all() or any(one >= other for one, other in pairwise(self.edges)):
            raise ValueError("`edges` must be finite and ascend")


class HistogramWork:
    """See `learning.work.contract`."""

    name = "histogram"
    version = 1
    params = Params
    raw = False

    def map(self, batches: Iterable[Batch], params: Params) -> bytes:
        """Count the values of each group."""
        groups = Groups(params.by, MAX_CELLS // (len(params.edges) + 1 if params.edges else params.bins))
        rows = ((groups.of(batch), batch.value) for batch in gathered(batches))
        sound = ((of, value) if (which := finite(value)) is None else (of[which], value[which]) for of, value in rows)
        if params.edges:
            return _encode_edged(*_by_edges(groups, sound, np.array(params.edges)))
        held = grid.nothing(0)
        for of, value in sound:
            parts = [held, grid.of(len(groups.names), of, value, params.bins, held.width)]
            places = [np.arange(len(part.width)) for part in parts]
            held = grid.merge(parts, places, len(groups.names), params.bins)
        return _encode(groups.names, held)

    def merge(self, parts: Sequence[bytes], params: Params) -> bytes:
        """Add up the counts."""
        if params.edges:
            read = [_decode_edged(part, len(params.edges)) for part in parts]
            names, places = merged_names([names for names, _ in read])
            total = np.zeros((len(names), len(params.edges) + 1), np.int64)
            for (_, counts), place in zip(read, places, strict=True):
                total[place] += counts
            return _encode_edged(names, total)
        found = [_decode(part, params.bins) for part in parts]
        names, places = merged_names([names for names, _ in found])
        none = grid.nothing(len(names))
        merged = [none, *(grids for _, grids in found)]
        return _encode(names, grid.merge(merged, [np.arange(len(names)), *places], len(names), params.bins))

    def result(self, part: bytes, params: Params) -> dict[str, Any]:
        """Give edges and counts of each group; on a grid only the bins that have a value in them."""
        if params.edges:
            names, counts = _decode_edged(part, len(params.edges))
            said = dict(zip(names, counts.tolist(), strict=True))
            return {"edges": list(params.edges), "groups": said, "exact": True}
        names, grids = _decode(part, params.bins)
        ends = np.cumsum(np.bincount(grids.group, minlength=len(names))).tolist()
        lower = np.ldexp(grids.bin.astype(np.float64), grids.width[grids.group])
        widths = np.ldexp(1.0, grids.width).tolist()
        groups = {
            name: {"width": width, "from": lower[begin:end].tolist(), "counts": grids.count[begin:end].tolist()}
            for name, width, (begin, end) in zip(names, widths, pairwise([0, *ends]), strict=True)
        }
        return {"groups": groups, "exact": True}


def _by_edges(
    groups: Groups, rows: Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]], edges: NDArray[np.float64]
) -> tuple[list[str], Counts]:
    cells, total = len(edges) + 1, np.zeros(0, np.int64)
    for of, value in rows:
        place = of * cells + np.searchsorted(edges, value, side="right")
        counts = np.bincount(place, minlength=len(total))
        counts[: len(total)] += total
        total = counts
    full = np.zeros(len(groups.names) * cells, np.int64)
    full[: len(total)] = total
    names, [at] = merged_names([groups.names])
    return names, full.reshape(-1, cells)[np.argsort(at)]


def _encode_edged(names: list[str], counts: Counts) -> bytes:
    kept = np.flatnonzero(counts.any(axis=1))
    named = [names[number] for number in kept.tolist()]
    return encode_state({"schema": EDGED, "names": named, "counts": counts[kept]})


def _decode_edged(part: bytes, edges: int) -> tuple[list[str], Counts]:
    state = reading.state(part, EDGED, "part")
    names = read_names(state)
    counts = reading.array(state, "counts", np.int64, (len(names), edges + 1), "part")
    if (counts < 0).any() or not counts.any(axis=1).all() or counts.sum(dtype=np.float64) >= reading.MAX_WEIGHT:
        raise ModelRefused("part", "a count that is none, or a group without a value")
    return names, counts


def encode_grids(names: Sequence[str], grids: Grids) -> dict[str, Any]:
    """Give grids as a State's fields, groups sorted by name; those without a value are left out."""
    present = np.unique(grids.group)
    order = sorted(present.tolist(), key=names.__getitem__)
    place = np.full(len(names), -1, np.int64)
    place[order] = np.arange(len(order))
    by = np.lexsort((grids.bin, place[grids.group]))
    columns = {"group": place[grids.group][by], "bin": grids.bin[by], "count": grids.count[by]}
    return {"names": [names[number] for number in order], "width": grids.width[order], **columns}


def decode_grids(state: dict[str, Any], most: int) -> tuple[list[str], Grids]:
    """Read what `encode_grids` gave; ModelRefused("part")."""
    names = read_names(state)
    width = reading.array(state, "width", np.int64, (len(names),), "part")
    group = reading.array(state, "group", np.int64, (-1,), "part")
    number, count = (reading.array(state, key, np.int64, group.shape, "part") for key in ("bin", "count"))
    grids = Grids(width, group, number, count)
    if not grid.are_sound(grids, most):
        raise ModelRefused("part", "a grid that is none")
    return names, grids


def _encode(names: Sequence[str], grids: Grids) -> bytes:
    return encode_state({"schema": SCHEMA, **encode_grids(names, grids)})


def _decode(part: bytes, most: int) -> tuple[list[str], Grids]:
    return decode_grids(reading.state(part, SCHEMA, "part"), most)


histogram = HistogramWork()

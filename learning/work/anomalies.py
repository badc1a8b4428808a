"""`top_anomalies`: the readings that are furthest from the median of their series, in its robust deviations.

    deviation = (value - median) / (1.4826 MAD)        MAD: median of |value - median| (Iglewicz and Hoaglin, 1993)

Where more than half of the values are the same the MAD is 0, and 1.2533 times the mean of |value - median| stands for
the denominator. Median and MAD are those of the whole, not of a part: a part is a grid of each series (`learning.grid`)
and its `most` largest and smallest readings, among which those furthest from any median are. Merging is exact; the
median is within half a bin of the grid, the MAD within one, and the result says how wide they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from learning import grid, reading
from learning.grid import Grids
from learning.work.contract import Batch
from learning.work.groups import Groups, finite, gathered, merged_names
from learning.work.histogram import decode_grids, encode_grids
from protocol.columns import encode_state
from protocol.errors import ModelRefused

SCHEMA = "top_anomalies/1"
BINS = 256
MAX_SERIES = 1000
"""A part holds up to 4 kB of grid for each, and 32 bytes for each of `most`."""

OF_MAD, OF_MEAN = 1.4826, 1.2533
"""What makes a normal distribution's deviation of them."""

Numbers = NDArray[np.int64]
Values = NDArray[np.float64]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many readings are told."""

    most: Annotated[int, Meta(ge=1, le=100)] = 10


class Ends(NamedTuple):
    """Readings, arrays of shape (n,): the largest and the smallest of each group, each (group, time, value) once."""

    group: Numbers
    time: Numbers
    value: Values


class TopAnomalies:
    """See `learning.work.contract`."""

    name = "top_anomalies"
    version = 1
    params = Params
    raw = False  # no more than what windows say of their extremes: at most 2 * `most` of a series

    def map(self, batches: Iterable[Batch], params: Params) -> bytes:
        """Keep a grid and the ends of each series."""
        groups, held, ends = Groups("series", MAX_SERIES), grid.nothing(0), _no_ends()
        for batch in gathered(batches):
            of, time, value = groups.of(batch), batch.time, batch.value
            if (sound := finite(value)) is not None:
                of, time, value = of[sound], time[sound], value[sound]
            size = len(groups.names)
            parts = [held, grid.of(size, of, value, BINS, held.width)]
            held = grid.merge(parts, [np.arange(len(part.width)) for part in parts], size, BINS)
            likely = _likely(ends, of, value, size, params.most)
            ends = _furthest([ends, Ends(of[likely], time[likely], value[likely])], params.most)
        return _encode(groups.names, held, ends)

    def merge(self, parts: Sequence[bytes], params: Params) -> bytes:
        """Add up grids, and keep the ends of the ends."""
        read = [_decode(part) for part in parts]
        names, places = merged_names([names for names, _, _ in read])
        if len(names) > MAX_SERIES:
            raise ModelRefused("part", f"{len(names)} series together, {MAX_SERIES} at most")
        grids = [grid.nothing(len(names)), *(grids for _, grids, _ in read)]
        merged = grid.merge(grids, [np.arange(len(names)), *places], len(names), BINS)
        ends = [ends._replace(group=place[ends.group]) for (_, _, ends), place in zip(read, places, strict=True)]
        return _encode(names, merged, _furthest([_no_ends(), *ends], params.most))

    def result(self, part: bytes, params: Params) -> dict[str, Any]:
        """Give the readings, the furthest first, and each series' median, scale and fineness."""
        names, grids, ends = _decode(part)
        median, scale, width = _centres(grids)
        about = ends.value - median[ends.group]
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(scale[ends.group] > 0, about / scale[ends.group], 0.0)
        first = np.lexsort((ends.time, ends.group, -np.abs(far)))[: params.most].tolist()
        told = [
            {"series": names[ends.group[at]], "time": int(ends.time[at]), "value": float(ends.value[at])}
            | {"deviation": float(far[at])}
            for at in first
        ]
        columns = zip(names, median.tolist(), scale.tolist(), width.tolist(), strict=True)
        series = {name: {"median": middle, "scale": of, "width": wide} for name, middle, of, wide in columns}
        return {"anomalies": told, "series": series}


def _centres(grids: Grids) -> tuple[Values, Values, Values]:
    """Give median, scale and width of bins of each group, shape (g,)."""
    size, middle = len(grids.width), grid.middles(grids)
    median = _medians(size, grids.group, middle, grids.count)
    about = np.abs(middle - median[grids.group])
    mad = _medians(size, grids.group, about, grids.count)
    counts = np.bincount(grids.group, grids.count, size)
    mean = np.bincount(grids.group, about * grids.count, size) / np.maximum(counts, 1)
    width = np.ldexp(1.0, grids.width)
    return median, np.where(mad > 0, OF_MAD * mad, OF_MEAN * mean), width


def _medians(groups: int, group: Numbers, value: Values, count: Numbers) -> Values:
    """Give the lower median of each group, each value counted so often."""
    order = np.lexsort((value, group))
    group, value, upto = group[order], value[order], np.cumsum(count[order])
    ends = np.cumsum(np.bincount(group, minlength=groups))
    total = np.concatenate([[0], upto])[ends]
    before = np.concatenate([[0], total[:-1]])
    return np.asarray(value[np.searchsorted(upto, before + (total - before + 1) // 2)], np.float64)


def _no_ends() -> Ends:
    return Ends(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def _likely(ends: Ends, of: Numbers, value: Values, groups: int, most: int) -> NDArray[np.bool_]:
    """Say which readings are not closer to the middle than all that a full group keeps: few, after a while."""
    first = np.searchsorted(ends.group, np.arange(groups))
    full = np.bincount(ends.group, minlength=groups) >= 2 * most
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    low[full] = ends.value[first[full] + most - 1]
    high[full] = ends.value[first[full] + most]
    return np.asarray((value <= low[of]) | (value >= high[of]))


def _furthest(parts: Sequence[Ends], most: int) -> Ends:
    """Keep the `most` largest and smallest of each group, each once; of equal values the earliest."""
    group, time, value = (np.concatenate([part[column] for part in parts]) for column in range(3))
    keep = [_largest(group, time, sign * value, most) for sign in (1.0, -1.0)]
    kept = np.unique(np.concatenate(keep))
    order = kept[np.lexsort((time[kept], value[kept], group[kept]))]
    return Ends(group[order], time[order], value[order])


def _largest(group: Numbers, time: Numbers, value: Values, most: int) -> Numbers:
    order = np.lexsort((time, -value, group))
    own, at, what = group[order], time[order], value[order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (np.diff(own) != 0) | (np.diff(at) != 0) | (np.diff(what) != 0)
    order, own = order[fresh], own[fresh]
    starts = np.flatnonzero(np.diff(own, prepend=-1))
    rank = np.arange(len(own)) - np.repeat(starts, np.diff(starts, append=len(own)))
    return np.asarray(order[rank < most], np.int64)


def _encode(names: Sequence[str], grids: Grids, ends: Ends) -> bytes:
    state = encode_grids(names, grids)
    at = {name: place for place, name in enumerate(state["names"])}
    place = np.array([at.get(name, -1) for name in names], np.int64)
    group = place[ends.group] if len(ends.group) else ends.group
    order = np.lexsort((ends.time, ends.value, group))
    told = {"ends": group[order], "time": ends.time[order], "value": ends.value[order]}
    return encode_state({"schema": SCHEMA, **state, **told})


def _decode(part: bytes) -> tuple[list[str], Grids, Ends]:
    state = reading.state(part, SCHEMA, "part")
    names, grids = decode_grids(state, BINS)
    group = reading.array(state, "ends", np.int64, (-1,), "part")
    time = reading.array(state, "time", np.int64, group.shape, "part")
    value = reading.array(state, "value", np.float64, group.shape, "part")
    if len(names) > MAX_SERIES or not np.array_equal(np.unique(group), np.arange(len(names))):
        raise ModelRefused("part", "readings of no series, or a series without any")
    return names, grids, Ends(group, time, value)


top_anomalies = TopAnomalies()

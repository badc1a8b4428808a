"""A mergeable histogram of any values: bins of a power of two, as fine as a bounded number of them allows.

Bin b of a grid holds the values in [b, b + 1) * 2^width. The width is the least at which at most `most` bins have a
value in them, and no bin's number is beyond 2^62. Two bins side by side become one when the width grows by one, so the
grid of the whole follows from the grids of its parts, exactly, in any order. A few values far away cost a few bins: the
bulk keeps its own fineness.

Many grids are held flat: (group, bin) ascending. Values below SMALL count as 0, those beyond LARGE as LARGE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Values = NDArray[np.float64]

SMALL, LARGE = 2.0**-900, 2.0**200
FINEST = -1022
BITS = 62
"""Of a bin's number."""

MOST = 4096
"""Bins of one grid."""


class Grids(NamedTuple):
    """Grids of g groups: `width`, (g,), as powers of two; and their bins, (b,): group, number and count of each."""

    width: Numbers
    group: Numbers
    bin: Numbers
    count: Numbers  # type: ignore[assignment]  # hides tuple.count, which nobody asks of columns


def nothing(groups: int) -> Grids:
    """Give grids of no values."""
    none = np.zeros(0, np.int64)
    return Grids(np.full(groups, FINEST), none, none, none)


def of(groups: int, group: Numbers, value: Values, most: int, known: Numbers | None = None) -> Grids:
    """Give the grids of finite values, shape (n,), each of its group; `known` are widths that will be needed anyway."""
    value = np.clip(np.where(np.abs(value) < SMALL, 0.0, value), -LARGE, LARGE)
    furthest = np.zeros(groups)
    np.maximum.at(furthest, group, np.abs(value))
    width = np.maximum(np.frexp(furthest)[1] - BITS, FINEST).astype(np.int64)
    width[furthest == 0.0] = FINEST
    if known is not None:
        width[: len(known)] = np.maximum(width[: len(known)], known)
    number = np.floor(np.ldexp(value, -width[group])).astype(np.int64)
    return _fitted(width, _added(group, number, np.ones(len(value), np.int64)), most)


def merge(parts: Sequence[Grids], places: Sequence[Numbers], groups: int, most: int) -> Grids:
    """Give the grids of all together; `places` has for each part which group its own are."""
    width = np.full(groups, FINEST)
    for part, place in zip(parts, places, strict=True):
        np.maximum.at(width, place, part.width)
    group = np.concatenate([place[part.group] for part, place in zip(parts, places, strict=True)])
    number, count = (np.concatenate([part[column] for part in parts]) for column in (2, 3))
    had = np.concatenate([part.width[part.group] for part in parts])
    return _fitted(width, _added(group, _coarser(number, width[group] - had), count), most)


def middles(grids: Grids) -> Values:
    """Give the middle of each bin, shape (b,)."""
    return np.asarray(np.ldexp(grids.bin + 0.5, grids.width[grids.group]), np.float64)


def are_sound(grids: Grids, most: int) -> bool:
    """Whether these can be somebody's: each group has bins, ascending and not too many, and counts above 0."""
    width, group, number, count = grids
    if not len(group):
        return not len(width)
    same = np.diff(group) == 0
    ascend = (np.diff(group) >= 0).all() and (np.diff(number)[same] > 0).all()
    return bool(
        ascend
        and np.array_equal(np.unique(group), np.arange(len(width)))
        and np.bincount(group).max() <= most
        and ((width >= FINEST) & (width <= 1000)).all()
        and (np.abs(number) <= 1 << BITS).all()
        and (count > 0).all()
        and count.sum(dtype=np.float64) < 2.0**53
    )


def _added(group: Numbers, number: Numbers, count: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    order = _order(group, number)
    group, number, count = group[order], number[order], count[order]
    fresh = np.ones(len(group), np.bool_)
    fresh[1:] = (np.diff(group) != 0) | (np.diff(number) != 0)
    starts = np.flatnonzero(fresh)
    return group[starts], number[starts], np.add.reduceat(count, starts) if len(starts) else count


def _order(group: Numbers, number: Numbers) -> Numbers:
    if len(group) and (group[-1] != group[0] or (group != group[0]).any()):
        least = int(number.min())
        span = int(number.max()) - least + 1
        if span * (int(group.max()) + 1) < 1 << BITS:  # one sort in place of two
            return np.argsort(group * span + (number - least))
        return np.lexsort((number, group))
    return np.argsort(number)


def _fitted(width: Numbers, bins: tuple[Numbers, Numbers, Numbers], most: int) -> Grids:
    """Make the grids coarser that have too many bins."""
    group, number, count = bins
    sizes = np.bincount(group, minlength=len(width))
    wide = np.flatnonzero(sizes > most)
    if not len(wide):
        return Grids(width, group, number, count)
    ends = np.cumsum(sizes)
    steps = np.zeros(len(width), np.int64)
    for each in wide.tolist():
        steps[each] = _steps(number[ends[each] - sizes[each] : ends[each]], most)
    return Grids(width + steps, *_added(group, _coarser(number, steps[group]), count))


def _steps(number: Numbers, most: int) -> int:
    """Give the least shift at which ascending numbers are at most so many different ones."""
    least, enough = 0, 64
    while enough - least > 1:
        middle = (least + enough) // 2
        few = np.count_nonzero(np.diff(number >> middle)) < most
        least, enough = (least, middle) if few else (middle, enough)
    return enough


def _coarser(number: Numbers, by: Numbers) -> Numbers:
    return number >> np.minimum(by, 63)

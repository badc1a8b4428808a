"""Two statements of the windows of one stream of readings, compared as they come. Pure.

Rules:

1. A window is the same one on both sides by series, size, hop, start and revision. Cleaning and lateness may differ:
   they are what is compared.
2. One side may state it later than the other: what only one has stated waits. What the other's configuration does not
   window at all (this series, by this size and hop) does not wait.
3. At most `ahead` windows wait on a side. When there are more, those that have waited longest, all but half of `ahead`,
   are taken to be on their side only, and counted in `early`.
4. Where a side states a window twice (two definitions that differ in lateness only), its first statement meets the
   other's first, its second the other's second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.config import Window
from protocol.messages import WindowDefinition, WindowRows, join_windows

AHEAD = 1 << 18
"""Windows that wait on a side: 20 MB."""

BATCH = 1 << 13
"""Windows gathered before they are compared: sorting a few at a time would cost more than deriving them."""

KEY = ("series", "definition", "start", "revision")
VALUES = ("count", "mean", "deviation", "minimum", "maximum", "first", "last")


class Shape(NamedTuple):
    """What makes windows comparable."""

    size: int  # ns
    hop: int  # ns


@dataclass(slots=True)
class Compared:
    """How many windows of one shape only one side stated, both stated alike, and both with other values."""

    only: list[int] = field(default_factory=lambda: [0, 0])
    same: int = 0
    changed: int = 0
    columns: dict[str, int] = field(default_factory=dict)  # which values changed, in how many windows


class WindowDiff:
    """See the rules above. Sides are 0 and 1; both must know the same series, by the same numbers."""

    def __init__(
        self, sides: tuple[Sequence[Window], Sequence[Window]], *, ahead: int = AHEAD, batch: int = BATCH
    ) -> None:
        self.sides, self.ahead, self.batch = sides, ahead, batch
        self.early = 0
        shapes = dict.fromkeys(_shape(window) for side in sides for window in side)
        self.compared = {shape: Compared() for shape in shapes}
        self._shapes = list(shapes)
        self._numbers = [np.empty(0, np.int32), np.empty(0, np.int32)]  # of the shape, by the definition's number
        self._states = [np.empty((len(shapes), 0), bool)] * 2  # which series a side windows by which shape
        self._waiting: list[list[WindowRows]] = [[], []]
        self._new = 0

    def define(self, names: Sequence[str]) -> None:
        """Append series."""
        for side, windows in enumerate(self.sides):
            more = np.array([[_has(windows, shape, name) for name in names] for shape in self._shapes], bool)
            more = more.reshape(len(self._shapes), len(names))
            self._states[side] = np.concatenate([self._states[side], more], axis=1)

    def announce(self, side: int, windows: Sequence[WindowDefinition]) -> None:
        """Learn what the numbers of a side's definitions mean; before its first rows."""
        numbers = self._numbers[side]
        more = max((window.id + 1 for window in windows), default=0) - len(numbers)
        numbers = np.concatenate([numbers, np.zeros(max(more, 0), np.int32)])
        for window in windows:
            numbers[window.id] = self._shapes.index(Shape(window.size, window.hop))
        self._numbers[side] = numbers

    def feed(self, side: int, rows: WindowRows) -> None:
        """Take what a side states."""
        rows = rows._replace(definition=self._numbers[side][rows.definition])
        awaited = self._states[1 - side][rows.definition, rows.series]
        self._alone(side, _select(rows, ~awaited))
        self._waiting[side].append(_select(rows, awaited))
        self._new += rows.rows

    def settle(self) -> None:
        """Both sides have stated what they make of a record: compare, if enough has come."""
        if self._new >= self.batch:
            self._meet(self.ahead, self.ahead // 2)

    def finish(self) -> None:
        """Nothing more comes: decide what waits."""
        early = self.early
        self._meet(0, 0)
        self.early = early

    def _meet(self, most: int, keep: int) -> None:
        self._new = 0
        both = [join_windows(parts) for parts in self._waiting]
        met = _pairs(*both)
        self._compare(*(_select(rows, places) for rows, places in zip(both, met, strict=True)))
        for side, (rows, places) in enumerate(zip(both, met, strict=True)):
            rest = np.ones(rows.rows, bool)
            rest[places] = False
            self._waiting[side] = [self._bounded(side, _select(rows, rest), most, keep)]

    def _bounded(self, side: int, rows: WindowRows, most: int, keep: int) -> WindowRows:
        if rows.rows <= most:
            return rows
        cut = rows.rows - keep
        self._alone(side, _select(rows, slice(cut)))
        self.early += cut
        return _select(rows, slice(cut, None))

    def _alone(self, side: int, rows: WindowRows) -> None:
        for compared, number in self._counted(rows.definition) if rows.rows else ():
            compared.only[side] += number

    def _compare(self, one: WindowRows, other: WindowRows) -> None:
        changed = np.zeros(one.rows, bool)
        for name in VALUES:
            differs = getattr(one, name) != getattr(other, name)
            changed |= differs
            for compared, number in self._counted(one.definition[differs]):
                compared.columns[name] = compared.columns.get(name, 0) + number
        for compared, number in self._counted(one.definition[changed]):
            compared.changed += number
        for compared, number in self._counted(one.definition[~changed]):
            compared.same += number

    def _counted(self, shapes: NDArray[np.int32]) -> list[tuple[Compared, int]]:
        numbers = np.bincount(shapes, minlength=len(self._shapes)).tolist()
        found = zip(self._shapes, numbers, strict=True)
        return [(self.compared[shape], number) for shape, number in found if number]


def _shape(window: Window) -> Shape:
    return Shape(int(window.size), int(window.step))


def _has(windows: Sequence[Window], shape: Shape, name: str) -> bool:
    return any(_shape(window) == shape and fnmatchcase(name, window.series) for window in windows)


def _select(rows: WindowRows, places: Any) -> WindowRows:
    return WindowRows(*(column[places] for column in rows))


def _pairs(one: WindowRows, other: WindowRows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give the places of windows that both hold: the nth statement on one side meets the nth on the other."""
    cut, whole = one.rows, one.rows + other.rows
    keys = [np.concatenate([getattr(one, name), getattr(other, name)]) for name in KEY]
    order = np.lexsort((np.arange(whole) >= cut, *keys))  # stable: statements stay in order
    border = np.ones(whole, bool)
    border[1:] = np.logical_or.reduce([key[order][1:] != key[order][:-1] for key in keys])
    begins = border.nonzero()[0]
    group = np.cumsum(border) - 1
    ours = order < cut  # first in each group
    number = np.bincount(group[ours], minlength=len(begins))
    theirs = np.diff(begins, append=whole) - number
    place = np.arange(whole)
    met = (ours & (place - begins[group] < theirs[group])).nonzero()[0]
    return order[met], order[met + number[group[met]]] - cut

"""Series side by side: the readings of several measurements that are of one moment make a row.

Rules:

1. Moments are cells of `step` ns on the grid of event time: [k step, (k + 1) step). A row is one reading of each
   feature in one cell; of several the earliest counts, and of repeats the least.
2. A feature is a measurement, and then each device has rows of its own; or a whole series' name, if all features are,
   and then rows are the gateway's.
3. What has a cell to itself, without one of the others, is in no row; it is counted as `alone`.
4. Readings come in no order, so cells stay open. When more than OPEN readings are held, the older half of the cells
   that every feature has gone past is settled; what comes for them afterwards is counted as `late`.

So the parts of a split add up to the whole if it parts no cell: gateways never do, nor does a border of time on the
grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from learning.statistics import MAX_FEATURES
from learning.work.contract import Batch

OPEN = 1 << 19
"""Readings: 16 MB, and 24 more while they are put in order. A gateway's blocks have fewer side by side."""

MAX_ROWS = 1 << 16
"""Rows given at once."""

Numbers = NDArray[np.int64]
Values = NDArray[np.float64]

Step = Annotated[int, Meta(ge=1, le=86_400 * 10**9)]
Features = Annotated[tuple[str, ...], Meta(max_length=MAX_FEATURES)]


def check_features(features: Sequence[str], fewest: int = 2) -> None:
    """ValueError for features that cannot be side by side."""
    if len(features) < fewest or len(set(features)) < len(features):
        raise ValueError(f"at least {fewest} features, each once")
    if len({"/" in feature for feature in features}) > 1:
        raise ValueError("features are measurements, or whole names of series, not both")


class Held(NamedTuple):
    """Readings of open cells, arrays of shape (n,)."""

    owner: NDArray[np.int32]  # device
    cell: Numbers
    feature: NDArray[np.int16]
    time: Numbers
    value: Values

    def rows(self, which: NDArray[Any]) -> Held:
        """Give some of them."""
        return Held(self.owner[which], self.cell[which], self.feature[which], self.time[which], self.value[which])


class Aligned:
    """Rows of `features` from batches; see the rules above."""

    def __init__(self, features: Sequence[str], step: int) -> None:
        self.alone = 0  # readings without the others
        self.late = 0  # for cells that were settled
        self._features, self._step = {name: place for place, name in enumerate(features)}, step
        self._whole = "/" in features[0]
        self._owners: dict[str, int] = {}
        self._of = np.zeros((0, 2), np.int64)  # owner and feature of each series; -1: of none
        self._held: list[Held] = []
        self._size = 0
        self._newest = np.full(len(features), np.iinfo(np.int64).min)  # cell
        self._settled = np.iinfo(np.int64).min  # cells up to here

    def feed(self, batch: Batch) -> Iterator[Values]:
        """Take readings; give rows that are settled, shape (n, features)."""
        self._know(batch.names)
        owner, feature = self._of[batch.series].T
        keep = (feature >= 0) & np.isfinite(batch.value)
        cell = batch.time // self._step
        late = keep & (cell <= self._settled)
        self.late += int(np.count_nonzero(late))
        keep &= ~late
        narrow = owner.astype(np.int32), cell, feature.astype(np.int16)
        fresh = Held(*narrow, batch.time, batch.value).rows(keep)
        if len(fresh.cell):
            np.maximum.at(self._newest, fresh.feature, fresh.cell)
            self._held.append(fresh)
            self._size += len(fresh.cell)
        if self._size > OPEN:
            yield from self._settle()

    def finish(self) -> Iterator[Values]:
        """Give all rows that are left."""
        if self._held:
            yield from self._rows(self._compact())
        self._held, self._size = [], 0

    def _know(self, names: Sequence[str]) -> None:
        fresh = []
        for name in names[len(self._of) :]:
            device, _, measurement = name.rpartition("/")
            feature = self._features.get(name if self._whole else measurement, -1)
            fresh.append((self._owners.setdefault("" if self._whole else device, len(self._owners)), feature))
        if fresh:
            self._of = np.concatenate([self._of, np.array(fresh, np.int64)])

    def _compact(self) -> Held:
        """Give one reading of each feature and cell: the earliest, and of repeats the least."""
        joined = Held(*map(np.concatenate, zip(*self._held, strict=True)))
        self._held = []
        order = np.lexsort((joined.value, joined.time, joined.feature, joined.cell, joined.owner))
        first = np.ones(len(order), np.bool_)
        first[1:] = False
        for column in (joined.owner, joined.cell, joined.feature):
            first[1:] |= _changes(column[order])
        return joined.rows(order[first])

    def _settle(self) -> Iterator[Values]:
        held = self._compact()
        oldest, passed = int(held.cell.min()), int(self._newest.min())
        border = oldest + (passed - oldest) // 2
        if len(held.cell) > OPEN // 2 and np.count_nonzero(held.cell <= border) < len(held.cell) // 8:
            border = int(np.median(held.cell))  # a feature has stopped: the others cannot wait for it
        old = held.cell <= border
        if border >= oldest:
            yield from self._rows(held.rows(old))
            self._settled = border
            held = held.rows(~old)
        self._held, self._size = [held], len(held.cell)

    def _rows(self, held: Held) -> Iterator[Values]:
        starts = np.ones(len(held.cell), np.bool_)
        starts[1:] = _changes(held.owner) | _changes(held.cell)
        begins = np.flatnonzero(starts)
        sizes, width = np.diff(begins, append=len(starts)), len(self._features)
        full = np.repeat(sizes == width, sizes)
        self.alone += int(np.count_nonzero(~full))
        rows = held.value[full].reshape(-1, width)
        for at in range(0, len(rows), MAX_ROWS):
            yield rows[at : at + MAX_ROWS]


def _changes(column: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(column[1:] != column[:-1])

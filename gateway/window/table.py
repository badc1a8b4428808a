"""Windows of one definition by key: rows that stay where they are, and a sorted index that says where.

Rules:

1. A row has a slot from `add` to `free`; slots are reused, and the store grows by an eighth when none is left. Where a
   row lies shows nowhere outside.
2. An index is ordered by key, that is by start, then series; a key is in it once. What comes is late and what goes is
   early: only what lies behind the first place that changes is moved, in memory that is an eighth larger than needed.
   So `keys` and `slots` count until the next `add` or `take`.
3. Per window: 104 bytes of row, 16 to 18 of index; per free slot 112. Neither shrinks below its peak.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.window.moments import ROW, WHOLE, Rows, put

Keys = NDArray[np.int64]
Slots = NDArray[np.int64]

FIRST_SLOTS = 64


class Index:
    """Sorted keys and the slot of each."""

    def __init__(self) -> None:
        self._held = np.empty((2, 0), np.int64)  # keys and slots, and room behind them
        self._resize(0)

    def _resize(self, size: int) -> None:
        if size > self._held.shape[1]:
            held = np.empty((2, size * 9 // 8), np.int64)
            held[:, : len(self.keys)] = self.keys, self.slots
            self._held = held
        self.keys: Keys = self._held[0, :size]
        self.slots: Slots = self._held[1, :size]

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes that keys and slots take."""
        return self._held.nbytes

    def find(self, keys: Keys) -> Slots:
        """Give the slot of each key, -1 where it is unknown."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.slots[at], -1)

    def add(self, keys: Keys, slots: Slots) -> None:
        """Add keys that are not in it, in any order."""
        if not len(keys):
            return
        first = int(np.searchsorted(self.keys, np.minimum.reduce(keys)))
        later, places = np.concatenate([self.keys[first:], keys]), np.concatenate([self.slots[first:], slots])
        order = np.argsort(later, kind="stable")
        self._resize(first + len(order))
        self.keys[first:], self.slots[first:] = later[order], places[order]

    def take(self, places: NDArray[np.intp]) -> tuple[Keys, Slots]:
        """Remove and return what lies at these places, which ascend."""
        taken = self.keys[places], self.slots[places]
        if len(places):
            first = int(places[0])
            stay = np.ones(len(self.keys) - first, bool)
            stay[places - first] = False
            left = self._held[:, first : len(self.keys)][:, stay]
            self._resize(first + left.shape[1])
            self.keys[first:], self.slots[first:] = left
        return taken


class Store:
    """Rows in slots."""

    def __init__(self) -> None:
        self.rows: Rows = np.empty(0, ROW)
        self._free: Slots = np.empty(0, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that rows and free list take."""
        return self.rows.nbytes + self._free.nbytes

    def add(self, rows: Rows) -> Slots:
        """Put rows away; give their slots."""
        if len(self._free) < len(rows):
            self._grow(len(rows))
        cut = len(self._free) - len(rows)
        slots, self._free = self._free[cut:], self._free[:cut]
        put(self.rows, slots, rows)
        return slots

    def free(self, slots: Slots) -> None:
        """Give slots back."""
        self._free = np.concatenate([self._free, slots])

    def _grow(self, need: int) -> None:
        size = max(FIRST_SLOTS, len(self.rows) * 9 // 8, len(self.rows) + need)
        rows = np.empty(size, ROW)
        rows.view(WHOLE)[: len(self.rows)] = self.rows.view(WHOLE)
        self._free = np.concatenate([np.arange(size - 1, len(self.rows) - 1, -1), self._free])
        self.rows = rows

"""Windows of one definition by key: rows that stay where they are, and a sorted index that says where.

Rules:

1. A row has a slot from `add` to `free`; slots are reused, and the store grows by an eighth when none is left. Where a
   row lies shows nowhere outside.
2. An index is ordered by key, that is by start, then series; a key is in it once.
3. Per window: 104 bytes of row, 16 of index; per free slot 112. The store never shrinks below its peak.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.window.moments import ROW, Rows, put

Keys = NDArray[np.int64]
Slots = NDArray[np.int64]

FIRST_SLOTS = 64


class Index:
    """Sorted keys and the slot of each."""

    def __init__(self) -> None:
        self.keys: Keys = np.empty(0, np.int64)
        self.slots: Slots = np.empty(0, np.int64)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes that keys and slots take."""
        return self.keys.nbytes + self.slots.nbytes

    def find(self, keys: Keys) -> Slots:
        """Give the slot of each key, -1 where it is unknown."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.slots[at], -1)

    def add(self, keys: Keys, slots: Slots) -> None:
        """Add keys that are not in it, in any order."""
        joined = np.concatenate([self.keys, keys])
        order = np.argsort(joined, kind="stable")
        self.keys, self.slots = joined[order], np.concatenate([self.slots, slots])[order]

    def take(self, places: NDArray[np.intp]) -> tuple[Keys, Slots]:
        """Remove and return what lies at these places, in order."""
        if not len(places):
            return self.keys[:0], self.slots[:0]
        taken = self.keys[places], self.slots[places]
        stay = np.ones(len(self.keys), bool)
        stay[places] = False
        self.keys, self.slots = self.keys[stay], self.slots[stay]
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
        rows[: len(self.rows)] = self.rows
        self._free = np.concatenate([np.arange(size - 1, len(self.rows) - 1, -1), self._free])
        self.rows = rows

"""The windows of one definition: open ones, and stated ones that may still be revised.

Rules:

1. Window number i begins at i * hop and ends at i * hop + size; a reading belongs to size / hop of them.
2. Two marks per device, which never decrease: `stated` (the watermark), all that ends there or before has been stated;
   `gone`, all that ends there or before is forgotten, its readings are late. Between them lies what may be revised:
   `revise_for` under `revise`, nothing under `drop`.
3. A batch is judged by the marks before it, then merged, then the marks move, then what ends is stated. So the order of
   readings in a batch, or of batches within the lateness, changes no count, minimum or maximum.
4. A late reading into a stated window revises it: revision + 1, stated again in the same call. Into a window that had
   no reading so far it is that window's first statement, revision 0.
5. A reading is accounted once, in the first definition that matches its series and there in the latest window that
   holds it (`own`). It is late if not even that window takes it; earlier hops may be closed to it already.
6. At most `limit` windows are open and `limit` revisable. When full, the earliest are closed, or forgotten, before
   their time, by moving the marks of their devices: stated is stated, and late is late, also then.
7. Forgotten windows leave memory when they are an eighth of what is kept, and before a snapshot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.config import MAX_SERIES, Window
from gateway.records import NEVER, Readings, State
from gateway.window.moments import DTYPES, ROW, Picked, Rows, combine, gather, join, merge, put, select, split, state
from gateway.window.table import Index, Keys, Slots, Store
from gateway.window.watermark import BEFORE_ALL, Devices, Watermark
from protocol import columns
from protocol.messages import WindowRows, no_windows

MAX_WINDOWS = 1 << 20
"""Windows open, and as many revisable, per definition: about 130 MB each when full."""

NO_WINDOWS = no_windows()

KEPT_FREELY = 1024
"""Windows that may be kept although forgotten: clearing them one by one would cost more than they do."""


class Panes:
    """One definition's windows. `device` is the device of each series, given anew with every call that needs it."""

    def __init__(self, window: Window, limit: int = MAX_WINDOWS) -> None:
        self.limit = limit
        self.pending = 0
        self.stated: NDArray[np.int64] = np.empty(0, np.int64)
        self.gone: NDArray[np.int64] = np.empty(0, np.int64)
        self.left: NDArray[np.int64] = np.empty(0, np.int64)  # of devices that are adrift: what they had begun in UTC
        self._store = Store()
        self._open = Index()
        self._kept = Index()
        self._kept_bound = min(limit, KEPT_FREELY)
        self._revised: Keys = np.empty(0, np.int64)
        self.configure(window)

    def configure(self, window: Window) -> None:
        """Take another lateness and policy; size, hop and series must be the same."""
        self.window = window
        self.size, self.hop = int(window.size), int(window.step)
        self.revise_for = int(window.revise_for) if window.late == "revise" else 0

    def resume(self, window: Window, device: Devices) -> None:
        """Go on after all was stated: what has not ended is open again, to become its next revision."""
        self.configure(window)
        devices, end = self._place(self._kept.keys, device)
        keys, slots = self._kept.take((end > self.stated[devices]).nonzero()[0])
        rows = select(self._store.rows, slots)
        rows["revision"] += 1
        rows["own"] = 0  # they were accounted when they were stated
        put(self._store.rows, slots, rows)
        self._open.add(keys, slots)

    def trim(self, device: Devices) -> None:
        """Forget what may not be revised any more, and give its memory back if nothing else is held."""
        self._clear(device)
        if not len(self):
            self._store, self._open, self._kept = Store(), Index(), Index()

    def __len__(self) -> int:
        """How many windows are held."""
        return len(self._open) + len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes that windows take."""
        return self._store.nbytes + self._open.nbytes + self._kept.nbytes

    def define(self, devices: int) -> None:
        """Make room for so many devices."""
        new = np.full(devices - len(self.stated), BEFORE_ALL)
        self.stated, self.gone = np.concatenate([self.stated, new]), np.concatenate([self.gone, new])
        self.left = np.concatenate([self.left, new])

    def advance(self, devices: Devices, event: NDArray[np.int64]) -> None:
        """Move the marks of devices whose event time has come this far."""
        mark = np.maximum(self.stated[devices], event - self.window.lateness)
        self.stated[devices] = mark
        self.gone[devices] = np.maximum(self.gone[devices], mark - self.revise_for)

    def feed(
        self, readings: Readings, border: NDArray[np.bool_], accounts: NDArray[np.bool_], device: Devices
    ) -> tuple[int, int]:
        """Merge a batch ordered by series and time; give how many readings are late, and how many revise.

        `border`, shape (n - 1,): where the next reading is of another series.
        """
        rows, devices, end = self._gather(readings, border, accounts, device)
        if np.count_nonzero(gone := end <= self.gone[devices]):
            late = int(rows["own"][gone].sum())
            rows, devices, end = select(rows, ~gone), devices[~gone], end[~gone]
        else:
            late = 0
        behind = end <= self.stated[devices]
        return late, self._merge(rows, behind)

    def _gather(
        self, readings: Readings, border: NDArray[np.bool_], accounts: NDArray[np.bool_], device: Devices
    ) -> tuple[Rows, Devices, NDArray[np.int64]]:
        """Give a row per window that holds some of these, its device, and where it ends."""
        series, time, value = readings
        number = time // self.hop
        begins = np.empty(len(series), bool)
        begins[0] = True
        np.logical_or(border, number[1:] != number[:-1], out=begins[1:])
        starts = begins.nonzero()[0]
        run, number = series[starts], number[starts]
        rows = gather(number * MAX_SERIES + run, time, value, starts)
        rows["own"] = rows["count"] * accounts[run]
        if self.size == self.hop:
            return rows, device[run], number * self.hop + self.size
        rows = self._spread(rows, self.size // self.hop)
        return rows, *self._place(rows["key"], device)

    def _spread(self, rows: Rows, hops: int) -> Rows:
        """Put each row into all the windows that hold it."""
        back = np.tile(np.arange(hops), len(rows))
        keys = np.repeat(rows["key"], hops) - back * MAX_SERIES
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        spread = select(rows, order // hops)
        spread["key"] = keys
        spread["own"] *= back[order] == 0
        border = np.ones(len(keys), bool)
        border[1:] = keys[1:] != keys[:-1]
        return combine(spread, border.nonzero()[0])

    def _place(self, keys: Keys, device: Devices) -> tuple[Devices, NDArray[np.int64]]:
        number, series = split(keys)
        return device[series], number * self.hop + self.size

    def _merge(self, rows: Rows, behind: NDArray[np.bool_]) -> int:
        revising = 0
        if len(self._kept) and np.count_nonzero(behind):
            slots = np.where(behind, self._kept.find(rows["key"]), -1)
            revise = slots >= 0
            revising = self._revise(slots[revise], select(rows, revise))
            rows = select(rows, ~revise)
        self.pending += int(np.add.reduce(rows["own"]))
        slots = self._open.find(rows["key"])
        known = slots >= 0
        new = len(known) - np.count_nonzero(known)
        if new:
            begun = select(rows, ~known)
            self._open.add(begun["key"], self._store.add(begun))
            rows, slots = select(rows, known), slots[known]
        if new < len(known):
            put(self._store.rows, slots, merge(select(self._store.rows, slots), rows))
        return revising

    def _revise(self, slots: Slots, more: Rows) -> int:
        rows = merge(select(self._store.rows, slots), more)
        rows["revision"] += 1
        put(self._store.rows, slots, rows)
        self._revised = rows["key"]
        return int(more["own"].sum())

    def state(self, definition: int, device: Devices, *, finally_all: bool = False) -> tuple[WindowRows, int]:
        """State what has ended and what was revised, by start and series; tell how many readings that adds."""
        places = np.arange(len(self._open)) if finally_all else self._ended(device)
        if not len(places) and not len(self._revised):
            return NO_WINDOWS, 0
        keys, slots = self._open.take(places)
        closed = select(self._store.rows, slots)
        windowed = int(closed["own"].sum())
        self.pending -= windowed
        rows = closed
        if len(self._revised):
            rows = join(closed, select(self._store.rows, self._kept.find(self._revised)))
            rows = select(rows, np.argsort(rows["key"], kind="stable"))
            self._revised = np.empty(0, np.int64)
        self._keep(keys, slots, device)
        return state(rows, definition, self.hop), windowed

    def release(
        self, definition: int, device: Devices, leaving: NDArray[np.bool_], *, utc: bool
    ) -> tuple[WindowRows, int]:
        """State the open windows of these devices, shape (devices,), as far as they are, and forget the stated ones.

        `utc`: that is where they are, and where the devices may be back before one of them ends.
        """
        self._clear(device)  # when that was done last must not tell
        keys, slots = self._open.take(self._of(self._open.keys, device, leaving))
        stated, kept = self._kept.take(self._of(self._kept.keys, device, leaving))
        if utc:
            self._pull(self.left, np.concatenate([keys, stated]), device)
        closed = select(self._store.rows, slots)
        self._store.free(np.concatenate([slots, kept]))
        windowed = int(closed["own"].sum())
        self.pending -= windowed
        return (state(closed, definition, self.hop), windowed) if len(keys) else (NO_WINDOWS, 0)

    def settle(self, landed: NDArray[np.bool_]) -> None:
        """Let these devices be back in UTC: what was released of them there takes no more readings."""
        for mark in (self.stated, self.gone):
            mark[landed] = np.maximum(mark[landed], self.left[landed])
        self.left[landed] = BEFORE_ALL

    def _of(self, keys: Keys, device: Devices, which: NDArray[np.bool_]) -> NDArray[np.intp]:
        _, series = split(keys)
        return which[device[series]].nonzero()[0]

    def _ended(self, device: Devices) -> NDArray[np.intp]:
        """Find the open windows that have ended, or must because there are too many; only places among the earliest."""
        if (excess := len(self._open) - self.limit) > 0:
            self._pull(self.stated, self._open.keys[:excess], device)
            np.maximum(self.gone, self.stated - self.revise_for, out=self.gone)
        furthest = (int(np.maximum.reduce(self.stated, initial=BEFORE_ALL)) - self.size) // self.hop
        earliest = int(np.searchsorted(self._open.keys, (furthest + 1) * MAX_SERIES))
        if not earliest:
            return np.empty(0, np.intp)
        devices, end = self._place(self._open.keys[:earliest], device)
        return (end <= self.stated[devices]).nonzero()[0]

    def _pull(self, mark: NDArray[np.int64], keys: Keys, device: Devices) -> None:
        """Move a mark past the ends of these windows."""
        devices, end = self._place(keys, device)
        np.maximum.at(mark, devices, end)

    def _keep(self, keys: Keys, slots: Slots, device: Devices) -> None:
        if not len(keys):
            return
        devices, end = self._place(keys, device)
        gone = end <= self.gone[devices]
        self._store.free(slots[gone])
        self._kept.add(keys[~gone], slots[~gone])
        if len(self._kept) > self._kept_bound:
            self._forget(device)

    def _forget(self, device: Devices) -> None:
        self._clear(device)
        if (excess := len(self._kept) - self.limit) > 0:
            self._pull(self.gone, self._kept.keys[: excess + self.limit // 8], device)
            self._clear(device)
        self._kept_bound = min(self.limit, len(self._kept) * 9 // 8 + KEPT_FREELY)

    def _clear(self, device: Devices) -> None:
        devices, end = self._place(self._kept.keys, device)
        _, slots = self._kept.take((end <= self.gone[devices]).nonzero()[0])
        self._store.free(slots)

    def due(self, watermark: Watermark, idle: int) -> int:
        """Tell when (ns) the first open window ends if its device stays silent; NEVER if none is open."""
        if not len(self._open):
            return NEVER
        devices, end = self._place(self._open.keys, watermark.device)
        return int(watermark.reach(devices, end + self.window.lateness, idle).min())

    def snapshot(self, device: Devices) -> State:
        """Give all state: the rows, packed, the open ones first, each part by key; and the marks."""
        self._clear(device)
        slots = np.concatenate([self._open.slots, self._kept.slots])
        rows = columns.encode(Picked(self._store.rows, slots))
        marks = {"stated": self.stated.copy(), "gone": self.gone.copy(), "left": self.left.copy()}
        return {"open": len(self._open), "rows": rows, **marks}

    def restore(self, snapshot: State) -> None:
        """Continue from a snapshot; only on a new definition."""
        held = columns.decode(snapshot["rows"], DTYPES, max_rows=2 * self.limit)
        rows = np.empty(len(held["key"]), ROW)
        for name, column in held.items():
            rows[name] = column
        slots, cut = self._store.add(rows), snapshot["open"]
        self._open.add(rows["key"][:cut], slots[:cut])
        self._kept.add(rows["key"][cut:], slots[cut:])
        self.pending = int(rows["own"][:cut].sum())
        self.stated, self.gone = snapshot["stated"].copy(), snapshot["gone"].copy()
        if "left" in snapshot:  # not in a checkpoint of an earlier version
            self.left = snapshot["left"].copy()

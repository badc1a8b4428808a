"""Readings into windows: the statistics of each series over intervals of event time, for all series at once.

Rules:

1. Watermarks are per device (`watermark`), windows per definition (`panes`), statistics merge in any order (`moments`).
2. `feed` and `tick` first carry on the event time of silent devices, then judge, merge, move the marks, and state what
   ended. A tick only ever states earlier what the next feed would have stated.
3. Definitions are numbered in the order of the configuration. A series belongs to every definition whose pattern
   matches; a reading that belongs to none is removed as `no_window`, but tells its device's time.
4. Rows come out ordered by definition, start, series; of one window at most one row per call.
5. Accounting: recorded = windowed + removed + late + pending, after every call. A reading is accounted once: in the
   first definition that matches its series and there in the latest window that holds it. `windowed` are those whose
   window has been stated, `pending` those whose window is open, `late` those that no such window takes any more.
6. Memory is bounded by open and revisable windows, and these by MAX_WINDOWS per definition (`panes`), at work or away.
7. Everything is a function of state and input; where a row lies in memory shows nowhere.
8. Devices are adrift that got their time from our clock while that was not UTC. When that begins and when it ends, what
   is open of them is stated as it is, and what was stated is revised no more: their next reading is in another time.
9. A definition that leaves the configuration and comes back goes on where it was (`absent`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.config import Clean, PipelineConfig, Window, digest
from gateway.records import NEVER, Readings, State
from gateway.window.absent import Absent
from gateway.window.panes import MAX_WINDOWS, NO_WINDOWS, Panes
from gateway.window.watermark import Watermark
from protocol.messages import WindowRows, join_windows


class Passed(NamedTuple):
    """What a call adds to the counts of readings: late, inside stated windows, removed by reason."""

    late: int
    windowed: int
    removed: dict[str, int]


class Windowing:
    """The stage: all definitions over all series."""

    def __init__(self, config: PipelineConfig, *, max_windows: int = MAX_WINDOWS) -> None:
        self._config = config
        self._max_windows = max_windows
        self._names: list[str] = []
        self._watermark = Watermark()
        self._panes = [Panes(window, max_windows) for window in config.window]
        self._absent = Absent()
        self._assign(_members(config.window, []))
        self._due: int | None = NEVER

    @property
    def pending(self) -> int:
        """Readings in windows that have not been stated yet."""
        return sum(panes.pending for panes in self._panes)

    @property
    def windows(self) -> int:
        """How many windows are held, open and revisable."""
        return sum(len(panes) for panes in (*self._panes, *self._absent))

    @property
    def nbytes(self) -> int:
        """Bytes that windows take."""
        return sum(panes.nbytes for panes in (*self._panes, *self._absent))

    def passed(self, definition: int, series: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the event time (ns) up to which all windows of these series have been stated."""
        return self._panes[definition].stated[self._watermark.device[series]]

    def define(self, names: Sequence[str]) -> None:
        """Append series; device and definitions of each are looked up once, here."""
        self._names.extend(names)
        devices = self._watermark.define(names)
        for panes in (*self._panes, *self._absent):
            panes.define(devices)
        self._assign(np.concatenate([self._members, _members(self._config.window, names)], axis=1))

    def _assign(self, members: NDArray[np.bool_]) -> None:
        self._members = members
        self._accounts = members & (np.cumsum(members, axis=0) == 1)
        self._homeless = np.logical_not(members.any(axis=0))
        self._whole = [bool(every.all()) for every in members]  # whether a definition holds every series
        self._some_homeless = bool(self._homeless.any())

    def feed(self, readings: Readings, now: int) -> tuple[WindowRows, Passed]:
        """Take a batch that arrived now, ordered by series and time; return the windows that this closes or revises."""
        self._carry_on(now)
        border = readings.series[1:] != readings.series[:-1]
        late = windowed = 0
        for panes, whole, member, accounts in zip(self._panes, self._whole, self._members, self._accounts, strict=True):
            inside = readings if whole else _select(readings, member[readings.series])
            if inside.rows:
                edges = border if whole else inside.series[1:] != inside.series[:-1]
                missed, revised = panes.feed(inside, edges, accounts, self._watermark.device)
                late, windowed = late + missed, windowed + revised
        homeless = int(np.count_nonzero(self._homeless[readings.series])) if self._some_homeless else 0
        self._hear(readings, border, now)
        rows, stated = self._state()
        return rows, Passed(late, windowed + stated, {"no_window": homeless} if homeless else {})

    def tick(self, now: int) -> tuple[WindowRows, Passed]:
        """Time passed: return the windows of silent devices that this closes."""
        self._carry_on(now)
        rows, windowed = self._state()
        return rows, Passed(0, windowed, {})

    def drift(self, series: NDArray[np.int32]) -> None:
        """Note which series got their time from our clock while it is not UTC: their devices are adrift."""
        self._watermark.adrift[self._watermark.device[series]] = True

    def adrift(self, series: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Tell which series are of devices that are adrift."""
        found: NDArray[np.bool_] = self._watermark.adrift[self._watermark.device[series]]
        return found

    def leave(self, series: NDArray[np.int32]) -> tuple[WindowRows, Passed]:
        """State what is open of those devices of these series that are not adrift yet: it was in another time."""
        leaving = np.zeros_like(self._watermark.adrift)
        leaving[self._watermark.device[series]] = True
        return self._release(leaving & ~self._watermark.adrift, utc=True)

    def land(self) -> tuple[WindowRows, Passed]:
        """State what is open of devices that are adrift; they are so until `landed`."""
        return self._release(self._watermark.adrift, utc=False)

    def _release(self, leaving: NDArray[np.bool_], *, utc: bool) -> tuple[WindowRows, Passed]:
        self._due = None
        device = self._watermark.device
        parts = [panes.release(number, device, leaving, utc=utc) for number, panes in enumerate(self._panes)]
        self._absent.release(self._watermark, leaving, utc=utc)
        rows = [rows for rows, _ in parts if rows.rows]
        return join_windows(rows) if rows else NO_WINDOWS, Passed(0, sum(windowed for _, windowed in parts), {})

    def landed(self) -> None:
        """No device is adrift any more; what it had stated before it was, is stated."""
        for panes in (*self._panes, *self._absent):
            panes.settle(self._watermark.adrift)
        self._watermark.adrift[:] = False

    def believe(self, offset: int | None) -> None:
        """Take what makes UTC of `now`; None: nobody knows."""
        self._due = None
        self._watermark.offset = offset

    def leap(self, leap: int | None, now: int) -> int:
        """Note that `now` has leapt; give how far, as `Watermark.leap` does."""
        self._due = None
        return self._watermark.leap(leap, now)

    def due(self) -> int:
        """When (ns) a tick would close a window, if nothing arrives before; NEVER if none is open."""
        if self._due is None:
            idle = self._config.time.idle
            self._due = min((panes.due(self._watermark, idle) for panes in self._panes), default=NEVER)
        return self._due

    def _carry_on(self, now: int) -> None:
        self._due = None
        devices, event = self._watermark.silent(now, self._config.time.idle)
        if len(devices):
            for panes in self._panes:
                panes.advance(devices, event)

    def _hear(self, readings: Readings, border: NDArray[np.bool_], now: int) -> None:
        if not readings.rows:
            return
        ends = np.empty(readings.rows, bool)
        ends[:-1], ends[-1] = border, True
        last = ends.nonzero()[0]
        devices = self._watermark.hear(readings.series[last], readings.time[last], now)
        event = self._watermark.event[devices]
        for panes in self._panes:
            panes.advance(devices, event)

    def _state(self, vanishing: Collection[Panes] = ()) -> tuple[WindowRows, int]:
        parts, windowed = [], 0
        for number, panes in enumerate(self._panes):
            rows, readings = panes.state(number, self._watermark.device, finally_all=panes in vanishing)
            if rows.rows:
                parts.append(rows)
                windowed += readings
        return join_windows(parts) if parts else NO_WINDOWS, windowed

    def configure(self, config: PipelineConfig, now: int) -> tuple[WindowRows, Passed]:
        """Take another configuration; return what closes, numbered as before it.

        A definition stays when its digest does: its windows, open and revisable, go on under its new number, and a new
        lateness counts from its devices' next reading or silence. One that vanishes states its open windows now, and
        goes on with them if it comes back.
        """
        left = dict[str, list[Panes]]()
        for window, panes in zip(self._config.window, self._panes, strict=True):
            left.setdefault(digest(window, self._config.clean), []).append(panes)
        following = [self._following(left, window, config.clean) for window in config.window]
        self._carry_on(now)
        rows, windowed = self._state([panes for rest in left.values() for panes in rest])
        for name, rest in left.items():
            for panes in rest:
                self._absent.keep(name, panes)
        self._config, self._panes = config, following
        self._assign(_members(config.window, self._names))
        return rows, Passed(0, windowed, {})

    def _following(self, left: dict[str, list[Panes]], window: Window, clean: tuple[Clean, ...]) -> Panes:
        if same := left.get(digest(window, clean)):
            panes = same.pop(0)
            panes.configure(window)
            return panes
        if (back := self._absent.back(digest(window, clean), window, self._watermark)) is not None:
            return back
        panes = Panes(window, self._max_windows)
        panes.define(self._watermark.devices)
        return panes

    def snapshot(self) -> State:
        """Give all state but the series' names, the configuration, and what is believed of the clock."""
        device = self._watermark.device
        return {
            "watermark": self._watermark.snapshot(),
            "definitions": [panes.snapshot(device) for panes in self._panes],
            "absent": self._absent.snapshot(self._watermark),
        }

    def restore(self, state: State) -> None:
        """Continue from a snapshot; the same series must have been defined, under the same configuration."""
        self._watermark.restore(state["watermark"])
        for panes, part in zip(self._panes, state["definitions"], strict=True):
            panes.restore(part)
        if "absent" in state:  # not in a checkpoint of an earlier version
            self._absent.restore(state["absent"], self._watermark.devices, self._max_windows)
        self._due = None


def _select(readings: Readings, rows: NDArray[Any]) -> Readings:
    return Readings(readings.series[rows], readings.time[rows], readings.value[rows])


def _members(windows: Sequence[Window], names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which series belong to which definition; shape (definitions, series)."""
    matches = [[fnmatchcase(name, window.series) for name in names] for window in windows]
    return np.array(matches, bool).reshape(len(windows), len(names))

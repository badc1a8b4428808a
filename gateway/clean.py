"""Readings in, readings worth windowing out; what is removed is counted by reason.

Rules:

1. The checks, in order; a reading is removed by the first that it fails, so every removal has one reason:
   `non_finite`   NaN or infinite
   `range`        outside the series' min..max (as sent, before scaling), or beyond LIMIT either side of zero
   `time`         before 1970 or after 2116: outside it, int64 arithmetic on times would not be safe
   `future`       more than `time.max_future` after UTC, `now` + `offset`; not judged while our clock is not believed
   `duplicate`    same series and event time as a reading before it: in the batch or remembered; the first wins
   Then the rest is scaled (`value * scale + offset`); a result beyond LIMIT is removed as `range` too.
2. Of the [[clean]] rules that match a series the first that sets a key gives that key. A scale of 1 and an offset of 0
   are the same as not set.
3. What leaves is ordered by series, then time. Nothing depends on the order of rows but "the first wins".
4. Memory of identities: the latest time of each series for ever; all others for `horizon`, the longest that a window
   can still take a reading (size + lateness, + revise_for under `revise`), and at most MAX_REMEMBERED of them or one
   batch: past that the oldest eighth is forgotten. A repeat of something forgotten is a new reading.
5. A reading later than all before it of its series is never looked up: order costs nothing but its place in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.config import PipelineConfig
from gateway.records import Readings, State
from protocol import columns

LIMIT = 1e150
"""No sensor says more, and squares of it are still finite."""

MAX_TIME = 1 << 62
MAX_REMEMBERED = 1 << 20
"""Identities held at most: 4 to 8 MB as long as all is in order, 16 MB once looked up."""

MAX_PACKED = 1 << 24
"""Identities in one block of a snapshot: a block ends with the batch that fills it."""

_PACKED: dict[str, type[np.generic]] = {"series": np.int32, "time": np.int64}

LONG = 1_000
"""Pairs of a chunk, from which on chunks are merged faster than they are sorted anew."""

GENERATIONS = 8
"""Identities are forgotten in blocks of horizon / GENERATIONS."""

SPAN = 43
"""Bits of a time (ns) in a block, where a pair is sorted as one integer: 2.4 hours, beside 1,048,576 series."""

ALWAYS = -(1 << 62)
"""Earlier than any time that passes the checks."""


class Clean:
    """The stage; `offset` (ns) makes UTC of `now`, None: our own clock is not believed."""

    def __init__(self, config: PipelineConfig, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self.offset: int | None = 0
        self._config = config
        self._names: list[str] = []
        self._take_rules(_rules(config, []))
        self._latest = np.empty(0, np.int64)
        self._memory = Remembered(horizon(config), max_remembered)

    @property
    def remembered(self) -> int:
        """How many identities are held beside each series' latest."""
        return self._memory.size

    def define(self, names: Sequence[str]) -> None:
        """Append series; their rules are looked up once, here."""
        self._names.extend(names)
        self._take_rules(np.concatenate([self._rules, _rules(self._config, names)], axis=1))
        self._latest = np.concatenate([self._latest, np.full(len(names), ALWAYS)])

    def configure(self, config: PipelineConfig) -> None:
        """Take new rules from the next reading on; what is remembered stays."""
        self._config = config
        self._take_rules(_rules(config, self._names))
        self._memory.horizon = horizon(config)

    def _take_rules(self, rules: NDArray[np.float64]) -> None:
        self._rules = rules
        self._tightest = rules[0].max(initial=-LIMIT), rules[1].min(initial=LIMIT)
        self._scaling = bool((rules[2] != 1).any() or (rules[3] != 0).any())

    def feed(
        self, readings: Readings, now: int, ours: NDArray[np.int32] | None = None
    ) -> tuple[Readings, dict[str, int]]:
        """Return what is kept, ordered by series and time, and how many were removed by reason.

        `ours` are series whose times are from our own clock while that is not UTC: they are not of the future.
        """
        removed: dict[str, int] = {}
        readings = self._within_bounds(readings, removed)
        readings = self._within_time(readings, now, ours, removed)
        readings, repeated = in_order(readings)
        if repeated is not None:
            readings = _drop(readings, repeated, "duplicate", removed)
        readings = self._unheard(readings, now, removed)
        return self._scale(readings, removed), removed

    def leap(self, leap: int) -> None:
        """Note that `now` has leapt so far: nothing is forgotten by that."""
        self._memory.leap(leap)

    def snapshot(self) -> State:
        """Give all state but the series' names, the configuration, and `offset`."""
        return {"latest": self._latest.copy(), "memory": self._memory.snapshot()}

    def restore(self, state: State) -> None:
        """Continue from a snapshot; the same series must have been defined."""
        self._latest = state["latest"].copy()
        self._memory.restore(state["memory"])

    def _within_bounds(self, readings: Readings, removed: dict[str, int]) -> Readings:
        value = readings.value
        if len(value):  # reduce, here and elsewhere on this way: min() and any() cost a small batch twice that
            low, high = np.minimum.reduce(value), np.maximum.reduce(value)
            if low >= self._tightest[0] and high <= self._tightest[1]:  # never so for NaN
                return readings
        bad = ~np.isfinite(value)
        if bad.any():
            readings = _drop(readings, bad, "non_finite", removed)
            value = readings.value
        low, high = self._rules[0][readings.series], self._rules[1][readings.series]
        return _drop(readings, (value < low) | (value > high), "range", removed)

    def _within_time(
        self, readings: Readings, now: int, ours: NDArray[np.int32] | None, removed: dict[str, int]
    ) -> Readings:
        time = readings.time
        latest = MAX_TIME if self.offset is None else now + self.offset + self._config.time.max_future
        if len(time) and np.minimum.reduce(time) >= 0 and np.maximum.reduce(time) <= min(latest, MAX_TIME - 1):
            return readings
        readings = _drop(readings, (time < 0) | (time >= MAX_TIME), "time", removed)
        if self.offset is None:
            return readings
        ahead = readings.time > latest
        if ours is not None:
            ahead &= ~np.isin(readings.series, ours)
        return _drop(readings, ahead, "future", removed)

    def _unheard(self, readings: Readings, now: int, removed: dict[str, int]) -> Readings:
        """Remove what was heard before, and remember the rest; `readings` is in order and has no repeats."""
        series, time, _ = readings
        latest = self._latest[series]
        behind = (time <= latest).nonzero()[0]
        if len(behind):
            heard = time[behind] == latest[behind]
            earlier = behind[~heard]
            heard[~heard] = self._memory.holds(series[earlier], time[earlier])
            repeated = np.zeros(len(series), bool)
            repeated[behind[heard]] = True
            readings = _drop(readings, repeated, "duplicate", removed)
            series, time, _ = readings
        self._memory.add(series, time, now)
        if len(behind):
            np.maximum.at(self._latest, series, time)
        else:
            self._latest[series] = time  # in order, so each series' last row is written last
        return readings

    def _scale(self, readings: Readings, removed: dict[str, int]) -> Readings:
        if not self._scaling:
            return readings
        scale, offset = self._rules[2][readings.series], self._rules[3][readings.series]
        with np.errstate(over="ignore"):
            value = readings.value * scale + offset
        # Negated, so that NaN (an infinity of each sign) is caught as well.
        return _drop(readings._replace(value=value), ~(np.abs(value) <= LIMIT), "range", removed)


def horizon(config: PipelineConfig) -> int:
    """Tell for how long (ns) any window could take a reading after its event time."""
    reaches = [w.size + w.lateness + (w.revise_for if w.late == "revise" else 0) for w in config.window]
    return max(reaches, default=0)


def in_order(readings: Readings) -> tuple[Readings, NDArray[np.bool_] | None]:
    """Order rows by series and time, arrival deciding ties; mark repeats of the row before, None if there are none."""
    order = _stable(readings.series)
    series, time = readings.series[order], readings.time[order]
    back = time[1:] <= time[:-1]
    back &= series[1:] == series[:-1]
    if not np.count_nonzero(back):
        return Readings(series, time, readings.value[order]), None
    readings = _select(readings, np.lexsort((readings.time, readings.series)))
    series, time, _ = readings
    repeated = np.zeros(len(series), bool)
    repeated[1:] = (series[1:] == series[:-1]) & (time[1:] == time[:-1])
    return readings, repeated


def _stable(series: NDArray[np.int32]) -> NDArray[np.int64]:
    """Give the order by series, place deciding ties; numpy sorts integers of 16 bits by radix, not so those of 32."""
    if len(series) and np.maximum.reduce(series) >> 16:
        return np.sort((series.astype(np.int64) << 32) | np.arange(len(series))) & 0xFFFFFFFF
    order: NDArray[np.int64] = np.argsort(series.astype(np.uint16), kind="stable")
    return order


def _drop(readings: Readings, bad: NDArray[np.bool_], reason: str, removed: dict[str, int]) -> Readings:
    number = np.count_nonzero(bad)
    if not number:
        return readings
    removed[reason] = removed.get(reason, 0) + int(number)
    return _select(readings, ~bad)


def _select(readings: Readings, rows: NDArray[Any]) -> Readings:
    return Readings(readings.series[rows], readings.time[rows], readings.value[rows])


def _rules(config: PipelineConfig, names: Sequence[str]) -> NDArray[np.float64]:
    """Give low, high, scale and offset of each series; shape (4, series)."""
    table = np.empty((4, len(names)))
    for at, name in enumerate(names):
        rules = [rule for rule in config.clean if fnmatchcase(name, rule.series)]
        low = next((rule.min for rule in rules if rule.min is not None), -LIMIT)
        high = next((rule.max for rule in rules if rule.max is not None), LIMIT)
        scale = next((rule.scale for rule in rules if rule.scale != 1.0), 1.0)
        offset = next((rule.offset for rule in rules if rule.offset != 0.0), 0.0)
        table[:, at] = max(low, -LIMIT), min(high, LIMIT), scale, offset
    return table


class Remembered:
    """A set of (series, time), forgotten by age in blocks, and bounded: `limit` is its answer when full."""

    def __init__(self, horizon: int, limit: int) -> None:
        self.horizon = horizon
        self.limit = limit
        self._generations: list[_Generation] = []

    @property
    def size(self) -> int:
        """How many pairs are held."""
        return sum(generation.size for generation in self._generations)

    def add(self, series: NDArray[np.int32], time: NDArray[np.int64], now: int) -> None:
        """Remember pairs that arrived now; forget those that are older than the horizon, or too many."""
        while self._generations and self._generations[0].newest + self.horizon < now:
            del self._generations[0]
        if not len(series):
            return
        block = self.limit // GENERATIONS
        newest = self._generations[-1] if self._generations else None
        if newest is None or newest.opened + self.horizon // GENERATIONS < now or newest.size >= block:
            if newest is not None:
                newest.seal()
            newest = _Generation(now)
            self._generations.append(newest)
        newest.add(series, time, now)
        while self.size > self.limit and len(self._generations) > 1:
            del self._generations[0]

    def leap(self, leap: int) -> None:
        """Let everything have arrived so much later."""
        for generation in self._generations:
            generation.opened += leap
            generation.newest += leap

    def holds(self, series: NDArray[np.int32], time: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which pairs are remembered."""
        keys, heard = _keys(series, time), np.zeros(len(series), bool)
        for generation in self._generations:
            heard |= generation.holds(keys, series)
        return heard

    def snapshot(self) -> State:
        """Give all blocks; the same set gives the same bytes."""
        return {"generations": [generation.snapshot() for generation in self._generations]}

    def restore(self, state: State) -> None:
        """Continue from a snapshot."""
        self._generations = [_Generation.restore(block) for block in state["generations"]]


def _keys(series: NDArray[np.int32], time: NDArray[np.int64]) -> NDArray[np.int64]:
    """Mix a pair into one integer, wrapping round; two pairs may share one, so the series is compared as well."""
    return time + _shifted(series)


def _shifted(series: NDArray[np.int32]) -> NDArray[np.int64]:
    return series.astype(np.int64) << 44


class _Generation:
    """A block of pairs: chunks as they came, and sorted runs, each at least twice as long as the next.

    It is sealed when the next one is opened: packed into a quarter of the bytes, until somebody looks something up.
    """

    def __init__(self, opened: int) -> None:
        self.opened = opened
        self.newest = opened
        self.size = 0
        self._packed = b""
        self._chunks: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = []  # times and series
        self._runs: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = []  # keys and series

    def add(self, series: NDArray[np.int32], time: NDArray[np.int64], now: int) -> None:
        self._unpack()  # it may be restored
        self.newest = now
        self.size += len(series)
        self._chunks.append((time, series))
        if len(self._chunks) >= 256:  # an array costs about 100 bytes beside its content
            self._chunks = [_joined(self._chunks)]

    def holds(self, keys: NDArray[np.int64], series: NDArray[np.int32]) -> NDArray[np.bool_]:
        self._unpack()
        self._sort()
        heard = np.zeros(len(keys), bool)
        for run_keys, run_series in self._runs:
            low, high = np.searchsorted(run_keys, keys), np.searchsorted(run_keys, keys, "right")
            for step in range(int((high - low).max(initial=0))):
                at = np.minimum(low + step, len(run_keys) - 1)
                heard |= (low + step < high) & (run_series[at] == series)
        return heard

    def _sort(self) -> None:
        if self._chunks:
            time, series = _joined(self._chunks)
            self._runs.append(_sorted([(_keys(series, time), series)]))
            self._chunks = []
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._runs[-2:] = [_sorted(self._runs[-2:])]

    def seal(self) -> None:
        self._packed = self._pack()
        self._runs, self._chunks = [], []

    def _pack(self) -> bytes:
        if self._packed:
            return self._packed
        runs = [(keys - _shifted(series), series) for keys, series in self._runs]
        time, series = _joined([*runs, *self._chunks])
        ordered = len(series) > LONG * (len(runs) + len(self._chunks))
        series, time = _by_series(series, time, ordered)  # a device with a steady rate makes equal steps
        return columns.encode({"series": series, "time": time})

    def _unpack(self) -> None:
        if self._packed:
            held = columns.decode(self._packed, _PACKED, max_rows=MAX_PACKED)
            self._runs = [_sorted([(_keys(held["series"], held["time"]), held["series"])])]
            self._packed = b""

    def snapshot(self) -> State:
        return {"opened": self.opened, "newest": self.newest, "size": self.size, "packed": self._pack()}

    @classmethod
    def restore(cls, state: State) -> _Generation:
        generation = cls(state["opened"])
        generation.newest = state["newest"]
        generation.size, generation._packed = state["size"], state["packed"]
        return generation


def _by_series(
    series: NDArray[np.int32], time: NDArray[np.int64], ordered: bool
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Order pairs by series, then time; as one integer each, where they fit into one: a fifth of the work.

    `ordered`: they are in long runs that are in order, which a stable sort only merges.
    """
    first = np.minimum.reduce(time)
    if (np.maximum.reduce(time) - first) >> SPAN or np.maximum.reduce(series) >> (63 - SPAN):
        order = np.lexsort((time, series))
        return series[order], time[order]
    pairs = np.sort((series.astype(np.int64) << SPAN) | (time - first), kind="stable" if ordered else None)
    return (pairs >> SPAN).astype(np.int32), (pairs & ((1 << SPAN) - 1)) + first


def _joined(
    parts: list[tuple[NDArray[np.int64], NDArray[np.int32]]],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return np.concatenate([keys for keys, _ in parts]), np.concatenate([series for _, series in parts])


def _sorted(
    parts: list[tuple[NDArray[np.int64], NDArray[np.int32]]],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    keys, series = _joined(parts)
    order = np.argsort(keys, kind="stable")  # merges runs that are sorted already
    return keys[order], series[order]

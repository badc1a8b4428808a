"""One socket read's messages into one batch of readings. Pure.

Rules:

1. messages = decoded + dead(cause) + redelivered; what is dead is kept in a small ring, and everything is acknowledged.
2. A message without event time gets the arrival time; such stamps only grow, by 1 ns where the clock stands, because a
   reading's identity is (series, event time).
3. A series is made by its first reading that could be read. When the table is full, readings of others are refused
   with reason `series_limit`; those of known series go on.
4. No Python statement runs per message but for those that are refused, and those of a dialect.
5. A dialect's message without a number, or on a topic that holds no measurement, is decoded into no readings.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.config import DIALECTS, Source
from gateway.decode.discover import Discover, Discovered
from gateway.decode.fingerprint import fingerprint
from gateway.decode.letters import DeadLetter, Letters
from gateway.decode.memory import Memory
from gateway.decode.payloads import Dead, Fields, payloads_of
from gateway.decode.routes import IGNORED, UNMATCHED, Routes
from gateway.decode.stamps import ABSENT, Times
from gateway.records import (
    Arrivals,
    Decoded,
    Readings,
    Recent,
    SeriesTable,
    Tally,
    count,
    join_readings,
    no_readings,
    no_recent,
)

MAX_PAYLOAD = 64 << 10
"""Bytes of a payload; a larger one is refused with cause `too_large`."""

Slots = NDArray[np.int64]


class _Share(NamedTuple):
    """The messages of one source in a batch, what was read from them, and which are refused, by place in `rows`."""

    source: int
    rows: Sequence[int]
    content: Fields | Discovered | None
    dead: Dead


class Decode:
    """Turns arrivals into readings; `memory` is how many QoS 1 messages are remembered (the Receive Maximum)."""

    def __init__(self, sources: Sequence[Source], series: SeriesTable, recent: Recent, memory: int) -> None:
        self._series = series
        self._read_as(sources)
        self._memory = Memory(recent, memory)
        self._letters = Letters()
        self._last = 0  # the newest stamp given to a message without event time

    def _read_as(self, sources: Sequence[Source]) -> None:
        self._routes = Routes(sources)
        self._payloads = [Discover(source) if source.format in DIALECTS else payloads_of(source) for source in sources]

    def configure(self, sources: Sequence[Source], limit: int, recent: Recent, memory: int) -> None:
        """Read the next message by other sources, with at most `limit` series; what is known of series stays."""
        self._read_as(sources)
        self._series.limit = limit
        self._memory = Memory(recent, memory)

    @property
    def dead_letters(self) -> deque[DeadLetter]:
        """The newest messages that were refused."""
        return self._letters.ring

    @property
    def heard(self) -> dict[str, int]:
        """Topics that no source has, and how often each was heard."""
        return self._letters.heard

    @property
    def forgotten(self) -> int:
        """How often the memory of topics was full."""
        return self._routes.forgotten

    def feed(self, arrivals: Arrivals, now: int, *, adrift: bool = False) -> Decoded:
        """Decode what arrived at `now` (ns); new series are in `names`, in the order of their integers.

        `adrift`: `now` is not UTC, so say which series got their time from it.
        """
        known, before = len(self._series), self._last
        tally = Tally(messages=len(arrivals.topics))
        if not arrivals.topics:
            return Decoded(no_readings(), [], tally, no_recent(), _none(adrift))
        slots = self._routes.slots(arrivals.topics)
        shares = [self._read(arrivals, slots, source, rows) for source, rows in self._shares(slots)]
        recent, again = self._remember(arrivals, slots, shares)
        if again is not None:
            tally.redelivered = int(np.count_nonzero(again))
            shares = [self._anew(share, again, arrivals, slots) for share in shares]
        parts: list[Readings] = []
        for share in shares:
            self._refuse(arrivals, {share.rows[row]: cause for row, cause in share.dead.items()}, now, tally)
            tally.decoded += len(share.rows) - len(share.dead)
            parts += self._readings(share, slots, now, tally)
        readings = join_readings(parts)
        ours = self._ours(readings, max(now, before + 1)) if adrift else None
        return Decoded(readings, self._series.names[known:], tally, recent, ours)

    def _ours(self, readings: Readings, first: int) -> NDArray[np.int32]:
        """Give the series with a stamp of ours, `first` to the last one given."""
        stamped = (readings.time >= first) & (readings.time <= self._last)
        return np.unique(readings.series[stamped])

    def _remember(
        self, arrivals: Arrivals, slots: Slots, shares: list[_Share]
    ) -> tuple[Recent, NDArray[np.bool_] | None]:
        """Give the QoS 1 messages that are new, and which of all messages are not; None if all are."""
        if not arrivals.packet_ids:
            return no_recent(), None
        rows = arrivals.at_least_once
        hashes = self._hashes(arrivals, slots, shares)
        if len(rows) < len(hashes):
            hashes = hashes[list(rows)]
        recent, again = Recent(np.array(arrivals.packet_ids, np.uint16), hashes), None
        if arrivals.duplicate is not None:
            known = self._memory.holds(recent) & np.array(arrivals.duplicate, np.bool_)
            recent = Recent(recent.packet_ids[~known], recent.hashes[~known])
            again = np.zeros(len(slots), np.bool_)
            again[np.array(rows, np.int64)[known]] = True
        self._memory.add(recent)
        return recent, again

    def _hashes(self, arrivals: Arrivals, slots: Slots, shares: list[_Share]) -> NDArray[np.uint32]:
        """Give what tells messages apart: a fingerprint of what was read, else a checksum of the payload."""
        topics, hashes = self._routes.crc[slots], np.empty(len(slots), np.uint32)
        for share in shares:
            rows: list[int] | slice = slice(None) if len(share.rows) == len(slots) else list(share.rows)
            checked: Sequence[int] = share.rows
            if isinstance(share.content, Fields):
                hashes[rows] = fingerprint(topics[rows], share.content)
                checked = [share.rows[row] for row in share.dead]
            for row in checked:
                hashes[row] = zlib.crc32(arrivals.payloads[row], int(topics[row]))
        return hashes

    def _anew(self, share: _Share, again: NDArray[np.bool_], arrivals: Arrivals, slots: Slots) -> _Share:
        """Read a share without those of its messages that were sent again."""
        rows = [row for row in share.rows if not again[row]]
        return share if len(rows) == len(share.rows) else self._read(arrivals, slots, share.source, rows)

    def _shares(self, slots: Slots) -> Iterator[tuple[int, Sequence[int]]]:
        """Give each source's rows; most batches are of one source."""
        sources = self._routes.source[slots]
        if (sources == sources[0]).all():
            yield int(sources[0]), range(len(sources))
            return
        for source in np.unique(sources).tolist():
            yield source, np.flatnonzero(sources == source).tolist()

    def _read(self, arrivals: Arrivals, slots: Slots, source: int, rows: Sequence[int]) -> _Share:
        """Read one source's messages; nothing else changes."""
        if source == UNMATCHED:
            return _Share(source, rows, None, dict.fromkeys(range(len(rows)), "topic"))
        if source == IGNORED or not rows:
            return _Share(source, rows, None, {})
        payloads, dead = _sized(arrivals, rows)
        reader = self._payloads[source]
        if isinstance(reader, Discover):
            names = [self._routes.names[slot] for slot in _of(slots, rows).tolist()]
            return _Share(source, rows, reader.read(names, payloads, dead), dead)
        return _Share(source, rows, reader.read(payloads, dead), dead)

    def _readings(self, share: _Share, slots: Slots, now: int, tally: Tally) -> list[Readings]:
        content = share.content
        if content is None:
            return []
        self._stamp(content.times, now)
        if isinstance(content, Discovered):
            return [self._discovered(content, tally)]
        firsts = _of(slots, share.rows)
        return [self._column(content, number, firsts, tally) for number in range(len(content.values))]

    def _discovered(self, found: Discovered, tally: Tally) -> Readings:
        """Give the readings that name themselves."""
        series = np.fromiter(map(self._series.add, found.names), np.int32, len(found.names))
        times, room = np.repeat(found.times, found.counts), series >= 0
        count(tally.refused, {"series_limit": int(np.count_nonzero(~room)), "name": found.unnamed})
        return Readings(series[room], times[room], found.values[room])

    def _stamp(self, times: Times, now: int) -> None:
        """Put arrival times where event times are absent."""
        if times.min() >= 0:
            return
        absent = np.flatnonzero(times == ABSENT)
        first = max(now, self._last + 1)
        times[absent] = np.arange(first, first + len(absent))
        self._last = first + len(absent) - 1

    def _column(self, fields: Fields, number: int, slots: Slots, tally: Tally) -> Readings:
        """Give the readings of one measurement."""
        times, values, present = fields.times, fields.values[number], fields.present[number]
        if present is not None:
            slots, times, values = slots[present], times[present], values[present]
        slots = slots + number if number else slots
        series = self._routes.series[slots]
        if series.min(initial=0) < 0:
            series = self._routes.name(slots, self._series)
            room = series >= 0
            count(tally.refused, {"series_limit": int(np.count_nonzero(~room))})
            return Readings(series[room], times[room], values[room])
        return Readings(series, times, values)

    def _refuse(self, arrivals: Arrivals, dead: Dead, now: int, tally: Tally) -> None:
        for row, cause in dead.items():
            self._letters.add(now, arrivals.topics[row], cause, arrivals.payloads[row])
            tally.dead[cause] = tally.dead.get(cause, 0) + 1


def _none(adrift: bool) -> NDArray[np.int32] | None:
    return np.empty(0, np.int32) if adrift else None


def _of(slots: Slots, rows: Sequence[int]) -> Slots:
    return slots if len(rows) == len(slots) else slots[list(rows)]


def _sized(arrivals: Arrivals, rows: Sequence[int]) -> tuple[list[bytes], Dead]:
    """Give the payloads of these rows; what is too large is dead, and stands as empty."""
    payloads, dead = arrivals.payloads, Dead()
    if len(rows) < len(payloads):
        payloads = [payloads[row] for row in rows]
    if max(map(len, payloads)) > MAX_PAYLOAD:
        dead = {row: "too_large" for row, payload in enumerate(payloads) if len(payload) > MAX_PAYLOAD}
        payloads = [b"" if row in dead else payload for row, payload in enumerate(payloads)]
    return payloads, dead

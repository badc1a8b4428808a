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

import numpy as np
from numpy.typing import NDArray

from gateway.config import DIALECTS, Source
from gateway.decode.discover import Discover
from gateway.decode.letters import DeadLetter, Letters
from gateway.decode.memory import Memory
from gateway.decode.payloads import Dead, Fields, Payloads, payloads_of
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

_REDELIVERED = -2

Slots = NDArray[np.int64]


class Decode:
    """Turns arrivals into readings; `memory` is how many QoS 1 messages are remembered (the Receive Maximum)."""

    def __init__(self, sources: Sequence[Source], series: SeriesTable, recent: Recent, memory: int) -> None:
        self._series = series
        self._routes = Routes(sources)
        self._payloads = [Discover(source) if source.format in DIALECTS else payloads_of(source) for source in sources]
        self._memory = Memory(recent, memory)
        self._letters = Letters()
        self._last = 0  # the newest stamp given to a message without event time

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

    def feed(self, arrivals: Arrivals, now: int) -> Decoded:
        """Decode what arrived at `now` (ns); new series are in `names`, in the order of their integers."""
        known = len(self._series)
        tally = Tally(messages=len(arrivals.topics))
        if not arrivals.topics:
            return Decoded(no_readings(), [], tally, no_recent())
        slots = self._routes.slots(arrivals.topics)
        recent, repeated = self._remember(arrivals, slots)
        parts: list[Readings] = []
        for source, rows in self._shares(slots, repeated):
            if source == _REDELIVERED:
                tally.redelivered = len(repeated)
            elif source == UNMATCHED:
                self._refuse(arrivals, dict.fromkeys(rows, "topic"), now, tally)
            elif source == IGNORED:
                tally.decoded += len(rows)
            else:
                payloads, dead = _sized(arrivals, rows)
                firsts = slots if len(rows) == len(slots) else slots[rows]
                parts += self._read(self._payloads[source], firsts, payloads, dead, now=now, tally=tally)
                self._refuse(arrivals, {rows[row]: cause for row, cause in dead.items()}, now, tally)
                tally.decoded += len(rows) - len(dead)
        return Decoded(join_readings(parts), self._series.names[known:], tally, recent)

    def _remember(self, arrivals: Arrivals, slots: Slots) -> tuple[Recent, list[int]]:
        """Give the QoS 1 messages that are new, and the rows of those that are not."""
        if not arrivals.packet_ids:
            return no_recent(), []
        rows, payloads = arrivals.at_least_once, arrivals.payloads
        if len(rows) < len(payloads):
            payloads, slots = [payloads[row] for row in rows], slots[list(rows)]
        topics = self._routes.crc[slots].tolist()
        hashes = np.fromiter(map(zlib.crc32, payloads, topics), np.uint32, len(payloads))
        recent = Recent(np.array(arrivals.packet_ids, np.uint16), hashes)
        repeated: list[int] = []
        if arrivals.duplicate is not None:
            again = self._memory.holds(recent) & np.array(arrivals.duplicate, np.bool_)
            repeated = np.array(rows, np.int64)[again].tolist()
            recent = Recent(recent.packet_ids[~again], recent.hashes[~again])
        self._memory.add(recent)
        return recent, repeated

    def _shares(self, slots: Slots, repeated: list[int]) -> Iterator[tuple[int, Sequence[int]]]:
        """Give each source's rows; most batches are of one source."""
        sources = self._routes.source[slots]
        if repeated:
            sources[repeated] = _REDELIVERED
        if (sources == sources[0]).all():
            yield int(sources[0]), range(len(sources))
            return
        for source in np.unique(sources).tolist():
            yield source, np.flatnonzero(sources == source).tolist()

    def _read(
        self, reader: Payloads | Discover, slots: Slots, payloads: list[bytes], dead: Dead, *, now: int, tally: Tally
    ) -> list[Readings]:
        """Give the readings of one source's messages; the refused are added to `dead`."""
        if isinstance(reader, Discover):
            return [self._discovered(reader, slots, payloads, dead, now=now, tally=tally)]
        fields = reader.read(payloads, dead)
        self._stamp(fields.times, now)
        return [self._column(fields, number, slots, tally) for number in range(len(fields.values))]

    def _discovered(
        self, reader: Discover, slots: Slots, payloads: list[bytes], dead: Dead, *, now: int, tally: Tally
    ) -> Readings:
        """Give the readings that name themselves."""
        found = reader.read([self._routes.names[slot] for slot in slots.tolist()], payloads, dead)
        self._stamp(found.times, now)
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


def _sized(arrivals: Arrivals, rows: Sequence[int]) -> tuple[list[bytes], Dead]:
    """Give the payloads of these rows; what is too large is dead, and stands as empty."""
    payloads, dead = arrivals.payloads, Dead()
    if len(rows) < len(payloads):
        payloads = [payloads[row] for row in rows]
    if max(map(len, payloads)) > MAX_PAYLOAD:
        dead = {row: "too_large" for row, payload in enumerate(payloads) if len(payload) > MAX_PAYLOAD}
        payloads = [b"" if row in dead else payload for row, payload in enumerate(payloads)]
    return payloads, dead

"""Raw readings of the journal, read by a task while the gateway writes on. Only what was durable when it was opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway import config, recovery
from gateway.journal import Journal
from gateway.records import Readings, ReadingsRecord, Record, join_readings
from gateway.segment import ReadOnlyFiles

BATCH = 1 << 16
"""Readings gathered before they are given: a record holds what arrived within 10 ms, and a call for each would cost."""


class JournalPast:
    """The `Past` of a data directory; nothing in it is locked or changed.

    `before` is an earlier one of the same directory, closed: what it has read of names need not be read again.
    """

    def __init__(self, data: Path, before: JournalPast | None = None) -> None:
        self.journal = Journal.open(ReadOnlyFiles(), data / "journal", config.Journal(), about=dict)
        self._named = before.named if before is not None else 0
        self.names: list[str] = before.names if before is not None else []
        if self._named < self.journal.oldest:
            self.names = list(self.journal.about_oldest().get("names") or [])
        self._held: tuple[int, int] | None = None

    def close(self) -> None:
        """Give up the files."""
        self.journal.close()

    @property
    def named(self) -> int:
        """The last record whose names are known here."""
        return self._named

    @property
    def position(self) -> int:
        """See `Past`."""
        return self.journal.durable

    @property
    def held(self) -> tuple[int, int]:
        """See `Past`; (0, 0) if nothing was found."""
        return self._held or (0, 0)

    def batches(self, patterns: Sequence[str], start: int = 0, end: int = 0, *, after: int = 0) -> Iterator[Readings]:
        """See `Past`."""
        wanted, gathered, rows = np.empty(0, bool), list[Readings](), 0
        first = min(after, self._named) + 1
        for seq, stored in self.journal.records(max(first, self.journal.oldest)):
            record = self._learn_names(seq, stored)
            if not isinstance(record, ReadingsRecord) or seq <= after:
                continue
            if len(wanted) < len(self.names):
                wanted = self._wanted(wanted, patterns)
            chosen = _within(record.readings, wanted, start, end)
            if chosen.rows:
                gathered.append(chosen)
                rows += chosen.rows
            if rows >= BATCH:
                yield self._note(join_readings(gathered))
                gathered, rows = [], 0
        if gathered:
            yield self._note(join_readings(gathered))

    def _learn_names(self, seq: int, stored: Record) -> Record:
        if seq <= self._named:
            return stored
        self._named = seq
        record = recovery.complete(stored, len(self.names))
        if isinstance(record, ReadingsRecord):
            self.names += record.names
        return record

    def _wanted(self, known: NDArray[np.bool_], patterns: Sequence[str]) -> NDArray[np.bool_]:
        more = [any(fnmatchcase(name, pattern) for pattern in patterns) for name in self.names[len(known) :]]
        return np.concatenate([known, np.array(more, bool)])

    def _note(self, readings: Readings) -> Readings:
        first, last = int(readings.time.min()), int(readings.time.max()) + 1
        held = self._held
        self._held = (min(first, held[0]), max(last, held[1])) if held else (first, last)
        return readings


def _within(readings: Readings, wanted: NDArray[np.bool_], start: int, end: int) -> Readings:
    keep = wanted[readings.series]
    if start:
        keep &= readings.time >= start
    if end:
        keep &= readings.time < end
    return Readings(readings.series[keep], readings.time[keep], readings.value[keep])

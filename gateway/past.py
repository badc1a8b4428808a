"""Raw readings of the journal, read by a task while the gateway writes on. Only what was durable when it was opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray

from gateway import config
from gateway.blocks import Block, Blocks, Maker
from gateway.journal import Journal
from gateway.records import Readings, ReadingsRecord, Record, complete, join_readings
from gateway.segment import Files, ReadOnlyFiles, SealedFile
from gateway.tasks import told

BATCH = 1 << 16
"""Readings gathered before they are given: a record holds what arrived within 10 ms, and a call for each would cost."""

LARGE = 1 << 12
"""Readings that are given as they are: joining them to others would cost more than a call."""


class JournalPast:
    """The `Past` of a data directory; nothing in it is locked or changed, but for `blocks`.

    `before` is an earlier one of the same directory, closed: what it has read of names need not be read again.
    """

    def __init__(
        self,
        data: Path,
        before: JournalPast | None = None,
        *,
        shared: Sequence[str] = (),
        blocks: Blocks | None = None,
    ) -> None:
        self.shared, self._data = shared, data
        self.journal = Journal.open(ReadOnlyFiles(), data / "journal", config.Journal(), about=dict)
        self._sealed = self.journal.sealed_files() if blocks is not None else []
        self._blocks = blocks
        if blocks is not None:
            blocks.prune(self._sealed)
        self._named = before.named if before is not None else 0
        self.names: list[str] = before.names if before is not None else []
        if self._named < self.journal.oldest:
            self.names = list(self.journal.about_oldest().get("names") or [])
        self._held: tuple[int, int] | None = None
        self.series = 0  # that matched when `batches` ended
        self.recorded, self.reading_s = 0, 0.0  # bytes of whole files read as recorded, and the CPU that took
        self.unblocked = 0  # readings given from there

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
        gathered, rows = list[Readings](), 0
        wanted = Wanted(self.names, patterns, start, end)
        for chosen in self._chosen(wanted, after):
            if rows and (rows >= BATCH or chosen.rows >= LARGE):
                yield self._note(join_readings(gathered))
                gathered, rows = [], 0
            if chosen.rows >= LARGE:
                yield self._note(chosen)
                continue
            gathered.append(chosen)
            rows += chosen.rows
        if gathered:
            yield self._note(join_readings(gathered))
        self.series = int(wanted.series().sum())

    def told(self, model: str) -> Sequence[told.Told]:
        """See `Past`."""
        return read_told(ReadOnlyFiles(), self._data, model).told

    def _chosen(self, wanted: Wanted, after: int) -> Iterator[Readings]:
        at = max(min(after, self._named) + 1, self.journal.oldest)
        for file in self._sealed:
            if file.last < at or file.first < at:
                continue
            yield from self._records(wanted, at, file.first - 1, after)
            if after < file.first:
                yield from self._file(wanted, file)
            else:
                yield from self._records(wanted, file.first, file.last, after)
            at = file.last + 1
        newest, size = self._records(wanted, at, self.position, after), sum(file.size for file in self._sealed)
        yield from newest if after else self._timed(newest, self.journal.bytes - size)

    def _timed(self, given: Iterator[Readings], size: int) -> Iterator[Readings]:
        """Give the same, of `size` bytes; note what that costs."""
        more = True
        while more:
            began = process_time()
            found = next(given, None)
            self.reading_s += process_time() - began
            if more := found is not None:
                self.unblocked += found.rows
                yield found
        self.recorded += size

    def _file(self, wanted: Wanted, file: SealedFile) -> Iterator[Readings]:
        """Give what is wanted of one sealed file: of its blocks, or of its records, of which blocks are made then."""
        assert self._blocks is not None
        maker = Maker(len(self.names)) if file.head and self._named < file.first else None
        if (opened := self._blocks.open(file)) is not None and opened.known <= len(self.names):
            if self._named < file.last:
                self.names += opened.names[len(self.names) - opened.known :]
                self._named = file.last
            blocks = opened.wanted(wanted.series(), wanted.start, wanted.end)
            if (found := self._blocks.read(opened, blocks)) is not None:
                for block, readings in zip(blocks, found, strict=True):
                    if (chosen := readings if wanted.has(block) else wanted.of(readings)).rows:
                        yield chosen
                return
        yield from self._timed(self._unblocked(wanted, file, maker), file.size)

    def _unblocked(self, wanted: Wanted, file: SealedFile, maker: Maker | None) -> Iterator[Readings]:
        assert self._blocks is not None
        damaged = self.journal.damaged
        yield from self._records(wanted, file.first, file.last, 0, maker)
        if maker is not None and self.journal.damaged == damaged:  # or a disk that was slow would be believed for ever
            self._blocks.put(file, maker, self.names)

    def _records(
        self, wanted: Wanted, first: int, last: int, after: int, maker: Maker | None = None
    ) -> Iterator[Readings]:
        for seq, stored in self.journal.records(first, last) if first <= last else ():
            if seq > last:
                return
            record = self._learn_names(seq, stored)
            if not isinstance(record, ReadingsRecord) or seq <= after:
                continue
            if maker is not None:
                maker.add(record.readings)
            if (chosen := wanted.of(record.readings)).rows:
                yield chosen

    def _learn_names(self, seq: int, stored: Record) -> Record:
        if seq <= self._named:
            return stored
        self._named = seq
        record = complete(stored, len(self.names))
        if isinstance(record, ReadingsRecord):
            self.names += record.names
        return record

    def _note(self, readings: Readings) -> Readings:
        first, last = int(readings.time.min()), int(readings.time.max()) + 1
        held = self._held
        self._held = (min(first, held[0]), max(last, held[1])) if held else (first, last)
        return readings


SUFFIX = ".fg"


def told_path(data: Path, model: str) -> Path:
    """Say where it is kept what the cloud has said of a model's windows."""
    return data / "cascade" / f"{model}{SUFFIX}"


def told_models(files: Files, data: Path) -> list[str]:
    """Name the models of whose windows something is kept."""
    try:
        names = files.names(data / "cascade")
    except OSError:  # then it is heard anew
        return []
    return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]


def read_told(files: Files, data: Path, model: str) -> told.Kept:
    """Give what the cloud has said of a model's windows; nothing if it cannot be read: then it is heard anew."""
    try:
        return told.decode(files.read(told_path(data, model)))
    except (OSError, ValueError):
        return told.Kept()


class Wanted:
    """Which readings are asked for: series by patterns of `names`, which may grow, and event times."""

    def __init__(self, names: Sequence[str], patterns: Sequence[str], start: int, end: int) -> None:
        self.start, self.end = start, end
        self._names, self._patterns = names, patterns
        self._series = np.empty(0, bool)

    def series(self) -> NDArray[np.bool_]:
        """Say which series are wanted, shape (names,)."""
        if len(self._series) < len(self._names):
            fresh = self._names[len(self._series) :]
            more = [any(fnmatchcase(name, pattern) for pattern in self._patterns) for name in fresh]
            self._series = np.concatenate([self._series, np.array(more, bool)])
        return self._series

    def has(self, block: Block) -> bool:
        """Whether all of a block is wanted."""
        whole = self.start <= block.earliest and (not self.end or block.latest < self.end)
        return whole and bool(self.series()[block.low : block.high + 1].all())

    def of(self, readings: Readings) -> Readings:
        """Give those that are wanted."""
        series, time = readings.series, readings.time
        keep = self.series()[series]
        if self.start:
            keep &= time >= self.start
        if self.end:
            keep &= time < self.end
        return readings if keep.all() else Readings(series[keep], time[keep], readings.value[keep])

"""Sealed history once more, series by series: what tasks read in place of the journal's records. A cache, no more.

A journal file that is sealed never changes, so what is in it may be written anew beside it, in larger blocks of few
series each. Whoever reads such a file for a task makes its blocks on the way; the next task reads only the blocks of
the series and of the time that it wants.

Rules:

1. The journal stays as it is: replay, recovery and retention know nothing of blocks. Without them all is read there.
2. Blocks are those of one journal file: they name its first 32 bytes (its header's checksum among them) and its size.
   If those differ, or a checksum of theirs does, or the format, they count for nothing and are removed.
3. A file of blocks takes its name when it is whole. What a kill leaves is a draft, removed by the next reader.
4. A block is passed over only if its own least and greatest event times, or its series, say that nothing in it is
   wanted. Nothing is concluded from when something was recorded: event times come late, and clocks are wrong.
5. Readings of a series stay in the order in which they were recorded.

    blocks/{first}.blk    SEGMENT frame: the State {format, head, bytes, last, known, names, and of each block: at,
                          size, low, high (series), earliest, latest (event time, inclusive)} | READINGS frames: each
                          a table (series, time, value: `protocol.columns`), series ascending

| may fill | bound | answer when full |
|---|---|---|
| all blocks | `tasks.blocks` bytes, the floor of free disk | no more are made: that file is read as recorded |
| readings in memory while blocks are made | LAYER | their blocks are made, and it goes on |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.records import Readings
from gateway.segment import Files, SealedFile, make_directory, write_atomically
from gateway.segment.files import DRAFT
from gateway.segment.layout import segment_name
from protocol import columns, frame
from protocol.errors import FrameRefused
from protocol.messages import JOURNAL_LANE, Kind

FORMAT = 2
LAYER = 1 << 18
"""Readings: 5 MB. Work that puts series side by side holds a layer of them (`learning.work.aligned`)."""

LONG, MOST = 1 << 12, 1 << 15
"""A series of LONG readings in a layer has blocks of its own; none has more than MOST: a core's cache holds it."""

NAME = re.compile(r"(\d{20})\.blk")
DTYPES = {"series": np.int32, "time": np.int64, "value": np.float64}
COLUMNS = ("at", "size", "low", "high", "earliest", "latest")

Numbers = NDArray[np.int64]


class Block(NamedTuple):
    """One block's place in the file, and what is in it."""

    at: int
    size: int
    low: int
    high: int
    earliest: int
    latest: int


class Opened(NamedTuple):
    """A file of blocks: the names of series that its records brought, `known` before them, and where its blocks are."""

    path: Path
    known: int
    names: list[str]
    blocks: list[Block]

    def wanted(self, series: NDArray[np.bool_], start: int, end: int) -> list[Block]:
        """Give the blocks that may hold readings of these series in [start, end); 0 is without bound."""
        upto = np.concatenate([[0], np.cumsum(series)])
        last = len(series)
        return [
            block
            for block in self.blocks
            if block.latest >= start
            and not 0 < end <= block.earliest
            and upto[min(block.high + 1, last)] > upto[min(block.low, last)]
        ]


class Maker:
    """Makes blocks of the records of one file, as they are read."""

    def __init__(self, known: int) -> None:
        self._known = known
        self._held: Readings | None = None  # room for a layer
        self._rows = 0
        self._frames, self._blocks, self._at = list[bytes](), list[Block](), 0

    def add(self, readings: Readings) -> None:
        """Take a record's readings."""
        if self._held is None:
            self._held = Readings(*(np.empty(LAYER, DTYPES[name]) for name in Readings._fields))
        held, at = self._held, 0
        while at < readings.rows:
            took = min(LAYER - self._rows, readings.rows - at)
            where, part = slice(self._rows, self._rows + took), slice(at, at + took)
            held.series[where], held.time[where] = readings.series[part], readings.time[part]
            held.value[where] = readings.value[part]
            at, self._rows = at + took, self._rows + took
            if self._rows == LAYER:
                self._layer()

    def finish(self, of: SealedFile, names: Sequence[str]) -> bytes:
        """Give the whole file's bytes; `names` are all series up to its end. FrameRefused if that is too much."""
        self._layer()
        table = {name: np.array([getattr(block, name) for block in self._blocks], np.int64) for name in COLUMNS}
        about = {"format": FORMAT, "head": of.head, "bytes": of.size, "last": of.last, "known": self._known}
        state = {**about, "names": list(names[self._known :]), **table}
        opening = frame.encode(Kind.SEGMENT, columns.encode_state(state), lane=JOURNAL_LANE, seq=of.first)
        return b"".join([opening, *self._frames])

    def _layer(self) -> None:
        if self._held is None or not self._rows:
            return
        held, self._rows = _rows(self._held, slice(self._rows)), 0
        order = np.argsort(_narrow(held.series), kind="stable")
        for begin, end in _cuts(held.series[order]):
            self._put(_rows(held, order[begin:end]))

    def _put(self, part: Readings) -> None:
        packed = frame.encode(Kind.READINGS, columns.encode(part._asdict()), lane=JOURNAL_LANE, seq=len(self._blocks))
        where = (self._at, len(packed), int(part.series[0]), int(part.series[-1]))
        self._blocks.append(Block(*where, int(part.time.min()), int(part.time.max())))
        self._frames.append(packed)
        self._at += len(packed)


def _rows(readings: Readings, which: Any) -> Readings:
    return Readings(readings.series[which], readings.time[which], readings.value[which])


def _narrow(series: NDArray[np.int32]) -> NDArray[np.uint16] | NDArray[np.int32]:
    return series.astype(np.uint16) if series.max() < 1 << 16 else series  # 16 bits are sorted by radix


def _cuts(series: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Part ascending series: long ones for themselves, short ones together; no part is longer than MOST."""
    borders = [0, *(np.flatnonzero(np.diff(series)) + 1).tolist(), len(series)]
    begin = 0
    for one, other in pairwise(borders):
        if one > begin and (other - one >= LONG or other - begin > MOST):
            yield begin, one
            begin = one
        while other - begin > MOST or (other - begin >= LONG and begin == one):
            yield begin, min(begin + MOST, other)
            begin = min(begin + MOST, other)
    if begin < len(series):
        yield begin, len(series)


class Blocks:
    """The files of blocks of one journal; `most` bytes of them are kept, and `floor` bytes of disk left free."""

    def __init__(self, files: Files, directory: Path, most: int, floor: int) -> None:
        self.refused = 0  # files that were damaged, or of another journal
        self._files, self._directory = files, directory
        self._most, self._floor = most, floor
        self._sizes: dict[str, int] = {}
        for name in files.names(directory):
            if name.endswith(DRAFT):
                self._remove(name)
            elif NAME.fullmatch(name):
                with suppress(OSError):
                    self._sizes[name] = files.size(directory / name)

    def prune(self, sealed: Iterable[SealedFile]) -> None:
        """Remove what belongs to no file of the journal any more, and what is beyond the bound."""
        names = {_name(file.first) for file in sealed}
        for name in sorted(self._sizes):
            if name not in names or sum(self._sizes.values()) > self._most:
                self._remove(name)

    def open(self, of: SealedFile) -> Opened | None:
        """Give the blocks of a journal file, if there are any that are sound."""
        name = _name(of.first)
        if name not in self._sizes:
            return None
        path = self._directory / name
        try:
            opened = self._open(path, of)
        except (FrameRefused, OSError):
            opened = None
        if opened is None:
            self.refused += 1
            self._remove(name)
        return opened

    def read(self, opened: Opened, blocks: Sequence[Block]) -> Iterator[Readings] | None:
        """Give these blocks of a file, one after the other; None if the checksum of one is wrong."""
        try:
            if sum(block.size for block in blocks) * 2 > self._sizes[opened.path.name]:
                data = memoryview(self._files.read(opened.path))
                parts = [data[block.at : block.at + block.size] for block in blocks]
            else:
                parts = [memoryview(self._files.read(opened.path, block.at, block.size)) for block in blocks]
            checked = [(part, frame.header(part)) for part in parts]
            for part, head in checked:
                frame.check(part, head)
        except (FrameRefused, OSError):
            self.refused += 1
            self._remove(opened.path.name)
            return None
        return (_decode(part, head) for part, head in checked)

    def put(self, of: SealedFile, maker: Maker, names: Sequence[str]) -> bool:
        """Keep the blocks of a file, if there is room; whether they were kept."""
        try:
            data = maker.finish(of, names)
            free = self._files.free(self._directory.parent)
            if sum(self._sizes.values()) + len(data) > self._most or free - len(data) < self._floor:
                return False
            make_directory(self._files, self._directory)
            write_atomically(self._files, self._directory / _name(of.first), data)
        except (FrameRefused, OSError):
            return False
        self._sizes[_name(of.first)] = len(data)
        return True

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self._sizes.values())

    def _open(self, path: Path, of: SealedFile) -> Opened | None:
        head = frame.header(self._files.read(path, 0, frame.HEADER_SIZE))
        opening = frame.decode(self._files.read(path, 0, head.size))
        state = columns.decode_state(opening.body)
        same = (FORMAT, of.head, of.size, of.last)
        if tuple(state.get(key) for key in ("format", "head", "bytes", "last")) != same:
            return None
        at, *rest = (state[name].tolist() for name in COLUMNS)
        blocks = [Block(*row) for row in zip([head.size + one for one in at], *rest, strict=True)]
        if sum(block.size for block in blocks) + head.size != self._sizes[path.name]:
            return None
        return Opened(path, state["known"], state["names"], blocks)

    def _remove(self, name: str) -> None:
        self._sizes.pop(name, None)
        with suppress(OSError):
            self._files.unlink(self._directory / name)


def covers(files: Files, directory: Path, journal: Path) -> int:
    """Give the bytes of the journal's files that have blocks here."""
    found = 0
    with suppress(OSError):
        for name in filter(NAME.fullmatch, files.names(directory)):
            with suppress(OSError):  # its journal file was dropped
                found += files.size(journal / segment_name(int(name[:20])))
    return found


def drop(files: Files, directory: Path) -> int:
    """Remove all blocks of a journal, for a disk that lacks room; give the bytes won."""
    won = 0
    with suppress(OSError):
        for name in files.names(directory):
            size = files.size(directory / name)
            files.unlink(directory / name)
            won += size
    return won


def _name(first: int) -> str:
    return f"{first:020}.blk"


def _decode(part: memoryview, head: frame.Header) -> Readings:
    table = columns.decode(frame.opened(part, head).body, DTYPES, max_rows=MOST)
    return Readings(table["series"], table["time"], table["value"])

"""The durable files of a log, to be read and dropped: what `Log` appends to, and what a tool may look at.

Rules:

1. Only records below `durable` + 1 are seen. Every record read has its checksum verified; a damaged one costs itself.
2. Files are dropped whole, oldest first, never the newest: so the last sequence and the chain survive an empty log.
   A file begun by a failed commit continues the one before it; they are dropped together.
3. What cannot be read is counted in `damaged`, once per sequence, and never raised. A file that is gone was dropped.
4. Reading and dropping belong to one thread; a commit may add records and files from another at the same time.

In memory: one file while `frames` runs, and the indexes of the CACHED_INDEXES files read last; then the least recently
used is forgotten.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from gateway.records import State
from gateway.segment import layout
from gateway.segment.files import Files
from gateway.segment.layout import Index, Opening
from protocol import frame
from protocol.errors import FrameRefused, JournalUnusable

CACHED_INDEXES = 2
"""A lane is read at two places: what is new, and the backlog."""


class Sealed(NamedTuple):
    """What would be dropped next: sequences, bytes, and the stamps between which they were appended (0: not known)."""

    first: int
    last: int
    bytes: int
    oldest: int
    newest: int


class SealedFile(NamedTuple):
    """A file that gets no more records: its sequences, its size in bytes, and the first 32 of them."""

    first: int
    last: int
    size: int
    head: bytes


@dataclass(slots=True)
class Segment:
    """One file; `stamp` is -1 until its SEGMENT frame has been read."""

    first: int
    bytes: int
    stamp: int = -1
    whole: bool = True


class Holes:
    """Sequences known to be missing: disjoint inclusive ranges, in order."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, first: int, last: int) -> int:
        """Join a range to those known and say how many of its sequences were not."""
        begin = bisect_left(self._ranges, first, key=lambda known: known[1] + 1)
        end = bisect_right(self._ranges, last + 1, key=lambda known: known[0])
        joined = self._ranges[begin:end]
        merged = (min([first, *(known[0] for known in joined)]), max([last, *(known[1] for known in joined)]))
        self._ranges[begin:end] = [merged]
        return _length(merged) - sum(map(_length, joined))

    def forget(self, upto: int) -> None:
        """Forget the ranges that end at or before `upto`."""
        del self._ranges[: bisect_right(self._ranges, upto, key=lambda known: known[1])]


def _length(known: tuple[int, int]) -> int:
    return known[1] - known[0] + 1


class History:
    """See the rules above."""

    def __init__(self, files: Files, directory: Path, lane: int) -> None:
        self.files, self.directory, self.lane = files, directory, lane
        self.durable, self.durable_chain = 0, 0  # the last record a commit has vouched for
        self.bytes = 0  # of all files
        self.damaged = 0  # sequences found unreadable
        self._segments: list[Segment] = []
        self._lock = Lock()  # held for moments: files, indexes, counters
        self._holes = Holes()
        self._indexes: OrderedDict[int, Index] = OrderedDict()
        self._index = Index(0)  # of the newest file

    @property
    def oldest(self) -> int:
        """The first sequence still here; the next one if there is none."""
        return self._segments[0].first if self._segments else self.durable + 1

    @property
    def oldest_stamp(self) -> int:
        """The stamp (ns) of the first record here, by its file's header; 0 if there is none or it is not known."""
        return max(self._know(self._segments[0]).stamp, 0) if self._segments else 0

    @property
    def newest_first(self) -> int:
        """The sequence that the newest file begins with; the next one if there is no file."""
        return self._segments[-1].first if self._segments else self.durable + 1

    @property
    def unbroken(self) -> int:
        """The last sequence before the first that the newest file misses between its records."""
        holes = self._index.holes
        return holes[0][0] - 1 if holes else self.durable

    def read(self, seq: int) -> bytes | None:
        """Give one durable record as a whole frame; None if it was dropped or is damaged."""
        found = self._span(seq)
        if found is None or seq < found[0].first:
            return None
        segment, below = found
        at, size = self._place(segment, below, seq)
        data = self._read(segment, at, size) if at else b""
        header = layout.sound(data, 0)
        if header is None or header.seq != seq:
            self.note_damage([(seq, seq)])
            return None
        return data[: header.size]

    def frames(self, from_seq: int, upto: int = layout.NO_LIMIT) -> Iterator[frame.Frame]:
        """Give all durable records from `from_seq` on, in order, stepping over what is damaged; one file in memory.

        No file is begun that holds only records behind `upto`.
        """
        while from_seq <= upto and (found := self._span(from_seq)) is not None:
            segment, below = found
            data = self._read(segment, 0, segment.bytes)
            expected = max(from_seq, segment.first)
            for at, header in layout.walk(data, self.lane, segment.first, below):
                if header.seq < expected:
                    continue
                if header.seq > expected:
                    self.note_damage([(expected, header.seq - 1)])
                expected = header.seq + 1
                try:
                    yield frame.opened(data, header, at)
                except FrameRefused:
                    self.note_damage([(header.seq, header.seq)])
            if expected < below:
                self.note_damage([(expected, below - 1)])
            from_seq = below
            del data  # or two files are in memory while the next one is read

    def sealed_files(self) -> list[SealedFile]:
        """Give all files but the newest."""
        with self._lock:
            files = [(segment, behind.first) for segment, behind in pairwise(self._segments)]
        size = frame.HEADER_SIZE
        return [SealedFile(one.first, below - 1, one.bytes, self._read(one, 0, size)) for one, below in files]

    def next_here(self, seq: int) -> int:
        """Give the first sequence from `seq` on that can be read, or that the next record will have."""
        while (found := self._span(seq)) is not None:
            segment, below = found
            index = self._index_of(segment, below)
            for candidate in range(max(seq, segment.first), min(index.next, below)):
                if index.at(candidate):
                    return candidate
            seq = below
        return self.durable + 1

    def oldest_about(self) -> State:
        """Give what the oldest file says of itself; {} if there is none or it cannot be read."""
        return self._about(self._segments[0]) if self._segments else {}

    def newest_about(self) -> State:
        """Give what the newest file says of itself; {} if there is none or it cannot be read."""
        return self._about(self._segments[-1]) if self._segments else {}

    def _span(self, seq: int) -> tuple[Segment, int] | None:
        """Give the file that holds `seq`, or the next one behind, and the sequence below which it counts."""
        with self._lock:
            if seq > self.durable or not self._segments:
                return None
            place = max(bisect_right(self._segments, seq, key=lambda segment: segment.first) - 1, 0)
            ends = place + 1 == len(self._segments)
            return self._segments[place], self.durable + 1 if ends else self._segments[place + 1].first

    def _place(self, segment: Segment, below: int, seq: int) -> tuple[int, int]:
        index = self._index_of(segment, below)
        with self._lock:
            return index.span(seq) if seq < below else (0, 0)

    def _index_of(self, segment: Segment, below: int) -> Index:
        if segment.first == self._index.first:
            return self._index
        with self._lock:
            if index := self._indexes.get(segment.first):
                self._indexes.move_to_end(segment.first)
                return index
        index = layout.index(self._read(segment, 0, segment.bytes), self.lane, segment.first, below)
        self.note_damage(index.holes)
        with self._lock:
            self._keep(index)
        return index

    def _keep(self, index: Index) -> None:
        if index.first:
            self._indexes[index.first] = index
        while len(self._indexes) > CACHED_INDEXES:
            self._indexes.popitem(last=False)

    def _read(self, segment: Segment, at: int, size: int) -> bytes:
        """Read bytes of a file; none if it has just been dropped or the disk cannot give them."""
        try:
            return self.files.read(self._path(segment.first), at, size)
        except FileNotFoundError:
            return b""
        except OSError as error:
            if error.errno == errno.EIO:
                return b""
            raise JournalUnusable(f"{self.directory} cannot be read: {error.strerror}") from error

    def _opening_of(self, segment: Segment) -> Opening | None:
        head = self._read(segment, 0, frame.HEADER_SIZE)
        try:
            size = frame.header(head).size
        except FrameRefused:
            return None
        return layout.decode_opening(self._read(segment, 0, size))

    def _about(self, segment: Segment) -> State:
        opening = self._opening_of(segment)
        return opening.about if opening else {}

    def note_damage(self, holes: list[tuple[int, int]]) -> None:
        """Count sequences (inclusive ranges) that cannot be read, each once."""
        for first, last in holes:
            self.damaged += self._holes.add(first, last)

    # Dropping.

    def oldest_sealed(self) -> Sealed | None:
        """Say what would be dropped next: the oldest file and its continuations; None if nothing else is left."""
        ends = 1
        while ends < len(self._segments) and not self._know(self._segments[ends]).whole:
            ends += 1
        if ends >= len(self._segments):
            return None
        group, behind = self._segments[:ends], self._segments[ends]
        size = sum(segment.bytes for segment in group)
        return Sealed(group[0].first, behind.first - 1, size, max(self._know(group[0]).stamp, 0), behind.stamp)

    def drop_before(self, seq: int) -> tuple[int, int]:
        """Remove whole sealed files that hold nothing from `seq` on; return how many sequences and bytes went.

        A file that the disk will not remove stays, and those behind it; the next call tries again.
        """
        first, size = self.oldest, self.bytes
        while len(self._segments) > 1 and self._segments[1].first <= seq:
            sealed = self.oldest_sealed()
            if sealed is None or sealed.last >= seq or not self._remove(sealed.last):
                break
        return self.oldest - first, size - self.bytes

    def _know(self, segment: Segment) -> Segment:
        if segment.stamp < 0:
            opening = self._opening_of(segment)
            segment.stamp, segment.whole = (opening.stamp, opening.whole) if opening else (0, True)
        return segment

    def _remove(self, last: int) -> bool:
        while self._segments[0].first <= last:
            segment = self._segments[0]
            try:
                self.files.unlink(self._path(segment.first))
            except OSError:
                return False
            with self._lock:
                del self._segments[0]
                self.bytes -= segment.bytes
                self._indexes.pop(segment.first, None)
        self._holes.forget(last)
        return True

    def _path(self, first: int) -> Path:
        return self.directory / layout.segment_name(first)

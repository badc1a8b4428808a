"""The bytes of a segment file, and how to find the good ones in it. Pure.

    00000000000000004711.seg          20 digits: the first sequence in the file
    ┌─────────┬────────┬────────┬─ ─ ─ ─┬─────────┐
    │ SEGMENT │ 4711   │ 4712   │       │ 4711+n-1│     frames of `protocol.frame`, one after the other
    └─────────┴────────┴────────┴─ ─ ─ ─┴─────────┘

The SEGMENT frame carries `first` as its sequence and this State:

    format 1 | lane | epoch | first | chain (of frame first - 1) | stamp (of the first record) | whole | about

It is not a link of the chain: the chain runs from record to record, across files. `about` is what the owner wants to
know to read this file alone. `whole` is False when a failed commit made the file begin in the middle: then `about` is
that of the file before, and both are dropped together.

Reading rules:

1. A record counts when it has the right lane, a higher sequence than the one before, and its checksum agrees.
2. Bytes that are no record cost themselves: reading goes on at the next record behind them.
3. A gap of k sequences needs at least 32 k damaged bytes (the size of k headers), so garbage cannot claim the future.
4. A file's records end below the next file's first sequence: what a failed commit left behind does not count.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.records import State
from protocol import columns, frame
from protocol.errors import FrameRefused
from protocol.messages import Kind

FORMAT = 1
NAME = re.compile(r"(\d{20})\.seg")
NO_LIMIT = (1 << 64) - 1


class Opening(NamedTuple):
    """What the first frame of a segment says of it."""

    lane: int
    epoch: int
    first: int
    chain: int
    stamp: int
    whole: bool
    about: State


def segment_name(first: int) -> str:
    """Name the file that begins with this sequence."""
    return f"{first:020}.seg"


def first_of(name: str) -> int | None:
    """Give the first sequence that a file name promises; None if it names no segment."""
    match = NAME.fullmatch(name)
    return int(match[1]) if match else None


def encode_opening(opening: Opening) -> bytes:
    """Make the SEGMENT frame; an `about` that does not fit into a frame is left out: the file says nothing."""
    try:
        return _encode_opening(opening)
    except FrameRefused:
        return _encode_opening(opening._replace(about={}))


def _encode_opening(opening: Opening) -> bytes:
    body = columns.encode_state({"format": FORMAT, **opening._asdict()})
    return frame.encode(Kind.SEGMENT, body, lane=opening.lane, seq=opening.first, chain_before=opening.chain)


def decode_opening(data: bytes) -> Opening | None:
    """Read the SEGMENT frame at the start of `data`; None if it is damaged or of another format."""
    try:
        head = frame.decode(data)
        state = columns.decode_state(head.body) if head.kind == Kind.SEGMENT else {}
    except FrameRefused:
        return None
    if state.pop("format", None) != FORMAT or set(state) != set(Opening._fields):
        return None
    return Opening(**state)


def sound(data: bytes, at: int) -> frame.Header | None:
    """Give the header of the whole, undamaged frame at `at`; None if there is none. Nothing is decompressed."""
    try:
        header = frame.header(data, at)
        frame.check(data, header, at)
    except FrameRefused:
        return None
    return header


def walk(data: bytes, lane: int, first: int, below: int = NO_LIMIT) -> Iterator[tuple[int, frame.Header]]:
    """Find a segment's records, (offset, header) in order, stepping over what is damaged (rules 1 to 4)."""
    at, expected, skipped = 0, first, 0
    while at < len(data):
        header = sound(data, at)
        if header is not None and header.kind == Kind.SEGMENT and at == 0:
            at = header.size
        elif header is None or not _counts(header, lane, expected, skipped):
            step = data.find(frame.MAGIC, at + 1)
            step = len(data) if step < 0 else step
            at, skipped = step, skipped + step - at
        elif header.seq >= below:
            return
        else:
            yield at, header
            at, expected, skipped = at + header.size, header.seq + 1, 0


def _counts(header: frame.Header, lane: int, expected: int, skipped: int) -> bool:
    if header.lane != lane or header.kind == Kind.SEGMENT:
        return False
    return expected <= header.seq <= expected + skipped // frame.HEADER_SIZE


@dataclass(slots=True)
class Index:
    """Where the records of one file are: `offsets[seq - first]`, 0 where one is missing."""

    first: int
    end: int = 0  # bytes up to the end of the last good record, or of the SEGMENT frame
    chain: int | None = None  # of the last good record
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    holes: list[tuple[int, int]] = field(default_factory=list)  # missing sequences between records, inclusive

    @property
    def next(self) -> int:
        """The sequence behind the last record."""
        return self.first + len(self.offsets)

    def put(self, seq: int, at: int, size: int, chain: int) -> None:
        """Note a record behind all others."""
        if gap := seq - self.next:
            self.holes.append((self.next, seq - 1))
            self.offsets.extend([0] * gap)
        self.offsets.append(at)
        self.end, self.chain = at + size, chain

    def at(self, seq: int) -> int:
        """Give the offset of a record, 0 if it is not in this file."""
        place = seq - self.first
        return self.offsets[place] if 0 <= place < len(self.offsets) else 0

    def span(self, seq: int) -> tuple[int, int]:
        """Give a record's offset and the bytes up to what follows it; (0, 0) if it is not in this file."""
        at = self.at(seq)
        return (at, (self.at(seq + 1) or self.end) - at) if at else (0, 0)


def index(data: bytes, lane: int, first: int, below: int = NO_LIMIT) -> Index:
    """Index all records of a segment file."""
    head = sound(data, 0)
    found = Index(first, head.size if head and head.kind == Kind.SEGMENT else 0)
    for at, header in walk(data, lane, first, below):
        found.put(header.seq, at, header.size, header.chain)
    return found

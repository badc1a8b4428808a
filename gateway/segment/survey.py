"""All of a log read for what is wrong with it: which file, which bytes, which records. Nothing is changed.

A log that its owner writes meanwhile may be surveyed: a file that is gone was dropped, and the end of the newest one
that cannot be read is looked at again, TRIES times, before it is called torn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.segment import layout, places
from gateway.segment.files import Files
from protocol import frame
from protocol.errors import FrameRefused
from protocol.messages import Kind

TRIES = 20


class Finding(NamedTuple):
    """Something wrong: bytes [begin, end) of a file, and the records first..last that it costs (0: none).

    `what` is one of: records, tail, header, missing, chain, place, content, disk.
    """

    what: str
    file: str
    begin: int = 0
    end: int = 0
    first: int = 0
    last: int = 0


@dataclass
class Surveyed:
    """How much was read, and what was wrong with it."""

    files: int = 0
    bytes: int = 0
    records: int = 0
    findings: list[Finding] = field(default_factory=list)


Reader = Callable[[frame.Frame], object]
"""Reads a record's body, or raises FrameRefused."""


def survey(  # noqa: PLR0917 - what a log is opened with, and how it is read
    files: Files, directory: Path, lane: int, epoch: int, read: Reader, pause: Callable[[], None] = lambda: None
) -> Surveyed:
    """Read everything, one file in memory; `pause` is called before the newest file's end is looked at again."""
    names = [name for name in files.names(directory) if layout.first_of(name) is not None]
    firsts = [layout.first_of(name) or 0 for name in names]
    walker = _Survey(lane, epoch, read)
    for name, first, below in zip(names, firsts, [*firsts, layout.NO_LIMIT][1:], strict=True):
        for _ in range(TRIES if below == layout.NO_LIMIT else 1):
            found = walker.part(files, directory / name, first, below)
            if not any(finding.what == "tail" for finding in found.findings):
                break
            pause()
        walker.take(found)
    return walker.all


@dataclass
class _Part(Surveyed):
    expected: int = 0  # the record after this file's last
    chain: int | None = None  # of this file's last record


class _Survey:
    """Where the last file ended, and what has been found so far."""

    def __init__(self, lane: int, epoch: int, read: Reader) -> None:
        self.lane, self.epoch, self.read = lane, epoch, read
        self.all = Surveyed()
        self._expected = 0
        self._chain: int | None = None

    def take(self, part: _Part) -> None:
        """Add one file's."""
        self.all.files += part.files
        self.all.bytes += part.bytes
        self.all.records += part.records
        self.all.findings += part.findings
        self._expected, self._chain = part.expected, part.chain

    def part(self, files: Files, path: Path, first: int, below: int) -> _Part:
        """Survey one file."""
        name = path.name
        try:
            data = places.read(files, path)
        except FileNotFoundError:  # dropped meanwhile
            return _Part(expected=0)
        if data is None:
            return _Part(1, 0, 0, [Finding("disk", name, 0, files.size(path), first)], below, None)
        part = _Part(1, len(data), 0, [], first, self._chain if self._expected == first else None)
        opening = layout.decode_opening(data)
        if opening and (opening.lane, opening.epoch, opening.first) != (self.lane, self.epoch, first):
            part.findings.append(Finding("place", name, 0, len(data), opening.first))
            return part
        if self._expected and self._expected < first and not (opening and opening.chain == self._chain):
            part.findings.append(Finding("missing", name, 0, 0, self._expected, first - 1))
        if opening and part.chain is None:
            part.chain = opening.chain
        self._records(data, name, part, below, known=opening is not None)
        return part

    def _records(self, data: bytes, name: str, part: _Part, below: int, *, known: bool) -> None:
        head = layout.sound(data, 0)
        end = head.size if head and head.kind == Kind.SEGMENT else 0
        whole = bool(end) and known
        for at, header in layout.walk(data, self.lane, part.expected, below):
            if at > end or not whole:
                part.findings += _damage(name, end, at, part.expected, header.seq - 1, header=not whole)
                whole = True
            self._record(data, name, part, at, header)
            end = at + header.size
        rest = len(data) - end
        if below == layout.NO_LIMIT:
            part.findings += [Finding("tail", name, end, len(data))] if rest else []
        elif part.expected < below and rest:  # else a commit that failed left it: the next file has these records
            part.findings.append(Finding("records", name, end, len(data), part.expected, below - 1))
            part.expected, part.chain = below, None

    def _record(self, data: bytes, name: str, part: _Part, at: int, header: frame.Header) -> None:
        end = at + header.size
        contiguous = header.seq == part.expected and part.chain is not None
        if contiguous and not frame.verify_chain(header, frame.content_of(data, header, at), part.chain or 0):
            part.findings.append(Finding("chain", name, at, end, header.seq, header.seq))
        try:
            self.read(frame.decode(data, at))
        except FrameRefused:
            part.findings.append(Finding("content", name, at, end, header.seq, header.seq))
        part.records += 1
        part.expected, part.chain = header.seq + 1, header.chain


def _damage(name: str, begin: int, end: int, first: int, last: int, *, header: bool) -> list[Finding]:
    """Say what the bytes before a good record cost: records, or what the file says of itself, or both."""
    lost = (first, last) if first <= last else (0, 0)
    if header and not last >= first:
        return [Finding("header", name, 0, end)]
    return [Finding("records", name, begin, end, *lost)]

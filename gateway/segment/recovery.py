"""Where a log goes on after a stop, a kill or a power cut: the end of its last file.

Rules:

1. Only the last file is read, and synced: a killed process may have written and not synced. If that fails, what was read
   is written to a new file in its place. Older ones were synced before it was made, and are trusted until read.
2. What is torn at its end (no good record behind it) is cut off.
3. A damaged record with good ones behind it stays where it is; it is counted, and the next record begins a new file.
4. A last file without any record is removed, unless it is whole and says where to begin; then the one before is last.
5. No sequence is given twice: a file's name promises that all below it were given, and a file that the disk cannot
   read is assumed to hold as many records as it has room for.
6. A file that belongs elsewhere (another lane, epoch or name) is set aside; ASIDE of them are kept, then the oldest
   is removed.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from pathlib import Path

from gateway.segment import layout
from gateway.segment.files import DRAFT, Files, write_atomically
from gateway.segment.history import Segment
from gateway.segment.layout import Index, Opening
from protocol import frame

ASIDE = 4
"""Files kept for a post-mortem."""


@dataclass(slots=True)
class Recovered:
    """What was found; `resumable` is the stamp of the last file if it may get more records, else None."""

    segments: list[Segment]
    index: Index = field(default_factory=lambda: Index(0))
    next: int = 1
    chain: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)
    torn: int = 0
    aside: int = 0
    resumable: int | None = None


def recover(files: Files, directory: Path, lane: int, epoch: int) -> Recovered:
    """Find the end of a log and make its last file fit to go on; OSError if the disk refuses."""
    names = files.names(directory)
    for name in names:
        if name.endswith(DRAFT):
            files.unlink(directory / name)
    firsts = [first for name in names if (first := layout.first_of(name)) is not None]
    found = Recovered([Segment(first, files.size(directory / layout.segment_name(first))) for first in firsts])
    while found.segments and not _resume(files, directory, (lane, epoch), found):
        found.segments.pop()
    files.sync_directory(directory)  # what is here, and what was just or once removed
    return found


def _resume(files: Files, directory: Path, identity: tuple[int, int], found: Recovered) -> bool:
    """Go on behind the last file's last good record; False if that file is of no use and has been put away."""
    last = found.segments[-1]
    path = directory / layout.segment_name(last.first)
    data = _read(files, path)
    if data is None:
        most = max(last.first + last.bytes // frame.HEADER_SIZE, found.next)
        found.holes.append((last.first, most - 1))
        found.next = most
        return True
    opening = layout.decode_opening(data)
    if opening and opening[:3] != (*identity, last.first):
        _set_aside(files, path)
        found.aside += 1
        return False
    index = layout.index(data, identity[0], last.first)
    if not index.offsets and not (opening and opening.whole):
        found.torn += last.bytes
        found.next = max(found.next, last.first)
        files.unlink(path)
        return False
    _cut(files, path, index.end, found)
    _make_durable(files, path, data[: last.bytes])
    _go_on(found, index, opening)
    return True


def _read(files: Files, path: Path) -> bytes | None:
    try:
        return files.read(path)
    except OSError as error:
        if error.errno == errno.EIO:
            return None
        raise


def _set_aside(files: Files, path: Path) -> None:
    files.rename(path, path.with_name(path.name + ".damaged"))
    aside = [name for name in files.names(path.parent) if name.endswith(".damaged")]
    for name in aside[:-ASIDE]:
        files.unlink(path.parent / name)


def _cut(files: Files, path: Path, end: int, found: Recovered) -> None:
    last = found.segments[-1]
    if last.bytes > end:
        files.truncate(path, end)
        found.torn += last.bytes - end
        last.bytes = end


def _make_durable(files: Files, path: Path, data: bytes) -> None:
    """Sync a file that a killed process may only have written."""
    descriptor = files.reopen(path)
    try:
        files.sync(descriptor)
    except OSError:  # what it did not write is clean to the kernel now: a second sync would prove nothing
        write_atomically(files, path, data)
    finally:
        files.close(descriptor)


def _go_on(found: Recovered, index: Index, opening: Opening | None) -> None:
    found.index = index
    found.holes += index.holes
    if index.next < found.next:
        found.holes.append((index.next, found.next - 1))
    elif opening and not index.holes:
        found.resumable = opening.stamp
    found.next = max(index.next, found.next)
    if index.chain is not None:
        found.chain = index.chain
    elif opening:
        found.chain = opening.chain

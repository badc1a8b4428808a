"""Where a log goes on after a stop, a kill or a power cut: the end of its last file.

Rules:

1. Only the last file is read, and synced: a killed process may have written and not synced. If that fails, what was
   read is written to a new file in its place. Older ones were synced before it was made, and are trusted until read.
2. What is torn at its end (no good record behind it) is cut off, and kept aside. Its sequences may be given again:
   whoever has heard of one will find that the chains differ.
3. A damaged record with good ones behind it stays where it is; it is counted, and the next record begins a new file.
4. A last file without any record is removed, unless it is whole and says where to begin; then the one before is last.
5. No sequence is given twice: a file's name promises that all below it were given, and a file that the disk cannot
   read is assumed to hold as many records as it has room for.
6. A file under another's name gets its own again, and one that belongs elsewhere is set aside (`places`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gateway.segment import layout, places
from gateway.segment.files import DRAFT, Files, write_atomically
from gateway.segment.history import Segment
from gateway.segment.layout import Index, Opening
from protocol import frame


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
    for name in files.names(directory):
        if name.endswith(DRAFT):
            files.unlink(directory / name)
    aside = places.put_right(files, directory, lane, epoch)
    firsts = [first for name in files.names(directory) if (first := layout.first_of(name)) is not None]
    segments = [Segment(first, files.size(directory / layout.segment_name(first))) for first in firsts]
    found = Recovered(segments, aside=aside)
    while found.segments and not _resume(files, directory, (lane, epoch), found):
        found.segments.pop()
    files.sync_directory(directory)  # what is here, and what was just or once removed
    return found


def _resume(files: Files, directory: Path, identity: tuple[int, int], found: Recovered) -> bool:
    """Go on behind the last file's last good record; False if that file is of no use and has been put away."""
    last = found.segments[-1]
    path = directory / layout.segment_name(last.first)
    data = places.read(files, path)
    if data is None:
        most = max(last.first + last.bytes // frame.HEADER_SIZE, found.next)
        found.holes.append((last.first, most - 1))
        found.next = most
        return True
    opening = layout.decode_opening(data)
    if opening and opening[:3] != (*identity, last.first):
        places.set_aside(files, path)
        found.aside += 1
        return False
    index = layout.index(data, identity[0], last.first)
    if not index.offsets and not (opening and opening.whole):
        found.torn += last.bytes
        found.next = max(found.next, last.first)
        places.set_aside(files, path) if data else files.unlink(path)
        return False
    _cut(files, path, data, index.end, found)
    _make_durable(files, path, data[: last.bytes])
    _go_on(found, index, opening)
    return True


def _cut(files: Files, path: Path, data: bytes, end: int, found: Recovered) -> None:
    last = found.segments[-1]
    if last.bytes > end:
        places.keep_aside(files, path.with_name(f"{path.name}.{end}"), data[end:])
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

"""Segment files under a name that is not theirs, or in a place that is not theirs; and what is kept for a post-mortem.

Rules:

1. A file that belongs to this log and bears another's name gets its own, unless that is taken. Files that were swapped
   are renamed by way of `{name}.home`, and a renaming that was interrupted is completed at the next opening.
2. A file of another lane or epoch, or whose name is taken, is set aside as `{name}.damaged`; so is what is cut off.
3. ASIDE of those are kept; then the one with the lowest sequences goes.

At each opening the first HEAD bytes of every file are read: enough for what a spool's says of itself, and for the lane
and the first sequence of any other.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from gateway.segment import layout
from gateway.segment.files import Files
from gateway.segment.layout import Opening
from protocol import frame
from protocol.errors import FrameRefused
from protocol.messages import Kind

ASIDE = 4
"""Files kept for a post-mortem."""

HEAD = 4096
DAMAGED = ".damaged"
HOME = ".home"


def put_right(files: Files, directory: Path, lane: int, epoch: int) -> int:
    """Give files their own names and set aside what belongs elsewhere; say how many that were. OSError if refused."""
    aside = 0
    for name in [name for name in files.names(directory) if layout.first_of(name) is not None]:
        opening = _misplaced(files, directory / name)
        if opening is None or (opening.lane, opening.epoch, layout.segment_name(opening.first)) == (lane, epoch, name):
            continue
        home = layout.segment_name(opening.first) + HOME
        if (opening.lane, opening.epoch) == (lane, epoch) and home not in files.names(directory):
            files.rename(directory / name, directory / home)
        else:
            set_aside(files, directory / name)
            aside += 1
    return aside + _bring_home(files, directory)


def _bring_home(files: Files, directory: Path) -> int:
    aside = 0
    names = files.names(directory)
    homeward = [name for name in names if name.endswith(HOME)]
    if homeward:
        files.sync_directory(directory)  # or a name may be taken before its file has left it
    for name in homeward:
        if name.removesuffix(HOME) in names:
            set_aside(files, directory / name)
            aside += 1
        else:
            files.rename(directory / name, directory / name.removesuffix(HOME))
    return aside


def _misplaced(files: Files, path: Path) -> Opening | None:
    """Give what a file says of itself if it can be told at once, or does not agree with its name."""
    data = read(files, path, HEAD) or b""
    if opening := layout.decode_opening(data):
        return opening
    try:
        head = frame.header(data)
    except FrameRefused:
        return None
    if head.kind != Kind.SEGMENT or layout.segment_name(head.seq) == path.name:
        return None
    return layout.decode_opening(read(files, path, head.size) or b"")


def read(files: Files, path: Path, size: int = -1) -> bytes | None:
    """Read a file's first bytes; None if the disk cannot give them. OSError for anything else."""
    try:
        return files.read(path, 0, size)
    except OSError as error:
        if error.errno == errno.EIO:
            return None
        raise


def set_aside(files: Files, path: Path) -> None:
    """Keep a file under a name that nobody reads."""
    files.rename(path, path.with_name(path.name + DAMAGED))
    _bound(files, path.parent)


def keep_aside(files: Files, path: Path, data: bytes) -> None:
    """Keep bytes that are cut off under a name like `path`'s, if the disk takes them: nothing depends on it."""
    with suppress(OSError):
        descriptor = files.create(path.with_name(path.name + DAMAGED))
        try:
            files.write(descriptor, data)
        finally:
            files.close(descriptor)
        _bound(files, path.parent)


def _bound(files: Files, directory: Path) -> None:
    aside = [name for name in files.names(directory) if name.endswith(DAMAGED)]
    for name in aside[:-ASIDE]:
        files.unlink(directory / name)

"""Segments: append-only logs of frames on the disk, under journal and spool.

`log` appends, `recovery` finds where to go on, `history` reads and drops; `layout` knows the bytes, and `files` is each
touch of the operating system.
"""

from __future__ import annotations

from gateway.segment.files import Files, OsFiles, ReadOnlyFiles, lock_directory, make_directory, write_atomically
from gateway.segment.history import History, Sealed
from gateway.segment.layout import Opening
from gateway.segment.log import Log

__all__ = [
    "Files",
    "History",
    "Log",
    "Opening",
    "OsFiles",
    "ReadOnlyFiles",
    "Sealed",
    "lock_directory",
    "make_directory",
    "write_atomically",
]

"""Segments: append-only logs of frames on the disk, under journal and spool.

`log` appends, `recovery` finds where to go on, `history` reads and drops, `places` keeps files where they belong,
`survey` says what is damaged; `layout` knows the bytes, and `files` is each touch of the operating system.
"""

from __future__ import annotations

from gateway.segment.files import Files, OsFiles, ReadOnlyFiles, lock_directory, make_directory, write_atomically
from gateway.segment.history import History, Sealed, SealedFile
from gateway.segment.layout import NO_LIMIT, Opening, first_of
from gateway.segment.log import Log
from gateway.segment.survey import Finding, Surveyed, survey

__all__ = [
    "NO_LIMIT",
    "Files",
    "Finding",
    "History",
    "Log",
    "Opening",
    "OsFiles",
    "ReadOnlyFiles",
    "Sealed",
    "SealedFile",
    "Surveyed",
    "first_of",
    "lock_directory",
    "make_directory",
    "survey",
    "write_atomically",
]

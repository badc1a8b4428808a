"""Every touch of the disk by journal and spool, in one port, so that a test can make each of them fail.

Rules:

1. A method does its whole work or raises OSError; `write` never writes only a part and returns.
2. What is new or renamed in a directory is durable after `sync_directory`, what is in a file after `sync`.
3. A descriptor whose `write` or `sync` failed is never written again: the kernel may have dropped the dirty pages and
   say yes to the next fsync (the "fsyncgate" of 2018). The log rolls to a new file instead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Protocol

from protocol.errors import JournalUnusable

DRAFT = ".tmp"
"""Ends the name of a file that is not complete yet."""


class Files(Protocol):
    """What a log, a checkpoint and a spool ask of a file system. All raise OSError."""

    def mkdir(self, path: Path) -> None:
        """Make a directory in one that exists; it may exist itself."""

    def names(self, path: Path) -> list[str]:
        """List a directory, sorted; an absent one is empty."""

    def size(self, path: Path) -> int:
        """Give a file's size in bytes."""

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        """Read up to `size` bytes from `offset` (-1: to the end)."""

    def create(self, path: Path) -> int:
        """Make a file that was not there and give a descriptor that appends to it."""

    def reopen(self, path: Path) -> int:
        """Give a descriptor that appends to an existing file."""

    def write(self, descriptor: int, data: bytes) -> None:
        """Append all of `data`."""

    def sync(self, descriptor: int) -> None:
        """Make what was written durable (fdatasync)."""

    def sync_directory(self, path: Path) -> None:
        """Make creations, renames and removals in a directory durable."""

    def close(self, descriptor: int) -> None:
        """Close a descriptor, which also gives up its lock."""

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes, durably."""

    def rename(self, old: Path, new: Path) -> None:
        """Put a file or directory in place of another name, atomically."""

    def unlink(self, path: Path) -> None:
        """Remove a file; it may be absent."""

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""

    def lock(self, path: Path) -> int:
        """Lock a file (made if absent) for this process alone; BlockingIOError if another holds it."""

    def free(self, path: Path) -> int:
        """Give the bytes free to us on the file system that holds `path`."""

    def total(self, path: Path) -> int:
        """Give the bytes of the file system that holds `path`, free or not."""

    def monotonic(self) -> float:
        """Give seconds that only grow, to time a sync with."""


class OsFiles:
    """The operating system's files."""

    def mkdir(self, path: Path) -> None:
        """Make a directory in one that exists; it may exist itself."""
        path.mkdir(exist_ok=True)

    def names(self, path: Path) -> list[str]:
        """List a directory, sorted; an absent one is empty."""
        try:
            return sorted(os.listdir(path))  # noqa: PTH208 - names are what we want, not Path objects
        except FileNotFoundError:
            return []

    def size(self, path: Path) -> int:
        """Give a file's size in bytes."""
        return path.stat().st_size

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        """Read up to `size` bytes from `offset` (-1: to the end)."""
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def create(self, path: Path) -> int:
        """Make a file that was not there and give a descriptor that appends to it."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def reopen(self, path: Path) -> int:
        """Give a descriptor that appends to an existing file."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes) -> None:
        """Append all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def sync(self, descriptor: int) -> None:
        """Make what was written durable (fdatasync)."""
        os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make creations, renames and removals in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor, which also gives up its lock."""
        os.close(descriptor)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes, durably."""
        descriptor = self.reopen(path)
        try:
            os.ftruncate(descriptor, size)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Put a file or directory in place of another name, atomically."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Remove a file; it may be absent."""
        path.unlink(missing_ok=True)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def lock(self, path: Path) -> int:
        """Lock a file (made if absent) for this process alone; BlockingIOError if another holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def free(self, path: Path) -> int:
        """Give the bytes free to us on the file system that holds `path`."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def total(self, path: Path) -> int:
        """Give the bytes of the file system that holds `path`, free or not."""
        status = os.statvfs(path)
        return status.f_blocks * status.f_frsize

    def monotonic(self) -> float:
        """Give seconds that only grow, to time a sync with."""
        return time.monotonic()


class ReadOnlyFiles(OsFiles):
    """Files to look at only, perhaps while their owner writes: nothing is locked, nothing on the disk is changed.

    What the opening of a log would put in order stays as it is; whatever would write something new fails with EROFS.
    """

    def mkdir(self, path: Path) -> None:
        """Leave the disk as it is."""

    def create(self, path: Path) -> int:
        """Refuse."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def reopen(self, path: Path) -> int:
        """Give a descriptor that is none: nothing is written to it."""
        del path
        return -1

    def write(self, descriptor: int, data: bytes) -> None:
        """Refuse."""
        del descriptor, data
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def sync(self, descriptor: int) -> None:
        """Do nothing: what is read here may not be durable yet."""

    def sync_directory(self, path: Path) -> None:
        """Do nothing."""

    def close(self, descriptor: int) -> None:
        """Do nothing: no descriptor is ever given."""

    def truncate(self, path: Path, size: int) -> None:
        """Leave the file as long as it is: its end may be a record that is just being written."""

    def rename(self, old: Path, new: Path) -> None:
        """Leave the name as it is."""

    def unlink(self, path: Path) -> None:
        """Leave the file where it is."""

    def rmdir(self, path: Path) -> None:
        """Leave the directory where it is."""

    def lock(self, path: Path) -> int:
        """Give a descriptor that is none, and lock nobody out."""
        del path
        return -1


def make_directory(files: Files, path: Path) -> None:
    """Make a directory and its parents, durably; OSError if that failed.

    One that exists is made durable too: whoever made it may have been killed before that.
    """
    try:
        files.mkdir(path)
    except FileNotFoundError:
        make_directory(files, path.parent)
        files.mkdir(path)
    files.sync_directory(path.parent)


def write_atomically(files: Files, path: Path, data: bytes) -> None:
    """Put a whole file in place, durably, or leave the old one as it was; OSError if that failed."""
    draft = path.with_name(path.name + DRAFT)
    files.unlink(draft)
    descriptor = files.create(draft)
    try:
        files.write(descriptor, data)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(draft, path)
    files.sync_directory(path.parent)


def lock_directory(files: Files, directory: Path) -> int:
    """Make a directory and lock it for this process; JournalUnusable if another has it, or it cannot be made."""
    try:
        make_directory(files, directory)
        return files.lock(directory / "lock")
    except BlockingIOError:
        what = f"{directory} is in use by another process: a gateway runs on this data, or a command writes it"
        raise JournalUnusable(what) from None
    except OSError as error:
        remedy = "`data` must be a directory that this user may write"
        raise JournalUnusable(f"{directory} cannot be used: {error.strerror}; {remedy}") from error

"""A disk in memory that loses, reorders and tears whatever was not synced when the power is cut. No file is touched.

Rules:

1. `kill` ends the process only: what was written stays. `cut` ends the machine: of a file stays what it was at its last
   good sync and, block by block of 512 B or 4 KiB, any part of what was written since; its new size too is any in
   between;
   a block that did not arrive is as it was, or zeros. Of names stays what was there at the directory's last sync, and
   of the changes since any beginning, as on a disk with a metadata journal, or any choice, as on one without.
2. A rename is one change. What was synced is never lost.
3. `faults[(method, n)]` is the errno of the n-th call of a method, counted from 1. A write that fails has written
   half. A
   sync that fails has synced any part, and the rest is clean to the kernel: readable, and never written by a later
   sync.
4. A descriptor whose write or sync failed must not be written or synced again: AssertionError.
5. `end_after` changing calls from now, the process dies: Died is raised; a write has then written all, half or
   nothing, a sync has or has not happened, and anything else is done. After that nothing of it touches the disk.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

BLOCKS = (512, 4096)
NEVER = 1 << 60

CHANGING = ("mkdir", "create", "write", "sync", "sync_directory", "truncate", "rename", "unlink", "rmdir")
"""Calls that change what is on the disk: a process may die at each."""


class Died(BaseException):  # no Exception: nobody but the test may catch it
    """The process was ended in the middle of what it did."""


@dataclass(eq=False)
class File:
    """What the kernel gives, what is on the platter, and whether the two may differ."""

    content: bytearray = field(default_factory=bytearray)
    platter: bytes = b""
    dirty: bool = False

    def settle(self) -> None:
        """Let everything arrive."""
        if self.dirty:
            self.platter, self.dirty = bytes(self.content), False

    def tear(self, chance: Random) -> None:
        """Let any part arrive."""
        if self.dirty:
            self.platter, self.dirty = _torn(self.platter, bytes(self.content), chance), False


@dataclass(eq=False)
class Directory:
    """Names as the kernel gives them, and as they are on the platter."""

    names: dict[str, Node] = field(default_factory=dict)
    platter: dict[str, Node] = field(default_factory=dict)


Node = File | Directory
Change = list[tuple[Directory, str, Node | None]]
"""Names that change together; None removes one."""


def _torn(old: bytes, new: bytes, chance: Random) -> bytes:
    block = chance.choice(BLOCKS)
    low, high = sorted((len(old), len(new)))
    size = chance.choice(
        [low, high, chance.randint(low, high), min(-(-chance.randint(low, high) // block) * block, high)]
    )
    likely = chance.choice([0.0, 0.2, 0.5, 0.9, 1.0])
    before, after = (data.ljust(size, b"\0")[:size] for data in (old, new))
    parts = [(after if chance.random() < likely else before)[at : at + block] for at in range(0, size, block)]
    return b"".join(parts)


class Disk:
    """`gateway.segment.Files` over memory; see the rules above."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.root = Directory()
        self.faults: dict[tuple[str, int], int] = {}
        self.calls: Counter[str] = Counter()
        self.fired = 0
        self.end_after = NEVER
        self.dead = False
        self._changes: list[Change] = []
        self._open: dict[int, File] = {}
        self._failed: set[int] = set()
        self._locks: dict[int, File] = {}
        self._numbers = count(3)

    # What happens to it.

    def kill(self) -> None:
        """End the process: descriptors and locks go."""
        self._open.clear()
        self._locks.clear()
        self._failed.clear()
        self.dead, self.end_after = False, NEVER

    def cut(self) -> None:
        """Cut the power (rule 1), and give it back."""
        self.kill()
        ordered, likely = self.chance.random() < 0.6, self.chance.random()
        changes = self._changes[: self.chance.randint(0, len(self._changes))] if ordered else self._changes
        for change in changes:
            if ordered or self.chance.random() < likely:
                _arrive(change)
        self._changes.clear()
        self._forget(self.root)

    def _forget(self, node: Node) -> None:
        if isinstance(node, Directory):
            node.names = dict(node.platter)
            for inner in node.names.values():
                self._forget(inner)
        else:
            node.tear(self.chance)
            node.content = bytearray(node.platter)

    def copy(self) -> Disk:
        """Give another disk with the same files, all of it synced, and no process."""
        other = Disk(Random(self.chance.random()))
        other.root = _copied(self.root)
        return other

    def content(self, path: Path) -> bytes:
        """Give a file's content, whatever fails."""
        return bytes(self._file(path).content)

    def damage(self, path: Path, content: bytes) -> None:
        """Change a file below the file system, or make it."""
        parent = self._directory(path.parent)
        for names in (parent.names, parent.platter):
            names[path.name] = File(bytearray(content), content)

    def lose(self, path: Path) -> None:
        """Let a file be gone."""
        parent = self._directory(path.parent)
        for names in (parent.names, parent.platter):
            names.pop(path.name, None)

    def walk(self, path: Path = Path("/")) -> Iterator[Path]:
        """Name all files under a directory."""
        for name, node in sorted(self._directory(path).names.items()):
            if isinstance(node, File):
                yield path / name
            else:
                yield from self.walk(path / name)

    @property
    def held(self) -> int:
        """How many descriptors and locks are not given up."""
        return len(self._open) + len(self._locks)

    # What may fail.

    def _enter(self, method: str) -> None:
        if self.dead:
            raise Died
        self.calls[method] += 1
        if method in CHANGING:
            self.end_after -= 1
            self.dead = self.end_after < 0
        number = self.faults.get((method, self.calls[method]))
        if number and not self.dead:  # the dead are not told
            self.fired += 1
            raise OSError(number, os.strerror(number))

    def _leave(self) -> None:
        if self.dead:
            raise Died

    # Names.

    def _directory(self, path: Path) -> Directory:
        node: Node = self.root
        for part in path.parts[1:]:
            inner = node.names.get(part) if isinstance(node, Directory) else None
            if inner is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            node = inner
        if isinstance(node, File):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return node

    def _file(self, path: Path) -> File:
        node = self._directory(path.parent).names.get(path.name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return node

    def _change(self, change: Change) -> None:
        for directory, name, node in change:
            _put(directory.names, name, node)
        self._changes.append(change)

    def mkdir(self, path: Path) -> None:
        """Make a directory; it may exist."""
        self._enter("mkdir")
        parent = self._directory(path.parent)
        if not isinstance(parent.names.get(path.name), Directory):
            self._change([(parent, path.name, Directory())])
        self._leave()

    def names(self, path: Path) -> list[str]:
        """List a directory, sorted; an absent one is empty."""
        self._enter("names")
        try:
            return sorted(self._directory(path).names)
        except FileNotFoundError:
            return []

    def rename(self, old: Path, new: Path) -> None:
        """Put a file or directory in place of another name."""
        self._enter("rename")
        source, target = self._directory(old.parent), self._directory(new.parent)
        node = source.names.get(old.name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(old))
        self._change([(source, old.name, None), (target, new.name, node)])
        self._leave()

    def unlink(self, path: Path) -> None:
        """Remove a file; it may be absent."""
        self._enter("unlink")
        parent = self._directory(path.parent)
        if path.name in parent.names:
            self._change([(parent, path.name, None)])
        self._leave()

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        self._enter("rmdir")
        if self._directory(path).names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        self._change([(self._directory(path.parent), path.name, None)])
        self._leave()

    def sync_directory(self, path: Path) -> None:
        """Make names durable."""
        self._enter("sync_directory")
        directory = self._directory(path)
        rest: list[Change] = []
        for change in self._changes:
            if any(touched is directory for touched, _, _ in change):
                _arrive(change)
            else:
                rest.append(change)
        self._changes = rest
        self._leave()

    # Content.

    def size(self, path: Path) -> int:
        """Give a file's size."""
        self._enter("size")
        return len(self._file(path).content)

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        """Read up to `size` bytes from `offset` (-1: to the end)."""
        self._enter("read")
        content = self._file(path).content
        return bytes(content[offset:] if size < 0 else content[offset : offset + size])

    def create(self, path: Path) -> int:
        """Make a file that was not there."""
        self._enter("create")
        parent = self._directory(path.parent)
        if path.name in parent.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        made = File()
        self._change([(parent, path.name, made)])
        self._leave()
        return self._descriptor(made)

    def reopen(self, path: Path) -> int:
        """Open a file to append to it."""
        self._enter("reopen")
        return self._descriptor(self._file(path))

    def _descriptor(self, opened: File) -> int:
        number = next(self._numbers)
        self._open[number] = opened
        return number

    def write(self, descriptor: int, data: bytes) -> None:
        """Append; half of it when it fails."""
        opened = self._open[descriptor]
        assert descriptor not in self._failed, "written after it had failed"
        opened.dirty = True
        try:
            self._enter("write")
        except OSError:
            opened.content += data[: len(data) // 2]
            self._failed.add(descriptor)
            raise
        opened.content += data[: self.chance.choice([0, len(data) // 2, len(data)])] if self.dead else data
        self._leave()

    def sync(self, descriptor: int) -> None:
        """Make what was written durable; any part of it when it fails."""
        opened = self._open[descriptor]
        assert descriptor not in self._failed, "synced after it had failed"
        try:
            self._enter("sync")
        except OSError:
            opened.tear(self.chance)
            self._failed.add(descriptor)
            raise
        if not self.dead or self.chance.random() < 0.5:
            opened.settle()
        self._leave()

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file, durably; not at all when it fails."""
        self._enter("truncate")
        cut = self._file(path)
        del cut.content[size:]
        cut.dirty = True
        cut.settle()
        self._leave()

    def close(self, descriptor: int) -> None:
        """Close a descriptor or give up a lock."""
        if self.dead:
            return
        if self._open.pop(descriptor, None) is None:
            del self._locks[descriptor]
        self._failed.discard(descriptor)

    def lock(self, path: Path) -> int:
        """Lock a file, made if absent."""
        self._enter("lock")
        parent = self._directory(path.parent)
        if path.name not in parent.names:
            self._change([(parent, path.name, File())])
        locked = self._file(path)
        if locked in self._locks.values():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
        number = next(self._numbers)
        self._locks[number] = locked
        return number

    def free(self, path: Path) -> int:
        """Give room without end."""
        del path
        return NEVER

    def total(self, path: Path) -> int:
        """Give a disk without end."""
        del path
        return NEVER

    def monotonic(self) -> float:
        """Give a clock that stands still."""
        return 0.0


def _copied(node: Directory) -> Directory:
    names: dict[str, Node] = {
        name: _copied(inner) if isinstance(inner, Directory) else File(bytearray(inner.content), bytes(inner.content))
        for name, inner in node.names.items()
    }
    return Directory(names, dict(names))


def _put(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _arrive(change: Change) -> None:
    for directory, name, node in change:
        _put(directory.platter, name, node)

"""A disk that fails when it is told to, and forgets what was not synced when the power is cut.

Model of a power cut: of each file, everything up to its last sync is there, and any part of what was written since; a
new name is there if its directory was synced since, else perhaps; a removal or rename always.
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from gateway.segment.files import OsFiles


@dataclass
class FaultyFiles(OsFiles):
    """Real files with faults: `faults[(method, n)]` is the errno of the n-th call of a method, counted from 1.

    A write that fails has written half. With `fast`, syncs only count, which is enough without a real power cut.
    """

    faults: dict[tuple[str, int], int] = field(default_factory=dict)
    fast: bool = True
    calls: Counter[str] = field(default_factory=Counter)
    _paths: dict[int, Path] = field(default_factory=dict)
    _synced: dict[Path, int] = field(default_factory=dict)
    _nameless: set[Path] = field(default_factory=set)

    def _count(self, method: str) -> None:
        self.calls[method] += 1
        if number := self.faults.get((method, self.calls[method])):
            raise OSError(number, os.strerror(number))

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        """Read, unless told to fail."""
        self._count("read")
        return super().read(path, offset, size)

    def create(self, path: Path) -> int:
        """Create, unless told to fail."""
        self._count("create")
        descriptor = super().create(path)
        self._paths[descriptor] = path
        self._synced[path] = 0
        self._nameless.add(path)
        return descriptor

    def reopen(self, path: Path) -> int:
        """Open, unless told to fail."""
        self._count("reopen")
        descriptor = super().reopen(path)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        """Write; half of it when told to fail."""
        try:
            self._count("write")
        except OSError:
            super().write(descriptor, data[: len(data) // 2])
            raise
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Sync, unless told to fail; nothing is durable then."""
        self._count("sync")
        if not self.fast:
            super().sync(descriptor)
        self._synced[self._paths[descriptor]] = os.fstat(descriptor).st_size

    def sync_directory(self, path: Path) -> None:
        """Make names durable, unless told to fail."""
        self._count("sync_directory")
        if not self.fast:
            super().sync_directory(path)
        self._nameless = {name for name in self._nameless if name.parent != path}

    def truncate(self, path: Path, size: int) -> None:
        """Cut, unless told to fail."""
        self._count("truncate")
        with path.open("r+b") as file:
            file.truncate(size)
        self._synced[path] = min(self._synced.get(path, size), size)

    def rename(self, old: Path, new: Path) -> None:
        """Rename, unless told to fail."""
        self._count("rename")
        super().rename(old, new)
        self._paths = {descriptor: _moved(path, old, new) for descriptor, path in self._paths.items()}
        self._synced = {_moved(path, old, new): size for path, size in self._synced.items()}
        self._nameless = {_moved(path, old, new) for path in self._nameless if path != old}

    def unlink(self, path: Path) -> None:
        """Remove, unless told to fail."""
        self._count("unlink")
        super().unlink(path)
        self._synced.pop(path, None)
        self._nameless.discard(path)

    def power_cut(self, chance: random.Random) -> None:
        """Lose what was not synced, or a part of it. Whoever has files open must give them up first."""
        for path, synced in self._synced.items():
            if path in self._nameless and chance.random() < 0.5:
                path.unlink(missing_ok=True)
            elif path.exists():
                os.truncate(path, chance.randint(min(synced, self.size(path)), self.size(path)))
        self._synced, self._nameless = {}, set()


def _moved(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path.is_relative_to(old) else path


def every_call(calls: Counter[str]) -> list[tuple[str, int, int]]:
    """Give (method, n, errno) of everything that could fail where these calls succeeded: ENOSPC and EIO for each."""
    return [
        (method, number, code)
        for method, count in sorted(calls.items())
        for number in range(1, count + 1)
        for code in (errno.ENOSPC, errno.EIO)
    ]

"""A gateway that kills itself with -9 at a durable step: `python -m tests.faults.victim CONFIG --point NAME --hit N`.

A point is named by what it touches and how: `journal.sync`, `checkpoints.rename`, `spool.telemetry.create`.
The process dies just before the step, just after it, or (a write) when half of it is on the disk. `--within S` kills it
at a random moment instead; with `--hang` the step never ends, as on a disk that has gone; `--list` prints, when it ends
in order, how often each point was passed. With `--armed VERSION` points count from when a model of that version scores,
durable or not.

While there is such a file, `--limit FILE` makes its disk as small as the number of bytes in it says, and `--wall FILE`
its wall clock as wrong as the nanoseconds in it say (a 1 or 0 behind them: a time service has set it, or not yet); both
are read anew each time. `--hear S` makes it ask its broker for drops so many seconds after the start.

With `--trap FILE` the step is chosen while it runs (`tests.faults.trap`), and there is one more, `task`: a task of the
cloud is computed, and nothing of its answer is kept. `tests.faults.nursery` makes victims of one interpreter, by fork:
importing costs each as much as all that it lives through.

A kernel that goes on keeps what was written, synced or not: kill -9 tests order and atomicity. What a power cut loses,
`tests.faults.disk` forgets.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import faulthandler
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from threading import Event, Lock, Timer

from gateway import compute, pipeline, recovery, renew
from gateway.clock import Clock
from gateway.config import parse
from gateway.intake import hearsay
from gateway.segment import OsFiles, layout
from protocol.messages import JOURNAL_LANE, LANES
from tests.faults.trap import Trap, kill_self

TELEMETRY = "telemetry-"
"""Begins the names of telemetry files that were kept."""

IN_A_CHILD = "_in_a_child"
"""Computes a task, of `gateway.compute.Compute`."""


def hang() -> None:
    """Stay in the step for ever."""
    Event().wait()


def number_in(path: Path) -> int | None:
    """Read the number in a file; None while there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def size_of(directory: Path) -> int:
    """Add up the bytes of all files; some may be removed meanwhile."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def wrong_wall(path: Path) -> int:
    """Give the time in ns, as wrong as the file says."""
    return time.time_ns() + int(path.read_text().split()[0])


def says(path: Path) -> bool | None:
    """Tell what a time service says of that clock: the file's second number, if there is one."""
    said = path.read_text().split()[1:]
    return bool(int(said[0])) if said else None


def point_name(data: Path, path: Path, operation: str) -> str:
    """Name a step: `journal`, `checkpoints`, `spool`, `spool.{lane}`, and what is done to it."""
    parts = path.relative_to(data).parts if path.is_relative_to(data) else ()
    lane = next((part for part in parts if part in LANES), "")
    return ".".join(part for part in (parts[0] if parts else "data", lane, operation) if part)


@dataclass
class KillingFiles(OsFiles):
    """Real files that count durable steps, and die at one of them.

    Before a file of the journal or of telemetry is removed it gets a second name in `archive`: all of the journal can
    be replayed, and it is known what was in a frame that was dropped.
    """

    data: Path
    point: str = ""
    hit: int = 1
    when: str = "before"
    archive: Path | None = None
    die: Callable[[], None] = kill_self
    armed: Callable[[], bool] = lambda: True
    limit: Path | None = None
    trap: Trap | None = None
    passed: Counter[str] = field(default_factory=Counter)
    _paths: dict[int, Path] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def _step(self, path: Path, operation: str, half: Callable[[], None] | None = None) -> Iterator[None]:
        name = point_name(self.data, path, operation)
        with self._lock:
            self.passed[name] += self.armed()
            when = self._when(name)
        if when == "half" and half is not None:
            half()
        if when in ("before", "half"):
            self.die()
        yield
        if when:
            self.die()

    def _when(self, name: str) -> str:
        """Say when to die at this passing of a point, "" to live on."""
        if name == self.point and self.passed[name] == self.hit and self.armed():
            return self.when
        return self.trap.passes(name) if self.trap is not None else ""

    def mkdir(self, path: Path) -> None:
        """Make a directory, perhaps the last thing done."""
        if not path.is_dir():
            with self._step(path, "mkdir"):
                super().mkdir(path)

    def create(self, path: Path) -> int:
        """Make a file, perhaps the last thing done."""
        with self._step(path, "create"):
            descriptor = super().create(path)
            self._paths[descriptor] = path
            return descriptor

    def reopen(self, path: Path) -> int:
        """Open a file, and remember which."""
        descriptor = super().reopen(path)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        """Write, perhaps only half of it, perhaps the last thing done."""
        write = super().write
        half = data[: len(data) * 2 // 3]  # more than what a file says of itself: its first record is torn
        with self._step(self._paths[descriptor], "write", lambda: write(descriptor, half)):
            fits = max(0, min(len(data), self._room()))
            write(descriptor, data[:fits])
            if fits < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _room(self) -> int:
        limit = number_in(self.limit) if self.limit is not None else None
        return sys.maxsize if limit is None else limit - size_of(self.data)

    def sync(self, descriptor: int) -> None:
        """Sync, perhaps the last thing done."""
        with self._step(self._paths[descriptor], "sync"):
            super().sync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Sync a directory, perhaps the last thing done."""
        with self._step(path, "sync_directory"):
            super().sync_directory(path)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file, perhaps the last thing done."""
        with self._step(path, "truncate"):
            super().truncate(path, size)

    def rename(self, old: Path, new: Path) -> None:
        """Rename, perhaps the last thing done."""
        with self._step(new, "rename"):
            super().rename(old, new)

    def unlink(self, path: Path) -> None:
        """Remove a file if it is there, perhaps the last thing done."""
        if not path.exists():
            return
        with self._step(path, "unlink"):
            if self.archive is not None and (name := _kept_as(path)):
                (self.archive / name).unlink(missing_ok=True)
                os.link(path, self.archive / name)
            super().unlink(path)

    def rmdir(self, path: Path) -> None:
        """Remove a directory, perhaps the last thing done."""
        with self._step(path, "rmdir"):
            super().rmdir(path)


def _kept_as(path: Path) -> str:
    """Give the name under which a file is kept, "" if it is not."""
    if path.parent.name == "telemetry" and layout.first_of(path.name) is not None:
        return TELEMETRY + path.name
    return path.name if path.parent.name == "journal" and _has_records(path) else ""


def _has_records(path: Path) -> bool:
    """Tell a file that retention removes from one that a kill left empty, and recovery gives up."""
    first = layout.first_of(path.name)
    return first is not None and bool(layout.index(path.read_bytes(), JOURNAL_LANE, first).offsets)


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.faults.victim")
    parser.add_argument("config", type=Path)
    parser.add_argument("--point", default="")
    parser.add_argument("--hit", type=int, default=1)
    parser.add_argument("--when", choices=("before", "half", "after"), default="before")
    parser.add_argument("--within", type=float, help="seconds after it runs, at a random moment")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--limit", type=Path)
    parser.add_argument("--wall", type=Path)
    parser.add_argument("--trap", type=Path)
    parser.add_argument("--hear", type=float)
    parser.add_argument("--armed", type=int, default=0)
    parser.add_argument("--hang", action="store_true")
    parser.add_argument("--list", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Run a gateway until it is killed, by itself or others, or told to end."""
    options = _arguments(arguments)
    faulthandler.enable()  # a victim that does not die is told to abort
    config = parse(options.config.read_text(), str(options.config))
    die = hang if options.hang else kill_self
    files = KillingFiles(Path(config.data), options.point, options.hit, options.when, options.archive, die)
    if options.within is not None:
        timer = Timer(Random(options.seed).uniform(0, options.within), kill_self)
        timer.daemon = True
        timer.start()
    files.limit = options.limit
    if options.trap is not None:
        files.trap = trap = Trap(options.trap)
        setattr(compute.Compute, IN_A_CHILD, trap.around(getattr(compute.Compute, IN_A_CHILD), lambda _: "task"))
    if options.wall is not None:
        vars(pipeline)["Clock"] = partial(Clock, wall=partial(wrong_wall, options.wall))
        vars(pipeline)["vouched"] = partial(says, options.wall)
    if options.hear is not None:
        hearsay.EVERY_S = options.hear
    running: list[pipeline.Pipeline] = []
    if options.armed:
        files.armed = lambda: any(options.armed in recovery.versions(gateway.at).values() for gateway in running)
    file = renew.File(str(options.config), lambda: parse(options.config.read_text(), str(options.config)))
    asyncio.run(pipeline.run(config, files=files, on_ready=running.append, file=file))
    if options.list:
        sys.stdout.write(json.dumps(dict(sorted(files.passed.items()))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

"""What the operating system hands a service (secrets, memory), and the line about it that `systemctl status` shows."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path
from typing import NamedTuple

from protocol.errors import ConfigurationRefused


def secret(section: str, name: str, *, file: str, env: str) -> str | None:
    """Read a secret from its file or variable: None if neither is configured, ConfigurationRefused if it is absent."""
    if file:
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ConfigurationRefused(f"{section}.{name}_file", file, f"a readable file ({error.strerror})") from None
    if env:
        try:
            return os.environ[env].strip()
        except KeyError:
            raise ConfigurationRefused(f"{section}.{name}_env", env, "a variable set in the environment") from None
    return None


M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # mallopt(3)
LARGE = 256 << 10


def settle_memory() -> None:
    """Tune collector and allocator for a process that runs for months; once, when everything is imported.

    Readings travel as columns and make no cycles: looking for some at the usual pace costs a few per cent of the CPU.
    glibc raises its threshold for giving memory back to the size of the largest block freed, so one checkpoint would
    keep its peak for ever; a fixed threshold returns large blocks at once. Other C libraries do so anyway.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, 2)


def give_back() -> None:
    """Let the allocator return what is free, after something large; only glibc keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Course(NamedTuple):
    """How far a gateway has come: counters since it began, frames that wait for a receipt, and its connections."""

    recorded: int
    windows: int
    frames: int
    broker: bool
    cloud: bool | None  # None: it works alone


class Bulletin:
    """Puts the course of a gateway into one line for a person; rates are those since the line before. Pure."""

    def __init__(self, course: Course, now: int) -> None:
        self._before, self._at = course, now

    def feed(self, course: Course, now: int) -> str:
        """Give the line; `now` in ns."""
        before, seconds = self._before, max((now - self._at) / 1e9, 1e-9)
        self._before, self._at = course, now
        parts = [
            f"{rounded((course.recorded - before.recorded) / seconds)} readings/s",
            f"{rounded((course.windows - before.windows) / seconds)} windows/s",
            "broker connected" if course.broker else "broker away",
        ]
        if course.cloud is not None:
            parts += [f"cloud {'connected' if course.cloud else 'away'}", f"frames waiting: {course.frames:,}"]
        return ", ".join(parts)


def rounded(rate: float) -> str:
    """Give two digits of a rate: what is steady then reads the same from one line to the next."""
    if rate < 10:
        return f"{rate:.1f}".removesuffix(".0")
    return f"{int(float(f'{rate:.1e}')):,}"

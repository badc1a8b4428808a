"""What the operating system hands a service: secrets, by file or environment; and memory, given back."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

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

"""Starts victims by fork, so that a gateway that is killed thirty times is imported once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class Forked:
    """A victim: the nursery's child, of which we know the pid and hear the end."""

    def __init__(self, pid: int, end: asyncio.Task[int]) -> None:
        self.pid = pid
        self._end = end

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it lives."""
        return self._end.result() if self._end.done() else None

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""
        os.kill(self.pid, signal)

    async def wait(self) -> int:
        """Wait for its end, and give the exit code."""
        return await asyncio.shield(self._end)


class Nursery:
    """`python -m tests.faults.victim --nursery` while the context is open; one victim at a time."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.faults.victim", "--nursery"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    async def start(self, log: Path, arguments: list[str]) -> Forked:
        """Start a victim; the one before must have ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(log), *arguments]) + "\n")
        self._process.stdin.flush()
        pid = await self._hear()
        return Forked(pid, asyncio.create_task(self._hear(), name=f"end of {pid}"))

    async def _hear(self) -> int:
        assert self._process.stdout is not None
        return int(await asyncio.to_thread(self._process.stdout.readline))

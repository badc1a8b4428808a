"""Processes of ours, and what they answer."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import aiohttp

from tests.waiting import DEADLINE_S, until


async def get(url: str) -> bytes:
    """Give the body of a GET, whatever its status; b"" while nobody answers."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.read()
    except aiohttp.ClientError:
        return b""


class Process(Protocol):
    """What is asked of a child, however it came to life."""

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it lives."""

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""

    async def wait(self) -> int:
        """Wait for its end, and give the exit code."""


Start = Callable[[Path, list[str]], Awaitable[Process]]
"""Starts a process with a log file and arguments."""


def python(*before: str) -> Start:
    """Start an interpreter with these arguments before all others."""

    async def start(log: Path, arguments: list[str]) -> Process:
        with log.open("ab") as out:
            return await asyncio.create_subprocess_exec(sys.executable, *before, *arguments, stdout=out, stderr=out)

    return start


class Child:
    """A process of ours, and what it says."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process, self.log = process, log

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM; it must end in order."""
        self.process.send_signal(signal.SIGTERM)
        assert await self.ended() == 0, self.said()

    async def ended(self, what: str = "its end", within: float = DEADLINE_S) -> int:
        """Wait for its end, and give the exit code (negative: the signal)."""
        await until(lambda: not self.running, what, within=within)
        return await self.process.wait()

    async def close(self) -> None:
        """Leave nothing behind."""
        if self.running:
            await self.kill()

    def said(self) -> str:
        """Give the end of its output."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

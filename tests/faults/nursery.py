"""Starts victims by fork, so that a process that is killed thirty times is imported once.

`python -m tests.faults.nursery MODULE` is the other end: it takes lines [log, arguments...] in JSON; for each it forks,
lets the fork call MODULE.main(arguments), and prints its pid and, when it has ended, its exit code.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

VICTIM = "tests.faults.victim"

Main = Callable[[list[str]], None]


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
    """A nursery of gateways, or of another module's, while the context is open; one victim at a time."""

    def __init__(self, module: str = VICTIM) -> None:
        self._module = module

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.faults.nursery", self._module]
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
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line, "the nursery has ended; standard error says why"
        return int(line)


# The other end.


def nurse(main: Main) -> None:
    """Start victims until nobody wants one."""
    for line in sys.stdin:
        log, *arguments = json.loads(line)
        pid = os.fork()
        if not pid:
            _live(main, log, arguments)
        _say(pid)
        _say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _live(main: Main, log: str, arguments: list[str]) -> NoReturn:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        main(arguments)
    except BaseException:  # noqa: BLE001 - a fork must not return into its parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    nurse(import_module(sys.argv[1]).main)

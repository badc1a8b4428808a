"""The demonstration's processes: started, watched, and started again when somebody kills them.

Rules:

1. Each is the leader of its own session: Ctrl-C at the terminal reaches the demonstration alone, which ends them in
   order.
2. One that ends unasked is started again, at once the first time, then after a doubling pause.
3. One that ends by itself QUICK times in a row within YOUNG_S of its start does not run on this machine: ChildFailed
   says the end of its log. Being killed is no fault of its own, however often.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cli
from protocol.errors import FieldgateError

QUICK = 5
YOUNG_S = 3.0
BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PAUSE_S = 0.25
GRACE_S = 15.0
"""Seconds to end after SIGTERM, before SIGKILL: devices wait 10 s for acknowledgements."""

LINE_BYTES = 8 << 20
"""Bound on one line of a child's output."""

TAIL_LINES = 15


class ChildFailed(FieldgateError):
    """A process that does not stay up; the text has the end of its log."""


class Child:
    """One process. `command()` gives its arguments each time it starts; `on_line` takes the lines it prints."""

    def __init__(
        self,
        name: str,
        command: Callable[[], list[str]],
        log: Path,
        say: Callable[[str], None],
        *,
        on_line: Callable[[bytes], None] | None = None,
        on_restart: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.restarts = name, 0
        self._command, self._log, self._say = command, log, say
        self._on_line, self._on_restart = on_line, on_restart
        self._process: Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start the process; `keep` watches it."""
        root = str(Path(cli.__file__).parent.parent)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "cli.demo.tied", str(os.getpid())),
                *self._command(),
                stdin=DEVNULL,
                stdout=PIPE if self._on_line else log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": root, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                limit=LINE_BYTES,
            )

    async def keep(self) -> None:
        """Watch the process until told to stop, starting it again whenever it ends; ChildFailed if it will not stay."""
        quick, clock = 0, asyncio.get_running_loop().time
        while True:
            began = clock()
            status = await self._wait()
            if self._stopping:
                return
            quick = quick + 1 if clock() - began < YOUNG_S and -status not in BY_OTHERS else 0
            if quick >= QUICK:
                raise ChildFailed(f"{self.name} does not stay up:\n{self._tail()}")
            await self._start_again(status, quick)

    async def _start_again(self, status: int, quick: int) -> None:
        old = self._process.pid if self._process else 0
        await asyncio.sleep(PAUSE_S * 2**quick if quick > 1 else 0)
        if self._stopping:
            return
        await self.start()
        self.restarts += 1
        self._say(f"{self.name} (pid {old}) {_ending(status)}; started again as pid {self.pid}")
        if self._on_restart is not None:
            self._on_restart()

    async def _wait(self) -> int:
        process = self._process
        if process is None:
            return 0
        if process.stdout is not None and self._on_line is not None:
            async for line in process.stdout:
                self._on_line(line)
        return await process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end; it is not started again."""
        self._stopping = True
        self.signal(signal.SIGTERM)

    async def ended(self) -> None:
        """Wait until it has ended; after GRACE_S it is killed."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(GRACE_S):
                await self._process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with code {status}"

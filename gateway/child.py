"""The child process in which tasks run: started for the first, kept for a while, stopped when it must be.

| bound | answer when it is passed |
|---|---|
| wall time | killed: "failed", `time` |
| CPU time, memory | the child says so itself, else it is killed: `cpu`, `memory`, `crash` |
| the reply, MAX_REPLY bytes | killed: `size` |
| what it prints | the last SAID bytes of a line go to the log |
| idle for LINGER_S | ended: its memory is given back |
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

import msgspec

from gateway.worker import Order, Reply

log = logging.getLogger("fieldgate.tasks")

MAX_REPLY = 6 << 20
"""Bytes: with its envelope an answer is one frame, `protocol.frame.MAX_RAW`."""

LINGER_S = 30.0
SAID = 4096
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Child:
    """At most one process; `compute` is not called while it runs."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None

    async def compute(self, order: Order, wall_s: float) -> Reply:
        """Run an order; a cancellation stops it. Never raises for what the child does."""
        if self._linger is not None:
            self._linger.cancel()
        try:
            async with asyncio.timeout(wall_s):
                reply = await self._ask(await self._alive(), msgspec.msgpack.encode(order))
        except TimeoutError:
            await self.end()
            return Reply("failed", "time", f"more than {wall_s:g} s")
        except BaseException:
            await self.end()
            raise
        if reply is None:
            return Reply("failed", *_why(await self.end()))
        if reply.reason in ("memory", "cpu", "crash", "size"):  # what is left of it is not to be trusted
            await self.end()
        else:
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, self._dismiss)
        return reply

    async def end(self) -> int:
        """End the process at once, if there is one; give how it ended."""
        process, self._process = self._process, None
        if self._linger is not None:
            self._linger.cancel()
        if process is None:
            return 0
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and nobody has told us yet
                os.killpg(process.pid, signal.SIGKILL)
        if process.stdout is not None:
            await process.stdout.read()  # what is left of an answer; then the pipe is closed
        code = await process.wait()
        if self._listener is not None:
            await self._listener
        return code

    @property
    def _dismissed(self) -> bool:
        return self._process is not None and self._process.stdin is not None and self._process.stdin.is_closing()

    def _dismiss(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _alive(self) -> Process:
        if self._process is not None and (self._process.returncode is not None or self._dismissed):
            await self.end()
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "gateway.worker"),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=os.environ | ONE_THREAD,
                start_new_session=True,
            )
            assert self._process.stderr is not None
            self._listener = asyncio.create_task(_listen(self._process.stderr), name="tasks listen")
        return self._process

    async def _ask(self, process: Process, order: bytes) -> Reply | None:
        """Give the reply; None if the process ended without one."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(len(order).to_bytes(4, "big") + order)
            await process.stdin.drain()
            size = int.from_bytes(await process.stdout.readexactly(4), "big")
            if size > MAX_REPLY:
                return Reply("failed", "size", f"an answer of {size} bytes: {MAX_REPLY} at most")
            return msgspec.msgpack.decode(await process.stdout.readexactly(size), type=Reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


async def _listen(stream: asyncio.StreamReader) -> None:
    while said := await stream.read(SAID):
        log.info("tasks: the child says: %s", said.decode(errors="replace").rstrip())


def _why(code: int) -> tuple[str, str]:
    if code == -signal.SIGKILL:
        return "memory", "killed by the system, which is out of memory"
    if code == -signal.SIGXCPU:
        return "cpu", "killed: its CPU time is used up"
    return "crash", f"ended with {code} and no answer"

"""A TCP proxy that misbehaves when it is told to: between gateway and cloud, or gateway and broker.

Rules:

1. `fault` is read anew for every piece of data, so a change takes effect at once, on open connections too.
2. Bytes that pass are never changed and never change places. While it is a `black_hole` they wait, as in a network that
   is gone: nothing is closed, and afterwards they go on. While there is a `stall` only the server's answers wait.
3. What `mute` swallows is gone for ever, so its connections can only end by `cut`.
4. With a `rate` all connections share one link up: each piece goes when those before it have gone, none is larger than
   STEP. What waits for it is in the kernel's buffers, as behind a slow modem.
5. A connection ends hard, with a reset, when it is cut or `reset_after` bytes have passed; `shut` refuses new ones.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

PIECE = 64 << 10
STEP = 4 << 10
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() a reset."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the network now; by default nothing."""

    delay_s: float = 0.0  # that each piece waits
    piece: int = PIECE  # bytes in one write
    reset_after: int | None = None  # bytes up of each connection, then a reset
    black_hole: bool = False  # nothing passes, nothing ends
    stall: bool = False  # what the server answers does not pass
    mute: bool = False  # what the server answers is swallowed
    rate: float = 0.0  # bytes/s up; 0: as fast as it goes
    answer: bytes = b""  # what a new connection is told instead of being led on; then it ends


NONE = Fault()


class Link:
    """A link that carries bytes one after another. Pure: times are seconds of any clock."""

    def __init__(self) -> None:
        self._free = 0.0

    def carry(self, size: int, rate: float, now: float) -> float:
        """Say when the last of so many bytes, sent now, has gone."""
        self._free = max(self._free, now) + size / rate
        return self._free


class Proxy:
    """Listens on loopback; leads each connection to a port of this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.fault = NONE
        self.connections = self.up = self.down = self.swallowed = self.resets = self.answered = 0
        self.passed_at = 0.0  # monotonic, when bytes last went up for the first time since `watch`
        self._watching = False
        self._link = Link()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Take connections (again)."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=PIECE)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Refuse connections; those there are stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def shut(self) -> None:
        """Refuse connections and reset those there are."""
        self.refuse()
        self.cut()

    def cut(self) -> None:
        """Reset all connections."""
        self.resets += bool(self._writers)
        for writer in list(self._writers):
            _reset(writer)

    def turn(self, fault: Fault) -> None:
        """Let something else be wrong from now on."""
        self.fault = fault
        self._changed.set()
        self._changed = asyncio.Event()

    def watch(self) -> None:
        """Note in `passed_at` when the next bytes go up."""
        self._watching, self.passed_at = True, 0.0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.fault.answer:
                await self._answer(reader, writer)
            else:
                await self._lead(reader, writer)
        except OSError:
            pass  # either side has ended it: that is what this is for
        finally:
            self._writers.discard(writer)
            _reset(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            self.answered += 1
            writer.write(self.fault.answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target, limit=PIECE)
        self._writers.add(back)
        for one in (writer, back):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            pumps = [asyncio.create_task(self._up(reader, back)), asyncio.create_task(self._down(there, writer))]
            _, rest = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in rest:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._writers.discard(back)
            _reset(back)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(STEP if self.fault.rate else PIECE):
            await self._weather()
            if rate := self.fault.rate:
                gone = self._link.carry(len(data), rate, time.monotonic())
                await asyncio.sleep(gone - time.monotonic())
            limit = self.fault.reset_after
            last = limit is not None and passed + len(data) >= limit
            await self._write(writer, data[: max(0, (limit or 0) - passed)] if last else data)
            passed += len(data)
            self.up += len(data)
            if self._watching:
                self._watching, self.passed_at = False, time.monotonic()
            if last:
                self.resets += 1
                return

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            await self._weather(down=True)
            if self.fault.mute:
                self.swallowed += 1
                continue
            await self._write(writer, data)
            self.down += len(data)

    async def _weather(self, *, down: bool = False) -> None:
        """Wait as long as the fault says, or until it is over."""
        if self.fault.delay_s:
            await asyncio.sleep(self.fault.delay_s)
        while self.fault.black_hole or (down and self.fault.stall):
            await self._changed.wait()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        step = self.fault.piece
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            if step < PIECE:
                await asyncio.sleep(0)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


@asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy while the block runs."""
    proxy = Proxy(target)
    await proxy.open()
    try:
        yield proxy
    finally:
        proxy.turn(NONE)
        proxy.shut()

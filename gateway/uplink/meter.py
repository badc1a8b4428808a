"""The daily budget at work: what went up by the kernel's count, what still may, and the file that outlives a restart.

    uplink.json     the day and the bytes spent on it, or granted (`gateway.budget`)

The kernel counts a connection's segments and their content, TLS and what was sent again included; with the headers of
TCP and IP that is what a provider bills, but for tunnels and the link's own framing. Where it does not count, what we
sent stands for it. Tries and refused connections are taken at a flat rate.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from struct import unpack_from

import msgspec

from gateway.budget import Budget, Spent
from gateway.segment import Files, write_atomically
from protocol import frame
from protocol.columns import decode_windows
from protocol.errors import FrameRefused
from protocol.messages import LANES, Loss, WindowsBody

log = logging.getLogger("fieldgate.uplink")

TCP_INFO_BYTES, SEGMENTS_OUT, BYTES_SENT = 208, 136, 200
"""Of struct tcp_info (linux/tcp.h, since 4.19): where tcpi_segs_out (u32) and tcpi_bytes_sent (u64) stand."""

HEADERS = {socket.AF_INET: 52, socket.AF_INET6: 72}
"""Bytes of IP and TCP with timestamps, a segment."""

LOST_BYTES, TRY_BYTES, REFUSED_BYTES, LEAVE_BYTES = 60, 208, 1_500, 160
"""A SYN; a TCP connection opened and aborted; a TLS handshake and a request in vain; a goodbye."""

MESSAGE_HEADER = 14
LOOK_S = 10.0
"""How often what the clock changes is looked at; so rarely, too, a cloud that is away is tried on a metered link."""


class Meter:
    """What one uplink may send; without a `limit` anything. `sizes()` gives the size (ns) of each window definition."""

    def __init__(
        self, files: Files, path: Path, now: Callable[[], int], sizes: Callable[[], Mapping[int, int]]
    ) -> None:
        self.budget: Budget | None = None
        self._coarse = 0
        self._files, self._path, self._now, self._sizes = files, path, now, sizes
        self._known: Mapping[int, int] = {}
        self._counted = self._sent = 0  # of this connection: taken into account, and handed over by us

    def configure(self, limit: int | None, coarse: int) -> None:
        """Keep this limit (bytes a day) from now on; windows of at least `coarse` ns go up when it is short."""
        self._coarse = coarse
        if limit is None:
            self.budget = None
        elif self.budget is None:
            self.budget = Budget(limit, self._read())
        else:
            self.budget.limit = limit

    @property
    def day(self) -> tuple[int, int] | None:
        """Bytes spent today, and the limit; None without one."""
        return (self.budget.spent, self.budget.limit) if self.budget else None

    # What may go.

    @property
    def barred(self) -> frozenset[str]:
        """The lanes that wait."""
        return self.budget.barred(self._now()) if self.budget else frozenset()

    @property
    def spent_up(self) -> bool:
        """Whether nothing at all may go before tomorrow."""
        return len(self.barred) == len(LANES)

    async def opens(self) -> None:
        """Wait until something may go."""
        while self.budget is not None and self.spent_up:
            left = (self.budget.tomorrow(self._now()) - self._now()) / 1e9
            await asyncio.sleep(min(max(left, 0.0), LOOK_S))

    def withholds(self, seq: int, data: bytes) -> bool:
        """Tell whether a frame of telemetry is not to be sent, and note that for `losses`."""
        if self.budget is None or self.barred & {"telemetry"} or not self.budget.coarse:
            return False
        try:
            held = frame.decode(data)
            body: WindowsBody = frame.load(held.kind, held.body)
            definitions = set(decode_windows(body.columns).definition.tolist())
        except FrameRefused:  # the cloud will say what is wrong with it
            return False
        if any(self._size(number) >= self._coarse for number in definitions):
            return False
        self.budget.withhold("telemetry", seq, body.stamp, self._now())
        return True

    def _size(self, definition: int) -> int:
        if definition not in self._known:
            self._known = self._sizes()
        return self._known.get(definition, self._coarse)

    def losses(self) -> list[Loss]:
        """Give what was withheld and is to be declared now."""
        return self.budget.losses(self._now()) if self.budget else []

    def forget(self) -> None:
        """Forget what was withheld: a new epoch begins."""
        if self.budget is not None:
            self.budget.forget()

    # What went up.

    def begin(self) -> None:
        """Note that a connection begins."""
        self._counted = self._sent = 0

    def sent(self, size: int) -> None:
        """Note that a message was handed over."""
        self._sent += size + MESSAGE_HEADER

    def count(self, connection: socket.socket | None) -> None:
        """Take into account what went up since the last time."""
        total = max(bytes_up(connection), self._sent)
        self.spend(total - self._counted)
        self._counted = max(total, self._counted)

    def spend(self, size: int) -> None:
        """Take so many bytes into account."""
        if self.budget is not None:
            self.budget.spend(size, self._now())

    async def settle(self) -> None:
        """Write down what is about to be spent, before it is."""
        if self.budget is not None and (grant := self.budget.grant(self._now())) is not None:
            await asyncio.to_thread(self._write, grant)

    def close(self) -> None:
        """Write down what was spent."""
        if self.budget is not None:
            self._write(self.budget.kept())

    def _read(self) -> Spent:
        """Read what was written; where there is nothing, or nothing legible, nothing was spent."""
        try:
            return msgspec.json.decode(self._files.read(self._path), type=Spent)
        except (OSError, msgspec.DecodeError):
            return Spent()

    def _write(self, spent: Spent) -> None:
        try:
            write_atomically(self._files, self._path, msgspec.json.encode(spent))
        except OSError as error:
            log.warning("%s cannot be written (%s): a restart would forget what was spent", self._path, error)


def bytes_up(connection: socket.socket | None) -> int:
    """Give the bytes that a TCP connection has sent, headers and repetitions included; 0 where nobody counts."""
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return 0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:  # it has just ended
        return 0
    if len(info) < TCP_INFO_BYTES:
        return 0
    segments, content = unpack_from("=I", info, SEGMENTS_OUT)[0], unpack_from("=Q", info, BYTES_SENT)[0]
    return int(content + segments * HEADERS.get(connection.family, HEADERS[socket.AF_INET]))

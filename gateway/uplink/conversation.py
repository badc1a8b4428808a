"""What is said on one connection: HELLO and WELCOME, then frames up and receipts down, until it fails.

Memory is one message of MESSAGE_BYTES and one frame; what is in flight is in the spool.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.delivery import Close, Delivery, Fork, Gone, Instruction, Release
from gateway.records import NEVER
from gateway.uplink.failure import Failure
from gateway.uplink.link import first_failure
from gateway.uplink.meter import LOOK_S, Meter
from protocol import frame
from protocol.errors import CloudUnavailable, FrameRefused, JournalUnusable
from protocol.messages import BODIES, Hello, Kind, LaneHead, Mark, Receipt, Refusal, Welcome

if TYPE_CHECKING:
    from gateway.uplink.line import Line

WELCOME_WITHIN_S = 15.0
MESSAGE_BYTES = 64 << 10


class Held(Protocol):
    """What the uplink needs of the spool."""

    def heads(self) -> dict[str, LaneHead]:
        """Say what is held of each lane, durably."""
        ...

    def chains(self, marks: Mapping[str, Mark]) -> dict[str, int]:
        """Give the chain of the frame that each mark stands at; 0 where it is not here."""
        ...

    def read(self, lane: str, seq: int) -> bytes | None:
        """Give a durable frame, None if there is none."""
        ...

    def release(self, lane: str, upto: int) -> None:
        """Note that the cloud has committed these frames."""
        ...


@dataclass(slots=True)
class Matter:
    """What one connection after the other is about; the callbacks are those of `Uplink`."""

    delivery: Delivery
    spool: Held
    hello: Callable[[], Hello]
    on_fork: Callable[[str], Awaitable[None]]
    on_gone: Callable[[str, int, int], None]
    on_time: Callable[[int], None]
    meter: Meter
    sent: int = 0
    wanted: asyncio.Event = field(default_factory=asyncio.Event)  # there may be something to send


class Conversation:
    """One connection, open."""

    def __init__(self, line: Line, matter: Matter) -> None:
        self._line, self._matter = line, matter
        self._delivery, self._spool = matter.delivery, matter.spool

    async def both(self) -> Failure:
        """Send and receive until one of them fails, and say why."""
        return await first_failure(send=self._send_for_ever(), receive=self._receive_for_ever())

    async def greet(self) -> None:
        """Say hello, and again with a new epoch if the cloud wants one; CloudUnavailable if it wants a second one."""
        for _ in range(2):
            began = time.monotonic_ns()
            await self._send(frame.message(Kind.HELLO, self._matter.hello()))
            welcome = await self._welcome()
            self._delivery.greeted = time.monotonic_ns() - began
            self._matter.on_time(welcome.now)
            heads, chains = self._spool.heads(), self._spool.chains(welcome.marks)
            instructions = self._delivery.opened(welcome, heads, time.monotonic_ns(), chains)
            if not (instructions and isinstance(instructions[0], Fork)):
                self._follow(instructions)
                return
            await self._fork(instructions[0].reason)
        raise CloudUnavailable("the cloud refuses a new epoch")

    async def _welcome(self) -> Welcome:
        try:
            async with asyncio.timeout(WELCOME_WITHIN_S):
                answer = await self._receive()
        except TimeoutError:
            raise CloudUnavailable(f"no welcome within {WELCOME_WITHIN_S:g} s") from None
        if not isinstance(answer, Welcome):
            raise CloudUnavailable(f"{type(answer).__name__} where a welcome belongs")
        return answer

    async def _fork(self, reason: str) -> None:
        try:
            await self._matter.on_fork(reason)
        except JournalUnusable as error:
            raise CloudUnavailable(f"no new epoch: {error}") from error

    def _follow(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Release(lane, upto):
                    self._spool.release(lane, upto)
                case Gone(lane, first, last):
                    self._matter.on_gone(lane, first, last)
                case Close(reason) | Fork(reason):
                    raise CloudUnavailable(reason)
        self._matter.wanted.set()

    # Up.

    async def _send_for_ever(self) -> None:
        while True:
            self._matter.wanted.clear()
            now = time.monotonic_ns()
            self._follow_time(now)
            await self._afford()
            if frames := self._gather(now):
                await self._send(b"".join(frames))
            else:
                await self._until(self._delivery.due(now), now)

    async def _afford(self) -> None:
        """Let go what the day's budget allows; CloudUnavailable if that is nothing."""
        meter = self._matter.meter
        meter.count(self._line.socket)
        await meter.settle()
        self._delivery.barred = meter.barred
        if meter.spent_up:
            raise CloudUnavailable("what may be sent today has been sent")

    def _follow_time(self, now: int) -> None:
        if instructions := self._delivery.tick(now):
            self._follow(instructions)

    def _gather(self, now: int) -> list[bytes]:
        """Read the frames of one message from the spool."""
        frames: list[bytes] = []
        size = 0
        while size < MESSAGE_BYTES and (send := self._delivery.next(now)) is not None:
            data = self._spool.read(send.lane, send.seq)
            if data is None:
                self._delivery.absent(send, self._spool.heads()[send.lane])
                continue
            size += len(data)
            if send.lane == "telemetry" and self._matter.meter.withholds(send.seq, data):
                self._delivery.withheld(send)
                continue
            self._delivery.sent(send, len(data), now)
            frames.append(data)
        self._matter.sent += len(frames)
        return frames

    async def _until(self, due: int, now: int) -> None:
        longest = None if self._matter.meter.budget is None else LOOK_S
        left = longest if due == NEVER else min(max(due - now, 0) / 1e9, longest or math.inf)
        try:
            async with asyncio.timeout(left):
                await self._matter.wanted.wait()
        except TimeoutError:
            return

    async def _send(self, data: bytes) -> None:
        await self._line.send(data)
        self._matter.meter.sent(len(data))

    # Down.

    async def _receive_for_ever(self) -> None:
        while True:
            answer = await self._receive()
            if isinstance(answer, Receipt):
                self._follow(self._delivery.receipted(answer, time.monotonic_ns()))
                self._matter.wanted.set()

    async def _receive(self) -> object:
        """Give the next message; None for a kind that this version does not know."""
        received = await self._line.receive()
        try:
            body = _read(received)
        except FrameRefused as refused:
            raise CloudUnavailable(f"the cloud's answer is no frame: {refused}") from refused
        if isinstance(body, Refusal):
            raise CloudUnavailable(f"the cloud ends it: {body.reason}", body.retry_after_s or None)
        return body


def _read(data: bytes) -> object:
    if frame.header(data).kind not in BODIES:
        return None
    held = frame.decode(data)
    return frame.load(held.kind, held.body)

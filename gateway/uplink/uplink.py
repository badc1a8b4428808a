"""One connection after the other to the cloud. What goes when is `delivery`'s to say.

    HELLO ▶  ◀ WELCOME  (a fork: a new epoch, HELLO again)  frames ▶ ◀ RECEIPT ...  ◀ REFUSAL ends it

| what happens | answer |
|---|---|
| no connection, 408, 5xx, the connection ends | back-off with full jitter, FIRST_S doubling to LONGEST_S |
| 429 or 503 with Retry-After, REFUSAL with `retry_after_s` | so long, and a little jitter; not cut short |
| 401, 403, 413, any other status | LONGEST_S with jitter: trying again without a change is slow on purpose |
| no WELCOME within WELCOME_WITHIN_S, no pong, no receipt for long | the connection is closed, back-off |
| bytes that are no frame, half a frame; a spool that cannot be read | the connection is closed, back-off |

Rules:

1. Nothing of this stops the gateway: `run` ends by cancellation only, and then the connection is closed.
2. The back-off begins anew once a connection has brought a receipt. While the cloud is out of reach its port is tried
   every PROBE_S: when that answers, the link is back and the back-off is cut short. `wake` does the same.
3. Memory is one message of MESSAGE_BYTES and one frame; what is in flight is in the spool.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import (
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientWebSocketResponse,
    ClientWSTimeout,
    WSMsgType,
    WSServerHandshakeError,
)

from gateway import config
from gateway.delivery import Close, Delivery, Fork, Gone, Instruction, Release
from gateway.records import NEVER
from gateway.uplink.failure import Failure, answered, back_off, closed
from protocol import frame
from protocol.errors import CloudRefused, CloudUnavailable, ConfigurationRefused, FrameRefused, JournalUnusable
from protocol.messages import BODIES, Hello, Kind, LaneHead, Mark, Receipt, Refusal, Welcome

log = logging.getLogger("fieldgate.uplink")

PATH = "/v1/uplink"
CONNECT_WITHIN_S = 15.0
WELCOME_WITHIN_S = 15.0
CLOSE_WITHIN_S = 2.0
PROBE_S = 1.0
PORTS = {"http": 80, "https": 443}
HEARTBEAT_S = 20.0
MESSAGE_BYTES = 64 << 10
MAX_ANSWER = 128 << 10


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


def _nobody(*_: object) -> None:
    pass


class Uplink:
    """Keeps one connection to the cloud. ConfigurationRefused if `ca_file` cannot be used.

    `on_fork(reason)` begins a new epoch, and may raise JournalUnusable; `on_gone(lane, first, last)` declares frames
    lost that the cloud misses and the spool does not hold; `on_state(connected, why)` hears each change.
    """

    def __init__(
        self,
        settings: config.Uplink,
        token: str,
        spool: Held,
        hello: Callable[[], Hello],
        *,
        rng: Random,
        on_fork: Callable[[str], None],
        on_gone: Callable[[str, int, int], None],
        on_state: Callable[[bool, str], None] = _nobody,
    ) -> None:
        self.url = settings.url.rstrip("/") + PATH
        self.delivery = Delivery(settings.max_in_flight, settings.max_rate, time.monotonic_ns())
        self.sent = 0
        self.connected = False
        self._token, self._spool, self._hello, self._rng = token, spool, hello, rng
        self._on_fork, self._on_gone, self._on_state = on_fork, on_gone, on_state
        self._tls = tls_context(settings.ca_file)
        self._away = False  # nobody answered at the cloud's address
        self._wanted = asyncio.Event()
        self._woken = asyncio.Event()

    @property
    def receipted(self) -> int:
        """Frames that the cloud has committed."""
        return self.delivery.receipted_frames

    def appended(self, lane: str, seq: int) -> None:
        """Note that the spool holds one more frame, durably."""
        self.delivery.appended(lane, seq)
        self._wanted.set()

    def wake(self) -> None:
        """Try at once: the link may be back."""
        self._woken.set()

    async def run(self) -> None:
        """Keep connected until cancelled."""
        failures = 0
        async with ClientSession() as session:
            while True:
                before = self.receipted
                failure = await self._once(session)
                failures = 1 if self.receipted > before else failures + 1
                seconds, patient = back_off(failure, failures, self._rng)
                if patient:
                    await asyncio.sleep(seconds)
                else:
                    await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        """Wait until the time is up, `wake` is called, or a cloud that was out of reach answers."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not await self._is_woken(PROBE_S):
                    if self._away and await _answers(self.url):
                        break
        self._woken.clear()

    async def _is_woken(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                return await self._woken.wait()
        except TimeoutError:
            return False

    # One connection.

    async def _once(self, session: ClientSession) -> Failure:
        """Connect and speak until it ends; give the reason."""
        socket: ClientWebSocketResponse | None = None
        try:
            socket = await self._connect(session)
            return await self._speak(socket)
        except (CloudUnavailable, CloudRefused) as failure:
            return self._ended(failure)
        except JournalUnusable as error:
            return self._ended(CloudUnavailable(f"the spool cannot be read: {error}"))
        finally:
            self.delivery.closed()
            self.connected = False
            if socket is not None:
                await socket.close()

    def _ended(self, failure: Failure) -> Failure:
        log.warning("uplink: %s", failure.reason)
        self.connected = False
        self._on_state(False, failure.reason)
        return failure

    async def _connect(self, session: ClientSession) -> ClientWebSocketResponse:
        self._away = False
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                return await session.ws_connect(
                    self.url,
                    headers={"Authorization": f"Bearer {self._token}"},
                    ssl=self._tls,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_ANSWER,
                    timeout=ClientWSTimeout(ws_close=CLOSE_WITHIN_S),
                )
        except WSServerHandshakeError as error:
            raise answered(error.status, error.headers or {}) from error
        except (ClientError, OSError) as error:  # TimeoutError is an OSError
            self._away = not isinstance(error, ClientSSLError)
            raise CloudUnavailable(f"{self.url}: {error or type(error).__name__}") from error

    async def _speak(self, socket: ClientWebSocketResponse) -> Failure:
        await self._greet(socket)
        log.info("uplink: connected to %s", self.url)
        self.connected = True
        self._woken.clear()
        self._on_state(True, f"connected to {self.url}")
        return self._ended(await self._both(socket))

    async def _both(self, socket: ClientWebSocketResponse) -> Failure:
        """Send and receive until one of them fails, and say why.

        Not in a task group: until Python 3.13 it loses a cancellation that comes at the moment when a child fails.
        """
        both = [
            asyncio.create_task(self._send_for_ever(socket), name="uplink send"),
            asyncio.create_task(self._receive_for_ever(socket), name="uplink receive"),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        errors = [error for task in both if not task.cancelled() and (error := task.exception())]
        failures = [error for error in errors if isinstance(error, (CloudUnavailable, CloudRefused))]
        for error in errors:
            if error not in failures:
                raise error
        return failures[0]

    async def _greet(self, socket: ClientWebSocketResponse) -> None:
        """Say hello, and again with a new epoch if the cloud wants one; CloudUnavailable if it wants a second one."""
        for _ in range(2):
            await self._send(socket, frame.message(Kind.HELLO, self._hello()))
            welcome = await self._welcome(socket)
            heads, chains = self._spool.heads(), self._spool.chains(welcome.marks)
            instructions = self.delivery.opened(welcome, heads, time.monotonic_ns(), chains)
            if not (instructions and isinstance(instructions[0], Fork)):
                self._follow(instructions)
                return
            self._fork(instructions[0].reason)
        raise CloudUnavailable("the cloud refuses a new epoch")

    async def _welcome(self, socket: ClientWebSocketResponse) -> Welcome:
        try:
            async with asyncio.timeout(WELCOME_WITHIN_S):
                answer = await self._receive(socket)
        except TimeoutError:
            raise CloudUnavailable(f"no welcome within {WELCOME_WITHIN_S:g} s") from None
        if not isinstance(answer, Welcome):
            raise CloudUnavailable(f"{type(answer).__name__} where a welcome belongs")
        return answer

    def _fork(self, reason: str) -> None:
        try:
            self._on_fork(reason)
        except JournalUnusable as error:
            raise CloudUnavailable(f"no new epoch: {error}") from error

    def _follow(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Release(lane, upto):
                    self._spool.release(lane, upto)
                case Gone(lane, first, last):
                    self._on_gone(lane, first, last)
                case Close(reason) | Fork(reason):
                    raise CloudUnavailable(reason)
        self._wanted.set()

    # Up.

    async def _send_for_ever(self, socket: ClientWebSocketResponse) -> None:
        while True:
            self._wanted.clear()
            now = time.monotonic_ns()
            self._follow_time(now)
            if frames := self._gather(now):
                await self._send(socket, b"".join(frames))
            else:
                await self._until(self.delivery.due(now), now)

    def _follow_time(self, now: int) -> None:
        if instructions := self.delivery.tick(now):
            self._follow(instructions)

    def _gather(self, now: int) -> list[bytes]:
        """Read the frames of one message from the spool."""
        frames: list[bytes] = []
        size = 0
        while size < MESSAGE_BYTES and (send := self.delivery.next(now)) is not None:
            data = self._spool.read(send.lane, send.seq)
            if data is None:
                self.delivery.absent(send, self._spool.heads()[send.lane])
                continue
            self.delivery.sent(send, len(data), now)
            frames.append(data)
            size += len(data)
        self.sent += len(frames)
        return frames

    async def _until(self, due: int, now: int) -> None:
        try:
            async with asyncio.timeout(None if due == NEVER else max(due - now, 0) / 1e9):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def _send(self, socket: ClientWebSocketResponse, data: bytes) -> None:
        try:
            await socket.send_bytes(data)
        except (ClientError, OSError) as error:
            raise CloudUnavailable(f"the connection ended: {error}") from error

    # Down.

    async def _receive_for_ever(self, socket: ClientWebSocketResponse) -> None:
        while True:
            answer = await self._receive(socket)
            if isinstance(answer, Receipt):
                self._follow(self.delivery.receipted(answer, time.monotonic_ns()))
                self._wanted.set()

    async def _receive(self, socket: ClientWebSocketResponse) -> object:
        """Give the next message; None for a kind that this version does not know."""
        received = await socket.receive()
        if received.type is not WSMsgType.BINARY:
            raise closed(received)
        try:
            body = _read(received.data)
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


def tls_context(ca_file: str) -> ssl.SSLContext | bool:
    """Make the TLS settings of the uplink; ConfigurationRefused if the file of authorities cannot be used."""
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError is an OSError
        raise ConfigurationRefused("uplink.ca_file", ca_file, f"a readable file of certificates ({error})") from None


async def _answers(url: str) -> bool:
    """Tell whether somebody takes connections at the address."""
    address = urlsplit(url)
    try:
        _, writer = await asyncio.open_connection(address.hostname, address.port or PORTS[address.scheme])
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True

"""Frames in, receipts out: the WebSocket each gateway speaks on.

    gateway: HELLO ▶                    bearer token: 401 before anything else
    ◀ WELCOME with our marks            or with a fork: the gateway says HELLO again, with a new epoch
    gateway: frames, several a message ▶
    ◀ RECEIPT                           after the commit, one for all that was in it
    ◀ REFUSAL, then the end             what was wrong, and when to try again

| holds | bound | when full |
|---|---|---|
| one message | MAX_MESSAGE | the connection is closed |
| frames of one connection that wait for their commit | MAX_WAITING | its socket is not read |
| frames of all connections | `store.max_pending` | no socket is read |
| connections | `limits.gateways` | 503 with Retry-After |

While a commit runs the next frames gather, so a commit takes what came during the one before. The newest connection of
a gateway wins: an older one is most often a dead peer that TCP has not noticed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import WSMsgType, web

from cloud.fleet import Fleet, lags
from cloud.live import Live
from cloud.metrics import Counters
from cloud.room import Room
from cloud.store import Applied, Arrived, Batch, News, Store
from cloud.unpack import unpack
from protocol.errors import FrameRefused, StoreUnavailable
from protocol.frame import MAX_RAW, decode, load, message
from protocol.messages import LANES, Hello, Kind, Receipt, Refusal, Welcome

log = logging.getLogger("fieldgate.ingest")

MAX_MESSAGE = MAX_RAW + (64 << 10)
MAX_WAITING = 8 << 20
MAX_IN_FLIGHT = 4 << 20
"""What WELCOME allows a gateway to have sent without a receipt."""
HELLO_WITHIN_S = 10.0
HEARTBEAT_S = 30.0
SMALL = 16 << 10
"""Messages up to this many bytes are unpacked on the event loop: handing them over costs more than the work."""
CLOSE_WITHIN_S = 5.0
RETRY_CLOSING_S = 1.0
RETRY_STORE_S = 5.0
RETRY_REPLACED_S = 30.0
MAX_NUMBER = 1 << 63
GONE = "gone"

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class Ended(Exception):
    """The connection ends, with this said to the gateway."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.refusal = Refusal(reason, retry_after_s)


@dataclass(slots=True, eq=False)
class Connection:
    """One gateway on one socket."""

    number: int
    gateway: str
    socket: web.WebSocketResponse
    epoch: int = 0
    waiting: list[tuple[list[Arrived], int]] = field(default_factory=list)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    room: Room = field(default_factory=lambda: Room(MAX_WAITING))
    ended: Ended | None = None  # nothing more is taken; what waits is still committed

    async def send(self, kind: Kind, body: Welcome | Receipt | Refusal) -> None:
        """Send one message, if there is still somebody to send it to."""
        if not self.socket.closed:
            await self.socket.send_bytes(message(kind, body))

    def end(self, reason: str, retry_after_s: float = 0.0) -> None:
        """Commit what waits, then say why and close."""
        self.ended = self.ended or Ended(reason, retry_after_s)
        self.wanted.set()


def _nobody(*_: object) -> None:
    pass


class Ingest:
    """All uplinks of this cloud; `on_news` hears what each commit brought of models, by gateway."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        live: Live,
        counters: Counters,
        clock: Callable[[], int],
        *,
        most: int,
        max_pending: int,
        on_news: Callable[[str, News], None] = _nobody,
    ) -> None:
        self.store = store
        self.fleet = fleet
        self.live = live
        self.counters = counters
        self.clock = clock
        self.most = most
        self.room = Room(max_pending)
        self._on_news = on_news
        self._connections: dict[str, Connection] = {}
        self._sockets: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._numbers = 0
        self._threads = ThreadPoolExecutor(2, "unpack")

    async def serve(self, request: web.Request, gateway: str) -> web.StreamResponse:
        """Speak with a gateway, whose token has been checked, until either side ends."""
        if len(self._sockets) >= self.most:
            reason = f"{self.most} gateways are connected already"
            raise web.HTTPServiceUnavailable(text=reason, headers={"Retry-After": f"{RETRY_STORE_S:.0f}"})
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT_S, compress=False)
        self._numbers += 1
        connection = Connection(self._numbers, gateway, socket)
        self._sockets.add(connection)
        self._empty.clear()
        try:
            await socket.prepare(request)
            await self._speak(connection)
        finally:
            self._forget(connection)
        return socket

    async def close(self) -> None:
        """End all connections, after the frames that have come are committed."""
        for connection in self._sockets:
            connection.end("closing: the cloud is going down", RETRY_CLOSING_S)
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._empty.wait()
        except TimeoutError:
            log.warning("ingest: %d connections did not end in time", len(self._sockets))
        self._threads.shutdown(wait=False)

    async def _speak(self, connection: Connection) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._commit_for_ever(connection), name=f"commit {connection.gateway}")
                await self._greet(connection)
                await self._read_for_ever(connection)
                connection.end(GONE)
        except* ConnectionError:
            log.info("ingest: %s is gone", connection.gateway)
        except* Ended as ended:
            await self._refuse(connection, _first(ended))
        except* StoreUnavailable as lost:
            await self._refuse(connection, Ended(f"store: {_first(lost)}", RETRY_STORE_S))

    async def _refuse(self, connection: Connection, ended: Ended) -> None:
        if ended.refusal.reason == GONE:
            return
        log.warning("ingest: %s: %s", connection.gateway, ended)
        self.counters.refused += 1
        with suppress(ConnectionError):
            await connection.send(Kind.REFUSAL, ended.refusal)
            await connection.socket.close(code=1008)

    async def _greet(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                received = await connection.socket.receive()
        except TimeoutError:
            raise Ended("hello: none came") from None
        if received.type is not WSMsgType.BINARY:
            raise Ended("hello: a binary message was expected")
        await self._hello(connection, received.data)

    async def _hello(self, connection: Connection, data: bytes) -> None:
        hello = _read_hello(data, connection.gateway)
        if connection.waiting:
            raise Ended("hello: frames before it still wait for their commit")
        now = self.clock()
        greeted = await self.store.hello(hello, now)
        connection.epoch = hello.epoch
        self._replace(connection)
        self.fleet.opened(hello, connection.number, now)
        self.live.fleet_changed()
        if greeted.fork:
            log.warning("ingest: %s: epoch %016x ends, a new one begins: %s", hello.gateway, hello.epoch, greeted.fork)
        if greeted.remark:
            log.warning("ingest: %s: epoch %016x: %s", hello.gateway, hello.epoch, greeted.remark)
        await connection.send(Kind.WELCOME, Welcome(greeted.marks, now, greeted.fork, MAX_IN_FLIGHT))

    def _replace(self, connection: Connection) -> None:
        older = self._connections.get(connection.gateway)
        self._connections[connection.gateway] = connection
        if older is not None and older is not connection:
            older.end("replaced: this gateway has connected again", RETRY_REPLACED_S)

    async def _read_for_ever(self, connection: Connection) -> None:
        async for received in connection.socket:
            if received.type is not WSMsgType.BINARY:
                raise Ended(f"message: binary was expected ({received.data})")
            self.counters.bytes_received += len(received.data)
            try:
                await self._take(connection, received.data)
            except FrameRefused as refused:
                raise Ended(f"frame: {refused}") from None

    async def _take(self, connection: Connection, data: bytes) -> None:
        if len(data) > 3 and data[3] == Kind.HELLO:
            await self._hello(connection, data)
            return
        slices = await self._run(len(data), lambda: unpack(data))
        while part := await self._run(len(data), lambda: next(slices, None)):
            await connection.room.take(part[1])
            await self.room.take(part[1])
            connection.waiting.append(part)
            connection.wanted.set()

    async def _run(self, size: int, run: Callable[[], T]) -> T:
        if size <= SMALL:
            return run()
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def _commit_for_ever(self, connection: Connection) -> None:
        while connection.waiting or connection.ended is None:
            if not connection.waiting:
                connection.wanted.clear()
                await connection.wanted.wait()
                continue
            parts, connection.waiting = connection.waiting, []
            size = sum(part[1] for part in parts)
            frames = [frame for part in parts for frame in part[0]]
            try:
                applied = await self.store.apply(Batch(connection.gateway, connection.epoch, frames, size))
            finally:
                connection.room.give(size)
                self.room.give(size)
            self._note(connection.gateway, applied)
            await connection.send(Kind.RECEIPT, Receipt(applied.marks))
            if applied.fork:
                raise Ended(f"fork: {applied.fork}")
        raise connection.ended

    def _note(self, gateway: str, applied: Applied) -> None:
        self.counters.add(applied)
        self.counters.lag.observe(lags(applied))
        self.fleet.committed(gateway, applied)
        self.live.publish(applied.stored)
        self.live.news(applied.news)
        self._on_news(gateway, applied.news)

    def _forget(self, connection: Connection) -> None:
        self._sockets.discard(connection)
        if not self._sockets:
            self._empty.set()
        size = sum(part[1] for part in connection.waiting)
        self.room.give(size)
        if self._connections.get(connection.gateway) is connection:
            del self._connections[connection.gateway]
        self.fleet.closed(connection.gateway, connection.number, self.clock())
        self.live.fleet_changed()


def _read_hello(data: bytes, gateway: str) -> Hello:
    try:
        frame = decode(data)
        hello = load(frame.kind, frame.body)
    except FrameRefused as refused:
        raise Ended(f"hello: {refused}") from None
    if not isinstance(hello, Hello):
        raise Ended(f"hello: expected, not {frame.kind.name}")
    if hello.gateway != gateway:
        raise Ended(f"hello: this token is {gateway}'s, not {hello.gateway}'s", RETRY_REPLACED_S)
    heads = [number for head in hello.lanes.values() for number in (head.oldest, head.next, head.chain)]
    heads += hello.since.values()
    if not set(hello.lanes) <= set(LANES) or not all(
        0 <= n < MAX_NUMBER for n in (hello.epoch, hello.readings, *heads)
    ):
        raise Ended("hello: lanes or numbers out of bounds")
    return hello


def _first(group: BaseExceptionGroup[E]) -> E:
    """Give the first error of a group whose groups have been opened."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first

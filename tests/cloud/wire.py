"""A gateway by hand: it makes the frames that a test says, as values for the store or as bytes for the socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from aiohttp import ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestClient

from cloud.api import Api
from cloud.store import Arrived, Batch, Holds, Undecodable, Windows
from protocol.columns import encode_windows
from protocol.frame import chain_after, decode, encode, header, load
from protocol.frame import message as frame_of
from protocol.messages import (
    LANES,
    Alert,
    AlertsBody,
    Cover,
    DefinitionsBody,
    Hello,
    Kind,
    LaneHead,
    Loss,
    LossesBody,
    Moments,
    Receipt,
    ReportBody,
    SeriesDefinition,
    StatisticsBody,
    Welcome,
    WindowDefinition,
    WindowRows,
    WindowsBody,
)

S = 10**9
DIGEST = "d" * 64


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: int = 1_000 * S) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Wire:
    """One gateway's epoch: numbers and chains its frames, as values for the store or as bytes for the socket."""

    def __init__(self, gateway: str = "barn", epoch: int = 7) -> None:
        self.gateway = gateway
        self.epoch = epoch
        self.seq = dict.fromkeys(LANES, 0)
        self.chain = dict.fromkeys(LANES, 0)

    def hello(self, **changes: Any) -> Hello:
        heads = {lane: LaneHead(1, self.seq[lane] + 1, self.chain[lane]) for lane in LANES}
        return msgspec.structs.replace(Hello(self.gateway, self.epoch, heads), **changes)

    def arrived(self, lane: str, holds: Holds) -> Arrived:
        """The next frame of a lane as the store takes it."""
        self.seq[lane] += 1
        content = self.seq[lane] * 31
        self.chain[lane] = chain_after(content, self.chain[lane])
        return Arrived(lane, self.seq[lane], self.chain[lane], content, 100, holds)

    def batch(self, *frames: Arrived) -> Batch:
        return Batch(self.gateway, self.epoch, list(frames), 100 * len(frames))

    def frame(self, lane: str, kind: Kind, body: msgspec.Struct | bytes) -> bytes:
        """The next frame of a lane as bytes."""
        self.seq[lane] += 1
        place = {"lane": LANES.index(lane), "seq": self.seq[lane], "chain_before": self.chain[lane]}
        data = encode(kind, body, **place) if isinstance(body, bytes) else frame_of(kind, body, **place)
        self.chain[lane] = header(data).chain
        return data

    def definitions(self, names: Sequence[str] = ("a/t", "b/t"), *, digest: str = "d1", size: int = 10 * S) -> Arrived:
        return self.arrived("definitions", definitions(names, digest=digest, size=size))

    def windows(self, *rows: tuple[int, ...], domain: str = "", definition: int = 0, stamp: int = 0) -> Arrived:
        return self.arrived("telemetry", Windows(window_rows(*rows, definition=definition), domain, stamp))

    def alerts(self, *alerts: Alert) -> Arrived:
        return self.arrived("alerts", AlertsBody(Cover(), list(alerts)))

    def losses(self, *losses: Loss, **counts: int) -> Arrived:
        return self.arrived("results", LossesBody(Cover(), list(losses), counts))

    def statistics(self, model: str, stamp: int, *counts: int, **said: int) -> Arrived:
        """Statistics of one entry for each count, of the feature `t0`, `t1` ..."""
        entries = [Moments([f"t{number}"], count, [float(count)], [1.0]) for number, count in enumerate(counts)]
        return self.arrived("results", StatisticsBody(Cover(), model, stamp, entries, **said))

    def report(
        self, model: str, version: int, outcome: str = "applied", reason: str = "", *, stamp: int = 1
    ) -> Arrived:
        return self.arrived("results", ReportBody(Cover(), model, version, outcome, reason, DIGEST, stamp))

    def nonsense(self, cause: str = "body") -> Arrived:
        return self.arrived("telemetry", Undecodable(cause, "not for us", b"\xff" * 8))


def definitions(
    names: Sequence[str] = ("a/t", "b/t"), *, digest: str = "d1", size: int = 10 * S, hop: int = 0
) -> DefinitionsBody:
    series = [SeriesDefinition(number, name) for number, name in enumerate(names)]
    return DefinitionsBody(Cover(), series, [WindowDefinition(0, digest, size, hop or size)])


def window_rows(*rows: tuple[int, ...], definition: int = 0) -> WindowRows:
    """Rows of (series, start in s, revision, count); all values follow from the count."""
    series, start, revision, count = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    values = count.astype(np.float64)
    return WindowRows(
        series.astype(np.int32),
        np.full(len(series), definition, np.int32),
        start * S,
        revision.astype(np.int32),
        count,
        values.astype(np.float32),
        np.zeros(len(series), np.float32),
        values - 1,
        values + 1,
        values,
        values,
    )


def windows_body(*rows: tuple[int, ...], domain: str = "") -> WindowsBody:
    columns = window_rows(*rows)
    return WindowsBody(Cover(), columns.rows, encode_windows(columns), domain)


DEADLINE_S = 20.0


class Socket:
    """A gateway's end of the uplink."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, data: bytes) -> None:
        await self.socket.send_bytes(data)

    async def receive(self) -> Any:
        """The next message's body."""
        frame = decode(await self.socket.receive_bytes(timeout=DEADLINE_S))
        return load(frame.kind, frame.body)

    async def receipt(self, lane: str, upto: int) -> Receipt:
        """Receipts until one says that a lane is complete up to a sequence."""
        while True:
            receipt = await self.receive()
            assert isinstance(receipt, Receipt), receipt
            if lane in receipt.marks and receipt.marks[lane].upto >= upto:
                return receipt

    async def ended(self) -> int | None:
        """Wait for the end; the close code."""
        received = await self.socket.receive(timeout=DEADLINE_S)
        assert received.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING), received
        return self.socket.close_code


class Served:
    """A running cloud and ways to speak with it."""

    def __init__(self, api: Api, client: TestClient[Any, Any], token: str, clock: Clock) -> None:
        self.api = api
        self.client = client
        self.token = token
        self.clock = clock

    async def connect(self, token: str | None = None) -> Socket:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return Socket(await self.client.ws_connect("/v1/uplink", headers=headers))

    async def greet(self, wire: Wire) -> Socket:
        """Connect and say hello."""
        socket = await self.connect()
        await socket.send(frame_of(Kind.HELLO, wire.hello()))
        welcome = await socket.receive()
        assert isinstance(welcome, Welcome)
        assert welcome.fork == ""
        return socket

    async def begin(self, wire: Wire) -> Socket:
        """Connect, say hello, define two series."""
        socket = await self.greet(wire)
        await socket.send(wire.frame("definitions", Kind.DEFINITIONS, definitions()))
        await socket.receipt("definitions", 1)
        return socket

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.client.get(path, headers=headers, allow_redirects=False) as answer:
            json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if json else answer.text())

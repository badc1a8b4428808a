"""A broker that does what the test says: it listens on loopback, speaks MQTT 5 by the codec, and has no will."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self, TypeVar

import mqtt5
from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    Packet,
    PublishPacket,
    QoS,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
)

DEADLINE_S = 10.0

P = TypeVar("P")


def publish(number: int, *, packet_id: int | None = None, duplicate: bool = False, topic: str = "s/d/m") -> bytes:
    """One PUBLISH with the number as payload; of level 1 if it has a packet id."""
    level = QoS.AT_MOST_ONCE if packet_id is None else QoS.AT_LEAST_ONCE
    payload = str(number).encode()
    return PublishPacket(topic, payload, qos=level, packet_id=packet_id, duplicate=duplicate).write()


class Peer:
    """The broker's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.received = b""

    async def read(self) -> Packet:
        """Give the client's next packet; EOFError when it has gone."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    packet, size = mqtt5.read(memoryview(self.received))
                except IndexError:
                    more = await self.reader.read(1 << 16)
                    if not more:
                        raise EOFError from None
                    self.received += more
                else:
                    self.received = self.received[size:]
                    return packet

    async def expect(self, kind: type[P]) -> P:
        """Give the client's next packet, which must be of this kind."""
        packet = await self.read()
        assert isinstance(packet, kind), packet
        return packet

    async def gone(self) -> None:
        """Wait until the client has gone."""
        try:
            while True:
                await self.read()
        except (EOFError, ConnectionError):
            return

    def send(self, *packets: bytes | Packet) -> None:
        """Send at once."""
        self.writer.write(b"".join(packet if isinstance(packet, bytes) else packet.write() for packet in packets))

    async def greet(self, answer: ConnAckPacket | None = None, codes: Sequence[int] | None = None) -> ConnectPacket:
        """Take CONNECT and SUBSCRIBE, grant them, and give the CONNECT."""
        connect = await self.expect(ConnectPacket)
        self.send(answer or ConnAckPacket())
        subscribe = await self.expect(SubscribePacket)
        granted = [int(item.max_qos) for item in subscribe.topic_filters] if codes is None else codes
        self.send(SubAckPacket(subscribe.packet_id, [SubAckReasonCode(code) for code in granted]))
        return connect

    def drop(self) -> None:
        """Break the connection without a word."""
        self.writer.transport.abort()


class FakeBroker:
    """Listens while the context is open; each connection is a Peer."""

    def __init__(self) -> None:
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._all: list[Peer] = []
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def accept(self) -> Peer:
        """Wait for the next connection."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._peers.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self._all.append(peer)
        self._peers.put_nowait(peer)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self._all:
            peer.drop()
        await self._server.wait_closed()

"""One MQTT 5 connection, for the tools that publish and listen; the gateway's own is `gateway/intake`.

Rules:

1. The first packet is the broker's CONNACK; whatever else comes first ends the connection.
2. Packets are handed over per socket read, in order; an incomplete one waits, up to MAX_PACKET bytes.
3. Bytes that are no MQTT end the connection, as an answer that never comes does.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import mqtt5

from gateway.config import Broker
from protocol.errors import BrokerUnavailable

MAX_PACKET = 1 << 20
"""Bytes of an incomplete packet that are kept: as much as the brokers we ship take."""

ANSWER_S = 10.0
"""Seconds a broker has to answer CONNECT."""

LAST_S = 1.0
"""Seconds a connection has to send its last bytes."""


class Link(asyncio.Protocol):
    """A connection: `write` bytes while `writable`; packets go to `on_packets`; `ended` is set when it is over."""

    def __init__(self, on_packets: Callable[[list[mqtt5.Packet]], None]) -> None:
        self.writable = True
        self.ended = asyncio.Event()
        self.answer: asyncio.Future[mqtt5.ConnAckPacket] = asyncio.get_running_loop().create_future()
        self._on_packets = on_packets
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it is over."""
        if not self.answer.done():
            self.answer.set_exception(BrokerUnavailable(f"the connection ended before CONNACK ({exc or 'closed'})"))
            self.answer.exception()  # somebody may have stopped waiting for it
        self.ended.set()

    def pause_writing(self) -> None:
        """Note that the socket is full."""
        self.writable = False

    def resume_writing(self) -> None:
        """Note that the socket takes more, and say so with an empty batch."""
        self.writable = True
        self._on_packets([])

    def data_received(self, data: bytes) -> None:
        """Split bytes into packets."""
        data = self._rest + data
        packets, size = _split(data)
        self._rest = data[size:]
        if packets and not self.answer.done():
            self._first(packets.pop(0))
        if packets:
            self._on_packets(packets)
        if size < 0 or len(self._rest) > MAX_PACKET:
            self.abort()

    def _first(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            self.answer.set_result(packet)
        else:
            self.abort()

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens once the connection is over."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End it in order: what was written still goes out."""
        self.write(mqtt5.DisconnectPacket().write())
        if self._transport is not None:
            self._transport.close()

    async def end(self) -> None:
        """Close it and wait until it is over; a peer that takes no more bytes is not waited for long."""
        self.close()
        try:
            async with asyncio.timeout(LAST_S):
                await self.ended.wait()
        except TimeoutError:
            self.abort()
            await self.ended.wait()

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()


def _split(data: bytes) -> tuple[list[mqtt5.Packet], int]:
    """Give the whole packets and their size; a size of -1 says that something is no packet."""
    packets: list[mqtt5.Packet] = []
    at, view = 0, memoryview(data)
    try:
        while at < len(data):
            packet, size = mqtt5.read(view[at:])
            packets.append(packet)
            at += size
    except IndexError:
        return packets, at
    except ValueError:
        return packets, -1
    return packets, at


async def connect(
    broker: Broker, hello: mqtt5.ConnectPacket, on_packets: Callable[[list[mqtt5.Packet]], None]
) -> tuple[Link, mqtt5.ConnAckPacket]:
    """Open a connection and wait for CONNACK; BrokerUnavailable says why there is none."""
    host, port, tls = broker.address
    link: Link | None = None
    try:
        async with asyncio.timeout(ANSWER_S):
            context = ssl.create_default_context(cafile=broker.ca_file or None) if tls else None
            loop = asyncio.get_running_loop()
            _, link = await loop.create_connection(lambda: Link(on_packets), host, port, ssl=context)
            link.write(hello.write())
            answer = await link.answer
    except TimeoutError:
        raise BrokerUnavailable(f"{host}:{port} does not answer") from None
    except OSError as error:
        raise BrokerUnavailable(f"{host}:{port}: {error.strerror or error}") from None
    finally:
        if link is not None and (not link.answer.done() or link.answer.cancelled()):
            link.abort()
    if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
        await link.end()
        raise BrokerUnavailable(f"{host}:{port} refuses the connection: {answer.reason_code.name.lower()}")
    return link, answer

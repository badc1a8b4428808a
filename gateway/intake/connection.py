"""One connection to the broker, from CONNECT to its end.

1. It is `connected` from an accepting CONNACK until the transport is lost or we hang up, and never again.
2. An acknowledgement is written only here and only while connected: a packet id means nothing to another connection.
3. Reading stands still while it is held (back-pressure) or looks away (`pacing`), whichever lasts longer.
4. `ended` gets the reason, exactly once. A fault that is not the network's is raised from it, never swallowed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    Packet,
    PingReqPacket,
    PubCompPacket,
    PublishPacket,
    PubRecPacket,
    PubRelPacket,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
    TopicFilter,
    UnsubscribePacket,
)

from gateway.intake.counters import Counters
from gateway.intake.framing import Framing, Refused, arrivals, exactly_once
from gateway.intake.pacing import Pacing
from gateway.records import Arrivals
from protocol.errors import BrokerUnavailable

MAX_PACKET = 1 << 20
"""Bytes of the largest packet we ask the broker for; decode refuses payloads far smaller than that."""

MAX_WRITE = 1 << 20
"""Bytes that may wait for the broker to read; a publish beyond it is dropped and counted."""

ANSWER_S = 10.0
"""How long a connection and the answer to CONNECT may take."""

LEAVE_S = 1.0
"""How long a broker may take to read what we still have to say."""

QUICKACK = getattr(socket, "TCP_QUICKACK", None)
"""Linux's option to confirm at once what has been read, which the kernel forgets again. A broker with Nagle's algorithm
(mosquitto as installed, the embedded one) sends no small packet while one is unconfirmed, and the kernel would take up
to 40 ms for that, since we answer only after the commit. An alert cannot wait so long."""

SMALL = 1 << 10
"""Bytes: what comes with longer reads fills packets, and the kernel confirms these by itself."""

PUBACK = np.frombuffer(b"\x40\x02\x00\x00", np.uint8)

Subscriptions = Sequence[tuple[str, int]]
"""Topic filters, and the level of each."""


class Owner(Protocol):
    """Whom a connection tells what happens."""

    counters: Counters
    held: bool
    gone: Sequence[str]  # topics given up, of which the broker may not have heard

    def accepted(self, answer: ConnAckPacket) -> None:
        """Take note that the broker accepted; messages may follow in the same read."""

    def subscribed(self, asked: Subscriptions, codes: Sequence[SubAckReasonCode]) -> None:
        """Take the broker's word about each subscription asked for, in their order."""

    def arrived(self, arrivals: Arrivals) -> None:
        """Take what one read held."""


class Connection(asyncio.BufferedProtocol):
    """One connection; made anew for each attempt."""

    def __init__(self, owner: Owner, number: int, connect: ConnectPacket, subscriptions: Subscriptions) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.connected = False
        self.refused = False  # the broker said no, or goodbye: asking again at once would be rude
        self.ended: asyncio.Future[str] = loop.create_future()
        self._loop = loop
        self._owner = owner
        self._connect = connect
        self._subscriptions = subscriptions
        self._framing = Framing(connect.max_packet_size or MAX_PACKET)
        self._transport: asyncio.Transport | None = None
        self._max_packet = 0  # bytes the broker takes; 0 is no limit
        self._pacing = Pacing()
        self._away = False
        self._reading = True
        self._last_id = 0
        self._asked: dict[int, Subscriptions] = {}  # by packet id: what the broker has not granted or refused yet
        self._heard = False  # since the last ping
        self._listening = True  # without a break since the last ping
        self._timer: asyncio.TimerHandle | None = None
        self._lost: asyncio.Future[None] = loop.create_future()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say CONNECT."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._connect.write())
        why = f"the broker did not answer CONNECT within {ANSWER_S:g} s"
        self._timer = self._loop.call_later(ANSWER_S, self._give_up, why)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the buffer has one size
        """Give the room for the next read."""
        return self._framing.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Take one read: hand over its messages, answer the rest."""
        self._heard = True
        self._owner.counters.reads += 1
        try:
            if nbytes < SMALL:
                self._confirm()
            self._take(nbytes)
        except BrokerUnavailable as error:
            self._give_up(str(error))
        if pause := self._pacing.feed(nbytes, self._loop.time()):
            self._look_away(pause)

    def connection_lost(self, exc: Exception | None) -> None:
        """End for good."""
        if exc is not None and not isinstance(exc, OSError) and not self.ended.done():
            self.ended.set_exception(exc)  # of ours, from `buffer_updated`: the loop has hung up
        before = "" if self.connected else " before it accepted us: does it speak MQTT 5?"
        self._end(f"connection lost ({exc})" if exc else f"the broker closed the connection{before}")
        self.connected = False
        if self._timer is not None:
            self._timer.cancel()
        if not self._lost.done():
            self._lost.set_result(None)

    # What a read held.

    def _confirm(self) -> None:
        if QUICKACK is not None and self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def _take(self, size: int) -> None:
        batch = self._framing.feed(size)
        for packet in batch.others:
            self._handle(packet)
        if batch.topics:
            self._owner.counters.messages += len(batch.topics)
            self._write(b"".join(PubRecPacket(number).write() for number in exactly_once(batch)))
            self._owner.arrived(arrivals(batch, self.number))
        for refused in batch.refused:
            self._answer(refused)

    def _answer(self, refused: Refused) -> None:
        counters = self._owner.counters
        if refused.reason == "too_large":
            counters.too_large += 1
        else:
            counters.malformed += 1
        if refused.packet_id and refused.level == 1:
            self.acknowledge([refused.packet_id])
        elif refused.packet_id:
            self._write(PubRecPacket(refused.packet_id).write())

    def _handle(self, packet: Packet) -> None:
        match packet:
            case ConnAckPacket():
                self._accept(packet)
            case SubAckPacket():
                self._owner.subscribed(self._asked.pop(packet.packet_id, ()), packet.reason_codes)
            case DisconnectPacket():
                self._goodbye(packet)
            case PubRelPacket():
                self._write(PubCompPacket(packet.packet_id).write())
            case _:
                pass  # PINGRESP: having heard it is enough

    def _accept(self, answer: ConnAckPacket) -> None:
        if answer.reason_code != ConnAckReasonCode.SUCCESS:
            self.refused = True
            why = said(answer.reason_code, answer.reason_str)
            raise BrokerUnavailable(f"the broker refused the connection: {why}")
        if self.connected:
            raise BrokerUnavailable("the broker sent CONNACK twice")
        self.connected = True
        self._max_packet = answer.max_packet_size or 0
        self._owner.accepted(answer)
        self._subscribe(self._subscriptions)
        if answer.session_present:
            self.unsubscribe(self._owner.gone)
        keepalive = self._connect.keep_alive if answer.server_keep_alive is None else answer.server_keep_alive
        assert self._timer is not None
        self._timer.cancel()
        if keepalive:
            self._timer = self._loop.call_later(keepalive / 2, self._ping, keepalive / 2)
        self.hold()

    def resubscribe(self, subscriptions: Subscriptions, new: Subscriptions, gone: Sequence[str]) -> None:
        """Have these subscriptions from now on, of which some are new; and others no more."""
        self._subscriptions = subscriptions
        if self.connected:
            self._subscribe(new)
            self.unsubscribe(gone)

    def unsubscribe(self, gone: Sequence[str]) -> None:
        """Tell the broker that nothing more is wanted of these."""
        if gone:
            self._write(UnsubscribePacket(self._next_id(), list(gone)).write())

    def _next_id(self) -> int:
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id

    def _subscribe(self, subscriptions: Subscriptions) -> None:
        # Kept messages come once, when the subscription is new: after a reconnect they would be old values again.
        filters = [
            TopicFilter(pattern, max_qos=QoS(level), retain_handling=RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS)
            for pattern, level in subscriptions
        ]
        if filters:
            number = self._next_id()
            self._asked[number] = subscriptions
            self._write(SubscribePacket(number, filters).write())

    def _goodbye(self, packet: DisconnectPacket) -> None:
        self.refused = True
        self._give_up(f"the broker disconnected us: {said(packet.reason_code, packet.reason_str)}")

    # Aliveness.

    def _ping(self, interval: float) -> None:
        """Ask for a sign of life; a broker that gave none since it was last asked, while we listened, is gone."""
        if self._listening and not self._heard:
            self._give_up(f"the broker was silent for {interval:g} s")
        elif self._listening and self._asked:
            self._give_up("the broker did not answer our subscriptions")
        else:
            self._heard, self._listening = False, not self._owner.held
            self._write(PingReqPacket().write())
            self._timer = self._loop.call_later(interval, self._ping, interval)

    # Reading, or not.

    def hold(self) -> None:
        """Stop reading, or go on, as the owner's `held` says."""
        self._listening = False  # until the next ping
        self._set_reading()

    def _look_away(self, seconds: float) -> None:
        self._away = True
        self._set_reading()
        self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._away = False
        self._pacing.look(self._loop.time())
        self._set_reading()

    def _set_reading(self) -> None:
        reading = not (self._away or (self.connected and self._owner.held))
        if reading == self._reading or self._transport is None or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # Writing.

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """Write the PUBACKs of these messages at once; counted as stale when the connection is gone."""
        if not self.connected:
            self._owner.counters.stale += len(packet_ids)
            return
        self._owner.counters.acknowledged += len(packet_ids)
        self._write(pubacks(packet_ids))

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        """Send at most once; False if it was dropped."""
        if not self.connected or self._transport is None:
            return False
        packet = PublishPacket(topic, payload, retain=retain).write()
        if self._max_packet and len(packet) > self._max_packet:
            return False
        if self._transport.get_write_buffer_size() + len(packet) > MAX_WRITE:
            return False
        self._transport.write(packet)
        return True

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # The end.

    async def leave(self) -> None:
        """Take leave of the broker, which keeps the session, and wait until the transport is gone."""
        if self._transport is None:
            return
        if self.connected:
            self._write(DisconnectPacket(reason_code=DisconnectReasonCode.NORMAL_DISCONNECTION).write())
        self.connected = False
        self._end("we disconnected")
        self._transport.close()
        abort = self._loop.call_later(LEAVE_S, self._transport.abort)
        await self._lost
        abort.cancel()

    def _give_up(self, why: str) -> None:
        self._end(why)
        self._abort()

    def _abort(self) -> None:
        self.connected = False
        if self._transport is not None:
            self._transport.abort()

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)


def pubacks(packet_ids: Sequence[int]) -> bytes:
    """Give the PUBACK packets of these ids, joined."""
    packets = np.tile(PUBACK, (len(packet_ids), 1))
    packets[:, 2:] = np.asarray(packet_ids, ">u2").view(np.uint8).reshape(-1, 2)
    return packets.tobytes()


def said(code: ConnAckReasonCode | DisconnectReasonCode | SubAckReasonCode, text: str | None = None) -> str:
    """Give a reason code in words, with the broker's own if it sent any."""
    words = code.name.lower().replace("_", " ")
    return f"{words} ({text})" if text else words

"""From the bytes of one connection to the messages in them. Pure: what arrives is an argument.

1. Bytes wait in one buffer; the codec copies payloads out, so nothing refers to it between calls.
2. What stands at the front of the buffer is the beginning of a packet, or the rest of a refused one (`_skip` bytes).
3. The buffer never outgrows `max_packet`; a packet that would not fit is refused and its bytes are let through unread.
4. A PUBLISH that cannot be read is refused by itself: ending the connection would have the broker send it again for
   ever. Its packet id, if it has one, is given, so that it can be acknowledged. Any other unreadable packet ends the
   connection with BrokerUnavailable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mqtt5 import Packet, PublishPacket, read

from gateway.records import Arrivals
from protocol.errors import BrokerUnavailable

BUFFER = 128 << 10
"""Bytes asked of one socket read: about 1,900 readings of 66 bytes, 1.2 ms of reading; larger is no faster."""

PUBLISH = 3
CONNACK = 2
MAX_TOPIC = 65_535
DUPLICATE = 0b1000
LEVEL = 0b0110  # the bits of the first byte that hold the level of service
AT_LEAST_ONCE = 0b0010
EXACTLY_ONCE = 0b0100


class Refused(NamedTuple):
    """A PUBLISH that was let through unread: why, and what to answer it by."""

    reason: str  # "too_large" or "malformed"
    level: int  # of service: 0, 1, 2
    packet_id: int | None  # None: level 0, or not legible


@dataclass(slots=True)
class Batch:
    """What one feed held. Message i is topics[i], payloads[i], packet_ids[i].

    `runs` are (first index, first byte of the packet): messages up to the next run share that byte.
    """

    topics: list[str] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    packet_ids: list[int | None] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)
    others: list[Packet] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


class Framing:
    """The receiving half of one connection."""

    def __init__(self, max_packet: int, *, buffer: int = BUFFER) -> None:
        self.max_packet = max_packet
        self._bytes = bytearray(buffer)
        self._view = memoryview(self._bytes)
        self._end = 0
        self._skip = 0

    def space(self) -> memoryview:
        """Give where the next bytes go; never empty."""
        return self._view[self._end :]

    def feed(self, size: int) -> Batch:
        """Take `size` bytes written to `space()`; give the messages now whole."""
        batch = Batch()
        end = self._end + size
        at = self._skip
        while at < end:
            at, fault = self._read(at, end, batch)
            if at < end:
                after = self._past(at, end, fault, batch)
                if after == at:
                    break
                at = after
        self._keep(at, end)
        return batch

    def _read(self, at: int, end: int, batch: Batch) -> tuple[int, str]:
        """Read packets until one is not whole or not legible; give where that one begins, and what ails it."""
        # The hottest loop of the gateway: 0.6 us a message, of which 0.45 are the codec's.
        first_bytes, view = self._bytes, self._view[:end]
        topics, others = batch.topics, batch.others
        add_topic, add_payload, add_id = topics.append, batch.payloads.append, batch.packet_ids.append
        run = batch.runs[-1][1] if batch.runs else -1
        read_packet, publish = read, PublishPacket
        try:
            while at < end:
                packet, size = read_packet(view[at:])
                if type(packet) is publish:
                    if first_bytes[at] != run:
                        run = first_bytes[at]
                        batch.runs.append((len(topics), run))
                    add_topic(packet.topic)
                    add_payload(packet.payload)
                    add_id(packet.packet_id)
                else:
                    others.append(packet)
                at += size
        except IndexError:
            return at, ""
        except ValueError as error:
            return at, str(error)
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            return at, str(error)  # the codec panics on text that is not UTF-8
        return at, ""

    def _past(self, at: int, end: int, fault: str, batch: Batch) -> int:
        """Give where the packet at `at` ends if it must be refused, else `at`: its rest is awaited."""
        head = bytes(self._view[at : min(end, at + 9 + MAX_TOPIC)])
        length = packet_length(head)
        if length == 0 and not fault:
            return at
        if not fault and length <= self.max_packet:
            self._grow(length)
            return at
        if length == 0 or head[0] >> 4 != PUBLISH:
            raise BrokerUnavailable(_illegible(head, fault))
        refused = _refuse(head, length, "malformed" if fault else "too_large")
        if refused is None:
            self._grow(2 * end if end - at == len(self._bytes) else 0)
            return at
        batch.refused.append(refused)
        return at + length

    def _grow(self, length: int) -> None:
        if length > len(self._bytes):
            grown = bytearray(length)
            grown[: len(self._bytes)] = self._bytes
            self._bytes, self._view = grown, memoryview(grown)

    def _keep(self, at: int, end: int) -> None:
        """Move the beginning of a packet to the front, or remember how much of a refused one is still to come."""
        self._skip = max(at - end, 0)
        self._end = max(end - at, 0)
        if self._end and at:
            self._view[: self._end] = self._view[at:end]


def packet_length(head: bytes) -> int:
    """Give the length of the packet that begins so, first byte included; 0 if it is not yet, or never, legible."""
    length = 0
    for place, byte in enumerate(head[1:5]):
        length |= (byte & 127) << (7 * place)
        if byte < 128:
            return 2 + place + length
    return 0


def _refuse(head: bytes, length: int, reason: str) -> Refused | None:
    """Say what is known of a PUBLISH from its first bytes; None if more of them are needed."""
    level = (head[0] & LEVEL) >> 1
    if level == 0:
        return Refused(reason, 0, None)
    at = next(place for place in range(1, 5) if head[place] < 128) + 1
    at += 2 + int.from_bytes(head[at : at + 2]) if len(head) >= at + 2 else 2
    if at + 2 > length:
        return Refused(reason, level, None)
    return Refused(reason, level, int.from_bytes(head[at : at + 2])) if len(head) >= at + 2 else None


def _illegible(head: bytes, fault: str) -> str:
    if head[0] >> 4 == CONNACK and len(head) > 1 and head[1] == 2:
        return "the broker answered in MQTT 3; MQTT 5 is needed"
    return f"the broker sent what is not MQTT 5 ({fault or 'packet too large'})"


def arrivals(batch: Batch, connection: int) -> Arrivals:
    """Give the batch as what flows on; messages of level 2 count as level 0: they are answered by `exactly_once`."""
    runs = _runs(batch)
    indices = [range(start, stop) for start, stop, first in runs if first & LEVEL == AT_LEAST_ONCE]
    at_least_once = indices[0] if len(indices) == 1 else [index for span in indices for index in span]
    return Arrivals(
        batch.topics,
        batch.payloads,
        _ids(batch, indices),
        at_least_once,
        _duplicates(runs),
        connection,
    )


def exactly_once(batch: Batch) -> list[int]:
    """Give the packet ids of messages of level 2, which we never ask for."""
    return _ids(batch, [range(start, stop) for start, stop, first in _runs(batch) if first & LEVEL == EXACTLY_ONCE])


def _runs(batch: Batch) -> list[tuple[int, int, int]]:
    ends = [*batch.runs[1:], (len(batch.topics), 0)]
    return [(start, stop, first) for (start, first), (stop, _) in zip(batch.runs, ends, strict=False)]


def _ids(batch: Batch, indices: list[range]) -> list[int]:
    ids = [packet_id for span in indices for packet_id in batch.packet_ids[span.start : span.stop]]
    return [packet_id for packet_id in ids if packet_id is not None]


def _duplicates(runs: list[tuple[int, int, int]]) -> list[bool] | None:
    marks = [(first & DUPLICATE != 0, stop - start) for start, stop, first in runs if first & LEVEL == AT_LEAST_ONCE]
    if not any(duplicate for duplicate, _ in marks):
        return None
    return [duplicate for duplicate, number in marks for _ in range(number)]

from __future__ import annotations

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mqtt5 import ConnAckPacket, PingRespPacket, PublishPacket, QoS

from gateway.intake.framing import Batch, Framing, Refused, arrivals, exactly_once, packet_length
from gateway.records import Arrivals
from protocol.errors import BrokerUnavailable
from tests.fake_broker import publish

SMALL = 64
MAX_PACKET = 1_000

STREAM = b"".join(
    [
        ConnAckPacket().write(),
        publish(0),
        publish(1, packet_id=7),
        publish(2, packet_id=300, duplicate=True),
        PingRespPacket().write(),
        PublishPacket("s/d/m", b"x" * 200, qos=QoS.AT_LEAST_ONCE, packet_id=9).write(),
        publish(3),
    ]
)
MESSAGES = [("s/d/m", b"0"), ("s/d/m", b"1"), ("s/d/m", b"2"), ("s/d/m", b"x" * 200), ("s/d/m", b"3")]
IDS = [None, 7, 300, 9, None]


def feed(framing: Framing, data: bytes) -> list[Batch]:
    batches = []
    while data:
        space = framing.space()
        size = min(len(space), len(data))
        assert size, "there is always room"
        space[:size] = data[:size]
        data = data[size:]
        batches.append(framing.feed(size))
    return batches


def joined(batches: list[Batch]) -> tuple[list[tuple[str, bytes]], list[int | None], int]:
    messages = [pair for batch in batches for pair in zip(batch.topics, batch.payloads, strict=True)]
    return messages, [number for batch in batches for number in batch.packet_ids], sum(len(b.others) for b in batches)


@pytest.mark.parametrize("border", range(len(STREAM) + 1))
def test_a_stream_cut_at_any_byte_gives_the_same_messages(border: int) -> None:
    framing = Framing(MAX_PACKET, buffer=SMALL)
    batches = feed(framing, STREAM[:border]) + feed(framing, STREAM[border:])
    assert joined(batches) == (MESSAGES, IDS, 2)


def test_a_stream_that_comes_byte_by_byte_gives_the_same_messages() -> None:
    framing = Framing(MAX_PACKET, buffer=SMALL)
    batches = [batch for byte in STREAM for batch in feed(framing, bytes([byte]))]
    assert joined(batches) == (MESSAGES, IDS, 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=12), st.lists(st.integers(1, 400), max_size=12))
def test_any_payloads_in_any_pieces_come_out_as_they_went_in(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(
        PublishPacket("t", payload, qos=QoS(n % 2), packet_id=n + 1 if n % 2 else None).write()
        for n, payload in enumerate(payloads)
    )
    framing = Framing(MAX_PACKET, buffer=SMALL)
    batches = []
    for cut in cuts:
        batches += feed(framing, stream[:cut])
        stream = stream[cut:]
    batches += feed(framing, stream)
    assert [payload for batch in batches for payload in batch.payloads] == payloads


def test_arrivals_name_the_acknowledgeable_messages_and_the_redelivered_ones() -> None:
    data = [publish(0), publish(1, packet_id=7), publish(2, packet_id=8, duplicate=True), publish(3)]
    (batch,) = feed(Framing(MAX_PACKET), b"".join(data))
    assert arrivals(batch, 5) == Arrivals(["s/d/m"] * 4, [b"0", b"1", b"2", b"3"], [7, 8], [1, 2], [False, True], 5)


@pytest.mark.parametrize(
    ("packets", "ids", "indices"),
    [
        pytest.param([PingRespPacket().write()], [], [], id="no message"),
        pytest.param([publish(0), publish(1)], [], [], id="at most once"),
        pytest.param([publish(0, packet_id=4), publish(1, packet_id=5)], [4, 5], range(2), id="at least once"),
        pytest.param([publish(0), publish(1, packet_id=5), publish(2, packet_id=6)], [5, 6], range(1, 3), id="mixed"),
        pytest.param([publish(0, packet_id=4), publish(1), publish(2, packet_id=6)], [4, 6], [0, 2], id="alternating"),
    ],
)
def test_indices_are_a_range_where_they_can_be(
    packets: list[bytes], ids: list[int], indices: list[int] | range
) -> None:
    (batch,) = feed(Framing(MAX_PACKET), b"".join(packets))
    result = arrivals(batch, 1)
    assert (result.packet_ids, result.at_least_once, result.duplicate) == (ids, indices, None)


def test_a_message_of_level_2_is_handed_over_and_answered_apart() -> None:
    twice = PublishPacket("s/d/m", b"1", qos=QoS.EXACTLY_ONCE, packet_id=77).write()
    (batch,) = feed(Framing(MAX_PACKET), twice + publish(2, packet_id=3))
    assert exactly_once(batch) == [77]
    assert arrivals(batch, 1) == Arrivals(["s/d/m"] * 2, [b"1", b"2"], [3], range(1, 2), None, 1)


@pytest.mark.parametrize("border", [1, 3, 8, 20, 70, 900, 2_000])
def test_a_packet_beyond_the_limit_is_let_through_unread_and_costs_no_other(border: int) -> None:
    huge = PublishPacket("s/d/m", b"y" * 2_000, qos=QoS.AT_LEAST_ONCE, packet_id=513).write()
    stream = publish(1, packet_id=1) + huge + publish(2, packet_id=2)
    framing = Framing(MAX_PACKET, buffer=SMALL)
    batches = feed(framing, stream[:border]) + feed(framing, stream[border:])
    assert [refused for batch in batches for refused in batch.refused] == [Refused("too_large", 1, 513)]
    assert joined(batches)[0] == [("s/d/m", b"1"), ("s/d/m", b"2")]
    assert len(framing._bytes) <= MAX_PACKET


BAD_TOPIC = b"\x32\x09\x00\x03\xff\xfe\xfd\x01\x02\x00x"
BAD_LENGTH = b"\x30\x04\x00\x09ab"
BAD_PROPERTY = b"\x32\x0a\x00\x01a\x00\x05\x02\xf0\xf0x!"


# The codec panics on text that is not UTF-8, and says so as an exception that nobody can catch.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("packet", "refused"),
    [
        pytest.param(BAD_TOPIC, Refused("malformed", 1, 0x0102), id="a topic that is not UTF-8"),
        pytest.param(BAD_LENGTH, Refused("malformed", 0, None), id="a topic longer than its packet"),
        pytest.param(BAD_PROPERTY, Refused("malformed", 1, 5), id="a property that is none"),
        pytest.param(b"\x32\x03\x00\x09a", Refused("malformed", 1, None), id="a packet id beyond its packet"),
    ],
)
def test_an_illegible_message_costs_only_itself(packet: bytes, refused: Refused) -> None:
    framing = Framing(MAX_PACKET, buffer=SMALL)
    batches = feed(framing, publish(1) + packet + publish(2))
    assert [found for batch in batches for found in batch.refused] == [refused]
    assert joined(batches)[0] == [("s/d/m", b"1"), ("s/d/m", b"2")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"\x20\x02\x00\x01", "the broker answered in MQTT 3; MQTT 5 is needed", id="mqtt 3"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n" * 8, "what is not MQTT 5", id="http"),
        pytest.param(b"\x20\xff\xff\xff\xff\x01", "what is not MQTT 5", id="length"),
        pytest.param(b"\x90\xff\xff\xff\x7f", "packet too large", id="huge, but no message"),
    ],
)
def test_anything_else_illegible_ends_the_connection(data: bytes, words: str) -> None:
    with pytest.raises(BrokerUnavailable, match=words):
        feed(Framing(MAX_PACKET), data)


@pytest.mark.parametrize(
    ("head", "length"),
    [(b"", 0), (b"\x30", 0), (b"\x30\x00", 2), (b"\x30\x7f", 129), (b"\x30\x80", 0), (b"\x30\x80\x01", 131)],
)
def test_the_length_of_a_packet_is_known_once_its_header_is_there(head: bytes, length: int) -> None:
    assert packet_length(head) == length


def test_a_packet_as_large_as_the_limit_is_read() -> None:
    payload = b"z" * 2_000
    packet = PublishPacket("s/d/m", payload).write()
    assert joined(feed(Framing(len(packet), buffer=SMALL), packet))[0] == [("s/d/m", payload)]


def test_what_is_no_fault_of_the_bytes_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: memoryview) -> tuple[mqtt5.Packet, int]:
        raise MemoryError

    monkeypatch.setattr("gateway.intake.framing.read", broken)
    with pytest.raises(MemoryError):
        feed(Framing(MAX_PACKET), publish(1))

"""Devices against a real broker, and against one that answers as the test wants."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import mqtt5
import pytest

from cli.broker import EmbeddedBroker
from cli.devices import Devices
from cli.link import connect
from cli.listen import topics_heard
from cli.publisher import Publisher
from gateway.config import Broker
from protocol.errors import BrokerUnavailable
from tests.fake_broker import FakeBroker, Peer
from tests.waiting import until

DEADLINE_S = 20


@pytest.fixture
def broker(embedded_broker: EmbeddedBroker) -> Broker:
    return Broker(url=embedded_broker.url)


def devices(count: int = 4, rate: float = 1000.0, topic: str = "t/{device}") -> Devices:
    return Devices(count, rate, {"a": [1.0, 2.0]}, topic=topic, start=time.time_ns())


def publisher(broker: Broker, publishing: Devices, limit: int | None, qos: int = 1) -> Publisher:
    return Publisher(
        broker, publishing, client_id=f"p-{time.time_ns()}", clock=time.time_ns, rng=Random(1), limit=limit, qos=qos
    )


async def test_everything_is_published_and_acknowledged_once(broker: Broker) -> None:
    one = publisher(broker, devices(), limit=1000)
    async with asyncio.timeout(DEADLINE_S):
        await one.run()
    assert (one.sent, one.inflight, one.reconnects) == (1000, 0, 0)
    assert [list(pairs) for pairs in one.acknowledged] == [[(1, 250)]] * 4


async def test_qos_0_is_published_and_never_acknowledged(broker: Broker) -> None:
    one = publisher(broker, devices(), limit=100, qos=0)
    async with asyncio.timeout(DEADLINE_S):
        await one.run()
    assert (one.sent, sum(map(len, one.acknowledged))) == (100, 0)


async def test_stopping_waits_for_what_is_under_way(broker: Broker) -> None:
    one = publisher(broker, devices(), limit=None)
    running = asyncio.create_task(one.run())
    await until(lambda: one.sent > 100, "a hundred messages")
    one.stop()
    async with asyncio.timeout(DEADLINE_S):
        await running
    assert sum(map(len, one.acknowledged)) == one.sent


async def test_what_was_published_lately_is_published_again_when_asked(broker: Broker) -> None:
    one = publisher(broker, devices(), limit=200)
    running = asyncio.create_task(one.run())
    await until(lambda: one.sent >= 100, "a hundred messages")
    one.repeat(3600 * 10**9)
    async with asyncio.timeout(DEADLINE_S):
        await running
    assert one.repeated > 0
    assert [list(pairs) for pairs in one.acknowledged] == [[(1, 50)]] * 4


async def test_listening_hears_the_topics_of_others(broker: Broker) -> None:
    one = publisher(broker, devices(3, topic="plant/{device}/x"), limit=None)
    running = asyncio.create_task(one.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            heard = await topics_heard(broker, "ear", seconds=DEADLINE_S, most=3)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert heard == ["plant/device-1/x", "plant/device-2/x", "plant/device-3/x"]


async def test_listening_where_nobody_speaks_ends_in_time(broker: Broker) -> None:
    assert await topics_heard(broker, "ear", seconds=0.05) == []


# A broker that does what the test says.


async def takes(peer: Peer, *, session_present: bool = False, receive_max: int = 100) -> None:
    await peer.expect(mqtt5.ConnectPacket)
    peer.send(mqtt5.ConnAckPacket(session_present=session_present, receive_max=receive_max))


def acknowledgement(packet: mqtt5.PublishPacket, code: mqtt5.PubAckReasonCode | None = None) -> mqtt5.PubAckPacket:
    assert packet.packet_id is not None
    return mqtt5.PubAckPacket(packet.packet_id, reason_code=code or mqtt5.PubAckReasonCode.SUCCESS)


def counter(packet: mqtt5.PublishPacket) -> int:
    return int(json.loads(packet.payload)["n"])


@pytest.mark.parametrize("session_present", [True, False], ids=["session kept", "session forgotten"])
async def test_the_unacknowledged_come_again_in_order_when_the_connection_broke(
    fake_broker: FakeBroker, session_present: bool
) -> None:
    one = publisher(Broker(url=fake_broker.url), devices(1), limit=4)
    running = asyncio.create_task(one.run())
    peer = await fake_broker.accept()
    await takes(peer)
    first = [await peer.expect(mqtt5.PublishPacket) for _ in range(3)]
    peer.send(acknowledgement(first[0]))
    await until(lambda: len(one.acknowledged[0]) == 1, "one acknowledgement")
    peer.drop()
    peer = await fake_broker.accept()
    await takes(peer, session_present=session_present)
    again = [await peer.expect(mqtt5.PublishPacket) for _ in range(3)]
    peer.send(*(acknowledgement(packet) for packet in again))
    await running
    assert [counter(packet) for packet in first] == [1, 2, 3]
    assert [counter(packet) for packet in again] == [2, 3, 4]
    assert [packet.duplicate for packet in again[:2]] == [session_present] * 2
    assert [list(pairs) for pairs in one.acknowledged] == [[(1, 4)]]
    assert one.reconnects == 1


async def test_no_more_are_in_flight_than_the_broker_asks_for(fake_broker: FakeBroker) -> None:
    one = publisher(Broker(url=fake_broker.url), devices(1), limit=4)
    running = asyncio.create_task(one.run())
    peer = await fake_broker.accept()
    await takes(peer, receive_max=3)
    first = [await peer.expect(mqtt5.PublishPacket) for _ in range(3)]
    await until(lambda: one.devices.until(time.time_ns()) >= 4, "the fourth is due")
    assert (one.sent, one.inflight) == (3, 3)
    peer.send(acknowledgement(first[0]))
    fourth = await peer.expect(mqtt5.PublishPacket)
    peer.send(*(acknowledgement(packet) for packet in (*first[1:], fourth)))
    await running
    assert list(one.acknowledged[0]) == [(1, 4)]


async def test_a_refused_message_is_counted_and_not_sent_again(fake_broker: FakeBroker) -> None:
    one = publisher(Broker(url=fake_broker.url), devices(1), limit=3)
    running = asyncio.create_task(one.run())
    peer = await fake_broker.accept()
    await takes(peer)
    packets = [await peer.expect(mqtt5.PublishPacket) for _ in range(3)]
    full = mqtt5.PubAckReasonCode.QUOTA_EXCEEDED
    peer.send(acknowledgement(packets[0]), acknowledgement(packets[1], full), acknowledgement(packets[2]))
    await running
    assert (one.refused, list(one.acknowledged[0])) == (1, [(1, 1), (3, 3)])


async def test_devices_wait_for_a_broker_that_is_not_there_yet(free_port: Callable[[], int], tmp_path: Path) -> None:
    port = free_port()
    one = publisher(Broker(url=f"mqtt://127.0.0.1:{port}"), devices(1), limit=3)
    running = asyncio.create_task(one.run())
    await until(lambda: one.reconnects >= 2, "two tries")
    assert f"127.0.0.1:{port}" in one.trouble
    with EmbeddedBroker(tmp_path, port, free_port()):
        await running
    assert list(one.acknowledged[0]) == [(1, 3)]


ANSWERS = [
    ("refused", mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED).write(), "not_authorized"),
    ("hung up", b"", "ended before CONNACK"),
    ("not MQTT", b"\x00" * 20, "ended before CONNACK"),
    ("another packet first", mqtt5.PingRespPacket().write(), "ended before CONNACK"),
]


@pytest.mark.parametrize(("answer", "why"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
async def test_a_broker_that_will_not_have_us_is_unavailable_by_reason(
    fake_broker: FakeBroker, answer: bytes, why: str
) -> None:
    broker = Broker(url=fake_broker.url)
    connecting = asyncio.create_task(connect(broker, mqtt5.ConnectPacket("c"), lambda _packets: None))
    peer = await fake_broker.accept()
    await peer.expect(mqtt5.ConnectPacket)
    if answer:
        peer.send(answer)
    else:
        peer.drop()
    with pytest.raises(BrokerUnavailable, match=why):
        await connecting

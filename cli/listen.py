"""What a broker carries: a second connection listens to everything for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import mqtt5

from cli.link import connect
from gateway.config import Broker
from protocol.errors import BrokerUnavailable

MAX_TOPICS = 100
"""Enough to see how topics are built."""

MAX_MESSAGE = 256 << 10
"""Bytes of a message: the broker is asked to leave out larger ones."""

GRANTED = (mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE, mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE)


async def topics_heard(
    broker: Broker, client_id: str, password: bytes | None = None, *, seconds: float = 2.0, most: int = MAX_TOPICS
) -> list[str]:
    """Listen to `#`, until `most` topics were heard or the time is over; BrokerUnavailable if there is no broker."""
    heard: set[str] = set()

    def hear(messages: list[mqtt5.PublishPacket]) -> bool:
        heard.update(message.topic for message in messages)
        return len(heard) >= most

    await listen(broker, client_id, hear, password, seconds=seconds)
    return sorted(heard)[:most]


async def listen(
    broker: Broker,
    client_id: str,
    hear: Callable[[list[mqtt5.PublishPacket]], bool],
    password: bytes | None = None,
    *,
    seconds: float,
) -> None:
    """Hand over what is published on `#` until `hear` has enough or the time is over.

    BrokerUnavailable if there is no broker, or it does not let us listen so long.
    """
    over = asyncio.Event()
    refused: list[str] = []

    def received(packets: list[mqtt5.Packet]) -> None:
        for packet in packets:
            if isinstance(packet, mqtt5.SubAckPacket):
                refused.extend(code.name.lower() for code in packet.reason_codes if code not in GRANTED)
        if refused or hear([packet for packet in packets if isinstance(packet, mqtt5.PublishPacket)]):
            over.set()

    link, _ = await connect(broker, _hello(broker, client_id, password), received)
    ended = asyncio.create_task(link.ended.wait(), name="ended")
    enough = asyncio.create_task(over.wait(), name="enough")
    try:
        everything = mqtt5.TopicFilter("#", max_qos=mqtt5.QoS.AT_MOST_ONCE)
        link.write(mqtt5.SubscribePacket(1, [everything]).write())
        await asyncio.wait({ended, enough}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        broken = ended.done() and not over.is_set()
    finally:
        ended.cancel()
        enough.cancel()
        await link.end()
    if broken:
        raise BrokerUnavailable("it ended the connection")
    if refused:
        raise BrokerUnavailable(f"it does not let this user subscribe to #: {refused[0]}")


def _hello(broker: Broker, client_id: str, password: bytes | None) -> mqtt5.ConnectPacket:
    return mqtt5.ConnectPacket(
        client_id,
        username=broker.username or None,
        password=password,
        clean_start=True,
        keep_alive=60,  # rumqttd takes nobody who promises nothing
        max_packet_size=MAX_MESSAGE,
    )

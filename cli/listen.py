"""Which topics a broker carries: a second connection listens to everything for a moment."""

from __future__ import annotations

import asyncio

import mqtt5

from cli.link import connect
from gateway.config import Broker

MAX_TOPICS = 100
"""Enough to see how topics are built."""


async def topics_heard(
    broker: Broker, client_id: str, password: bytes | None = None, *, seconds: float = 2.0, most: int = MAX_TOPICS
) -> list[str]:
    """Listen to `#`, until `most` topics were heard or the time is over; BrokerUnavailable if there is no broker."""
    heard: set[str] = set()
    enough = asyncio.Event()

    def received(packets: list[mqtt5.Packet]) -> None:
        heard.update(packet.topic for packet in packets if isinstance(packet, mqtt5.PublishPacket))
        if len(heard) >= most:
            enough.set()

    hello = mqtt5.ConnectPacket(
        client_id,
        username=broker.username or None,
        password=password,
        clean_start=True,
        keep_alive=60,  # rumqttd takes nobody who promises nothing
    )
    link, _ = await connect(broker, hello, received)
    try:
        everything = mqtt5.TopicFilter("#", max_qos=mqtt5.QoS.AT_MOST_ONCE)
        link.write(mqtt5.SubscribePacket(1, [everything]).write())
        async with asyncio.timeout(seconds):
            await enough.wait()
    except TimeoutError:
        pass  # the time is over
    finally:
        await link.end()
    return sorted(heard)[:most]

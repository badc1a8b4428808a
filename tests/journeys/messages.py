"""Single messages to a broker, for what no simulated device would say."""

from __future__ import annotations

from functools import partial

import mqtt5

from cli.link import connect
from tests.journeys.site import Site
from tests.waiting import until


async def send(site: Site, messages: list[tuple[str, bytes]]) -> None:
    """Publish with QoS 1, as many at once as the broker takes, and wait until it has acknowledged all."""
    acknowledged: set[int] = set()

    def received(packets: list[mqtt5.Packet]) -> None:
        acknowledged.update(packet.packet_id for packet in packets if isinstance(packet, mqtt5.PubAckPacket))

    def takes(number: int) -> bool:
        return number - len(acknowledged) <= answer.receive_max

    link, answer = await connect(
        site.config.devices, mqtt5.ConnectPacket(f"messages-to-{site.name}", keep_alive=60), received
    )
    for number, (topic, payload) in enumerate(messages, 1):
        await until(partial(takes, number), "the broker takes more")
        packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number)
        link.write(packet.write())
    await until(lambda: len(acknowledged) == len(messages), "the broker acknowledges")
    link.close()
    await until(link.ended.is_set, "the broker lets go")

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.bus import (
    LONGEST_DELAY_S,
    MAX_WAITING,
    Bus,
    MemoryBroker,
    MemoryBus,
    Message,
    Presence,
    Subscription,
    reconnect_delay,
)
from protocol.errors import BrokerUnavailable


async def take(subscription: Subscription, number: int) -> list[Message]:
    async with asyncio.timeout(10):
        return [await anext(subscription) for _ in range(number)]


async def test_a_message_reaches_every_subscription_that_matches_and_no_other() -> None:
    broker = MemoryBroker()
    with MemoryBus(broker) as cloud, MemoryBus(broker) as gateway:
        bus: Bus = gateway  # the port, kept by the type checker
        async with bus.subscribe("t/+") as one, bus.subscribe("t/#") as two, bus.subscribe("other") as three:
            await cloud.publish("t/a", b"1")
            await cloud.publish("t/a/b", b"2")
            await cloud.publish("other", b"3")
            assert await take(one, 1) == [Message("t/a", b"1")]
            assert await take(two, 2) == [Message("t/a", b"1"), Message("t/a/b", b"2")]
            assert await take(three, 1) == [Message("other", b"3")]


async def test_a_subscriber_that_comes_first_waits_for_the_message() -> None:
    with MemoryBus(MemoryBroker()) as bus:
        async with bus.subscribe("t") as subscription:
            waiting = asyncio.create_task(take(subscription, 1))
            await asyncio.sleep(0)
            await bus.publish("t", b"1")
            assert await waiting == [Message("t", b"1")]


async def test_a_retained_message_meets_later_subscriptions_until_it_is_cleared() -> None:
    with MemoryBus(MemoryBroker()) as bus:
        await bus.publish("t", b"old", retain=True)
        await bus.publish("t", b"new", retain=True)
        async with bus.subscribe("t") as subscription:
            assert await take(subscription, 1) == [Message("t", b"new", retained=True)]
        await bus.publish("t", b"", retain=True)
        async with bus.subscribe("t") as subscription:
            await bus.publish("t", b"fresh")
            assert await take(subscription, 1) == [Message("t", b"fresh")]


async def test_a_subscription_that_is_full_drops_its_oldest_and_counts_it() -> None:
    with MemoryBus(MemoryBroker()) as bus:
        async with bus.subscribe("t") as subscription:
            for number in range(MAX_WAITING + 3):
                await bus.publish("t", str(number).encode())
            assert subscription.dropped == 3
            assert (await take(subscription, 1))[0].payload == b"3"


async def test_presence_says_online_then_offline_when_the_connection_is_cut_or_left() -> None:
    broker = MemoryBroker()
    gateway = MemoryBus(broker, Presence("status", b"on", b"off"))
    with MemoryBus(broker) as cloud:
        async with cloud.subscribe("status") as statuses:
            with gateway:
                gateway.cut()
                gateway.join()
            assert [message.payload for message in await take(statuses, 4)] == [b"on", b"off", b"on", b"off"]
    assert broker.retained == {"status": b"off"}


async def test_a_cut_bus_refuses_to_publish_and_receives_again_after_it_has_joined() -> None:
    broker = MemoryBroker()
    with MemoryBus(broker) as cloud, MemoryBus(broker) as gateway:
        async with gateway.subscribe("t") as subscription:
            gateway.cut()
            with pytest.raises(BrokerUnavailable):
                await gateway.publish("t", b"lost")
            await cloud.publish("t", b"missed")
            gateway.join()
            await cloud.publish("t", b"seen")
            assert await take(subscription, 1) == [Message("t", b"seen")]
    assert broker.subscriptions == []


def test_the_first_attempt_is_made_at_once() -> None:
    assert reconnect_delay(0, Random(1)) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10_000), st.integers())
def test_a_delay_is_anything_up_to_a_bound_that_doubles(failures: int, seed: int) -> None:
    bound = min(LONGEST_DELAY_S, 0.5 * 2 ** min(failures - 1, 10))
    assert 0 <= reconnect_delay(failures, Random(seed)) <= bound

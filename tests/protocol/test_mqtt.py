from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from urllib.parse import urlsplit

import pytest

from cli.broker import EmbeddedBroker
from protocol.bus import Bus, Message, Presence, Subscription
from protocol.errors import BrokerUnavailable
from protocol.mqtt import MqttBus, _whole
from protocol.topics import topic

DEADLINE_S = 15


class Calm(Random):
    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - the least of the range
        return a


@pytest.fixture(params=["embedded", "mosquitto"])
def address(request: pytest.FixtureRequest, embedded_broker: EmbeddedBroker) -> tuple[str, int]:
    url = embedded_broker.url if request.param == "embedded" else request.getfixturevalue("mosquitto")()
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


class States:
    """What a bus said of its connection."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[bool, str]] = asyncio.Queue()

    def put(self, connected: bool, why: str) -> None:
        self.queue.put_nowait((connected, why))

    async def next(self) -> tuple[bool, str]:
        async with asyncio.timeout(DEADLINE_S):
            return await self.queue.get()


@asynccontextmanager
async def running(
    address: tuple[str, int], name: str, presence: Presence | None = None
) -> AsyncIterator[tuple[MqttBus, States]]:
    states = States()
    bus = MqttBus(*address, name, rng=Calm(1), presence=presence, on_state=states.put)
    task = asyncio.create_task(bus.run(), name=name)
    try:
        yield bus, states
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def joined(address: tuple[str, int], name: str, presence: Presence | None = None) -> AsyncIterator[MqttBus]:
    async with running(address, name, presence) as (bus, states):
        assert (await states.next())[0]
        yield bus


async def take(subscription: Subscription, number: int) -> list[Message]:
    async with asyncio.timeout(DEADLINE_S):
        return [await anext(subscription) for _ in range(number)]


async def test_a_message_reaches_the_subscriptions_of_another_client(address: tuple[str, int]) -> None:
    async with joined(address, "cloud") as cloud, joined(address, "gateway") as gateway:
        bus: Bus = gateway  # the port, kept by the type checker
        async with bus.subscribe("bus/a/+") as subscription:
            await cloud.publish("bus/a/x", b"1")
            await cloud.publish("bus/a/y", b"\x00" * 200_000)
            assert await take(subscription, 2) == [Message("bus/a/x", b"1"), Message("bus/a/y", b"\x00" * 200_000)]


async def test_status_is_retained_and_turns_offline_when_the_gateway_leaves_or_is_lost(
    address: tuple[str, int],
) -> None:
    name = topic("barn-1", "status")
    presence = Presence(name, b"online", b"offline")
    async with joined(address, "cloud") as cloud:
        async with joined(address, "barn-1", presence), cloud.subscribe(name) as first:
            assert await take(first, 1) == [Message(name, b"online", retained=True)]
        async with cloud.subscribe(name) as second:
            assert await take(second, 1) == [Message(name, b"offline", retained=True)]
            async with joined(address, "barn-1", presence) as gateway:
                assert [message.payload for message in await take(second, 1)] == [b"online"]
                assert gateway._client is not None
                gateway._client._client.socket().shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
                assert (await take(second, 1))[0].payload == b"offline"


async def test_subscriptions_made_while_the_broker_is_away_work_when_it_comes_back(
    mosquitto: Callable[..., str], free_port: Callable[[], int]
) -> None:
    port = free_port()
    async with running(("127.0.0.1", port), "gateway") as (bus, states):
        connected, why = await states.next()
        assert not connected
        assert why.startswith(f"127.0.0.1:{port}: ")
        with pytest.raises(BrokerUnavailable):
            await bus.publish("bus/b", b"lost")
        async with bus.subscribe("bus/b") as subscription:
            mosquitto(port=port)
            while not (await states.next())[0]:
                pass
            await bus.publish("bus/b", b"found")
            assert await take(subscription, 1) == [Message("bus/b", b"found")]


async def test_a_name_that_is_none_is_told_like_a_broker_that_is_away() -> None:
    async with running(("a..b", 1883), "gateway") as (bus, states):
        for _ in range(2):
            connected, why = await states.next()
            assert not connected
            assert why.startswith("a..b:1883: ")
        assert not bus.connected


@pytest.mark.parametrize("steps", range(0, 60, 4))
async def test_a_bus_that_is_cancelled_at_any_moment_ends_and_leaves_nothing_behind(
    embedded_broker: EmbeddedBroker, steps: int
) -> None:
    parts = urlsplit(embedded_broker.url)
    assert parts.hostname is not None
    assert parts.port is not None
    bus = MqttBus(parts.hostname, parts.port, "brief", rng=Calm(1), presence=Presence("brief", b"on", b"off"))
    task = asyncio.create_task(bus.run())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([task])
    assert not bus.connected


async def test_a_cancellation_that_meets_the_answer_is_not_swallowed() -> None:
    async def swallowing() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    task = asyncio.create_task(_whole(swallowing()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()

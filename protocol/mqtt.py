"""The bus over a real broker: MQTT 5 through aiomqtt. A few messages a minute; readings do not come this way.

1. `run` connects for ever; what the broker or the network does is told through `on_state` and never raised from it.
2. aiomqtt must not be cancelled within a call: while connecting it would leave its socket behind, and elsewhere its
   `wait_for` swallows a cancellation that meets the answer (Python 3.11). So a connection lives in a task of its own,
   which is asked to leave, and the calls of others go through `_whole`.
3. A message that matches two of our filters may come twice: at least once is what the bus promises.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from random import Random

from aiomqtt import Client, MqttError, ProtocolVersion, Will
from aiomqtt import Message as Received
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocol.bus import MAX_WAITING, Message, OnState, Presence, Subscription, reconnect_delay, untold
from protocol.certificates import suspect_clock
from protocol.errors import BrokerUnavailable
from protocol.topics import matches

MAX_PACKET = 1 << 20
"""Bytes of the largest packet we ask the broker for."""

KEEPALIVE_S = 60
ANSWER_S = 10.0


class MqttBus:
    """A Bus over one broker; say `presence` to have it say when we are there."""

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        *,
        rng: Random,
        tls: ssl.SSLContext | None = None,
        username: str | None = None,
        password: str | None = None,
        presence: Presence | None = None,
        on_state: OnState = untold,
    ) -> None:
        self._host, self._port, self._client_id = host, port, client_id
        self._tls, self._username, self._password = tls, username, password
        self.presence = presence
        self.on_state = on_state
        self._rng = rng
        self._client: Client | None = None
        self._subscriptions: list[Subscription] = []

    @property
    def connected(self) -> bool:
        """Whether the broker is there, now."""
        return self._client is not None

    async def run(self) -> None:
        """Stay connected until cancelled."""
        failures = 0
        while True:
            await asyncio.sleep(reconnect_delay(failures, self._rng))
            leave = asyncio.Event()
            life = asyncio.create_task(self._live(leave), name="bus-connection")
            try:
                good, why = await asyncio.shield(life)
            except asyncio.CancelledError:
                leave.set()
                await life
                raise
            failures = 0 if good else failures + 1
            self.on_state(False, f"{self._host}:{self._port}: {why}")

    async def _live(self, leave: asyncio.Event) -> tuple[bool, str]:
        """Live through one connection: whether it was made, and why it ended. Never cancelled: see rule 2."""
        good = False
        try:
            async with self._connect() as client:
                good = True
                await self._receive(client, leave)
        except (MqttError, UnicodeError) as error:  # a name such as "a..b" cannot even be asked for
            return good, suspect_clock(str(error), time.time_ns())
        return good, "we left"

    async def _receive(self, client: Client, leave: asyncio.Event) -> None:
        """Hand messages to the subscriptions until we are asked to leave; MqttError when the connection is lost."""
        reading = asyncio.create_task(self._dispatch_all(client), name="bus-messages")
        leaving = asyncio.create_task(leave.wait(), name="bus-leave")
        done, waiting = await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.wait({reading, leaving})
        if reading in done:
            reading.result()

    async def _dispatch_all(self, client: Client) -> None:
        async for message in client.messages:
            self._dispatch(_message(message))

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        """Connect, subscribe, say `online`; say `offline` when leaving in good order."""
        async with self._new_client() as client:
            self._client = client
            try:
                for pattern in dict.fromkeys(subscription.pattern for subscription in self._subscriptions):
                    await client.subscribe(pattern, qos=1)
                await self._say(client, online=True)
                self.on_state(True, f"connected to {self._host}:{self._port}")
                yield client
            finally:
                self._client = None
                with suppress(MqttError):  # the connection is gone, and the will has said it
                    await self._say(client, online=False)

    async def _say(self, client: Client, *, online: bool) -> None:
        if (presence := self.presence) is not None:
            await client.publish(presence.topic, presence.online if online else presence.offline, qos=1, retain=True)

    def _new_client(self) -> Client:
        presence = self.presence
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = MAX_PACKET
        return Client(
            self._host,
            self._port,
            identifier=self._client_id,
            protocol=ProtocolVersion.V5,
            username=self._username,
            password=self._password,
            tls_context=self._tls,
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_S,
            clean_start=True,
            properties=properties,
            will=None if presence is None else Will(presence.topic, presence.offline, qos=1, retain=True),
            max_queued_incoming_messages=MAX_WAITING,
        )

    def _dispatch(self, message: Message) -> None:
        for subscription in self._subscriptions:
            if matches(subscription.pattern, message.topic):
                subscription.offer(message)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send at least once; BrokerUnavailable if the broker is not there or does not answer."""
        if self._client is None:
            raise BrokerUnavailable(f"the bus at {self._host}:{self._port} is not connected")
        try:
            await _whole(self._client.publish(topic, payload, qos=1, retain=retain))
        except MqttError as error:
            raise BrokerUnavailable(f"the bus at {self._host}:{self._port}: {error}") from None

    @asynccontextmanager
    async def subscribe(self, pattern: str) -> AsyncIterator[Subscription]:
        """Receive what matches while the context is open; the broker has it when it opens, or once it is there."""
        subscription = Subscription(pattern)
        self._subscriptions.append(subscription)
        try:
            if self._client is not None:
                with suppress(MqttError):  # the connection is going: the next one subscribes
                    await _whole(self._client.subscribe(pattern, qos=1))
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            await self._forget(pattern)

    async def _forget(self, pattern: str) -> None:
        others = any(subscription.pattern == pattern for subscription in self._subscriptions)
        if self._client is not None and not others:
            with suppress(MqttError):  # a session that ends forgets by itself
                await _whole(self._client.unsubscribe(pattern))


def _message(received: Received) -> Message:
    payload = received.payload
    return Message(str(received.topic), payload if isinstance(payload, bytes) else b"", received.retain)


async def _whole(call: Awaitable[object]) -> None:
    """Await a call of aiomqtt; a cancellation that it swallowed is raised after all."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    await call
    if task.cancelling() > before:
        raise asyncio.CancelledError

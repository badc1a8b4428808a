"""The bus between cloud and gateways: what it promises, and one in memory.

1. `publish` returns when the broker has the message (at least once), or raises BrokerUnavailable.
2. A retained message is kept per topic and given to each new subscription; an empty payload clears it.
3. A subscription holds at most MAX_WAITING messages; the oldest is dropped for a newer one, and counted: whoever
   reads slowly gets the present, not the past.
4. A bus with a presence says `online`, retained, when it connects; the broker says `offline` for it when it is lost.
   Another presence counts from the next connection on.
5. `on_state` is told whether the connection is there, and why, whenever that changes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import NamedTuple, Protocol, Self

from protocol.errors import BrokerUnavailable
from protocol.topics import matches

MAX_WAITING = 1_000

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0


class Message(NamedTuple):
    """One message off the bus; `retained` if it was kept from before the subscription."""

    topic: str
    payload: bytes
    retained: bool = False


class Presence(NamedTuple):
    """What a bus says of itself, retained: `online` when it connects, `offline` when it leaves or is lost."""

    topic: str
    online: bytes
    offline: bytes


OnState = Callable[[bool, str], None]


def untold(_connected: bool, _why: str) -> None:
    """Be told, and do nothing."""


class Subscription:
    """The messages that match one filter, in the order they came; iterate for ever."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.dropped = 0
        self._waiting: deque[Message] = deque()
        self._changed = asyncio.Event()

    def offer(self, message: Message) -> None:
        """Put a message in; the oldest gives way if there are too many."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()


class Bus(Protocol):
    """A connection to the bus."""

    presence: Presence | None
    on_state: OnState

    @property
    def connected(self) -> bool:
        """Whether the broker is there, now."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send at least once; BrokerUnavailable if the broker is not there."""

    def subscribe(self, pattern: str) -> AbstractAsyncContextManager[Subscription]:
        """Receive what matches while the context is open, across reconnects; the broker has it when it opens."""


class MemoryBroker:
    """A broker in memory: what MemoryBus connects to."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.subscriptions: list[Subscription] = []

    def take(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Keep it if asked to, and give it to every subscription that matches."""
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for subscription in self.subscriptions:
            if matches(subscription.pattern, topic):
                subscription.offer(Message(topic, payload))

    def welcome(self, subscription: Subscription) -> None:
        """Begin a subscription with what is retained."""
        self.subscriptions.append(subscription)
        for topic, payload in self.retained.items():
            if matches(subscription.pattern, topic):
                subscription.offer(Message(topic, payload, retained=True))


class MemoryBus:
    """A Bus over a MemoryBroker: `join` connects it, `cut` loses the connection, the context does both."""

    def __init__(self, broker: MemoryBroker, presence: Presence | None = None) -> None:
        self.connected = False
        self.presence = presence
        self.on_state: OnState = untold
        self._broker = broker
        self._subscriptions: list[Subscription] = []

    def join(self) -> None:
        """Connect, say `online`, and receive again."""
        self.connected = True
        self._say(lambda presence: presence.online)
        self.on_state(True, "joined")
        for subscription in self._subscriptions:
            self._broker.welcome(subscription)

    def cut(self) -> None:
        """Lose the connection: the broker says `offline`, and nothing is received until `join`."""
        self.connected = False
        self._say(lambda presence: presence.offline)
        for subscription in self._subscriptions:
            self._broker.subscriptions.remove(subscription)
        self.on_state(False, "cut")

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(self, *_: object) -> None:
        if self.connected:
            self.cut()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send; BrokerUnavailable while the connection is cut."""
        if not self.connected:
            raise BrokerUnavailable("the bus is not connected")
        self._broker.take(topic, payload, retain=retain)

    @asynccontextmanager
    async def subscribe(self, pattern: str) -> AsyncIterator[Subscription]:
        """Receive what matches while the context is open."""
        subscription = Subscription(pattern)
        self._subscriptions.append(subscription)
        if self.connected:
            self._broker.welcome(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            if self.connected:
                self._broker.subscriptions.remove(subscription)

    def _say(self, what: Callable[[Presence], bytes]) -> None:
        if self.presence is not None:
            self._broker.take(self.presence.topic, what(self.presence), retain=True)


def reconnect_delay(failures: int, rng: Random, longest: float = LONGEST_DELAY_S) -> float:
    """Seconds to wait before the next attempt: none at first, then anything up to a doubling bound (full jitter).

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter
    """
    if failures == 0:
        return 0.0
    return rng.uniform(0.0, min(longest, FIRST_DELAY_S * 2.0 ** min(failures - 1, 10)))

"""Parts of models for the gateways that ask for them: Want in, Chunk out, over the bus.

    gateway ──Want──▶ fieldgate/v1/{gateway}/wants     fieldgate/v1/{gateway}/chunks ──Chunk──▶ gateway

| holds | bound | when full |
|---|---|---|
| wants of one gateway | MAX_WANTS | the oldest is dropped: it asks again for what does not come |
| contents in memory | CACHE bytes, and one more | the one used longest ago is read again from the store |

One want is answered at a time, gateways by turns, so that one which asks without end delays the others by one Chunk.
Only gateways that have a model are answered. What is not answered is counted by reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable

from cloud.metrics import Counters
from cloud.store import Store
from protocol.bus import Bus, Message, Subscription
from protocol.errors import BrokerUnavailable, ModelRefused, StoreUnavailable
from protocol.manifest import MAX_CHUNK, Chunk, Want, read_want, write
from protocol.topics import gateway_of, topic

log = logging.getLogger("fieldgate.chunks")

MAX_WANTS = 8
CACHE = 64 << 20


class Chunks:
    """Answers wants from the store; `known` tells which gateways have a model, `most` bytes are in a Chunk."""

    def __init__(self, store: Store, counters: Counters, known: Callable[[str], bool], *, most: int) -> None:
        self._store = store
        self._counters = counters
        self._known = known
        self._most = min(most, MAX_CHUNK)
        self._waiting: OrderedDict[str, deque[Want]] = OrderedDict()
        self._wanted = asyncio.Event()
        self._contents: OrderedDict[str, bytes] = OrderedDict()

    async def run(self, bus: Bus) -> None:
        """Answer until cancelled."""
        async with bus.subscribe(topic("+", "wants")) as wants, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear_for_ever(wants), name="chunks-hear")
            tasks.create_task(self._answer_for_ever(bus), name="chunks-answer")

    async def _hear_for_ever(self, wants: Subscription) -> None:
        async for message in wants:
            self._hear(message)

    def _hear(self, message: Message) -> None:
        gateway = gateway_of(message.topic) or ""
        if not self._known(gateway):
            self._refuse("gateway")
            return
        try:
            want = read_want(message.payload)
        except ModelRefused as refused:
            self._refuse(refused.reason)
            return
        waiting = self._waiting.setdefault(gateway, deque())
        if len(waiting) >= MAX_WANTS:
            waiting.popleft()
            self._refuse("busy")
        waiting.append(want)
        self._wanted.set()

    async def _answer_for_ever(self, bus: Bus) -> None:
        while True:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            gateway, waiting = self._waiting.popitem(last=False)
            want = waiting.popleft()
            if waiting:
                self._waiting[gateway] = waiting  # at the end: the others come first
            await self._answer(bus, gateway, want)

    async def _answer(self, bus: Bus, gateway: str, want: Want) -> None:
        try:
            content = await self._content(want.digest)
            data = content[want.offset : want.offset + min(want.size, self._most)]
            await bus.publish(topic(gateway, "chunks"), write(Chunk(want.digest, want.offset, data)))
        except (BrokerUnavailable, StoreUnavailable) as error:
            self._refuse("unavailable")
            log.info("chunks: %s was not answered: %s", gateway, error)
        else:
            self._counters.chunks_sent += 1

    async def _content(self, digest: str) -> bytes:
        """Give a content; nothing if it is not kept."""
        content = self._contents.pop(digest, None)
        if content is None:
            content = await self._store.content(digest)
        if content is None:
            return b""
        self._contents[digest] = content
        while len(self._contents) > 1 and sum(map(len, self._contents.values())) > CACHE:
            self._contents.popitem(last=False)
        return content

    def _refuse(self, reason: str) -> None:
        refused = self._counters.wants_refused
        refused[reason] = refused.get(reason, 0) + 1

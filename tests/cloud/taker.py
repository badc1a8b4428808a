"""A gateway's end of the bus by hand: it takes manifests, asks for the parts, and reads the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from learning.baseline import Baseline, decode
from protocol.bus import Bus, Subscription
from protocol.manifest import Chunk, Manifest, Want, digest_of, read_chunk, unseal, write
from protocol.topics import topic
from tests.cloud.wire import DEADLINE_S


class Taker:
    """One gateway, as far as models go."""

    def __init__(self, bus: Bus, gateway: str, public: bytes, manifests: Subscription, chunks: Subscription) -> None:
        self.bus = bus
        self.gateway = gateway
        self.public = public
        self._manifests, self._chunks = manifests, chunks

    async def manifest(self) -> tuple[str, Manifest]:
        """The next manifest, verified, and the model's name in its topic."""
        async with asyncio.timeout(DEADLINE_S):
            message = await anext(self._manifests)
        return message.topic.rpartition("/")[2], unseal(message.payload, self.public, gateway=self.gateway)

    async def version(self, number: int) -> Manifest:
        """Manifests until one has this version: the bus may bring one twice."""
        while True:
            _, manifest = await self.manifest()
            if manifest.version == number:
                return manifest

    async def want(self, digest: str, offset: int, size: int) -> None:
        await self.bus.publish(topic(self.gateway, "wants"), write(Want(digest, offset, size)))

    async def chunk(self) -> Chunk:
        async with asyncio.timeout(DEADLINE_S):
            return read_chunk((await anext(self._chunks)).payload)

    async def ask(self, digest: str, offset: int, size: int) -> Chunk:
        await self.want(digest, offset, size)
        return await self.chunk()

    async def take(self, manifest: Manifest, part: int = 1000) -> Baseline:
        """All parts of a model, one after the other, as a gateway asks for them."""
        content = b""
        while len(content) < manifest.size:
            chunk = await self.ask(manifest.digest, len(content), part)
            assert chunk.offset == len(content)
            assert chunk.data
            content += chunk.data
        assert digest_of(content) == manifest.digest
        return decode(content)


@asynccontextmanager
async def taking(bus: Bus, gateway: str, public: bytes) -> AsyncIterator[Taker]:
    """A gateway that listens while the context is open."""
    async with AsyncExitStack() as stack:
        filters = (f"{topic(gateway, 'models')}/+", topic(gateway, "chunks"))
        subscriptions = [await stack.enter_async_context(bus.subscribe(pattern)) for pattern in filters]
        yield Taker(bus, gateway, public, *subscriptions)

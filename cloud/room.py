"""Bytes that may be held at once: whoever brings more waits until others have gone."""

from __future__ import annotations

import asyncio


class Room:
    """Counts bytes against a bound. One item larger than the bound is let in when nothing else is there."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._given = asyncio.Event()

    async def take(self, size: int) -> None:
        """Wait until `size` more bytes fit, and hold them."""
        while self.used and self.used + size > self.limit:
            self._given.clear()
            await self._given.wait()
        self.used += size

    def give(self, size: int) -> None:
        """Let bytes go."""
        self.used -= size
        self._given.set()

"""What a loop waits with: until something is due, until that may have changed, or until it all ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.clock import Clock
from gateway.records import NEVER


class Alarm:
    """One loop's alarm; `ring` it whenever what it waits for may be due earlier than it was."""

    def __init__(self, clock: Clock) -> None:
        self.stopping = False
        self._clock = clock
        self._changed = asyncio.Event()

    def ring(self) -> None:
        """Let the loop look again."""
        self._changed.set()

    def stop(self) -> None:
        """Let the loop end at its next step."""
        self.stopping = True
        self._changed.set()

    async def wait(self, due: Callable[[], int]) -> bool:
        """Return True once `due()` (ns) has passed, False when stopping."""
        while not self.stopping and (moment := due()) > (now := self._clock.now()):
            self._changed.clear()
            timeout = None if moment == NEVER else (moment - now) / 1e9
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return not self.stopping

"""The tasks of a gateway that end before its last commit: its connections, and what looks after the rest.

Each has a name. One that is ended has taken leave of whoever is at the other end; begun again, it goes on with the same
object, whose counts go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Sides:
    """Owns them, in a task group: one that fails ends the gateway."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str, run: Callable[[], Coroutine[None, None, None]]) -> None:
        """Let it run; none of this name may."""
        assert name not in self._tasks
        self._tasks[name] = self._group.create_task(run(), name=name)

    async def end(self, name: str) -> None:
        """Cancel it and wait until it has ended; nothing if there is none of this name."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def cancel(self) -> None:
        """Let all end; the task group waits for them."""
        for task in self._tasks.values():
            task.cancel()

"""Processes of this machine: whatever a part does to a merge, the cloud goes on.

| bound | answer when it is passed |
|---|---|
| CPU_S of CPU time a process | killed: Died("crash") |
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType

from cloud.compute import Died, Out

CPU_S = 600


class Pool:
    """At most `workers` processes."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._users = 0

    async def __aenter__(self) -> None:
        """Come in."""
        self._users += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes if this was the last."""
        self._users -= 1
        if not self._users:
            self._end()

    async def run(self, work: Callable[..., Out], *given: object) -> Out:
        """Run it in a process."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), _limit)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)
        except BrokenProcessPool:
            self._end()
            raise Died("crash") from None

    async def look(self) -> str:
        """Say how many there are at most."""
        return f"{self._workers} processes of this machine"

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, resource.RLIM_INFINITY))

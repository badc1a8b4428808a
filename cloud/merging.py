"""Parts become a result, in processes of their own: whatever a part does to a merge, the cloud goes on.

Parts are merged GROUP at a time, by gateway, and what comes of that likewise: memory holds a group, and the result does
not depend on the order in which answers came. A part that is nobody's is left out, and named.

| bound | answer when it is passed |
|---|---|
| CPU_S of CPU time a process | killed: `crash` |
| the result, MAX_RESULT bytes of JSON | `size` |
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeVar

import msgspec

from cloud.jobs import Question
from learning.work import Work, registry
from protocol.errors import FieldgateError, ModelRefused, StoreUnavailable

GROUP = 64
CPU_S = 600
MAX_RESULT = 8 << 20

In = TypeVar("In")
Out = TypeVar("Out")
Read = Callable[[str], Awaitable[bytes | None]]
"""Gives a gateway's answer."""


class Outcome(NamedTuple):
    """A result as JSON, or why there is none; and the gateways whose parts were refused."""

    result: bytes
    reason: str = ""
    refused: tuple[str, ...] = ()


class Merging:
    """At most `workers` processes, there as long as something is merged."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._users = 0

    async def merge(self, question: Question, gateways: Sequence[str], read: Read) -> Outcome:
        """Merge the answers of these gateways; StoreUnavailable if they cannot be read."""
        self._users += 1
        try:
            return await self._merge(question, sorted(gateways), read)
        except BrokenProcessPool:
            self._end()
            return Outcome(b"", "crash")
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code: it is told, and costs only its job
            return Outcome(b"", f"merging: {error!r}"[:200])
        finally:
            self._users -= 1
            if not self._users:
                self._end()

    async def _merge(self, question: Question, gateways: Sequence[str], read: Read) -> Outcome:
        merged: list[bytes] = []
        refused: list[str] = []
        for at in range(0, len(gateways), GROUP):
            names = gateways[at : at + GROUP]
            parts = [part for part in [await read(name) for name in names] if part is not None]
            if len(parts) < len(names):
                raise StoreUnavailable(f"answers to {question.work} are not there")
            part, bad = await self._run(merge, question, parts)
            refused += [names[number] for number in bad]
            merged += [part] if part else []
        while len(merged) > 1:
            groups = [merged[at : at + GROUP] for at in range(0, len(merged), GROUP)]
            merged = [(await self._run(merge, question, group))[0] for group in groups]
        if not merged:
            return Outcome(b"", "part", tuple(refused))
        result, reason = await self._run(conclude, question, merged[0])
        return Outcome(result, reason, tuple(refused))

    async def _run(self, work: Callable[[Question, In], Out], question: Question, given: In) -> Out:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), _limit)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, question, given)

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None


# In a process.


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, resource.RLIM_INFINITY))


def merge(question: Question, parts: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """Merge parts; give which of them are nobody's. b"" if all are."""
    work = registry.find(question.work, question.version)
    params = registry.read_params(work, question.params, question.limit)
    try:
        return work.merge(parts, params), []
    except ModelRefused:
        bad = [number for number, part in enumerate(parts) if not _is_good(work, part, params)]
        good = [part for number, part in enumerate(parts) if number not in bad]
        return (work.merge(good, params) if good else b""), bad


def _is_good(work: Work, part: bytes, params: Any) -> bool:
    try:
        work.merge([part], params)
    except ModelRefused:
        return False
    return True


def conclude(question: Question, part: bytes) -> tuple[bytes, str]:
    """Say a part for people and programs, as JSON; or why not."""
    work = registry.find(question.work, question.version)
    try:
        said = work.result(part, registry.read_params(work, question.params, question.limit))
        result = msgspec.json.encode(said)
    except (FieldgateError, TypeError, ValueError) as error:
        return b"", f"result: {error}"
    return (result, "") if len(result) <= MAX_RESULT else (b"", "size")

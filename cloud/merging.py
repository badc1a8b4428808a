"""Parts become a result, where the cloud computes (`compute`).

Parts are merged GROUP at a time, by gateway, and what comes of that likewise: memory holds a group, and the result does
not depend on the order in which answers came. A part that is nobody's is left out, and named.

| bound | answer when it is passed |
|---|---|
| the result, MAX_RESULT bytes of JSON | `size` |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from cloud.compute import Compute, Died
from cloud.jobs import Question
from learning.work import Work, registry
from protocol.errors import ComputeUnavailable, FieldgateError, ModelRefused, StoreUnavailable

GROUP = 64
MAX_RESULT = 8 << 20

Read = Callable[[str], Awaitable[bytes | None]]
"""Gives a gateway's answer."""


class Outcome(NamedTuple):
    """A result as JSON, or why there is none; and the gateways whose parts were refused."""

    result: bytes
    reason: str = ""
    refused: tuple[str, ...] = ()


class Merging:
    """Merges where `compute` does."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute

    async def merge(self, question: Question, gateways: Sequence[str], read: Read) -> Outcome:
        """Merge the answers of these gateways; StoreUnavailable if they cannot be read, or ComputeUnavailable."""
        try:
            async with self._compute:
                return await self._merge(question, sorted(gateways), read)
        except Died as died:
            return Outcome(b"", str(died))
        except (StoreUnavailable, ComputeUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code: it is told, and costs only its job
            return Outcome(b"", f"merging: {error!r}"[:200])

    async def _merge(self, question: Question, gateways: Sequence[str], read: Read) -> Outcome:
        merged: list[bytes] = []
        refused: list[str] = []
        for at in range(0, len(gateways), GROUP):
            names = gateways[at : at + GROUP]
            parts = [part for part in [await read(name) for name in names] if part is not None]
            if len(parts) < len(names):
                raise StoreUnavailable(f"answers to {question.work} are not there")
            part, bad = await self._compute.run(merge, question, parts)
            refused += [names[number] for number in bad]
            merged += [part] if part else []
        while len(merged) > 1:
            groups = [merged[at : at + GROUP] for at in range(0, len(merged), GROUP)]
            merged = [(await self._compute.run(merge, question, group))[0] for group in groups]
        if not merged:
            return Outcome(b"", "part", tuple(refused))
        result, reason = await self._compute.run(conclude, question, merged[0])
        return Outcome(result, reason, tuple(refused))


# Where it is computed.


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

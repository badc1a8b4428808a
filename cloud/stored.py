"""Parts made here, of windows that gateways sent before: where a gateway is away, or its history has gone.

It is another answer than that of the readings themselves, and each part says so. Windows are of cleaned readings; late
ones may be missing; means and deviations travelled in single precision (u = 2^-24 of relative error each). Counts and
extremes are exactly those of the windows, means within u of the greatest mean among them, deviations within u of that
and u of themselves: the errors of windows' means move a deviation by no more than their own size.

Of a series those tumbling windows in UTC are taken whose definition holds most readings, as far as they lie whole in
the time that is asked for. They are added up where they are stored; what that gives becomes a part where the cloud
computes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from cloud.compute import Compute, Died
from cloud.jobs import Job, Question
from cloud.store import MAX_ROWS, Store, Sums
from learning import summary
from learning.work import registry
from protocol.errors import ComputeUnavailable, StoreUnavailable, TaskRefused
from protocol.messages import Cover, PartBody

log = logging.getLogger("fieldgate.stored")


class Made(NamedTuple):
    """A part, in the name of a gateway."""

    gateway: str
    body: PartBody


class StoredParts:
    """Makes parts; `look` is called when there are some to be taken."""

    def __init__(self, store: Store, compute: Compute, look: Callable[[], None]) -> None:
        self._store, self._compute, self._look = store, compute, look
        self._made: list[Made] = []
        self._making: dict[tuple[str, str], asyncio.Task[None]] = {}

    def begin(self, tasks: asyncio.TaskGroup, job: Job, gateway: str, attempt: int) -> None:
        """Make a part, unless it is being made."""
        key = (job.id, gateway)
        if key not in self._making:
            made = tasks.create_task(self._make(job, gateway, attempt), name=f"part {job.id} {gateway}")
            self._making[key] = made
            made.add_done_callback(lambda _made: self._making.pop(key, None))

    def take(self) -> list[Made]:
        """Give what was made since."""
        made, self._made = self._made, []
        return made

    async def _make(self, job: Job, gateway: str, attempt: int) -> None:
        asked = job.question
        outcome, reason, said = "done", "", dict[str, Any]()
        try:
            said = await self._part(asked, gateway)
        except (StoreUnavailable, ComputeUnavailable) as error:
            log.warning("stored: %s: %s: %s", job.id, gateway, error)
            outcome, reason = "refused", "busy"
        except Died as died:
            outcome, reason = "failed", str(died)
        except Exception as error:  # noqa: BLE001 - a stranger's code: it is told, and costs only its part
            outcome, reason = "failed", f"{error!r}"[:200]
        body = PartBody(Cover(), job.id, attempt, asked.work, asked.version, outcome, reason, **said)
        self._made.append(Made(gateway, body))
        self._look()

    async def _part(self, asked: Question, gateway: str) -> dict[str, Any]:
        """Give the part, and how complete it is."""
        found = await self._sums(asked, gateway)
        packed = summary.encode(summary.of_sums({name: one[:5] for name, one in found.items()}))
        async with self._compute:
            content = await self._compute.run(part_of, asked, packed)
        held = (min(one.start for one in found.values()), max(one.end for one in found.values())) if found else (0, 0)
        readings = sum(one.count for one in found.values())
        return {"content": content, "readings": readings, "asked": (asked.start, asked.end), "held": held}

    async def _sums(self, asked: Question, gateway: str) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        after = 0
        while page := await self._store.series(gateway, None, after, MAX_ROWS):
            after = page[-1].id
            for one in page:
                if any(fnmatchcase(one.name, pattern) for pattern in asked.series):
                    sums = await self._store.sums(one.id, asked.start, asked.end)
                    found |= {one.name: sums} if sums is not None else {}
        return found


# Where it is computed.


def part_of(asked: Question, packed: bytes) -> bytes:
    """Make a part of what windows say of each series."""
    work = registry.find(asked.work, asked.version)
    make = registry.of_windows(work)
    if make is None:
        raise TaskRefused("windows", f"{work.name} is not made of windows")
    return make(packed, registry.read_params(work, asked.params, asked.limit))

"""What a state machine asks of gateways: sealed, sent over the bus, taken back; and the answers, from the store.

    commit ──news──▶ store.parts ──▶ machine ──▶ fieldgate/v1/{gateway}/tasks/{job}, retained, signed

Trainings and jobs are two machines that lease gateways' time in the same way. Rules:

1. What a machine decided is kept in the store, with the number of the last answer handled, before anybody is asked; so
   a restart goes on where it stood, and asks again.
2. Every machine sees every answer, and passes over what is none of its own. An answer is forgotten when all have.
3. Bus or store away: it runs on, and tries again every RETRY_S or as soon as the bus is there.

| may fill | bound | answer when full |
|---|---|---|
| messages that wait for the bus | one per gateway and job asked | the newer one replaces |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol

from cloud.store import Part, Store
from protocol.bus import Bus
from protocol.errors import BrokerUnavailable, StoreUnavailable
from protocol.identity import Signer
from protocol.tasks import Task, seal
from protocol.topics import topic

log = logging.getLogger("fieldgate.leases")

RETRY_S = 5.0
AT_ONCE = 256
"""Answers taken from the store at once."""


class Kept(NamedTuple):
    """What is to be kept: a machine's state, and what changed of its rows by key; None: forgotten."""

    state: bytes
    rows: Mapping[str, bytes | None] = {}


class Machine(Protocol):
    """What decides."""

    async def begin(self, state: bytes) -> None:
        """Go on from what was kept, and ask again; StoreUnavailable if more of it cannot be read."""

    async def decide(self, parts: list[Part]) -> Kept | None:
        """Take answers, let time pass; give what is to be kept, None if nothing changed."""

    def carry_out(self) -> None:
        """Do what was decided: it is kept now."""

    def until_due(self) -> float:
        """Seconds until something must be done, if no answer comes."""


class Leases:
    """See the rules above; `name` is the machine's, in the store and in the log."""

    def __init__(self, name: str, store: Store, signer: Signer, machine: Machine) -> None:
        self._name, self._store, self._signer, self._machine = name, store, signer, machine
        self._handled = 0
        self._waiting: dict[str, bytes] = {}  # by topic, in order
        self._changed, self._wanted = asyncio.Event(), asyncio.Event()

    def look(self) -> None:
        """Let the machine decide soon."""
        self._changed.set()

    def ask(self, task: Task) -> None:
        """Give a task to its gateway."""
        self.say(f"{topic(task.gateway, 'tasks')}/{task.job}", seal(task, self._signer))

    def take_back(self, gateway: str, job: str) -> None:
        """Take a job's task back from a gateway."""
        self.say(f"{topic(gateway, 'tasks')}/{job}", b"")

    async def run(self, bus: Bus) -> None:
        """Lease until cancelled."""
        await self._begin()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._decide_for_ever(), name=f"{self._name}-decide")
            tasks.create_task(self._say_for_ever(bus), name=f"{self._name}-say")

    async def _begin(self) -> None:
        while True:
            try:
                self._handled, state = await self._store.kept(self._name)
                if not state:  # from now on answers wait for it, too
                    await self._store.keep(self._name, self._handled, state)
                await self._machine.begin(state)
            except StoreUnavailable as error:
                log.warning("%s: %s", self._name, error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _decide_for_ever(self) -> None:
        while True:
            self._changed.clear()
            try:
                more = await self._decide()
            except StoreUnavailable as error:
                log.warning("%s: %s", self._name, error)
                await self._begin()  # what was decided and not kept is decided again
                await asyncio.sleep(RETRY_S)
                continue
            if not more:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._machine.until_due()):
                        await self._changed.wait()

    async def _decide(self) -> bool:
        """Let the machine decide on the next answers and what is due; say whether there may be more."""
        parts = await self._store.parts(self._handled, AT_ONCE)
        kept = await self._machine.decide(parts)
        if kept is not None or parts:
            self._handled = parts[-1].number if parts else self._handled
            if kept is not None:
                await self._store.keep(self._name, self._handled, kept.state, kept.rows)
            else:
                await self._store.pass_over(self._name, self._handled)
            self._machine.carry_out()
        return len(parts) == AT_ONCE

    def say(self, name: str, sealed: bytes) -> None:
        """Publish under a topic, retained; b"" takes back what is there."""
        self._waiting.pop(name, None)
        self._waiting[name] = sealed
        self._wanted.set()

    async def _say_for_ever(self, bus: Bus) -> None:
        while True:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            name = next(iter(self._waiting))
            sealed = self._waiting.pop(name)
            try:
                await bus.publish(name, sealed, retain=True)
            except BrokerUnavailable:
                self._waiting.setdefault(name, sealed)
                self._wanted.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S):
                        await self._wanted.wait()

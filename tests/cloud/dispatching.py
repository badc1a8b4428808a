"""The part of a cloud that runs jobs, over a bus in memory; the test answers for the gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.config import Compute
from cloud.config.standing import Standing
from cloud.dispatch import Dispatch
from cloud.fleet import Fleet
from cloud.store import Batch, Stored
from cloud.store.answers import JobView
from cloud.store.sqlite import SqliteStore
from learning.work import Batch as Readings
from learning.work import registry
from protocol.bus import MemoryBroker, MemoryBus
from protocol.errors import StoreUnavailable
from protocol.identity import Signer
from protocol.jobs import Question
from protocol.messages import Cover, PartBody
from protocol.tasks import Task, unseal
from protocol.topics import topic
from tests.cloud.wire import Clock, Wire
from tests.waiting import until

SIGNER = Signer.from_seed(b"s" * 32)
MOMENTS = registry.find("moments")
ONE = Compute(workers=1)


class Cloud:
    """The part of a cloud that runs jobs; each gateway has its wire."""

    def __init__(self, store: SqliteStore, dispatch: Dispatch, broker: MemoryBroker, told: list[JobView]) -> None:
        self.store, self.dispatch, self._broker, self.told = store, dispatch, broker, told
        self.shown: list[Stored] = []
        self.fleet = Fleet()

    @property
    def begun(self) -> bool:
        try:
            self.dispatch.views()
        except StoreUnavailable:
            return False
        return True

    def retained(self, gateway: str, job: str) -> Task | None:
        sealed = self._broker.retained.get(f"{topic(gateway, 'tasks')}/{job}")
        return unseal(sealed, SIGNER.public, gateway=gateway) if sealed else None

    async def asked(self, gateway: str, job: str) -> Task:
        task: Task = await until(lambda: self.retained(gateway, job), f"{gateway} is asked")
        return task

    async def answer(self, wire: Wire, task: Task, *values: float) -> None:
        """Compute as a gateway does, and let the answer be committed."""
        question = msgspec.msgpack.decode(task.params, type=Question)
        value = np.array(values)
        batch = Readings(["pump/x"], np.zeros(len(value), np.int32), np.arange(len(value)), value)
        content = MOMENTS.map([batch], registry.read_params(MOMENTS, question.params))
        body = PartBody(Cover(), task.job, task.attempt, "moments", 1, "done", content=content, readings=len(value))
        await self.store.apply(Batch(wire.gateway, wire.epoch, [wire.arrived("results", body)], 100))
        self.dispatch.look()

    async def ended(self, job: str) -> JobView:
        await until(lambda: self.dispatch.view(job).ended, "the job ends")
        return self.dispatch.view(job)


@asynccontextmanager
async def running(
    path: Path,
    broker: MemoryBroker,
    clock: Clock,
    *wires: Wire,
    standing: tuple[Standing, ...] = (),
    compute: Compute = ONE,
) -> AsyncIterator[Cloud]:
    """A cloud on the database `path`, to which these gateways are connected."""
    store, fleet = SqliteStore(path, clock), Fleet()
    await store.open()
    for number, wire in enumerate(wires):
        await store.hello(wire.hello(), 0)
        fleet.opened(wire.hello(), number, clock())
    told: list[JobView] = []
    shown: list[Stored] = []
    dispatch = Dispatch(
        store,
        fleet,
        compute,
        {},
        signer=SIGNER,
        clock=clock,
        tell=told.append,
        standing=standing,
        show=shown.extend,
    )
    cloud = Cloud(store, dispatch, broker, told)
    cloud.shown, cloud.fleet = shown, fleet
    with MemoryBus(broker) as bus:
        task = asyncio.create_task(cloud.dispatch.run(bus))
        try:
            await until(lambda: cloud.begun, "what was kept is read")
            yield cloud
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await store.close()

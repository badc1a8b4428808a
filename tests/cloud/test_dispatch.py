"""Jobs over HTTP and a bus in memory: begun, answered, merged, cancelled; and what a restart of the cloud finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud.config import Compute
from cloud.dispatch import Dispatch
from cloud.fleet import Fleet
from cloud.jobs import read_spec
from cloud.store import Batch
from cloud.store.answers import JobView
from cloud.store.sqlite import SqliteStore
from learning.work import Batch as Readings
from learning.work import registry
from protocol.bus import MemoryBroker, MemoryBus
from protocol.errors import JobRefused, StoreUnavailable
from protocol.identity import Signer
from protocol.jobs import Question
from protocol.messages import Cover, PartBody
from protocol.tasks import Task, unseal
from protocol.topics import topic
from tests.cloud.wire import Clock, Served, Wire
from tests.waiting import until

SIGNER = Signer.from_seed(b"s" * 32)
MOMENTS = registry.find("moments")


class Cloud:
    """The part of a cloud that runs jobs; each gateway has its wire."""

    def __init__(self, store: SqliteStore, dispatch: Dispatch, broker: MemoryBroker, told: list[JobView]) -> None:
        self.store, self.dispatch, self._broker, self.told = store, dispatch, broker, told

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
async def running(path: Path, broker: MemoryBroker, clock: Clock, *wires: Wire) -> AsyncIterator[Cloud]:
    """A cloud on the database `path`, to which these gateways are connected."""
    store, fleet = SqliteStore(path, clock), Fleet()
    await store.open()
    for number, wire in enumerate(wires):
        await store.hello(wire.hello(), 0)
        fleet.opened(wire.hello(), number, clock())
    told: list[JobView] = []
    dispatch = Dispatch(store, fleet, Compute(workers=1), {}, signer=SIGNER, clock=clock, tell=told.append)
    cloud = Cloud(store, dispatch, broker, told)
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


def spec(**said: Any) -> Any:
    return read_spec(msgspec.json.encode({"work": "moments"} | said))


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def wires() -> list[Wire]:
    return [Wire("barn"), Wire("mill")]


async def test_a_restart_in_between_finds_the_job_and_its_answers(
    tmp_path: Path, broker: MemoryBroker, clock: Clock, wires: list[Wire]
) -> None:
    path = tmp_path / "test.db"
    async with running(path, broker, clock, *wires) as cloud:
        job = (await cloud.dispatch.submit(spec())).id
        await cloud.answer(wires[0], await cloud.asked("barn", job), 1.0, 2.0)
        await until(lambda: cloud.dispatch.view(job).done == 1, "the answer counts")
        again = await cloud.asked("mill", job)
    async with running(path, broker, clock, *wires) as cloud:
        assert await cloud.asked("mill", job) == again
        await cloud.answer(wires[1], again, 3.0)
        found = await cloud.ended(job)
        assert (found.state, found.complete, found.readings) == ("done", 1.0, 3)
        assert found.result["groups"]["pump/x"]["count"] == 3
        await until(lambda: cloud.told[-1].state == "done", "whoever watches is told, when it is kept")
        await until(lambda: cloud.retained("mill", job) is None, "the task is taken back")
        assert cloud.retained("barn", job) is None
        assert await cloud.store.rows("jobs", "part/", "", 10) == []


async def test_a_cancelled_job_is_taken_back(
    tmp_path: Path, broker: MemoryBroker, clock: Clock, wires: list[Wire]
) -> None:
    async with running(tmp_path / "test.db", broker, clock, *wires) as cloud:
        job = (await cloud.dispatch.submit(spec(gateways=["barn"]))).id
        await cloud.asked("barn", job)
        assert (await cloud.dispatch.cancel(job)).state == "cancelled"
        await until(lambda: cloud.retained("barn", job) is None, "the task is taken back")
        with pytest.raises(KeyError):
            await cloud.dispatch.cancel("none")


@pytest.mark.parametrize(
    ("said", "reason"),
    [({"work": "nothing"}, "unknown"), ({"gateways": ["x"]}, "gateways"), ({"params": {"x": 1}}, "params")],
    ids=["no such work", "no such gateway", "no such parameter"],
)
async def test_what_nobody_can_compute_is_refused(
    tmp_path: Path, clock: Clock, said: dict[str, Any], reason: str
) -> None:
    async with running(tmp_path / "test.db", MemoryBroker(), clock, Wire("barn")) as cloud:
        with pytest.raises(JobRefused) as refused:
            await cloud.dispatch.submit(spec(**said))
        assert refused.value.reason == reason


# Over HTTP.


async def test_a_cloud_without_a_bus_has_no_jobs(served: Served) -> None:
    async with served.client.get("/v1/jobs") as answer:
        assert await answer.json() == {"jobs": []}
    headers = {"Authorization": f"Bearer {served.api.tokens.token_file('admin').read_text().strip()}"}
    async with served.client.post("/v1/jobs", json={"work": "moments"}, headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["do"]) == (409, "give it a [bus]")


async def test_only_the_admin_begins_and_ends_jobs(served: Served) -> None:
    async with served.client.post("/v1/jobs", json={"work": "moments"}) as answer:
        assert answer.status == 401
    async with served.client.delete("/v1/jobs/j") as answer:
        assert answer.status == 401

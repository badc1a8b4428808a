"""Jobs over HTTP and a bus in memory: begun, answered, merged, cancelled; and what a restart of the cloud finds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.jobs import read_spec
from protocol.bus import MemoryBroker
from protocol.errors import JobRefused
from tests.cloud.dispatching import running
from tests.cloud.wire import Clock, Served, Wire
from tests.waiting import until


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
        await until(lambda: cloud.retained("barn", job) is None, "the other, too")
        assert await cloud.store.rows("jobs", "part/", "", 10) == []


async def test_two_who_ask_for_the_same_at_once_have_a_job_each(
    tmp_path: Path, broker: MemoryBroker, clock: Clock, wires: list[Wire]
) -> None:
    async with running(tmp_path / "test.db", broker, clock, *wires) as cloud:
        begun = await asyncio.gather(cloud.dispatch.submit(spec()), cloud.dispatch.submit(spec()))
        assert len({job.id for job in begun}) == len(cloud.dispatch.views()) == 2


async def test_a_bus_that_comes_back_while_an_answer_is_being_kept_waits_for_that(
    tmp_path: Path,
    broker: MemoryBroker,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    barn = Wire("barn")
    async with running(tmp_path / "test.db", broker, clock, barn) as cloud:
        job = (await cloud.dispatch.submit(spec(gateways=["barn"]))).id
        task = await cloud.asked("barn", job)
        keep, disk = cloud.store.keep, asyncio.Event()

        async def keep_late(*what: Any) -> None:
            await disk.wait()
            await keep(*what)

        monkeypatch.setattr(cloud.store, "keep", keep_late)
        await cloud.answer(barn, task, 1.0, 2.0)
        await until(lambda: cloud.dispatch.view(job).state == "merging", "the answer counts")
        cloud.dispatch.on_state(True, "connected")
        await asyncio.sleep(0)
        assert await cloud.store.rows("jobs", "part/", "", 10) == []
        disk.set()
        found = await cloud.ended(job)
    assert (found.state, found.readings) == ("done", 2)
    assert "are not there" not in caplog.text


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
        assert await answer.json() == {"jobs": [], "standing": []}
    headers = {"Authorization": f"Bearer {served.api.tokens.token_file('admin').read_text().strip()}"}
    async with served.client.post("/v1/jobs", json={"work": "moments"}, headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["do"]) == (409, "give it a [bus]")


async def test_only_the_admin_begins_and_ends_jobs(served: Served) -> None:
    async with served.client.post("/v1/jobs", json={"work": "moments"}) as answer:
        assert answer.status == 401
    async with served.client.delete("/v1/jobs/j") as answer:
        assert answer.status == 401

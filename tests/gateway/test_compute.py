"""Tasks come over the bus, run in a child, and what they answer goes up; what they keep is found again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.clock import Clock
from gateway.compute import MAX_STATES, Compute
from gateway.config import Tasks
from gateway.segment import OsFiles
from gateway.tasks import Queue, Terms
from learning import summary
from learning.work.sample import sample
from protocol.bus import MemoryBroker, MemoryBus
from protocol.identity import Signer
from protocol.jobs import Question
from protocol.messages import AnswerBody, PartBody
from protocol.tasks import Task, seal
from protocol.topics import topic
from tests.gateway.rogues import site
from tests.waiting import until

__all__ = ["site"]

SIGNER = Signer.from_seed(bytes(range(32)))
MOMENTS = Task("daily-1", 1, "barn", "moments", 1, msgspec.msgpack.encode({"series": ["*/flow"]}))


class Site:
    """A broker in memory, the gateway's end of it, and what it has answered."""

    def __init__(self, data: Path, broker: MemoryBroker, allow: tuple[str, ...], share: tuple[str, ...] = ()) -> None:
        self.broker, self.bus = broker, MemoryBus(broker)
        self.answers, self.lean = list[PartBody](), list[bool]()
        queue = Queue(Terms("barn", SIGNER.public, allow))
        settings, files = Tasks(share=share), OsFiles()
        self.compute = Compute(self.bus, queue, settings, Clock(), data=data, files=files, answer=self.take)

    def take(self, answer: PartBody | AnswerBody) -> None:
        self.lean.append(isinstance(answer, AnswerBody))
        self.answers.append(answer.part() if isinstance(answer, AnswerBody) else answer)

    def ask(self, task: Task) -> None:
        self.broker.take(f"{topic('barn', 'tasks')}/{task.job}", seal(task, SIGNER), retain=True)

    async def answered(self, number: int = 1) -> list[PartBody]:
        await until(lambda: len(self.answers) >= number, f"{number} answers")
        return self.answers


@asynccontextmanager
async def computing(
    data: Path,
    broker: MemoryBroker | None = None,
    allow: tuple[str, ...] = ("*",),
    share: tuple[str, ...] = (),
) -> AsyncIterator[Site]:
    here = Site(data, broker or MemoryBroker(), allow, share)
    with here.bus:
        running = asyncio.create_task(here.compute.run())
        yield here
        running.cancel()
        await asyncio.wait([running])


def rogue(job: str, **changes: Any) -> Task:
    return msgspec.structs.replace(MOMENTS, job=job, name="rogue", **changes)


async def test_a_task_is_computed_and_answered(site: Path) -> None:
    async with computing(site) as here:
        here.ask(MOMENTS)
        [answer] = await here.answered()
    assert (answer.job, answer.attempt, answer.name, answer.outcome, answer.reason) == (
        *("daily-1", 1, "moments", "done", ""),
    )
    assert (answer.readings, answer.held, summary.decode(answer.content).mean.tolist()) == (2, (10, 31), [2.0])


@pytest.mark.parametrize("lean", [False, True])
async def test_an_answer_has_names_unless_who_asks_reads_it_without(site: Path, lean: bool) -> None:
    async with computing(site, allow=("moments",)) as here:
        here.ask(msgspec.structs.replace(MOMENTS, lean=lean))
        here.ask(rogue("talking", lean=lean))
        done, refused = await here.answered(2)
    assert here.lean == [lean, lean]
    assert {(one.job, one.outcome, one.reason) for one in (done, refused)} == {
        ("daily-1", "done", ""),
        ("talking", "refused", "forbidden"),
    }


async def test_a_task_that_waited_on_the_bus_is_found(site: Path) -> None:
    broker = MemoryBroker()
    broker.take(f"{topic('barn', 'tasks')}/daily-1", seal(MOMENTS, SIGNER), retain=True)
    async with computing(site, broker) as here:
        assert [answer.outcome for answer in await here.answered()] == ["done"]


async def test_what_a_task_notes_is_in_the_log_and_in_no_answer(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with computing(site) as here:
        here.ask(rogue("noting"))
        [answer] = await here.answered()
        assert (answer.outcome, answer.reason, answer.content) == ("done", "", b"said")
    assert "tasks: noting: all is not well" in caplog.text


async def test_what_is_not_allowed_is_answered_so(site: Path) -> None:
    async with computing(site, allow=("moments",)) as here:
        here.ask(rogue("talking"))
        [answer] = await here.answered()
        assert (answer.outcome, answer.reason) == ("refused", "forbidden")


async def test_raw_readings_of_a_series_that_is_not_shared_do_not_leave(site: Path) -> None:
    params = msgspec.msgpack.encode(Question(("*/flow",), limit=10))
    async with computing(site) as here:
        here.ask(msgspec.structs.replace(MOMENTS, name="sample", params=params))
        [answer] = await here.answered()
        assert (answer.outcome, answer.reason, answer.content, answer.readings) == ("refused", "private", b"", 0)


async def test_raw_readings_of_a_shared_series_are_sampled(site: Path) -> None:
    params = msgspec.msgpack.encode(Question(("*/flow",), limit=10))
    async with computing(site, share=("*/flow",)) as here:
        here.ask(msgspec.structs.replace(MOMENTS, name="sample", params=params))
        [answer] = await here.answered()
    said = sample.result(answer.content, sample.params(10))
    assert said["series"] == {"pump/flow": {"time": [10, 30], "value": [1.0, 3.0]}}


async def test_a_task_that_crashes_costs_only_itself(site: Path) -> None:
    async with computing(site) as here:
        here.ask(rogue("quitting"))
        here.ask(MOMENTS)
        answers = await here.answered(2)
        assert [(answer.outcome, answer.reason) for answer in answers] == [("failed", "crash"), ("done", "")]


async def test_a_task_that_is_taken_back_stops_and_the_next_one_runs(site: Path) -> None:
    async with computing(site) as here:
        here.ask(rogue("sleeping"))
        here.ask(MOMENTS)
        await until(lambda: here.compute.queue.waiting == 1, "one runs, one waits")
        here.broker.take(f"{topic('barn', 'tasks')}/sleeping", b"", retain=True)
        assert [answer.job for answer in await here.answered()] == ["daily-1"]


async def test_a_task_that_runs_beyond_its_deadline_is_stopped(site: Path) -> None:
    async with computing(site) as here:
        here.ask(rogue("sleeping", deadline=Clock().now() + 2 * 10**9))
        [answer] = await here.answered()
        assert (answer.outcome, answer.reason) == ("failed", "deadline")


async def kept(here: Site, task: Task) -> bytes:
    here.ask(task)
    await here.answered(1)
    return here.answers.pop().content


async def test_what_a_task_keeps_is_found_by_the_next_and_a_repeat_begins_as_the_first_time(site: Path) -> None:
    first = rogue("talking", state="training")
    again = msgspec.structs.replace(first, attempt=2)
    async with computing(site) as here:
        assert await kept(here, first) == b"said"
        assert saved(site) == (b"", b"kept ")
    async with computing(site) as here:  # a restart: nobody remembers that it was answered
        assert await kept(here, first) == b"said"
        assert saved(site) == (b"", b"kept ")
        assert await kept(here, again) == b"said"
        assert saved(site) == (b"kept ", b"kept kept ")


def saved(data: Path) -> tuple[bytes, bytes]:
    state = msgspec.msgpack.decode((data / "tasks" / "training.fg").read_bytes())
    return state["before"], state["after"]


@pytest.mark.parametrize(
    "damaged",
    [b"\xc1", b"\x84\xa3job\xa1\xff\xa7attempt\x01\xa6before\xc4\x00\xa5after\xc4\x00"],
    ids=["cut", "letters"],
)
async def test_a_state_that_is_damaged_begins_anew(site: Path, damaged: bytes) -> None:
    (site / "tasks").mkdir()
    (site / "tasks" / "training.fg").write_bytes(damaged)
    async with computing(site) as here:
        await kept(here, rogue("talking", state="training"))
        assert saved(site) == (b"", b"kept ")


def crowd(data: Path) -> None:
    (data / "tasks").mkdir()
    for number in range(MAX_STATES):
        (data / "tasks" / f"{number}.fg").touch()


def block(data: Path) -> None:
    (data / "tasks").touch()


@pytest.mark.parametrize("hinder", [crowd, block])
async def test_what_cannot_be_kept_is_not_answered_as_done(site: Path, hinder: Callable[[Path], None]) -> None:
    hinder(site)
    async with computing(site) as here:
        here.ask(rogue("talking", state="training"))
        [answer] = await here.answered()
        assert (answer.outcome, answer.reason) == ("failed", "kept")

"""A task in a child process: it answers, or is stopped within its limits and reported; nothing else feels it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway import child, config
from gateway.blocks import LAYER
from gateway.child import Child
from gateway.journal import Journal
from gateway.records import Readings, ReadingsRecord
from gateway.segment import OsFiles
from gateway.tasks.costs import Effort
from gateway.worker import Order, Reply
from learning import summary
from protocol.jobs import Question
from protocol.tasks import Task
from tests.gateway.rogues import site
from tests.waiting import until

__all__ = ["site"]


@pytest.fixture
async def worker() -> AsyncIterator[Child]:
    """Give a child that ends with the test."""
    started = Child()
    yield started
    await started.end()


def order(site: Path, job: str, name: str = "rogue", version: int = 1, params: bytes = b"\x80") -> Order:
    return Order(str(site), Task(job, 1, "barn", name, version, params), b"before", 1, 96 << 20)


async def test_moments_of_a_series_come_back(site: Path, worker: Child) -> None:
    params = msgspec.msgpack.encode({"series": ["*/flow"], "start": 5})
    reply = await worker.compute(order(site, "daily-1", "moments", 1, params), 60)
    assert msgspec.structs.replace(reply, content=b"", seconds=0.0, effort=Effort()) == Reply(
        "done", readings=2, asked=(5, 0), held=(10, 31)
    )
    found = summary.decode(reply.content)
    assert (found.names, found.count.tolist(), found.mean.tolist()) == (("pump/flow",), [2], [2.0])
    effort = reply.effort
    assert reply.seconds >= effort.starting > 0
    assert (effort.series, effort.recorded > 0, effort.sent > 0, effort.took > 0) == (1, True, True, True)


RECORDS = 4 * LAYER // (1 << 13) + 4
LARGE: dict[str, dict[str, Any]] = {
    "moments": {},
    "spectrum": {"step": 10**9},
    "top_anomalies": {},
    "covariance": {"step": 10**9, "features": [f"pump/{one}" for one in range(16)]},
}


@pytest.mark.parametrize(("name", "params"), LARGE.items(), ids=LARGE)
async def test_a_gateways_limit_of_memory_suffices_for_all_that_it_has_and_for_blocks_of_it(
    tmp_path: Path, worker: Child, name: str, params: dict[str, Any]
) -> None:
    rows = 1 << 13
    journal = Journal.open(OsFiles(), tmp_path / "journal", config.Journal(), about=dict)
    series = np.arange(rows, dtype=np.int32) % 64
    value = np.random.default_rng(1).normal(20.0, 1.0, rows)
    for number in range(RECORDS):
        time = number * 128 * 10**9 + np.arange(rows) // 64 * 10**9
        names = [f"pump/{one}" for one in range(64)] if number == 0 else []
        journal.append(ReadingsRecord(number, Readings(series, time, value), names))
    journal.commit()
    journal.close()
    journal = Journal.open(OsFiles(), tmp_path / "journal", config.Journal(segment_bytes=config.Size(1)), about=dict)
    journal.append(ReadingsRecord(number + 1, Readings(series[:1], time[-1:] + 10**9, value[:1])))
    journal.commit()
    journal.close()
    question = msgspec.msgpack.encode(Question(("*",), params=msgspec.msgpack.encode(params)))
    asked = Task("daily-1", 1, "barn", name, 1, question)
    reply = await worker.compute(Order(str(tmp_path), asked, b"", 60, int(config.Tasks().memory), blocks=1 << 30), 60)
    assert (reply.outcome, reply.reason, reply.readings) == ("done", "", RECORDS * rows + 1)
    assert len(list((tmp_path / "blocks").iterdir())) >= 1


@pytest.mark.parametrize(
    ("job", "outcome", "reason"),
    [
        ("endless", "failed", "cpu"),
        ("hungry", "failed", "memory"),
        ("crashing", "failed", "crash"),
        ("quitting", "failed", "crash"),
        ("picky", "refused", "series"),
        ("long", "failed", "size"),
    ],
)
async def test_a_task_that_misbehaves_is_stopped_and_reported(
    site: Path, worker: Child, job: str, outcome: str, reason: str
) -> None:
    reply = await worker.compute(order(site, job), 60)
    assert (reply.outcome, reply.reason, reply.content) == (outcome, reason, b"")


async def test_a_crash_says_where(site: Path, worker: Child) -> None:
    reply = await worker.compute(order(site, "crashing"), 60)
    assert 'raise RuntimeError("out of luck")' in reply.detail


async def test_what_it_prints_is_no_answer_and_goes_to_the_log(
    site: Path, worker: Child, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    reply = await worker.compute(order(site, "talking"), 60)
    assert (reply.outcome, reply.content, reply.keep) == ("done", b"said", b"kept before")
    await worker.end()
    assert "the child says: heard on standard output" in caplog.text


async def test_a_task_that_waits_for_ever_is_stopped_by_the_clock_on_the_wall(site: Path, worker: Child) -> None:
    reply = await worker.compute(order(site, "sleeping"), 1.5)
    assert (reply.outcome, reply.reason) == ("failed", "time")


async def test_a_cancelled_task_leaves_no_process(site: Path, worker: Child) -> None:
    others = _children()
    running = asyncio.create_task(worker.compute(order(site, "sleeping"), 60))
    await until(lambda: _children() - others, "a child")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert _children() == others


async def test_one_process_does_task_after_task_and_another_after_a_crash(site: Path, worker: Child) -> None:
    first, second = [(await worker.compute(order(site, "who"), 60)).content for _ in range(2)]
    await worker.compute(order(site, "crashing"), 60)
    third = (await worker.compute(order(site, "who"), 60)).content
    assert first == second != third


async def test_an_idle_process_ends(site: Path, worker: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LINGER_S", 0.01)
    others = _children()
    await worker.compute(order(site, "who"), 60)
    await until(lambda: _children() == others, "no process")
    assert (await worker.compute(order(site, "who"), 60)).outcome == "done"


TRAIN = """
import sys
from gateway.worker import Order, run
from protocol.tasks import Task
reply = run(Order(sys.argv[1], Task("state.1.0", 1, "barn", "survey", 1, b"\\x80"), b"", 9, 1 << 30, blocks=1))
print(reply.outcome, reply.reason, *sys.modules)
"""


def test_what_trains_carries_nothing_of_the_network_and_none_of_what_finds_entry_points(site: Path) -> None:
    said = subprocess.run([sys.executable, "-c", TRAIN, str(site)], capture_output=True, text=True, check=True)
    outcome, reason, *modules = said.stdout.split()
    assert (outcome, reason, "gateway.trainer" in modules) == ("refused", "params", True)
    heavy = {"asyncio", "ssl", "aiohttp", "aiomqtt", "cryptography", "importlib.metadata", "gateway.pipeline"}
    assert heavy & set(modules) == set()


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.parametrize(("name", "version"), [("moments", 2), ("nothing", 1)])
async def test_an_unknown_task_is_refused(site: Path, worker: Child, name: str, version: int) -> None:
    reply = await worker.compute(order(site, "any", name, version), 60)
    assert (reply.outcome, reply.reason) == ("refused", "unknown")


async def test_parameters_that_are_none_are_refused(site: Path, worker: Child) -> None:
    reply = await worker.compute(order(site, "any", "moments", 1, b"\xc1"), 60)
    assert (reply.outcome, reply.reason) == ("refused", "params")

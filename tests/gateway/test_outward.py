"""What leaves the pipeline besides the outputs of records: losses, new epochs, refused models."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway import recovery
from gateway.clock import Clock
from gateway.config import GatewayConfig, Source
from gateway.outward import Outward
from gateway.segment import Files, OsFiles
from protocol import frame
from protocol.errors import JournalUnusable
from protocol.messages import Cover, Loss, LossesBody, ReportBody
from tests.faults.disk import FaultyFiles
from tests.waiting import DEADLINE_S, until


def no_room(error: JournalUnusable) -> None:
    raise error


def opened(directory: Path, files: Files, make_room: Callable[[JournalUnusable], None] = no_room) -> Outward:
    config = GatewayConfig("edge", str(directory), (Source("s/{device}/{measurement}"),))
    found = recovery.recover(config, files, 0, count(7).__next__)
    found.journal.close()
    return Outward(config, found, Clock(wall=lambda: 18 * 10**17), make_room)


@pytest_asyncio.fixture
async def out(tmp_path: Path) -> AsyncIterator[Outward]:
    outward = opened(tmp_path, OsFiles())
    yield outward
    outward.close()


async def results(out: Outward) -> list[Any]:
    assert await out.spool_now()
    return [frame.load(held.kind, held.body) for held in out.spool.each("results")]


async def test_frames_that_are_gone_are_declared_once_an_epoch(out: Outward) -> None:
    for _ in range(2):  # two connections find the same hole
        out.gone("telemetry", 3, 5)
    assert [body.losses for body in await results(out)] == [[Loss("telemetry", 3, 5, "gone")]]
    await out.forked("the card was cloned")
    out.gone("telemetry", 3, 5)  # another epoch's numbers
    bodies = await results(out)
    assert bodies[-1].losses == [Loss("telemetry", 3, 5, "gone")]
    assert all(body.counts["messages"] == 0 for body in bodies)


async def test_what_the_broker_says_it_dropped_is_declared_at_once_and_with_all_that_is_declared_later(
    out: Outward,
) -> None:
    out.broker_dropped(40)
    out.gone("telemetry", 3, 5)
    bodies = await results(out)
    assert [(len(body.losses), body.counts["broker"]) for body in bodies] == [(0, 40), (1, 40)]


async def test_a_refused_model_is_reported_in_the_lane_of_results(out: Outward) -> None:
    out.report("pumps", 4, "expired", "ab" * 32)
    assert await results(out) == [ReportBody(Cover(), "pumps", 4, "refused", "expired", "ab" * 32, 18 * 10**17)]


async def test_what_is_spooled_is_work_until_the_disk_has_it(out: Outward) -> None:
    [before] = out.works()
    out.report("pumps", 4, "expired", "")
    [waiting] = out.works()
    await out.spool_now()
    [after] = out.works()
    assert (before.waiting, waiting.waiting, after.waiting) == (False, True, False)
    assert after.done > waiting.done


@dataclass
class Disk(OsFiles):
    """Real files; while `held`, a sync waits in its thread."""

    held: threading.Event = field(default_factory=threading.Event)
    syncing: bool = False

    def sync(self, descriptor: int) -> None:
        self.syncing = True
        assert self.held.wait(DEADLINE_S), "somebody forgot us"
        super().sync(descriptor)


@pytest.mark.parametrize("cancelled", [False, True], ids=["to its end", "though the connection is ended meanwhile"])
async def test_what_is_packed_while_an_epoch_begins_waits_for_it_and_the_loop_goes_on(
    tmp_path: Path, *, cancelled: bool
) -> None:
    disk = Disk()
    disk.held.set()
    out = opened(tmp_path, disk)
    out.gone("telemetry", 3, 5)
    assert await out.spool_now()
    disk.held.clear()
    disk.syncing = False
    forked = asyncio.create_task(out.forked("the card was cloned"))
    await until(lambda: disk.syncing, "it copies")
    out.report("pumps", 4, "expired", "")
    assert (out.spool.epoch, out.spool.make_room()) == (7, 0)
    await out.room()
    if cancelled:
        forked.cancel()
    disk.held.set()
    await asyncio.wait([forked])
    bodies = await results(out)
    assert (forked.cancelled(), out.spool.epoch) == (cancelled, 8)
    assert [type(body) for body in bodies] == [LossesBody, LossesBody, ReportBody]
    out.close()


async def test_an_epoch_that_the_disk_refuses_is_told_and_the_old_one_goes_on(tmp_path: Path) -> None:
    files, asked = FaultyFiles(), list[JournalUnusable]()
    out = opened(tmp_path, files, asked.append)
    files.faults["rename", files.calls["rename"] + 1] = errno.ENOSPC
    with pytest.raises(JournalUnusable, match="cannot begin an epoch"):
        await out.forked("the card was cloned")
    out.report("pumps", 4, "expired", "")
    assert (out.spool.epoch, len(await results(out)), len(asked)) == (7, 1, 1)
    out.close()

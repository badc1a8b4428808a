"""What leaves the pipeline besides the outputs of records: losses, new epochs, refused models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from gateway import recovery
from gateway.clock import Clock
from gateway.config import GatewayConfig, Source
from gateway.outward import Outward
from gateway.segment import OsFiles
from protocol import frame
from protocol.errors import JournalUnusable
from protocol.messages import Cover, Loss, ReportBody


def no_room(error: JournalUnusable) -> None:
    raise error


@pytest_asyncio.fixture
async def out(tmp_path: Path) -> AsyncIterator[Outward]:
    config = GatewayConfig("edge", str(tmp_path), (Source("s/{device}/{measurement}"),))
    opened = recovery.recover(config, OsFiles(), 0, lambda: 7)
    outward = Outward(config, opened, Clock(wall=lambda: 10**18), no_room)
    yield outward
    outward.close()
    opened.journal.close()


async def results(out: Outward) -> list[Any]:
    assert await out.spool_now()
    return [frame.load(held.kind, held.body) for held in out.spool.each("results")]


async def test_frames_that_are_gone_are_declared_once_an_epoch(out: Outward) -> None:
    for _ in range(2):  # two connections find the same hole
        out.gone("telemetry", 3, 5)
    assert [body.losses for body in await results(out)] == [[Loss("telemetry", 3, 5, "gone")]]
    out.forked("the card was cloned")
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
    assert await results(out) == [ReportBody(Cover(), "pumps", 4, "refused", "expired", "ab" * 32, 10**18)]


async def test_what_is_spooled_is_work_until_the_disk_has_it(out: Outward) -> None:
    [before] = out.works()
    out.report("pumps", 4, "expired", "")
    [waiting] = out.works()
    await out.spool_now()
    [after] = out.works()
    assert (before.waiting, waiting.waiting, after.waiting) == (False, True, False)
    assert after.done > waiting.done

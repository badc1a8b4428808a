"""A gateway killed with -9 at each durable step, and at random: nothing acknowledged is lost or counted twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.broker import EmbeddedBroker
from cli.publisher import Publisher
from tests.faults.nursery import Nursery
from tests.journeys.cloud_process import Cloud, agree
from tests.journeys.kept import check_whole
from tests.journeys.site import WINDOWS, Site, finished, publishing
from tests.waiting import until

SMALL = f"""
{WINDOWS}
[journal]
segment_bytes = "8KiB"
max_bytes = "24KiB"
commit_interval = "20ms"
checkpoint_interval = "250ms"
[spool]
segment_bytes = "1KiB"
[uplink]
pack_interval = "50ms"
"""
"""Small files, so that every kind of step is passed within a second."""

Kill = tuple[str, int, str]

KILLS: dict[str, list[Kill]] = {
    "the journal": [
        ("data.mkdir", 1, "before"),
        ("data.sync_directory", 1, "before"),
        ("journal.mkdir", 1, "before"),
        ("journal.create", 1, "after"),
        ("journal.write", 1, "half"),
        ("journal.sync", 1, "before"),
        ("journal.write", 5, "half"),
        ("journal.truncate", 1, "before"),
        ("journal.sync", 9, "after"),
        ("journal.create", 2, "before"),
        ("journal.sync_directory", 2, "before"),
        ("journal.unlink", 1, "after"),
    ],
    "a checkpoint": [
        ("checkpoints.mkdir", 1, "after"),
        ("checkpoints.create", 1, "after"),
        ("checkpoints.unlink", 1, "before"),
        ("checkpoints.write", 2, "half"),
        ("checkpoints.sync", 2, "before"),
        ("checkpoints.rename", 1, "before"),
        ("checkpoints.rename", 2, "after"),
        ("checkpoints.sync_directory", 1, "before"),
    ],
    "the spool": [
        ("spool.mkdir", 1, "after"),
        ("spool.sync_directory", 1, "before"),
        ("spool.definitions.mkdir", 1, "after"),
        ("spool.telemetry.mkdir", 1, "before"),
        ("spool.definitions.create", 1, "after"),
        ("spool.definitions.unlink", 1, "before"),
        ("spool.definitions.write", 1, "half"),
        ("spool.definitions.truncate", 1, "after"),
        ("spool.definitions.sync", 1, "before"),
        ("spool.telemetry.write", 1, "half"),
        ("spool.telemetry.write", 4, "half"),
        ("spool.telemetry.truncate", 1, "before"),
        ("spool.telemetry.sync", 5, "after"),
        ("spool.telemetry.create", 1, "before"),
        ("spool.telemetry.sync_directory", 1, "after"),
    ],
}

WITH_A_CLOUD: list[Kill] = [
    ("spool.telemetry.unlink", 1, "before"),
    ("spool.create", 1, "after"),
    ("spool.unlink", 1, "before"),
    ("spool.write", 1, "half"),
    ("spool.sync", 1, "before"),
    ("spool.rename", 1, "before"),
    ("spool.rename", 2, "after"),
    ("spool.telemetry.unlink", 2, "after"),
]
"""What receipts bring about: files of the spool go, and its marks are written."""

UNINTERESTING = {"spool.alerts.mkdir", "spool.results.mkdir", "spool.definitions.sync_directory"}
"""Steps that the same code takes as for the lanes above."""


AFTER_A_KILL = {
    "journal.truncate",
    "spool.telemetry.truncate",
    "spool.definitions.truncate",
    "spool.definitions.unlink",
}
"""Steps of a start that finds something torn."""


@pytest.fixture(scope="module")
def victim() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.mark.parametrize("what", KILLS)
async def test_killed_at_each_step_of(
    what: str, tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int], victim: Nursery
) -> None:
    here = Site(tmp_path, embedded_broker.url, free_port(), SMALL)
    await here.subscribe()
    async with publishing(here) as publisher:
        for point, hit, when in KILLS[what]:
            options = ("--point", point, "--hit", hit, "--when", when, "--archive", here.archive)
            async with here.gateway(victim.start, *options) as doomed:
                assert await doomed.ended(f"death at {point} {hit}") == -9, doomed.said()
        await survive(here, publisher, victim)


async def test_killed_at_random(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int], victim: Nursery
) -> None:
    here = Site(tmp_path, embedded_broker.url, free_port(), SMALL)
    await here.subscribe()
    async with publishing(here, rate=100) as publisher:
        for seed in range(12):
            async with here.gateway(victim.start, "--within", 0.7, "--seed", seed, "--archive", here.archive) as doomed:
                assert await doomed.ended() == -9, doomed.said()
        await survive(here, publisher, victim)


async def test_killed_while_a_cloud_receipts(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int], victim: Nursery
) -> None:
    cloud = Cloud(tmp_path / "cloud", free_port())
    here = Site(tmp_path, embedded_broker.url, free_port(), SMALL.partition("[uplink]")[0] + cloud.enrol(tmp_path.name))
    await here.subscribe()
    async with cloud.running(), publishing(here, rate=100) as publisher:
        for point, hit, when in WITH_A_CLOUD:
            options = ("--point", point, "--hit", hit, "--when", when, "--archive", here.archive)
            async with here.gateway(victim.start, *options) as doomed:
                assert await doomed.ended(f"death at {point} {hit}") == -9, doomed.said()
        async with here.gateway(victim.start, "--archive", here.archive) as survivor:
            await survivor.recorded(2 * await finished(publisher))
            await survivor.settled()
            await until(lambda: agree(cloud, here), "the cloud has what the gateway has", every=0.1)
            await survivor.stop()
    check_whole(here, publisher, spool=False)


async def survive(here: Site, publisher: Publisher, victim: Nursery) -> None:
    async with here.gateway(victim.start, "--archive", here.archive) as survivor:
        await survivor.recorded(2 * await finished(publisher))
        await survivor.settled()
        await survivor.stop()
    check_whole(here, publisher)


async def test_the_steps_named_above_are_all_there_are(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int], victim: Nursery
) -> None:
    here = Site(tmp_path, embedded_broker.url, free_port(), SMALL)
    await here.subscribe()
    async with publishing(here) as publisher, here.gateway(victim.start, "--list", "--archive", here.archive) as whole:
        await until(lambda: any(here.archive.iterdir()), "a file of the journal is retired")
        await until(lambda: publisher.sent > 200, "more is published")
        await whole.stop()
    passed = set(json.loads(whole.said()))
    killed = {point for kills in KILLS.values() for point, _, _ in kills}
    assert passed - killed - UNINTERESTING == set()
    assert killed - passed == AFTER_A_KILL

"""A gateway killed with -9 at each durable step, and at random: nothing acknowledged is lost or counted twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.broker import EmbeddedBroker
from cli.publisher import Publisher
from tests.faults.nursery import Nursery
from tests.faults.points import AFTER_A_KILL, KILLS, SMALL, UNINTERESTING, WITH_A_CLOUD
from tests.journeys.cloud_process import Cloud, agree
from tests.journeys.kept import check_whole
from tests.journeys.site import Site, finished, publishing
from tests.waiting import until


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

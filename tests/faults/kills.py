"""Gateways and clouds killed with -9, again and again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

from cli.broker import EmbeddedBroker
from tests.faults import swap
from tests.faults.nursery import Nursery
from tests.faults.points import KILLS, WITH_A_CLOUD
from tests.faults.stage import VICTIM, Found, Stage, killed, passed, stage
from tests.journeys.site import Gateway, Site, publishing
from tests.ports import free_port

ROUND = 55
"""Kills that pass every named point once, and a few at random."""

AT_RANDOM = 12
EARLY = 0.25
"""So many die before they are ready."""

RATE, FAST = 150.0, 300.0
"""Messages a second of each of four devices."""


class Life(NamedTuple):
    """One gateway's deaths, in order: at named points, then so many at random; with a cloud from the start, or not."""

    tag: str
    points: list[tuple[str, int, str]]
    random: int
    cloud: bool


def lives(cycles: int) -> list[Life]:
    """Part so many kills into lives. A first start has steps that no later one has, so their order is kept."""
    whole, rest = divmod(cycles, ROUND)
    named = [Life(what.split()[-1], kills, 0, cloud=False) for what, kills in KILLS.items()]
    one = [*named, Life("receipts", WITH_A_CLOUD, 0, cloud=True), Life("random", [], AT_RANDOM, cloud=True)]
    assert sum(len(life.points) + life.random for life in one) == ROUND
    return one * whole + ([Life("random", [], rest, cloud=True)] if rest else [])


async def gateway_kill(directory: Path, cycles: int, chance: Random) -> Found:
    """Kill a gateway at every named durable step and at random; then let it tell all to a cloud."""
    async with stage(directory, chance) as here:
        hits: Counter[str] = Counter()
        with Nursery() as nursery:
            for life in lives(cycles):
                await _live(here, life, nursery, hits)
        here.found.more["failpoints"] = dict(sorted(hits.items()))
        return here.found


async def _live(here: Stage, life: Life, nursery: Nursery, hits: Counter[str]) -> None:
    site = here.site(life.tag, cloud_port=0 if life.cloud else None)
    await site.subscribe()
    async with publishing(site, rate=FAST) as publisher:
        for point, hit, when in life.points:
            options = ("--point", point, "--hit", hit, "--when", when, "--archive", site.archive)
            began = time.monotonic()
            async with site.gateway(nursery.start, *options) as doomed:
                await killed(doomed, f"death at {point} {hit} {when}")
            here.found.times["death_s"].append(time.monotonic() - began)
            hits[f"{point} {when}"] += 1
        for _ in range(life.random):
            await _random_death(here, site)
            hits["random"] += 1
        here.found.cycles += len(life.points) + life.random
        site = site if life.cloud else here.with_cloud(site)
        async with here.survivor(site) as survivor:
            await here.finale(site, publisher, survivor)


async def _random_death(here: Stage, site: Site) -> None:
    """Let it start as a process of its own, and die while it starts, or at work, up to a second after it was ready."""
    if here.chance.random() < EARLY:
        options = ("--within", 0.3, "--seed", here.chance.getrandbits(32), "--archive", site.archive)
        async with site.gateway(VICTIM, *options) as doomed:
            await killed(doomed, "a death at random")
    else:
        async with here.survivor(site) as doomed:
            await asyncio.sleep(here.chance.uniform(0.0, 1.0))
            await doomed.kill()


async def model_swap(directory: Path, cycles: int, chance: Random) -> Found:
    """Kill a gateway at every step of a model change; AssertionError unless exactly one valid model scores."""
    with Nursery() as victim, EmbeddedBroker(directory, free_port(), free_port()) as broker:
        site = swap.site_in(directory / "site", broker.url, free_port())
        async with swap.cloud_of(site) as cloud:
            seen = await swap.rounds(site, cloud, victim, swap.shuffled(cycles, chance.getrandbits(32)))
    return Found(
        cycles=seen.old + seen.new, more={"old_scores": seen.old, "new_scores": seen.new, "steps": seen.by_step}
    )


async def cloud_kill(directory: Path, cycles: int, chance: Random) -> Found:
    """Kill the cloud at random moments, from its start to a second after it took frames, while a gateway works on."""
    async with stage(directory, chance, cloud_runs=False) as here:
        site = here.site("away")
        await site.subscribe()
        async with publishing(site, rate=RATE) as publisher, here.survivor(site) as gateway:
            for _ in range(cycles):
                await _cloud_death(here, gateway)
                here.found.cycles += 1
            async with here.cloud.running():
                began, before = time.monotonic(), await _receipted(gateway)
                await passed(gateway, "fieldgate_frames_receipted_total", before + 1)
                here.found.times["drain_s"].append(time.monotonic() - began)
                await here.finale(site, publisher, gateway)
        return here.found


async def _receipted(gateway: Gateway) -> float:
    return (await gateway.metrics()).get("fieldgate_frames_receipted_total", 0.0)


async def _cloud_death(here: Stage, gateway: Gateway) -> None:
    before = await _receipted(gateway)
    async with here.cloud.running() as cloud:
        began = time.monotonic()
        if here.chance.random() < 0.7:  # most die at work, some before they have taken anything
            await passed(gateway, "fieldgate_frames_receipted_total", before + 1)
            here.found.times["drain_s"].append(time.monotonic() - began)
        await asyncio.sleep(here.chance.uniform(0, 0.5))
        await cloud.kill()

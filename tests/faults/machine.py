"""What the machine does to its gateway: a disk that is full for a while, and clocks that are wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

from tests.faults.kills import RATE
from tests.faults.stage import VICTIM, Found, Stage, passed, stage
from tests.faults.victim import size_of
from tests.journeys.processes import get
from tests.journeys.site import Gateway, publishing
from tests.waiting import until

RECORDED = "fieldgate_readings_recorded_total"


async def disk_full(directory: Path, cycles: int, chance: Random) -> Found:
    """Fill the disk until nothing commits, keep it so for a while, give room: the same process goes on."""
    limit = directory / "limit"
    async with stage(directory, chance) as here:
        site = here.site("cramped")
        await site.subscribe()
        async with (
            publishing(site, rate=RATE) as publisher,
            here.survivor(site, VICTIM, "--limit", limit) as gateway,
        ):
            await passed(gateway, RECORDED, 1)
            for _ in range(cycles):
                limit.write_text(str(size_of(site.data) // 4))
                await until(lambda: _stalled(gateway), "nothing commits", within=60)
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                before = (await gateway.metrics())[RECORDED]
                limit.unlink()
                await passed(gateway, RECORDED, before + 1)
                await until(lambda: _ready(gateway), "it commits again", within=60)
                here.found.cycles += 1
            await here.finale(site, publisher, gateway)
        return here.found


async def _stalled(gateway: Gateway) -> bool:
    assert gateway.running, gateway.said()
    return b"the last commit failed" in await get(f"{gateway.url}/readyz")


async def _ready(gateway: Gateway) -> bool:
    return await get(f"{gateway.url}/readyz") == b"ready\n"


HOUR, YEAR = 3600 * 10**9, 365 * 86400 * 10**9
WAKES = -56 * YEAR
"""About how far a board without a battery is behind when it wakes in 1970."""

CLOCKS: dict[str, list[int]] = {
    "1970, then right": [WAKES, 0],
    "right, then an hour back": [0, -HOUR],
    "an hour back, then right": [-HOUR, 0],
    "right, then 1970": [0, WAKES],
    "1970, ahead, then right": [WAKES, HOUR, 0],
    "three years ahead, then right": [3 * YEAR, 0],
}
"""How wrong a clock is, one after the other, in ns. None stays in 1970 from start to end: silence closes no window
that is ahead of the clock.
"""


async def clock(directory: Path, cycles: int, chance: Random) -> Found:
    """Let a gateway, one for each cycle, wake with each of CLOCKS; the devices' own clocks are right."""
    async with stage(directory, chance) as here:
        done: Counter[str] = Counter()
        for number in range(cycles):
            name = [*CLOCKS][number % len(CLOCKS)]
            await _wrong(here, CLOCKS[name])
            done[name] += 1
            here.found.cycles += 1
        here.found.more["clocks"] = dict(sorted(done.items()))
        return here.found


async def _wrong(here: Stage, offsets: list[int]) -> None:
    site = here.site("timeless")
    wall = site.directory / "wall"
    wall.write_text(str(offsets[0]))
    await site.subscribe()
    async with (
        publishing(site, rate=RATE) as publisher,
        here.survivor(site, VICTIM, "--wall", wall) as gateway,
    ):
        for offset in offsets:
            _replace(wall, offset)
            before = (await gateway.metrics()).get(RECORDED, 0.0)
            await passed(gateway, RECORDED, before + RATE)
        await here.finale(site, publisher, gateway)


def _replace(path: Path, number: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(str(number))
    new.rename(path)

"""What a machine's clock does to its gateway: wrong from the start, jumping, and set right by somebody or nobody."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.faults.kills import RATE
from tests.faults.stage import VICTIM, Found, Stage, passed, stage
from tests.journeys.kept import Replay
from tests.journeys.site import Site, publishing

RECORDED = "fieldgate_readings_recorded_total"

SECOND = 10**9
HOUR, YEAR = 3600 * SECOND, 365 * 86400 * SECOND
WAKES = -56 * YEAR
"""About how far a board without a battery is behind when it wakes in 1970."""

STAMPED_BY_US = 'values = { value = "value", n = "n" }\ntime = "none"'
"""A source whose devices send no time, as far as the gateway reads."""


class Stand(NamedTuple):
    """How wrong a clock is, in ns, and whether a time service says that it has set it (1), or not yet (0)."""

    wrong: int
    service: str = ""


class Clocks(NamedTuple):
    """How a clock stands, one after the other; `placed`: every window is in the end where it belongs, in UTC."""

    stands: list[Stand]
    placed: bool = True


CLOCKS: dict[str, Clocks] = {
    "1970, then right": Clocks([Stand(WAKES), Stand(0)]),
    "1970 from start to end": Clocks([Stand(WAKES)], placed=False),
    "right, then 30 years ahead, then right": Clocks([Stand(0), Stand(30 * YEAR), Stand(0)]),
    "right, then an hour back": Clocks([Stand(0), Stand(-HOUR)], placed=False),
    "23 days old and known to be, then set": Clocks([Stand(-23 * 24 * HOUR, "0"), Stand(0, "1")]),
    "an hour back, then set": Clocks([Stand(-HOUR), Stand(0, "1")], placed=False),
    "right, then 1970, then right": Clocks([Stand(0), Stand(WAKES), Stand(0)]),
    "three years ahead, then set": Clocks([Stand(3 * YEAR), Stand(0, "1")], placed=False),
    "1970, an hour ahead, then set": Clocks([Stand(WAKES), Stand(HOUR, "0"), Stand(0, "1")]),
    "right, then an hour back, then right": Clocks([Stand(0), Stand(-HOUR), Stand(0)]),
}
"""Not placed is what was stamped by a clock that was believed, or that nobody has set right."""


async def clock(directory: Path, cycles: int, chance: Random) -> Found:
    """Let a gateway, one for each cycle, live with one of CLOCKS: with times that are its own, then its devices'."""
    async with stage(directory, chance) as here:
        done: Counter[str] = Counter()
        for number in range(cycles):
            name = [*CLOCKS][number // 2 % len(CLOCKS)]
            ours = number % 2 == 0
            await _wrong(here, name, ours=ours)
            done[f"{name} ({'our' if ours else 'their'} stamps)"] += 1
            here.found.cycles += 1
        here.found.more["clocks"] = dict(sorted(done.items()))
        return here.found


async def _wrong(here: Stage, name: str, *, ours: bool) -> None:
    site = here.site("timeless")
    if ours:
        site = replace(site, source=STAMPED_BY_US)
    wall = site.directory / "wall"
    _set(wall, CLOCKS[name].stands[0])
    await site.subscribe()
    began = time.time_ns()
    async with (
        publishing(site, rate=RATE) as publisher,
        here.survivor(site, VICTIM, "--wall", wall) as gateway,
    ):
        for stand in CLOCKS[name].stands:
            _set(wall, stand)
            before = (await gateway.metrics()).get(RECORDED, 0.0)
            await passed(gateway, RECORDED, before + RATE)
        whole = await here.finale(site, publisher, gateway)
    here.found.demand(whole.derive.totals.removed.keys() <= {"duplicate", "future"}, f"{site.name}: {name}: removed")
    if CLOCKS[name].placed or not ours:
        await _placed(here, site, name, whole, began)


async def _placed(here: Stage, site: Site, name: str, whole: Replay, began: int) -> None:
    """Every window is in UTC, and no more than a second from where it belongs."""
    starts = [key[-1] for key in await here.cloud.windows(site.name)]
    ended = time.time_ns()
    good = bool(starts) and began - SECOND <= min(starts) and max(starts) <= ended + SECOND
    here.found.demand(good, f"{site.name}: {name}: {len(starts)} windows, and not all in their place")
    here.found.demand(not any(whole.elsewhere.values()), f"{site.name}: {name}: windows that are not in UTC")


def _set(path: Path, stand: Stand) -> None:
    new = path.with_suffix(".new")
    new.write_text(f"{stand.wrong} {stand.service}")
    new.rename(path)

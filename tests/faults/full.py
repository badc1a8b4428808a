"""A disk that is full for a while: a small tmpfs where one may be mounted, and a quota in the file layer."""

from __future__ import annotations

import asyncio
import errno
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from tests.faults.kills import RATE
from tests.faults.proxy import NONE, Fault, Proxy, proxy_to
from tests.faults.stage import VICTIM, Found, Stage, passed, stage
from tests.faults.victim import size_of
from tests.journeys.processes import get
from tests.journeys.site import Gateway, Site, publishing
from tests.waiting import until

RECORDED = "fieldgate_readings_recorded_total"

WAITING = 'fieldgate_spool_frames{lane="telemetry"}'

BRIEF, LONG = (0.0, 0.5), (3.0, 6.0)
"""Seconds for which it stays full. Each second room is won, first from the journal's history, then from telemetry."""

SIZE = "48m"
"""Of the tmpfs: more than a gateway with small files, and all its journal ever held, come to."""

PIECE = bytes(4096)


class Disk(Protocol):
    """What is filled and given room again."""

    def fill(self) -> None:
        """Leave no room, or nearly none: what became free meanwhile is taken too."""

    def free(self) -> None:
        """Give all of it back."""


@dataclass
class Quota:
    """A disk as small as a file says, to the gateway's own file layer."""

    data: Path
    limit: Path

    def fill(self) -> None:
        """Allow less than there is already."""
        if not self.limit.exists():
            self.limit.write_text(str(size_of(self.data) // 4))

    def free(self) -> None:
        """Allow all."""
        self.limit.unlink()


@dataclass
class Tmpfs:
    """A small file system of the kernel's, filled by a file beside the gateway's."""

    filler: Path

    def fill(self) -> None:
        """Write until the kernel takes no more."""
        with self.filler.open("ab", buffering=0) as file:
            try:
                while file.write(PIECE):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        """Remove what was written."""
        self.filler.unlink()


@contextmanager
def mounted(directory: Path) -> Iterator[bool]:
    """Mount a small tmpfs while the block runs; False where that may not be done."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "fieldgate-faults", str(directory)]
    try:
        may = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        may = False
    try:
        yield may
    finally:
        if may:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


async def disk_full(directory: Path, cycles: int, chance: Random) -> Found:
    """Fill the disk until nothing commits, keep it so for a while, give room: the same process goes on.

    Every other time the cloud is away meanwhile, so what waits for it is dropped and declared.
    """
    disks: Counter[str] = Counter()
    async with stage(directory, chance) as here, proxy_to(here.cloud.port) as way:
        with mounted(directory / "small-1") as may:
            if may:
                site = here.site("small", cloud_port=way.port)
                await _fills(here, site, way, Tmpfs(site.directory / "filler"), cycles // 2)
                disks["tmpfs"] = cycles // 2
            site = here.site("cramped", cloud_port=way.port)
            await _fills(here, site, way, Quota(site.data, site.directory / "limit"), cycles - here.found.cycles)
        disks["quota"] = here.found.cycles - disks["tmpfs"]
        here.found.more["disks"] = dict(disks)
        return here.found


async def _fills(here: Stage, site: Site, way: Proxy, disk: Disk, cycles: int) -> None:
    if not cycles:
        return
    await site.subscribe()
    options = ("--limit", site.directory / "limit")
    async with publishing(site, rate=RATE) as publisher, here.survivor(site, VICTIM, *options) as gateway:
        await passed(gateway, RECORDED, 1)
        for number in range(cycles):
            if number % 2:
                way.turn(Fault(black_hole=True))
                await passed(gateway, WAITING, 4)
            await until(lambda: _stalled(gateway, disk), "nothing commits", within=60)
            await asyncio.sleep(here.chance.uniform(*(LONG if number % 4 == 3 else BRIEF)))
            before = (await gateway.metrics())[RECORDED]
            disk.free()
            way.turn(NONE)
            await passed(gateway, RECORDED, before + 1)
            await until(lambda: _ready(gateway), "it commits again", within=60)
            here.found.cycles += 1
        await here.finale(site, publisher, gateway)


async def _stalled(gateway: Gateway, disk: Disk) -> bool:
    assert gateway.running, gateway.said()
    disk.fill()
    return b"the last commit failed" in await get(f"{gateway.url}/readyz")


async def _ready(gateway: Gateway) -> bool:
    return await get(f"{gateway.url}/readyz") == b"ready\n"

"""The floor of free disk: who goes first, how much of it, and that a disk full of others' files is outlived."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import pipeline, recovery
from gateway.config import GatewayConfig, Journal, Size, Source, Spool
from gateway.disk import MOST, Disk
from gateway.records import TickRecord
from gateway.segment import OsFiles
from gateway.spool import Spool as Lanes
from protocol import frame
from protocol.errors import JournalUnusable
from protocol.messages import LANES, AlertsBody, Cover, Kind
from tests.waiting import until

MB = 1 << 20
FILE = 500


@dataclass
class Shared(OsFiles):
    """A disk of so many bytes that others fill, too; what we remove is room again."""

    home: Path
    capacity: int = 1_000_000
    others: int = 0
    dead: bool = False

    def free(self, path: Path) -> int:
        if self.dead:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        ours = sum(file.stat().st_size for file in self.home.rglob("*") if file.is_file())
        return max(self.total(path) - ours - self.others, 0)

    def total(self, path: Path) -> int:
        del path
        return self.capacity


@dataclass
class Site:
    """A gateway's disk: files of history, of which a checkpoint lets half go, and frames in each lane."""

    opened: recovery.Opened
    files: Shared
    disk: Disk

    def kept(self) -> dict[str, int]:
        """Say how many bytes of each there are."""
        lanes = {lane: self.opened.spool.bytes(lane) for lane in LANES}
        return {"journal": self.opened.journal.bytes, **lanes}

    def lack(self, size: int) -> None:
        """Let others fill the disk until so much is missing."""
        floor = self.disk.free()[1]
        self.files.others += self.disk.free()[0] - (floor - size)


def fill(spool: Lanes, lane: str) -> None:
    for number in range(1, 13):
        cover = Cover(number, 0)
        spool.append(lane, Kind.ALERTS, frame.dump(AlertsBody(cover, [])), cover, number)
        spool.commit()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    small = Size(4 * FILE)
    config = GatewayConfig(
        "edge",
        str(tmp_path),
        (Source("s/{device}/{measurement}"),),
        min_free=Size(100_000),
        journal=Journal(segment_bytes=Size(FILE)),
        spool=Spool(segment_bytes=Size(FILE), telemetry_bytes=small, results_bytes=small, alerts_bytes=small),
    )
    files = Shared(tmp_path)
    opened = recovery.recover(config, files, 0, lambda: 7)
    for stamp in range(1, 41):
        opened.journal.append(TickRecord(stamp))
        opened.journal.commit()
    for position in (20, 30):
        opened.checkpoints.save(position, {})
    for lane in LANES:
        fill(opened.spool, lane)
    yield Site(opened, files, Disk(config, opened))
    opened.journal.close()
    opened.spool.close()


def test_nothing_goes_while_the_floor_holds(site: Site) -> None:
    before = site.kept()
    site.lack(0)
    assert (site.disk.look(), site.kept(), site.disk.dropped) == (0, before, {})


def test_history_behind_the_checkpoints_goes_first_and_no_more_than_is_missing(site: Site) -> None:
    before = site.kept()
    site.lack(FILE + 1)
    won = site.disk.look()
    assert FILE < won <= 3 * FILE
    assert site.kept() == {**before, "journal": before["journal"] - won}
    assert site.disk.dropped == {"disk_low": won}
    assert site.disk.look() == 0


def test_blocks_go_before_anything_else_since_they_are_copies(site: Site) -> None:
    before = site.kept()
    (site.files.home / "blocks").mkdir()
    (site.files.home / "blocks" / "1.blk").write_bytes(bytes(3 * FILE))
    site.lack(FILE)
    assert (site.disk.look(), site.kept(), site.disk.dropped) == (3 * FILE, before, {})


def test_then_telemetry_goes_then_results_and_each_loss_is_declared_with_its_cause(site: Site) -> None:
    before = site.kept()
    order: list[str] = []
    for _ in range(100):
        site.lack(1)
        if not site.disk.look():
            break
        now = site.kept()
        order += [name for name in now if now[name] < before[name]]
        before = now
    assert list(dict.fromkeys(order)) == ["journal", "telemetry", "results"]
    assert site.opened.journal.oldest in range(15, 22), "what the older checkpoint needs is there"
    lost = site.opened.spool.enforce(0)
    assert [loss.lane for loss in lost] == sorted((loss.lane for loss in lost), reverse=True)
    assert {loss.cause for loss in lost} == {"disk_low"}
    assert site.opened.spool.frames("alerts") == site.opened.spool.frames("definitions") == 12


def test_a_disk_that_others_keep_full_is_looked_at_again_and_again_and_then_is_well(site: Site) -> None:
    site.lack(10 * MB)
    assert site.disk.look() > 0
    assert [site.disk.look() for _ in range(3)] == [0, 0, 0]
    site.files.others = 0
    before = site.kept()
    assert (site.disk.look(), site.kept()) == (0, before)


@pytest.mark.parametrize(
    ("lack", "code", "goes"),
    [
        pytest.param(-1, errno.ENOSPC, {"disk_full"}, id="a quota, with free disk: one file"),
        pytest.param(-1, errno.EDQUOT, {"disk_full"}, id="a quota that says so"),
        pytest.param(3 * FILE, errno.ENOSPC, {"disk_low"}, id="a disk below the floor: what is missing"),
        pytest.param(-1, errno.EIO, set(), id="a disk that is broken: room would not help"),
    ],
)
def test_what_a_refusal_costs(site: Site, lack: int, code: int, goes: set[str]) -> None:
    site.lack(lack)
    inner, refusal = JournalUnusable("no"), JournalUnusable("no epoch")
    inner.__cause__ = OSError(code, os.strerror(code))
    refusal.__cause__ = inner
    site.disk.refused(refusal)
    assert set(site.disk.dropped) == goes


def test_a_disk_that_does_not_say_how_full_it_is_is_left_alone(site: Site) -> None:
    site.lack(10 * MB)
    site.files.dead = True
    assert (site.disk.free(), site.disk.look()) == ((0, 0), 0)


@pytest.mark.parametrize(
    ("total", "floor"),
    [
        pytest.param(16 * 10**9, MOST, id="a card of 16 GB"),
        pytest.param(1 * 10**12, MOST, id="a disk of 1 TB"),
        pytest.param(64 * MB, 64 * MB // 20, id="a tmpfs of 64 MiB"),
    ],
)
def test_the_floor_that_nobody_configured(site: Site, total: int, floor: int) -> None:
    site.disk.min_free, site.files.capacity = None, total
    assert site.disk.free()[1] == floor


async def test_a_gateway_declares_and_counts_what_a_low_disk_costs_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "LOOK_S", 0.01)
    spool = Spool(segment_bytes=Size(FILE))
    config = GatewayConfig("edge", str(tmp_path), (Source("s/{device}/{measurement}"),), spool=spool)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(pipeline.run(config, on_ready=ready.set_result, stop=stop))
    gateway = await ready
    fill(gateway.spool, "telemetry")
    gateway.disk.min_free = Size(1 << 62)
    await until(lambda: gateway.spool.frames("results"), "it is declared though nothing else is due")
    vitals = gateway.vitals()
    ((lane, cause),) = vitals.frames_dropped
    assert (lane, cause, vitals.disk[1]) == ("telemetry", "disk_low", 1 << 62)
    assert vitals.frames_dropped[lane, cause] == 12 - gateway.spool.frames("telemetry")
    bodies = [frame.load(held.kind, held.body) for held in gateway.spool.each("results")]
    assert [(loss.first, loss.cause) for body in bodies for loss in body.losses][:1] == [(1, "disk_low")]
    stop.set()
    await task

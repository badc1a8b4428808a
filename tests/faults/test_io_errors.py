"""Each call on the disk fails once: the work is refused or done, it opens again, and nothing promised is lost."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest

from gateway.journal import Checkpoints
from protocol.errors import JournalUnusable
from tests.faults import refusals
from tests.faults.power import Disk
from tests.faults.whole import GatewayWitness
from tests.faults.witness import LogWitness, Witness
from tests.faults.witness_journal import JournalWitness
from tests.faults.witness_spool import SpoolWitness

KINDS = [(LogWitness, 1), (JournalWitness, 3), (SpoolWitness, 5), (GatewayWitness, 13)]


@pytest.mark.parametrize(("kind", "every"), KINDS, ids=["log", "journal and checkpoints", "spool", "gateway"])
def test_every_call_fails_once_and_nothing_is_lost(kind: type[Witness], every: int) -> None:
    found = refusals.run(1, [kind], every)
    assert found.failures == []
    assert {"write", "sync", "create", "sync_directory", "read"} <= set(found.injected)


def saved(disk: Disk) -> Checkpoints:
    checkpoints = Checkpoints(disk, Path("/data/checkpoints"))
    for position in (10, 20):
        checkpoints.save(position, {})
    assert checkpoints.older_position == 10
    return checkpoints


def test_nothing_is_dropped_on_the_word_of_checkpoints_that_may_not_outlive_a_power_cut() -> None:
    for seed in range(20):
        disk = Disk(Random(seed))
        checkpoints = saved(disk)
        for position in (30, 40):
            disk.faults = {("sync_directory", disk.calls["sync_directory"] + 2): errno.EIO}
            with pytest.raises(JournalUnusable):
                checkpoints.save(position, {})
        assert checkpoints.positions()[-2:] == [30, 40]
        assert checkpoints.older_position == 0
        disk.cut()
        found = Checkpoints(disk, Path("/data/checkpoints")).load()
        assert found is not None
        assert found[0] >= 20


def test_a_directory_that_cannot_be_listed_holds_back_retention_and_ends_nothing() -> None:
    disk = Disk(Random(1))
    checkpoints = saved(disk)
    disk.faults = {("names", disk.calls["names"] + 1): errno.EIO}
    assert checkpoints.older_position == 0
    assert checkpoints.older_position == 10


@pytest.mark.parametrize(("code", "kept"), [(errno.EIO, 10), (errno.EMFILE, None)], ids=["damage", "not damage"])
def test_a_good_checkpoint_is_not_set_aside_because_something_else_ran_out(code: int, kept: int | None) -> None:
    disk = Disk(Random(1))
    checkpoints = saved(disk)
    disk.faults = {("read", disk.calls["read"] + 1): code}
    if kept is None:
        with pytest.raises(JournalUnusable, match="Too many open files"):
            checkpoints.load()
        assert checkpoints.positions() == [10, 20]
    else:
        assert checkpoints.load() == (kept, {})
        assert checkpoints.damaged == 1

"""Power cuts and kills in the middle of anything: what was acknowledged is there, once, in order, bit for bit."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.segment import Log, make_directory, write_atomically
from tests.faults import crashes
from tests.faults.power import Died, Disk
from tests.faults.whole import GatewayWitness
from tests.faults.witness import Fault, LogWitness, Witness
from tests.faults.witness_journal import JournalWitness
from tests.faults.witness_spool import SpoolWitness

FILE = Path("/a/file")


def disk(seed: int = 0) -> Disk:
    """Give a disk with one directory, durably."""
    made = Disk(Random(seed))
    make_directory(made, Path("/a"))
    return made


def written(disk: Disk, *parts: bytes, synced: int) -> Disk:
    """Write parts to a file whose name is durable, and sync after so many of them."""
    descriptor = disk.create(FILE)
    disk.sync_directory(Path("/a"))
    for number, part in enumerate(parts, 1):
        disk.write(descriptor, part)
        if number == synced:
            disk.sync(descriptor)
    return disk


# The disk.


def test_what_was_synced_survives_every_power_cut() -> None:
    for seed in range(50):
        cut = written(disk(seed), b"one", b"two", synced=2)
        cut.cut()
        assert cut.read(FILE) == b"onetwo"


def test_of_what_was_not_synced_any_part_may_arrive_and_blocks_that_did_not_are_zeros() -> None:
    seen = set()
    for seed in range(300):
        cut = written(disk(seed), b"a" * 700, b"b" * 1400, synced=1)
        cut.cut()
        held = cut.read(FILE)
        assert held[:700] == b"a" * 700
        assert set(held[700:]) <= {0, ord("b")}
        seen.add("".join(dict.fromkeys(held[700:].decode())))
    assert seen >= {"", "b", "\0", "b\0", "\0b"}


def test_a_name_is_there_for_certain_only_when_its_directory_was_synced() -> None:
    there = set()
    for seed in range(60):
        cut = disk(seed)
        cut.sync(cut.create(FILE))
        cut.cut()
        there.add(tuple(cut.names(Path("/a"))))
    assert there == {(), ("file",)}


def test_a_rename_happens_whole_or_not_at_all() -> None:
    for seed in range(60):
        cut = disk(seed)
        write_atomically(cut, FILE, b"old")
        descriptor = cut.create(FILE.with_name("draft"))
        cut.write(descriptor, b"new")
        cut.sync(descriptor)
        cut.rename(FILE.with_name("draft"), FILE)
        cut.cut()
        assert cut.read(FILE) in (b"old", b"new")


def test_a_file_that_failed_to_sync_cannot_be_made_durable_by_another_sync() -> None:
    gone = set()
    for seed in range(60):
        cut = disk(seed)
        descriptor = cut.create(FILE)
        cut.sync_directory(Path("/a"))
        cut.write(descriptor, b"x" * 5000)
        cut.faults["sync", 1] = errno.EIO
        with pytest.raises(OSError, match="Input"):
            cut.sync(descriptor)
        assert cut.read(FILE) == b"x" * 5000
        with pytest.raises(AssertionError, match="after it had failed"):
            cut.sync(descriptor)
        with pytest.raises(AssertionError, match="after it had failed"):
            cut.write(descriptor, b"")
        cut.sync(cut.reopen(FILE))
        cut.cut()
        gone.add(cut.read(FILE) == b"x" * 5000)
    assert gone == {True, False}


def test_after_its_death_a_process_does_nothing_more() -> None:
    made = disk()
    made.end_after = 0
    with pytest.raises(Died):
        made.create(FILE)
    with pytest.raises(Died):
        made.names(Path("/a"))
    made.kill()
    assert made.names(Path("/a")) == ["file"]


def test_a_directory_that_a_killed_process_made_is_made_durable_by_the_next() -> None:
    for seed in range(40):
        cut = disk(seed)
        cut.mkdir(Path("/a/inner"))
        cut.kill()
        make_directory(cut, Path("/a/inner"))
        cut.cut()
        assert cut.names(Path("/a")) == ["inner"]


# The witnesses.


def machine(kind: type[Witness]) -> Any:
    """Make hypothesis choose what a witness does, what fails, and when it ends."""

    class Machine(RuleBasedStateMachine):
        @initialize(seed=st.integers(0, 1 << 16))
        def begin(self, seed: int) -> None:
            self.witness = kind(Random(seed))

        @rule(
            step=st.sampled_from(sorted(kind.steps)),
            number=st.integers(0, 1 << 16),
            fails=st.lists(
                st.tuples(
                    st.sampled_from(crashes.MAY_FAIL), st.integers(1, 5), st.sampled_from([errno.EIO, errno.ENOSPC])
                ),
                max_size=2,
            ),
        )
        def do(self, step: str, number: int, fails: list[Fault]) -> None:
            if not self.witness.do(step, number, fails):
                self.witness.end(power=bool(number % 4))

        @rule(within=st.integers(0, 12))
        def doom(self, within: int) -> None:
            self.witness.doom(within)

        @rule(power=st.booleans(), within=st.lists(st.integers(0, 8), max_size=2))
        def end(self, power: bool, within: list[int]) -> None:
            self.witness.end(power=power, within=within)

        @invariant()
        def holds(self) -> None:
            if not self.witness.disk.dead:
                self.witness.check()

    return Machine.TestCase


@pytest.mark.parametrize(
    ("kind", "examples"),
    [(LogWitness, 50), (JournalWitness, 20), (SpoolWitness, 30), (GatewayWitness, 8)],
    ids=["log", "journal and checkpoints", "spool", "gateway"],
)
def test_promises_are_kept_whatever_happens(kind: type[Witness], examples: int) -> None:
    case = machine(kind)
    case.settings = settings(max_examples=examples, stateful_step_count=30, deadline=None)
    case("runTest").runTest()


def test_crash_points_by_the_hundred_lose_nothing() -> None:
    found = crashes.run(360, seed=1)
    assert (found.failures, found.opened) == ([], 360)
    assert found.refused > 10


def test_a_log_that_does_not_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "_sync", lambda _log, _descriptor: None)
    assert crashes.run(60, seed=1).failures

"""Sealed history is read from blocks as from its records; what is damaged, old or foreign counts for nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import blocks, config
from gateway.blocks import Blocks, _cuts
from gateway.journal import Journal
from gateway.past import JournalPast
from gateway.records import Readings, ReadingsRecord, TickRecord
from gateway.segment import OsFiles

S = 10**9
SEGMENT = 1500
DEVICES = 4
Row = tuple[str, int, float]


def write(data: Path, records: int = 60, first: int = 0) -> None:
    """Record: device d is first heard of in record 5 d; each file holds a few records."""
    settings_ = config.Journal(segment_bytes=config.Size(SEGMENT))
    journal = Journal.open(OsFiles(), data / "journal", settings_, about=dict)
    rng = np.random.default_rng(first)
    for number in range(first, first + records):
        known = min(number // 5 + 1, DEVICES)
        series = rng.integers(0, known, 20).astype(np.int32)
        series[0] = known - 1
        time = (number * 20 + rng.permutation(20)) * S
        names = [f"pump-{known - 1}/flow"] if number % 5 == 0 and number // 5 < DEVICES else []
        journal.append(ReadingsRecord(number, Readings(series, time, rng.normal(size=20).round(2)), names))
        journal.append(TickRecord(number))
        journal.commit()
    journal.close()


def cache(data: Path, most: int = 1 << 20, floor: int = 0, files: OsFiles | None = None) -> Blocks:
    return Blocks(files or OsFiles(), data / "blocks", most, floor)


def rows(past: JournalPast, *patterns: str, start: int = 0, end: int = 0, after: int = 0) -> dict[str, list[Row]]:
    """Read all, and give the readings of each series in the order in which they came."""
    found: dict[str, list[Row]] = {}
    for batch in past.batches(patterns or ("*",), start, end, after=after):
        for series, time, value in zip(*batch, strict=True):
            name = past.names[series]
            found.setdefault(name, []).append((name, int(time), float(value)))
    past.close()
    return found


def made(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "blocks").glob("*"))


QUESTIONS: dict[str, dict[str, int]] = {
    "all": {},
    "from a time on": {"start": 300 * S},
    "up to a time": {"end": 150 * S},
    "a range": {"start": 170 * S, "end": 410 * S},
    "what is new": {"after": 41},
    "what is new, in a range": {"after": 41, "start": 500 * S},
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
@pytest.mark.parametrize("patterns", [("*",), ("pump-1/*",), ("pump-0/flow", "pump-3/flow"), ("kiln/*",)])
def test_blocks_say_what_the_records_say(site: Path, question: dict[str, int], patterns: tuple[str, ...]) -> None:
    expected = rows(JournalPast(site), *patterns, **question)
    first = rows(JournalPast(site, blocks=cache(site)), *patterns, **question)
    rows(JournalPast(site, blocks=cache(site)))
    files = cache(site)
    assert first == rows(JournalPast(site, blocks=files), *patterns, **question) == expected
    assert files.refused == 0


def test_the_first_who_reads_a_sealed_file_makes_its_blocks_and_the_newest_has_none(site: Path) -> None:
    sealed = JournalPast(site).journal.sealed_files()
    assert len(sealed) > 3
    rows(JournalPast(site, blocks=cache(site)), "kiln/*")
    assert made(site) == [f"{file.first:020}.blk" for file in sealed]


def test_files_that_hold_nothing_that_is_wanted_are_not_read(site: Path) -> None:
    rows(JournalPast(site, blocks=cache(site)))

    class Counting(OsFiles):
        read_bytes = 0

        def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
            data = super().read(path, offset, size)
            Counting.read_bytes += len(data) if path.suffix == ".blk" else 0
            return data

    def cost(pattern: str, start: int = 0) -> int:
        Counting.read_bytes = 0
        rows(JournalPast(site, blocks=cache(site, files=Counting())), pattern, start=start)
        return Counting.read_bytes

    openings = cost("kiln/*")
    assert openings < cost("pump-0/*", 600 * S) < cost("*")
    assert cost("*", 10**18) == openings


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "its header": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "its opening": lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:],
    "a block": lambda data: data[:-10] + bytes([data[-10] ^ 1]) + data[-9:],
    "its end": lambda data: data[:-1],
    "all of it": lambda _: b"",
    "more than it": lambda data: data + b"x",
}


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_blocks_are_removed_and_the_records_read(site: Path, harm: Callable[[bytes], bytes]) -> None:
    expected = rows(JournalPast(site))
    rows(JournalPast(site, blocks=cache(site)))
    names = made(site)
    path = site / "blocks" / names[1]
    path.write_bytes(harm(path.read_bytes()))
    files = cache(site)
    assert rows(JournalPast(site, blocks=files)) == expected
    assert files.refused == 1
    assert made(site) == names
    assert rows(JournalPast(site, blocks=cache(site))) == expected


def test_blocks_of_a_journal_that_was_begun_anew_count_for_nothing(site: Path) -> None:
    rows(JournalPast(site, blocks=cache(site)))
    for path in (site / "journal").glob("*.seg"):
        path.unlink()
    write(site, first=1_000)
    assert rows(JournalPast(site, blocks=cache(site))) == rows(JournalPast(site))


def test_blocks_go_with_their_file(site: Path) -> None:
    rows(JournalPast(site, blocks=cache(site)))
    oldest = min((site / "journal").glob("*.seg"))
    names = made(site)
    oldest.unlink()
    JournalPast(site, blocks=cache(site)).close()
    assert made(site) == names[1:]


def test_a_record_that_is_damaged_costs_itself_and_its_file_gets_no_blocks(site: Path) -> None:
    path = sorted((site / "journal").glob("*.seg"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    expected = rows(JournalPast(site))
    assert rows(JournalPast(site, blocks=cache(site))) == expected
    assert rows(JournalPast(site, blocks=cache(site))) == expected
    assert path.with_suffix(".blk").name not in made(site)


def test_no_more_is_kept_than_the_bound_and_the_floor_of_the_disk_allow(site: Path) -> None:
    expected = rows(JournalPast(site))
    rows(JournalPast(site, blocks=cache(site)))
    full = cache(site).bytes
    for most, floor in ((full // 2, 0), (full, 1 << 62), (0, 0)):
        blocks.drop(OsFiles(), site / "blocks")
        assert rows(JournalPast(site, blocks=cache(site, most, floor))) == expected
        assert cache(site).bytes <= (most if not floor else 0)
    rows(JournalPast(site, blocks=cache(site)))
    JournalPast(site, blocks=cache(site, full // 2)).close()
    assert 0 < cache(site).bytes <= full // 2


def test_dropping_gives_back_all_of_it(site: Path) -> None:
    rows(JournalPast(site, blocks=cache(site)))
    size = cache(site).bytes
    assert blocks.drop(OsFiles(), site / "blocks") == size > 0
    assert made(site) == []
    assert blocks.drop(OsFiles(), site / "nowhere") == 0


class Failing(OsFiles):
    """A disk that fails, or a process that is killed, at the n-th change."""

    def __init__(self, at: int, *, kill: bool) -> None:
        self.left, self.kill, self.dead = at, kill, False

    def _step(self) -> None:
        self.left -= 1
        self.dead = self.dead or (self.left == 0 and self.kill)
        if self.left == 0 or self.dead:
            raise KeyboardInterrupt if self.kill else OSError(errno.EIO, os.strerror(errno.EIO))

    def mkdir(self, path: Path) -> None:
        self._step()
        super().mkdir(path)

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, descriptor: int, data: bytes) -> None:
        if self.left == 1:
            super().write(descriptor, data[: len(data) // 2])
        self._step()
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "refused"])
def test_a_kill_or_a_refusal_at_any_step_costs_nothing_but_the_blocks(tmp_path: Path, *, kill: bool) -> None:
    write(tmp_path, 30)
    expected = rows(JournalPast(tmp_path))
    for at in range(1, 100):
        blocks.drop(OsFiles(), tmp_path / "blocks")
        files = Failing(at, kill=kill)
        try:
            assert rows(JournalPast(tmp_path, blocks=cache(tmp_path, files=files))) == expected
        except KeyboardInterrupt:
            assert kill
        later = cache(tmp_path)
        assert rows(JournalPast(tmp_path, blocks=later)) == expected
        assert (later.refused, [name for name in made(tmp_path) if not name.endswith(".blk")]) == (0, [])
        if files.left > 0:
            break
    assert at > 10


@given(sizes=st.lists(st.integers(1, 90), max_size=30))
@settings(max_examples=100, deadline=None)
def test_long_series_have_blocks_of_their_own_and_short_ones_share(sizes: list[int]) -> None:
    before = blocks.LONG, blocks.MOST
    blocks.LONG, blocks.MOST = 20, 50
    try:
        series = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        cuts = list(_cuts(series))
    finally:
        blocks.LONG, blocks.MOST = before
    assert [at for begin, end in cuts for at in range(begin, end)] == list(range(len(series)))
    assert all(end - begin <= 50 for begin, end in cuts)
    assert len(cuts) <= 2 * len(series) // 20 + 1 + len(sizes) // 2

"""Segments: what a commit has vouched for is there after every fault, in order, and nothing else is ever made up."""

from __future__ import annotations

import errno
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.segment import History, Log, OsFiles, ReadOnlyFiles, layout, write_atomically
from protocol import frame
from protocol.errors import FrameRefused, JournalUnusable
from protocol.messages import JOURNAL_LANE, Kind
from tests.faults.disk import FaultyFiles, every_call

LANE = 3
BIG = 1 << 20


def opened(directory: Path, files: Any = None, **options: Any) -> Log:
    settings_ = {"lane": LANE, "epoch": 77, "segment_bytes": BIG, "about": dict, **options}
    return Log.open(files or FaultyFiles(), directory, **settings_)


def body(seq: int, size: int = 60) -> bytes:
    return random.Random(seq).randbytes(size)


def filled(log: Log, upto: int, size: int = 60) -> Log:
    """Append and commit, one at a time, until `upto` is there."""
    while log.next <= upto:
        log.append(Kind.WINDOWS, body(log.next, size), stamp=log.next * 10)
        log.commit()
    return log


def contents(log: History) -> dict[int, bytes]:
    return {held.seq: held.body for held in log.frames(log.oldest)}


def expected(first: int, last: int, size: int = 60) -> dict[int, bytes]:
    return {seq: body(seq, size) for seq in range(first, last + 1)}


def segments(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.seg"))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = opened(tmp_path)
    yield log
    log.close()


# Appending and committing.


def test_an_empty_log_begins_at_one(log: Log) -> None:
    assert (log.oldest, log.next, log.durable, log.chain, log.bytes) == (1, 1, 0, 0, 0)
    assert (list(log.frames(1)), log.read(1), log.newest_about()) == ([], None, {})
    assert log.commit() == 0


def test_a_record_is_read_only_after_its_commit(log: Log) -> None:
    assert log.append(Kind.WINDOWS, b"one") == 1
    assert (log.read(1), log.durable, log.bytes) == (None, 0, 0)
    assert log.pending_bytes > len(b"one")
    assert log.commit() == 1
    assert (contents(log), log.durable, log.pending_bytes) == ({1: b"one"}, 1, 0)


def test_the_chain_runs_from_record_to_record_across_files(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=300), 10)
    assert len(segments(tmp_path)) > 2
    before = 0
    for seq in range(1, 11):
        data = log.read(seq)
        assert data is not None
        head = frame.header(data)
        assert (head.lane, head.seq) == (LANE, seq)
        assert frame.verify_chain(head, frame.content_of(data, head), before)
        before = head.chain
    assert before == log.chain == log.durable_chain
    log.close()


def test_a_log_goes_on_where_it_was_closed(tmp_path: Path) -> None:
    first = filled(opened(tmp_path), 5)
    chain, size = first.chain, first.bytes
    first.close()
    second = opened(tmp_path)
    assert (second.next, second.chain, second.durable, second.bytes) == (6, chain, 5, size)
    filled(second, 8)
    assert contents(second) == expected(1, 8)
    assert segments(tmp_path) == [layout.segment_name(1)]
    second.close()


def test_a_file_holds_at_most_its_bound_and_is_named_for_its_first_record(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=400), 20)
    assert all((tmp_path / name).stat().st_size <= 400 for name in segments(tmp_path))
    assert segments(tmp_path)[0] == "00000000000000000001.seg"
    assert contents(log) == expected(1, 20)
    log.close()


def test_a_record_larger_than_a_file_has_one_to_itself(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=100), 3, size=500)
    assert len(segments(tmp_path)) == 3
    assert contents(log) == expected(1, 3, size=500)
    log.close()


def test_one_commit_may_fill_several_files(tmp_path: Path) -> None:
    log = opened(tmp_path, segment_bytes=400)
    for seq in range(1, 31):
        log.append(Kind.WINDOWS, body(seq))
    assert log.commit() == 30
    assert len(segments(tmp_path)) > 5
    assert contents(log) == expected(1, 30)
    log.close()


def test_a_file_takes_records_of_a_bounded_span_of_time(tmp_path: Path) -> None:
    log = opened(tmp_path, segment_age=100)
    for stamp in (1000, 1050, 1100, 1101, 1200, 1500):
        log.append(Kind.TICK, b"", stamp=stamp)
    log.commit()
    assert [layout.first_of(name) for name in segments(tmp_path)] == [1, 4, 6]
    log.close()


def test_a_file_says_what_was_true_just_before_its_first_record(tmp_path: Path) -> None:
    known: list[str] = []
    log = opened(tmp_path, segment_bytes=400, about=lambda: {"names": list(known)})
    for seq in range(1, 16):
        log.append(Kind.WINDOWS, body(seq))
        known.append(f"series {seq}")
    log.commit()
    for name in segments(tmp_path):
        opening = layout.decode_opening((tmp_path / name).read_bytes())
        assert opening is not None
        assert opening.about == {"names": known[: opening.first - 1]}
        assert (opening.lane, opening.epoch, opening.whole) == (LANE, 77, True)
    assert log.oldest_about() == {"names": []}
    log.close()


def test_an_about_too_large_for_a_frame_is_left_out(tmp_path: Path) -> None:
    log = opened(tmp_path, about=lambda: {"names": "x" * (frame.MAX_RAW + 1)})
    filled(log, 2)
    assert (log.newest_about(), contents(log)) == ({}, expected(1, 2))
    log.close()


def test_files_whose_about_is_too_large_are_dropped_one_by_one(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=400, about=lambda: {"names": "x" * (frame.MAX_RAW + 1)}), 12)
    firsts = [layout.first_of(name) or 0 for name in segments(tmp_path)]
    sealed = log.oldest_sealed()
    assert sealed is not None
    assert sealed.last == firsts[1] - 1
    assert log.drop_before(firsts[1])[0] == firsts[1] - 1
    assert contents(log) == expected(firsts[1], 12)
    log.close()


def test_a_record_too_large_for_a_frame_is_refused_and_changes_nothing(log: Log) -> None:
    with pytest.raises(FrameRefused, match="size"):
        log.append(Kind.WINDOWS, bytes(frame.MAX_RAW + 1))
    assert (log.next, log.pending_bytes, log.append(Kind.WINDOWS, b"")) == (1, 0, 1)


def test_bytes_written_and_seconds_of_sync_are_told(tmp_path: Path) -> None:
    seconds: list[float] = []
    log = filled(opened(tmp_path, segment_bytes=400, observe=seconds.append), 10)
    assert log.written == log.bytes == sum((tmp_path / name).stat().st_size for name in segments(tmp_path))
    assert len(seconds) == 10
    log.close()


def test_a_commit_in_another_thread_does_not_disturb_the_appends(tmp_path: Path) -> None:
    log = opened(tmp_path, OsFiles(), segment_bytes=20_000)
    with ThreadPoolExecutor(1) as disk:
        ahead = disk.submit(log.commit)
        for seq in range(1, 2001):
            assert log.append(Kind.WINDOWS, body(seq)) == seq
            if log.durable:
                assert log.read(log.durable) is not None
            if ahead.done():
                assert ahead.result() == log.durable
                ahead = disk.submit(log.commit)
        ahead.result()
        assert disk.submit(log.commit).result() == 2000
    assert (contents(log), log.pending_bytes, log.damaged) == (expected(1, 2000), 0, 0)
    log.close()


# Reading.


def test_reading_begins_anywhere(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=400), 12)
    for begin in range(14):
        assert [held.seq for held in log.frames(begin)] == list(range(max(begin, 1), 13))
    log.close()


# Opening after damage.


def test_a_tail_torn_at_any_byte_costs_the_torn_record_only(tmp_path: Path) -> None:
    size = 250
    whole = tmp_path / "whole"
    filled(opened(whole, segment_bytes=4000), 22, size).close()
    name = segments(whole)[-1]
    data, first = (whole / name).read_bytes(), layout.first_of(name) or 0
    ends = [at + head.size for at, head in layout.walk(data, LANE, first)]
    assert len(data) > 2048
    torn = tmp_path / "torn"
    shutil.copytree(whole, torn)
    for cut in range(len(data) - 2048, len(data)):
        (torn / name).write_bytes(data[:cut])
        last = first - 1 + sum(end <= cut for end in ends)
        log = opened(torn)
        assert (log.next, log.damaged) == (last + 1, 0)
        assert [held.seq for held in log.frames(1)] == list(range(1, last + 1))
        filled(log, last + 1, size).close()
        log = opened(torn)
        assert {held.seq: held.body for held in log.frames(first)} == expected(first, last + 1, size)
        log.close()


def test_what_a_killed_process_wrote_and_did_not_sync_survives_a_power_cut_later(tmp_path: Path) -> None:
    files = FaultyFiles()
    log = filled(opened(tmp_path, files), 1)
    log.append(Kind.WINDOWS, body(2))
    assert log._active is not None
    files.write(log._active, log._waiting[0].data)  # and then it is killed
    log.close()
    log = opened(tmp_path, files, segment_bytes=1)
    filled(log, 3)  # to a file of its own
    log.close()
    files.power_cut(random.Random(3))
    log = opened(tmp_path, files)
    assert contents(log) == expected(1, 3)
    log.close()


@pytest.mark.parametrize("size", [0, 1, 31, 32, 70])
def test_a_file_torn_before_its_first_record_is_no_file(tmp_path: Path, size: int) -> None:
    filled(opened(tmp_path), 4).close()
    (tmp_path / layout.segment_name(5)).write_bytes(body(1, size))
    log = opened(tmp_path)
    assert (log.next, log.torn, segments(tmp_path)) == (5, size, [layout.segment_name(1)])
    filled(log, 6)
    assert contents(log) == expected(1, 6)
    log.close()


def test_a_sequence_is_not_given_twice_though_its_record_was_torn_off(tmp_path: Path) -> None:
    filled(opened(tmp_path), 9).close()
    path = tmp_path / layout.segment_name(1)
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / layout.segment_name(10)).write_bytes(b"")  # its name says that 9 was there
    log = opened(tmp_path)
    assert (log.next, log.damaged) == (10, 1)
    filled(log, 11)
    assert sorted(contents(log)) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11]
    log.close()


def test_a_record_from_far_ahead_is_not_believed() -> None:
    data = [frame.encode(Kind.WINDOWS, b"", lane=LANE, seq=seq) for seq in (1, 2, 1000, 3)]
    assert [head.seq for _at, head in layout.walk(b"".join(data), LANE, 1)] == [1, 2, 3]


def test_one_damaged_byte_anywhere_costs_at_most_one_record(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    filled(opened(whole), 12).close()
    name = layout.segment_name(1)
    data = (whole / name).read_bytes()
    for at in range(len(data)):
        directory = tmp_path / f"{at}"
        directory.mkdir()
        (directory / name).write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        log = opened(directory)
        last = log.next
        held = contents(log)
        assert len(held) >= 11
        assert held.items() <= expected(1, 12).items()
        filled(log, last)
        assert contents(log) == {**held, last: body(last)}
        assert log.damaged == 12 - len(held) - (last == 12)
        log.close()


def test_a_damaged_record_stays_and_the_next_one_begins_a_new_file(tmp_path: Path) -> None:
    filled(opened(tmp_path), 9).close()
    _damage(tmp_path / layout.segment_name(1), 5)
    log = filled(opened(tmp_path), 11)
    assert (log.damaged, log.read(5), log.next_here(5)) == (1, None, 6)
    assert contents(log) == {seq: held for seq, held in expected(1, 11).items() if seq != 5}
    assert segments(tmp_path) == [layout.segment_name(1), layout.segment_name(10)]
    log.close()


def test_damage_in_an_older_file_is_found_when_it_is_read_and_counted_once(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=1000), 30)
    log.close()
    _damage(tmp_path / layout.segment_name(1), 3)
    _damage(tmp_path / layout.segment_name(1), 4)
    log = opened(tmp_path)
    assert log.damaged == 0
    for _ in range(2):
        assert sorted(set(expected(1, 30)) - set(contents(log))) == [3, 4]
        assert (log.read(3), log.read(4)) == (None, None)
        assert log.next_here(3) == 5
    assert log.damaged == 2
    log.close()


def _damage(path: Path, seq: int) -> None:
    data = bytearray(path.read_bytes())
    at = next(at for at, head in layout.walk(bytes(data), LANE, layout.first_of(path.name) or 0) if head.seq == seq)
    data[at + 40] ^= 1
    path.write_bytes(data)


def test_a_file_of_another_epoch_is_set_aside_and_only_the_newest_of_them_kept(tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    filled(opened(other, epoch=78), 3).close()
    filled(opened(here), 5).close()
    for turn in range(1, 8):
        shutil.copy(other / layout.segment_name(1), here / layout.segment_name(1000 * turn))
        log = opened(here)
        assert (contents(log), log.damaged, log.next) == (expected(1, 5), 1, 6)
        log.close()
    assert sorted(path.name for path in here.glob("*.damaged")) == [
        f"{layout.segment_name(1000 * turn)}.damaged" for turn in (4, 5, 6, 7)
    ]


def test_a_last_file_that_cannot_be_read_costs_its_records_but_no_sequence_twice(tmp_path: Path) -> None:
    filled(opened(tmp_path), 9).close()
    log = opened(tmp_path, FaultyFiles({("read", 1): errno.EIO}))
    assert log.next > 9
    first = log.next
    filled(log, first)
    assert log.read(first) is not None
    log.close()


def test_a_second_process_is_told_that_the_log_is_in_use(tmp_path: Path, log: Log) -> None:
    assert log.next == 1
    with pytest.raises(JournalUnusable, match="in use"):
        opened(tmp_path)


def test_a_directory_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalUnusable, match="cannot be used"):
        opened(tmp_path / "file" / "log", OsFiles())


# Commits that fail.


def test_a_failed_commit_loses_nothing_and_never_writes_to_the_same_file_again(tmp_path: Path) -> None:
    files = FaultyFiles({("sync", 3): errno.EIO})
    log = filled(opened(tmp_path, files, about=lambda: {"of": "the first"}), 2)
    sealed = (tmp_path / layout.segment_name(1)).read_bytes()
    log.append(Kind.WINDOWS, body(3))
    with pytest.raises(JournalUnusable, match="Input/output error"):
        log.commit()
    log.append(Kind.WINDOWS, body(4))
    assert (log.durable, log.commit()) == (2, 4)
    assert (contents(log), log.pending_bytes) == (expected(1, 4), 0)
    assert (tmp_path / layout.segment_name(1)).read_bytes() == sealed
    opening = layout.decode_opening((tmp_path / layout.segment_name(3)).read_bytes())
    assert opening is not None
    assert (opening.whole, opening.about) == (False, {"of": "the first"})
    log.close()


def test_what_a_failed_commit_left_behind_is_not_read_twice(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, FaultyFiles({("sync", 2): errno.EIO, ("truncate", 1): errno.EIO})), 1)
    with pytest.raises(JournalUnusable):
        filled(log, 2)
    log.commit()
    filled(log, 3).close()
    log = opened(tmp_path)
    assert [held.seq for held in log.frames(1)] == [1, 2, 3]
    assert log.damaged == 0
    log.close()


def test_a_file_begun_by_a_failed_commit_is_dropped_with_the_one_it_continues(tmp_path: Path) -> None:
    files = FaultyFiles({("write", 2): errno.ENOSPC})
    log = filled(opened(tmp_path, files, segment_bytes=500), 1)
    with pytest.raises(JournalUnusable):
        filled(log, 2)
    log.commit()
    filled(log, 30)
    assert [layout.first_of(name) for name in segments(tmp_path)][:3] == [1, 2, 5]
    sealed = log.oldest_sealed()
    assert sealed is not None
    assert sealed[:2] == (1, 4)
    assert log.drop_before(3) == (0, 0)
    assert log.drop_before(5)[0] == 4
    assert contents(log) == expected(5, 30)
    log.close()


def _work(directory: Path, files: FaultyFiles) -> tuple[Log | None, int]:
    """Fill a log with a few files, trying each commit again until it works; return it and the failures seen."""
    failures = 0
    log: Log | None = None
    while log is None:
        try:
            log = opened(directory, files, segment_bytes=500)
        except JournalUnusable:
            failures += 1
    for seq in range(log.next, log.next + 12):
        log.append(Kind.WINDOWS, body(seq))
        while log.durable < seq:
            try:
                log.commit()
            except JournalUnusable:
                failures += 1
    return log, failures


def test_every_call_that_can_fail_fails_once_and_nothing_is_lost(tmp_path: Path) -> None:
    rehearsal = FaultyFiles()
    for turn in range(2):
        log, failures = _work(tmp_path / "rehearsal", rehearsal)
        assert (failures, log and log.durable) == (0, 12 * turn + 12)
        assert log is not None
        log.close()
    for method, number, code in every_call(rehearsal.calls):
        directory = tmp_path / f"{method}-{number}-{code}"
        files = FaultyFiles({(method, number): code})
        for _ in range(2):
            log, _failures = _work(directory, files)
            assert log is not None
            log.close()
        last = opened(directory)
        held = contents(last)
        skipped = last.next - 1 - len(held)
        assert skipped == 0 or method == "read"
        assert held.items() <= expected(1, last.next - 1).items()
        assert len(held) >= 24 - (12 if method == "read" else 0)
        last.close()


def test_a_disk_that_stays_full_keeps_the_records_in_memory_until_there_is_room(tmp_path: Path) -> None:
    files = FaultyFiles({("write", number): errno.ENOSPC for number in range(2, 8)})
    log = filled(opened(tmp_path, files, segment_bytes=500), 1)
    for seq in range(2, 8):
        log.append(Kind.WINDOWS, body(seq))
        with pytest.raises(JournalUnusable, match="No space left"):
            log.commit()
    waiting = sum((tmp_path / name).stat().st_size for name in segments(tmp_path))
    assert waiting == log.bytes
    assert log.commit() == 7
    assert contents(log) == expected(1, 7)
    log.close()


def test_records_that_wait_can_be_given_up_and_the_next_ones_still_count(tmp_path: Path) -> None:
    log = filled(opened(tmp_path), 3)
    assert log.forget_waiting() is None
    for seq in range(4, 8):
        log.append(Kind.WINDOWS, body(seq))
    assert log.forget_waiting() == (4, 7)
    assert (log.pending_bytes, log.commit()) == (0, 3)
    filled(log, 9)
    assert sorted(contents(log)) == [1, 2, 3, 8, 9]
    assert (log.damaged, log.next_here(4)) == (0, 8)
    log.close()
    log = opened(tmp_path)
    assert (log.next, sorted(contents(log))) == (10, [1, 2, 3, 8, 9])
    log.close()


def test_sequences_can_be_skipped(tmp_path: Path) -> None:
    log = filled(opened(tmp_path), 3)
    log.skip_to(2)
    assert log.next == 4
    log.skip_to(101)
    filled(log, 102)
    log.close()
    log = opened(tmp_path)
    assert (log.next, sorted(contents(log))) == (103, [1, 2, 3, 101, 102])
    log.close()


def test_a_file_with_nothing_but_its_header_keeps_the_place_and_what_it_says(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, about=lambda: {"turn": 1}), 3)
    log.about = lambda: {"turn": 2}
    log.roll(99)
    chain = log.chain
    assert (log.newest_first, log.newest_about(), log.drop_before(4)[0]) == (4, {"turn": 2}, 3)
    log.close()
    files = FaultyFiles({("sync", number): errno.EIO for number in (2, 3)})  # the first is that of the opening
    log = opened(tmp_path, files, about=lambda: {"turn": 3})
    assert (log.oldest, log.next, log.chain) == (4, 4, chain)
    log.append(Kind.WINDOWS, body(4))
    for _ in range(2):
        with pytest.raises(JournalUnusable):
            log.commit()
    log.commit()
    assert (contents(log), log.newest_about()) == (expected(4, 4), {"turn": 2})
    assert log.bytes == (tmp_path / layout.segment_name(4)).stat().st_size
    log.close()


# Dropping.


def test_only_whole_sealed_files_are_dropped_and_never_the_newest(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=400), 20)
    firsts = [layout.first_of(name) or 0 for name in segments(tmp_path)]
    assert log.drop_before(firsts[1] - 1) == (0, 0)
    count, size = log.drop_before(firsts[2] + 1)
    assert (count, log.oldest) == (firsts[2] - 1, firsts[2])
    assert size > 0
    assert (log.read(1), log.damaged) == (None, 0)
    log.drop_before(1000)
    assert segments(tmp_path) == [layout.segment_name(firsts[-1])]
    assert contents(log) == expected(firsts[-1], 20)
    assert log.bytes == (tmp_path / segments(tmp_path)[0]).stat().st_size
    log.close()


def test_what_would_go_next_is_told_with_the_stamps_around_it(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=400), 12)
    firsts = [layout.first_of(name) or 0 for name in segments(tmp_path)]
    size = (tmp_path / segments(tmp_path)[0]).stat().st_size
    assert log.oldest_sealed() == (1, firsts[1] - 1, size, 10, 10 * firsts[1])
    log.close()


def test_a_file_that_the_disk_will_not_remove_stays_and_is_tried_again(tmp_path: Path) -> None:
    files = FaultyFiles()
    log = filled(opened(tmp_path, files, segment_bytes=400), 12)
    files.faults["unlink", files.calls["unlink"] + 1] = errno.EROFS
    assert log.drop_before(9) == (0, 0)
    assert contents(log) == expected(1, 12)
    assert log.drop_before(9)[0] > 0
    log.close()


def test_a_reader_outlives_the_file_it_reads(tmp_path: Path) -> None:
    log = filled(opened(tmp_path, segment_bytes=400), 12)
    reader = log.frames(1)
    assert next(reader).seq == 1
    log.drop_before(9)
    rest = [held.seq for held in reader]
    assert rest[-1] == 12
    assert rest == sorted(rest)
    log.close()


# Whole files.


@pytest.mark.parametrize("method", ["create", "write", "sync", "rename"])
def test_a_file_written_atomically_is_the_old_or_the_new_one(tmp_path: Path, method: str) -> None:
    path = tmp_path / "marks"
    write_atomically(FaultyFiles(), path, b"old")
    with pytest.raises(OSError, match="Input"):
        write_atomically(FaultyFiles({(method, 1): errno.EIO}), path, b"new and longer")
    assert path.read_bytes() == b"old"
    files = OsFiles()
    write_atomically(files, path, b"new and longer")
    assert [(name, (tmp_path / name).read_bytes()) for name in files.names(tmp_path)] == [("marks", b"new and longer")]


def test_room_on_the_disk_is_told(tmp_path: Path) -> None:
    assert OsFiles().free(tmp_path) > 0


# Anything, in any order.


class Model:
    """A log beside what it must hold: bodies by sequence, and how far a commit has vouched."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.chance = random.Random(seed)
        self.files = FaultyFiles()
        self.bodies: dict[int, bytes] = {}
        self.log = self._open()

    def _open(self) -> Log:
        return opened(self.directory, self.files, lane=JOURNAL_LANE, segment_bytes=600)

    def append(self) -> None:
        held = self.chance.randbytes(self.chance.choice([0, 1, 40, 200, 900]))
        self.bodies[self.log.append(Kind.READINGS, held)] = held

    def commit(self) -> None:
        assert self.log.commit() == self.log.next - 1

    def failing_commit(self) -> None:
        method = self.chance.choice(["write", "sync", "create", "sync_directory"])
        self.files.faults[method, self.files.calls[method] + 1] = errno.ENOSPC
        try:
            self.log.commit()
        except JournalUnusable:
            assert self.log.pending_bytes > 0
        self.files.faults.clear()

    def reopen(self) -> None:
        self.log.close()
        self.log = self._open()
        self._settle(self.log.durable)

    def power_cut(self) -> None:
        durable = self.log.durable
        self.log.close()
        self.files.power_cut(self.chance)
        self.log = self._open()
        assert self.log.durable >= durable
        self._settle(self.log.durable)

    def tear(self) -> None:
        """Garbage behind the last record, as a torn write leaves it."""
        self.log.close()
        if names := segments(self.directory):
            with (self.directory / names[-1]).open("ab") as file:
                file.write(self.chance.randbytes(self.chance.randint(1, 100)))
        self.log = self._open()
        self._settle(self.log.durable)

    def drop(self) -> None:
        seq = self.chance.randint(0, self.log.next + 1)
        first = self.log.oldest
        self.log.drop_before(seq)
        assert first <= self.log.oldest <= max(seq, first)

    def _settle(self, durable: int) -> None:
        self.bodies = {seq: held for seq, held in self.bodies.items() if seq <= durable}

    def check(self) -> None:
        log = self.log
        durable = {seq: held for seq, held in self.bodies.items() if log.oldest <= seq <= log.durable}
        assert contents(log) == durable
        assert list(durable) == list(range(log.oldest, log.durable + 1))
        assert (log.damaged, log.next) == (0, max(self.bodies, default=log.next - 1) + 1)
        assert log.bytes == sum((self.directory / name).stat().st_size for name in segments(self.directory))
        for seq in durable:
            assert log.read(seq) is not None


STEPS: list[Callable[[Model], None]] = [
    Model.append,
    Model.append,
    Model.append,
    Model.commit,
    Model.commit,
    Model.failing_commit,
    Model.reopen,
    Model.power_cut,
    Model.tear,
    Model.drop,
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=40), st.integers(0, 1 << 32))
def test_what_was_committed_is_there_after_any_sequence_of_faults(
    steps: list[Callable[[Model], None]], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = Model(Path(directory) / "log", seed)
        for step in steps:
            step(model)
            model.check()
        model.log.close()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.binary(max_size=400), st.integers(0, 12))
def test_garbage_between_records_makes_none_up(left: bytes, right: bytes, place: int) -> None:
    records = [frame.encode(Kind.WINDOWS, bytes([number]) * 40, lane=LANE, seq=number) for number in range(1, 13)]
    data = b"".join(records[:place]) + left + b"FG" + right + b"".join(records[place:])
    assert [head.seq for _at, head in layout.walk(data, LANE, 1)] == list(range(1, 13))


# Looking on, while another process writes.


def test_who_only_looks_on_sees_what_is_there_and_changes_nothing(tmp_path: Path) -> None:
    with writer(tmp_path) as log:
        filled(log, 5)
        newest = max(tmp_path.glob("*.seg"))
        newest.write_bytes(newest.read_bytes() + b"torn")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        looking = opened(tmp_path, ReadOnlyFiles())
        filled(log, 6)
        before[newest.name] = newest.read_bytes()
        assert [found.seq for found in looking.frames(1)] == [1, 2, 3, 4, 5]
        with pytest.raises(JournalUnusable, match="Read-only file system"):
            filled(looking, 7)
        looking.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@contextmanager
def writer(directory: Path) -> Iterator[Log]:
    log = opened(directory, OsFiles())
    try:
        yield log
    finally:
        log.close()


def test_looking_on_where_nothing_is_makes_nothing(tmp_path: Path) -> None:
    looking = opened(tmp_path / "absent", ReadOnlyFiles())
    looking.close()
    assert (looking.oldest, looking.next, list(tmp_path.iterdir())) == (1, 1, [])

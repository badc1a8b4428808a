"""The journal: what is replayed is what was applied, bit for bit; and a checkpoint to replay from is always there."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config
from gateway.journal import Checkpoints, Journal, decode_record, encode_record
from gateway.records import (
    ClockRecord,
    ConfigurationRecord,
    DropsRecord,
    Readings,
    ReadingsRecord,
    Recent,
    Record,
    State,
    Tally,
    TickRecord,
    no_readings,
)
from protocol import columns
from protocol.errors import FrameRefused, JournalUnusable
from protocol.messages import Kind
from protocol.settings import Duration, Size
from tests.faults.disk import FaultyFiles, every_call

SMALL = config.Journal(segment_bytes=Size(600), max_bytes=Size(2000))


def readings(stamp: int, rows: int = 5) -> ReadingsRecord:
    value = np.random.default_rng(stamp).normal(20, 1, rows)
    columns_ = Readings(np.arange(rows, dtype=np.int32), np.full(rows, stamp, np.int64), value)
    recent = Recent(np.array([7, 65535, 1], np.uint16), np.array([0, 1 << 31, 5], np.uint32))
    return ReadingsRecord(stamp, columns_, [f"device/{stamp}"], Tally(rows, rows, 1, {"json": 2}, {"time": 1}), recent)


def bits(record: Record) -> Any:
    """Give a record in a form whose equality is that of all bits."""
    if not isinstance(record, ReadingsRecord):
        return record
    arrays = [(array.dtype.str, array.shape, array.tobytes()) for array in (*record.readings, *record.recent)]
    return (record.stamp, record.names, record.tally, arrays)


def opened(directory: Path, files: Any = None, settings_: config.Journal = SMALL, **options: Any) -> Journal:
    return Journal.open(files or FaultyFiles(), directory, settings_, **{"about": dict, **options})


def filled(journal: Journal, upto: int) -> Journal:
    while journal.next <= upto:
        journal.append(readings(journal.next * 100))
        journal.commit()
    return journal


def positions(journal: Journal) -> list[int]:
    return [position for position, _ in journal.records(1)]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = opened(tmp_path / "journal")
    yield journal
    journal.close()


# Records as bytes.

RECORDS: dict[str, Record] = {
    "readings": readings(1),
    "no readings": ReadingsRecord(2, no_readings()),
    "not a number": replace(
        readings(3, 4), readings=readings(3, 4).readings._replace(value=np.array([np.nan, -0.0, np.inf, 5e-324]))
    ),
    "tick": TickRecord(4),
    "configuration": ConfigurationRecord(5, '{"clean":[]}'),
    "clock": ClockRecord(6, "f3a1", 123_456_789, synchronised=False),
    "clock, set": ClockRecord(7, "f3a1", 123_456_799, synchronised=True, leap=0, shift=-5, offset=-5),
    "drops": DropsRecord(8, 1 << 40),
    "whose times are ours": replace(readings(8, 9), ours=np.array([0, 3], np.int32)),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_comes_back_bit_for_bit(record: Record) -> None:
    assert bits(decode_record(*encode_record(record))) == bits(record)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.floats(width=64)), max_size=20),
    st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)), max_size=20),
    st.lists(st.text(max_size=8), max_size=3),
)
def test_any_readings_come_back_bit_for_bit(
    rows: list[tuple[int, int, float]], recent: list[tuple[int, int]], names: list[str]
) -> None:
    series, time, value = zip(*rows, strict=True) if rows else ((), (), ())
    ids, hashes = zip(*recent, strict=True) if recent else ((), ())
    record = ReadingsRecord(
        1,
        Readings(np.array(series, np.int32), np.array(time, np.int64), np.array(value, np.float64)),
        names,
        Tally(),
        Recent(np.array(ids, np.uint16), np.array(hashes, np.uint32)),
    )
    assert bits(decode_record(*encode_record(record))) == bits(record)


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (Kind.TICK, b"", "state"),
        (Kind.TICK, columns.encode_state({}), "body"),
        (Kind.TICK, columns.encode_state({"stamp": 1, "more": 2}), "body"),
        (Kind.READINGS, columns.encode_state({"stamp": 1}), "body"),
        (Kind.WINDOWS, columns.encode_state({"stamp": 1}), "kind"),
    ],
    ids=["nothing", "no stamp", "too much", "no columns", "no record"],
)
def test_a_body_that_is_no_record_is_refused_by_reason(kind: Kind, body: bytes, reason: str) -> None:
    with pytest.raises(FrameRefused) as refused:
        decode_record(kind, body)
    assert refused.value.reason == reason


# The journal.


def test_records_are_replayed_in_order_from_any_position(journal: Journal) -> None:
    for record in RECORDS.values():
        journal.append(record)
    assert (journal.commit(), journal.durable, journal.next) == (9, 9, 10)
    assert [bits(record) for _, record in journal.records(1)] == [bits(record) for record in RECORDS.values()]
    assert [position for position, _ in journal.records(4)] == [4, 5, 6, 7, 8, 9]


def test_what_was_not_committed_is_not_replayed(tmp_path: Path) -> None:
    journal = filled(opened(tmp_path), 3)
    journal.append(TickRecord(4))
    assert journal.pending_bytes > 0
    assert positions(journal) == [1, 2, 3]
    journal.close()
    journal = opened(tmp_path)
    assert (positions(journal), journal.next) == ([1, 2, 3], 4)
    journal.close()


def test_the_oldest_file_says_what_its_first_record_stands_on(tmp_path: Path) -> None:
    names: list[str] = []
    journal = opened(tmp_path, about=lambda: {"names": list(names)})
    assert journal.about_oldest() == {}
    while journal.next <= 20:
        record = readings(journal.next)
        journal.append(record)
        names += record.names
        journal.commit()
    journal.retain(0, checkpoint_seq=20)
    assert journal.oldest > 1
    assert journal.about_oldest() == {"names": names[: journal.oldest - 1]}
    journal.close()


def test_a_damaged_record_is_stepped_over_and_counted(tmp_path: Path) -> None:
    settings_ = config.Journal()
    journal = filled(opened(tmp_path, settings_=settings_), 3)
    size = journal.bytes
    filled(journal, 9).close()
    path = next(tmp_path.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[size + 50] ^= 1
    path.write_bytes(data)
    journal = opened(tmp_path, settings_=settings_)
    assert (positions(journal), journal.damaged, journal.next) == ([1, 2, 3, 5, 6, 7, 8, 9], 1, 10)
    journal.close()


def test_a_record_of_a_kind_not_known_here_is_stepped_over_and_counted(journal: Journal) -> None:
    filled(journal, 2)
    journal.log.append(Kind.MODEL, b"of a later version")
    filled(journal, 4)
    assert (positions(journal), positions(journal), journal.damaged) == ([1, 2, 4], [1, 2, 4], 1)


def test_positions_go_on_behind_a_checkpoint_that_outlived_its_journal(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.resume_after(500)
    assert journal.append(TickRecord(1)) == 501
    journal.commit()
    journal.resume_after(100)
    assert journal.next == 502
    journal.close()
    journal = opened(tmp_path)
    assert (positions(journal), journal.next) == ([501], 502)
    journal.close()


def test_seconds_of_sync_are_told_to_whoever_asks_later(journal: Journal) -> None:
    seconds: list[float] = []
    journal.observe = seconds.append
    filled(journal, 3)
    assert len(seconds) == 3
    assert journal.written == journal.bytes


# Retention.


def test_retention_keeps_the_bound_on_bytes(tmp_path: Path) -> None:
    journal = filled(opened(tmp_path), 40)
    before = journal.bytes
    count, size = journal.retain(0, checkpoint_seq=40)
    assert (journal.bytes, journal.oldest) == (before - size, 1 + count)
    assert 1400 < journal.bytes <= 2000
    assert positions(journal) == list(range(journal.oldest, 41))
    assert journal.retain(0, checkpoint_seq=40) == (0, 0)
    journal.close()


@pytest.mark.parametrize("checkpoint", [0, 1, 7, 20])
def test_retention_never_passes_the_older_checkpoint(tmp_path: Path, checkpoint: int) -> None:
    journal = filled(opened(tmp_path), 40)
    journal.retain(0, checkpoint_seq=checkpoint)
    assert journal.oldest <= checkpoint + 1
    journal.make_room(checkpoint_seq=checkpoint)
    assert journal.oldest <= checkpoint + 1
    journal.close()


def test_retention_keeps_the_bound_on_age(tmp_path: Path) -> None:
    settings_ = config.Journal(segment_bytes=Size(600), max_age=Duration(1500))
    journal = filled(opened(tmp_path, settings_=settings_), 40)  # stamps 100, 200 .. 4000
    journal.retain(4000, checkpoint_seq=40)
    kept = [record.stamp for _, record in journal.records(1)]
    assert kept[-1] == 4000
    assert 2500 - 1500 // 8 - 100 <= kept[0] <= 2500
    journal.close()


def test_what_the_clock_leapt_makes_nothing_old(tmp_path: Path) -> None:
    settings_ = config.Journal(segment_bytes=Size(600), max_age=Duration(1500))
    journal = filled(opened(tmp_path, settings_=settings_), 40)  # stamps 100, 200 .. 4000
    years, leaps = 30 * 365 * 86_400 * 10**9, [(50, 10**6), (4000, 30 * 365 * 86_400 * 10**9)]
    journal.retain(4000 + years, 40, leaps)
    kept = [record.stamp for _, record in journal.records(1)]
    assert 2500 - 1500 // 8 - 100 <= kept[0] <= 2500, "as if it had not leapt"
    journal.retain(4000 + 2000 + years, 40, leaps)
    assert next(record.stamp for _, record in journal.records(1)) > 3800
    journal.close()


def test_room_is_made_one_file_at_a_time(tmp_path: Path) -> None:
    journal = filled(opened(tmp_path, settings_=config.Journal(segment_bytes=Size(600))), 20)
    sizes = sorted((path.name, path.stat().st_size) for path in tmp_path.glob("*.seg"))
    assert journal.make_room(checkpoint_seq=20)[1] == sizes[0][1]
    while journal.make_room(checkpoint_seq=20)[0]:
        pass
    assert [path.name for path in tmp_path.glob("*.seg")] == [sizes[-1][0]]
    journal.close()


# Checkpoints.


def state(position: int) -> State:
    return {"window": {"mean": np.full(3, position / 3), "names": ["a", "b"]}, "late": position, "domain": ""}


def same(found: tuple[int, State] | None, position: int) -> bool:
    return found is not None and found[0] == position and repr(found[1]) == repr(state(position))


def test_without_a_checkpoint_there_is_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(FaultyFiles(), tmp_path / "none")
    assert (checkpoints.load(), checkpoints.older_position) == (None, 0)


def test_the_newest_checkpoint_counts_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(FaultyFiles(), tmp_path / "checkpoints")
    for position, older in [(10, 0), (20, 10), (30, 20), (30, 20)]:
        checkpoints.save(position, state(position))
        assert same(checkpoints.load(), position)
        assert checkpoints.older_position == older
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == [
        "checkpoint-00000000000000000020.fg",
        "checkpoint-00000000000000000030.fg",
    ]


@pytest.mark.parametrize("kept", [0, 1, 40, 100, -1])
def test_a_damaged_checkpoint_gives_way_to_the_older_one(tmp_path: Path, kept: int) -> None:
    checkpoints = Checkpoints(FaultyFiles(), tmp_path)
    for position in (10, 20):
        checkpoints.save(position, state(position))
    path = tmp_path / "checkpoint-00000000000000000020.fg"
    path.write_bytes(path.read_bytes()[:kept])
    assert same(checkpoints.load(), 10)
    assert (checkpoints.damaged, checkpoints.older_position) == (1, 0)
    checkpoints.save(30, state(30))
    assert same(checkpoints.load(), 30)
    assert checkpoints.older_position == 10


def test_a_checkpoint_under_anothers_name_is_not_believed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(FaultyFiles(), tmp_path)
    checkpoints.save(10, state(10))
    (tmp_path / "checkpoint-00000000000000000010.fg").rename(tmp_path / "checkpoint-00000000000000000099.fg")
    assert (checkpoints.load(), checkpoints.damaged) == (None, 1)


def test_a_checkpoint_larger_than_a_frame_is_kept_whole(tmp_path: Path) -> None:
    checkpoints = Checkpoints(FaultyFiles(), tmp_path)
    large = np.random.default_rng(1).normal(size=1_200_000)
    checkpoints.save(1, {"large": large})
    found = checkpoints.load()
    assert found is not None
    assert found[1]["large"].tobytes() == large.tobytes()


def test_every_call_that_can_fail_fails_once_and_a_good_checkpoint_remains(tmp_path: Path) -> None:
    rehearsal = FaultyFiles()
    checkpoints = Checkpoints(rehearsal, tmp_path / "rehearsal")
    for position in (10, 20, 30):
        checkpoints.save(position, state(position))
    for method, number, code in every_call(rehearsal.calls):
        directory = tmp_path / f"{method}-{number}-{code}"
        checkpoints = Checkpoints(FaultyFiles({(method, number): code}), directory)
        good = 0
        for position in (10, 20, 30):
            try:
                checkpoints.save(position, state(position))
            except JournalUnusable as error:
                assert "cannot be written" in str(error)  # noqa: PT017 - that it is raised is not certain, what it says is
            found = checkpoints.load()
            assert found is None or same(found, found[0])
            assert (found[0] if found else 0) in (good, position)
            good = found[0] if found else 0
        assert good in (20, 30)


def test_a_disk_that_cannot_read_the_newest_checkpoint_gives_the_older_one(tmp_path: Path) -> None:
    files = FaultyFiles()
    checkpoints = Checkpoints(files, tmp_path)
    for position in (10, 20):
        checkpoints.save(position, state(position))
    files.faults["read", 1] = errno.EIO
    assert same(checkpoints.load(), 10)

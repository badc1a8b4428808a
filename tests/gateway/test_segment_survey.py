"""What is damaged is named: which file, which bytes, which records; and a file under another's name finds home."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.segment import Finding, Log, OsFiles, ReadOnlyFiles, Surveyed, layout, survey
from protocol import frame
from protocol.errors import FrameRefused
from protocol.messages import Kind
from tests.faults.disk import FaultyFiles
from tests.faults.power import Died, Disk

LANE, EPOCH = 3, 77
BODY = 60
SIZE = frame.HEADER_SIZE + BODY


def opened(directory: Path, files: OsFiles | Disk | None = None, epoch: int = EPOCH, lane: int = LANE) -> Log:
    return Log.open(files or FaultyFiles(), directory, lane=lane, epoch=epoch, segment_bytes=700, about=dict)


def fill(log: Log, upto: int) -> Log:
    while log.next <= upto:
        log.append(Kind.WINDOWS, random.Random(log.next).randbytes(BODY))
        log.commit()
    return log


def readable(held: frame.Frame) -> None:
    if held.kind != Kind.WINDOWS:
        raise FrameRefused("kind")


def surveyed(directory: Path) -> Surveyed:
    return survey(ReadOnlyFiles(), directory, LANE, EPOCH, readable)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    fill(opened(tmp_path / "log"), 14).close()
    assert [path.name for path in sorted((tmp_path / "log").glob("*.seg"))] == [name(1), name(7), name(13)]
    return tmp_path / "log"


def name(first: int) -> str:
    return layout.segment_name(first)


def head(directory: Path, first: int) -> int:
    return frame.HEADER_SIZE + int.from_bytes((directory / name(first)).read_bytes()[20:24], "little")  # body_len


def change(directory: Path, first: int, at: int) -> None:
    data = bytearray((directory / name(first)).read_bytes())
    data[at] ^= 1
    (directory / name(first)).write_bytes(data)


def test_a_whole_log_has_nothing_to_say(directory: Path) -> None:
    size = sum(path.stat().st_size for path in directory.glob("*.seg"))
    assert surveyed(directory) == Surveyed(3, size, 14, [])
    assert surveyed(directory / "nothing") == Surveyed()


def record(directory: Path, seq: int) -> tuple[str, int, int]:
    """Say where a record stands: file, first byte, end."""
    first = max(one for one in (1, 7, 13) if one <= seq)
    begin = head(directory, first) + (seq - first) * SIZE
    return name(first), begin, begin + SIZE


def flip(directory: Path, *seqs: int) -> list[Finding]:
    """Damage records that stand side by side, and give what must be found."""
    places = [record(directory, seq) for seq in seqs]
    for file, begin, _ in places:
        change(directory, layout.first_of(file) or 0, begin + 40)
    return [Finding("records", places[0][0], places[0][1], places[-1][2], seqs[0], seqs[-1])]


def flip_header(directory: Path) -> list[Finding]:
    change(directory, 7, 40)
    return [Finding("header", name(7), 0, record(directory, 7)[1])]


def flip_last(directory: Path) -> list[Finding]:
    flip(directory, 14)
    return [Finding("tail", *record(directory, 14))]


def remove(directory: Path) -> list[Finding]:
    (directory / name(7)).unlink()
    return [Finding("missing", name(13), 0, 0, 7, 12)]


DAMAGE: dict[str, Callable[[Path], list[Finding]]] = {
    "a record": lambda directory: flip(directory, 2),
    "two records side by side": lambda directory: flip(directory, 7, 8),
    "the last record of a file": lambda directory: flip(directory, 6),
    "what a file says of itself": flip_header,
    "the end of the newest file": flip_last,
    "a file": remove,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_named(damage: Callable[[Path], list[Finding]], directory: Path) -> None:
    expected = damage(directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert surveyed(directory).findings == expected
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_record_that_says_what_nobody_reads_and_one_of_another_history_are_named(directory: Path) -> None:
    log = opened(directory)
    log.append(Kind.ALERTS, b"")
    log.commit()
    log.chain ^= 1
    fill(log, 16).close()
    what = [(finding.what, finding.first, finding.last) for finding in surveyed(directory).findings]
    assert what == [("content", 15, 15), ("chain", 16, 16)]


def test_sequences_that_were_skipped_or_given_up_are_no_damage(directory: Path) -> None:
    log = opened(directory)
    log.append(Kind.WINDOWS, b"")
    log.forget_waiting()
    log.commit()
    log.skip_to(30)
    fill(log, 31).close()
    assert surveyed(directory).findings == []


def test_what_is_just_being_written_is_not_called_torn(directory: Path) -> None:
    newest = directory / name(13)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-5])

    def finish() -> None:
        newest.write_bytes(whole)

    found = survey(ReadOnlyFiles(), directory, LANE, EPOCH, readable, finish)
    assert (found.records, found.findings) == (14, [])


# Files under a name that is not theirs.


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "lock")


def swap(directory: Path, one: str, other: str) -> None:
    (directory / one).rename(directory / "between")
    (directory / other).rename(directory / one)
    (directory / "between").rename(directory / other)


@pytest.mark.parametrize(("one", "other"), [(1, 7), (7, 13), (1, 13)])
def test_files_that_were_swapped_find_home(one: int, other: int, directory: Path) -> None:
    swap(directory, name(one), name(other))
    assert {finding.what for finding in surveyed(directory).findings} >= {"place"}
    log = opened(directory)
    assert [held.seq for held in log.frames(1)] == list(range(1, 15))
    assert (log.damaged, log.next) == (0, 15)
    log.close()
    assert surveyed(directory).findings == []


def test_a_swap_that_is_put_right_may_be_interrupted_at_any_point() -> None:
    for end_after in range(12):
        disk = Disk(random.Random(end_after))
        where = Path("/data/log")
        fill(opened(where, disk), 14).close()
        one, other = disk.content(where / name(1)), disk.content(where / name(13))
        disk.damage(where / name(1), other)
        disk.damage(where / name(13), one)
        disk.end_after = end_after
        try:
            opened(where, disk)
        except Died:
            disk.cut()
        disk.kill()
        log = opened(where, disk)
        assert [held.seq for held in log.frames(1)] == list(range(1, 15))
        assert (log.damaged, log.next) == (0, 15)
        log.close()


def test_a_copy_under_another_name_is_set_aside(directory: Path) -> None:
    (directory / name(99)).write_bytes((directory / name(7)).read_bytes())
    log = opened(directory)
    assert ([held.seq for held in log.frames(1)], log.damaged, log.next) == (list(range(1, 15)), 1, 15)
    log.close()
    assert names(directory) == [name(1), name(7), f"{name(7)}.home.damaged", name(13)]


def test_files_of_other_lanes_and_epochs_are_set_aside_wherever_they_stand(tmp_path: Path, directory: Path) -> None:
    fill(opened(tmp_path / "lane", lane=2), 8).close()
    fill(opened(tmp_path / "epoch", epoch=78), 8).close()
    (directory / name(7)).write_bytes((tmp_path / "lane" / name(7)).read_bytes())
    (directory / name(1)).write_bytes((tmp_path / "epoch" / name(1)).read_bytes())
    log = opened(directory)
    assert ([held.seq for held in log.frames(1)], log.damaged) == ([13, 14], 2)
    log.close()
    assert names(directory) == [f"{name(1)}.damaged", f"{name(7)}.damaged", name(13)]


def test_what_is_cut_off_is_kept_and_only_the_newest_four_of_it(directory: Path) -> None:
    kept = []
    for turn in range(6):
        newest = max(directory.glob("*.seg"))
        whole = newest.read_bytes()
        newest.write_bytes(whole + bytes([turn + 1]) * 5)
        log = opened(directory)
        assert log.torn == 5
        kept.append(f"{newest.name}.{len(whole)}.damaged")
        fill(log, log.next).close()
    assert [path for path in names(directory) if path.endswith("damaged")] == sorted(kept)[-4:]
    assert all(one < other for one, other in pairwise(sorted(kept)))

"""The spool: a frame has one name, goes only when it is receipted or declared lost, and covers survive everything."""

from __future__ import annotations

import errno
import random
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config
from gateway.segment import OsFiles, layout
from gateway.spool import Spool
from protocol import frame
from protocol.errors import JournalUnusable
from protocol.messages import (
    LANES,
    AlertsBody,
    Cover,
    DefinitionsBody,
    Kind,
    LaneHead,
    Loss,
    LossesBody,
    Mark,
    SeriesDefinition,
    WindowsBody,
)
from protocol.settings import Size
from tests.faults.disk import FaultyFiles, every_call
from tests.faults.power import Died, Disk

SMALL = config.Spool(
    telemetry_bytes=Size(4000), results_bytes=Size(4000), alerts_bytes=Size(4000), segment_bytes=Size(500)
)
NOTHING = Cover()


def opened(directory: Path, files: Any = None, settings_: config.Spool = SMALL, epochs: Any = None) -> Spool:
    counter = epochs or count(100)
    return Spool.open(files or FaultyFiles(), directory, settings_, new_epoch=lambda: next(counter))


def make(lane: str, cover: Cover) -> tuple[Kind, bytes]:
    """Give a body of a lane, recognisable by its cover."""
    match lane:
        case "definitions":
            return Kind.DEFINITIONS, frame.dump(
                DefinitionsBody(cover, [SeriesDefinition(cover.record, f"s{cover.record}")])
            )
        case "alerts":
            return Kind.ALERTS, frame.dump(AlertsBody(cover, []))
        case "results":
            return Kind.LOSSES, frame.dump(LossesBody(cover))
        case _:
            columns = random.Random(cover.record).randbytes(40)
            return Kind.WINDOWS, frame.dump(WindowsBody(cover, 1, columns))


def put(spool: Spool, lane: str, record: int, now: int = 0) -> int:
    cover = Cover(record, 0)
    return spool.append(lane, *make(lane, cover), cover, now)


def filled(spool: Spool, lane: str, records: range) -> Spool:
    for record in records:
        put(spool, lane, record, now=record * 10)
        spool.commit()
    return spool


def records(spool: Spool, lane: str) -> list[int]:
    """Give the covers' records of all frames still here."""
    return [frame.load(held.kind, held.body).cover.record for held in spool.each(lane)]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Spool]:
    box = opened(tmp_path / "spool")
    yield box
    box.close()


# Frames in and out.


def test_a_new_spool_is_empty_under_a_new_epoch(box: Spool) -> None:
    assert box.epoch == 100
    assert box.heads() == dict.fromkeys(LANES, LaneHead(1, 1, 0))
    assert [box.cover(lane) for lane in LANES] == [NOTHING] * 4
    assert [box.frames(lane) + box.bytes(lane) for lane in LANES] == [0] * 4


def test_a_frame_is_told_of_and_given_only_after_its_commit(box: Spool) -> None:
    assert put(box, "alerts", 5) == 1
    assert (box.read("alerts", 1), box.frames("alerts"), box.heads()["alerts"].next) == (None, 0, 1)
    assert box.bytes("alerts") > 0
    box.commit()
    data = box.read("alerts", 1)
    assert data is not None
    held = frame.decode(data)
    assert (held.lane, held.seq, held.kind, held.chain) == (1, 1, Kind.ALERTS, box.heads()["alerts"].chain)
    assert (box.frames("alerts"), box.heads()["alerts"].next) == (1, 2)
    assert box.enforce(0) == []


def test_lanes_count_for_themselves_and_survive_a_restart(tmp_path: Path) -> None:
    box = opened(tmp_path)
    for lane, number in zip(LANES, (1, 2, 3, 4), strict=True):
        filled(box, lane, range(10, 10 + number))
    heads = box.heads()
    assert [head.next for head in heads.values()] == [2, 3, 4, 5]
    box.close()
    box = opened(tmp_path, epochs=iter(()))
    assert (box.epoch, box.heads()) == (100, heads)
    assert {lane: records(box, lane) for lane in LANES} == {
        "definitions": [10],
        "alerts": [10, 11],
        "results": [10, 11, 12],
        "telemetry": [10, 11, 12, 13],
    }
    box.close()


def test_a_second_process_is_told_that_the_spool_is_in_use(tmp_path: Path, box: Spool) -> None:
    assert box.epoch
    with pytest.raises(JournalUnusable, match="in use"):
        opened(tmp_path / "spool")


def test_a_commit_in_another_thread_does_not_disturb_the_rest(tmp_path: Path) -> None:
    box = opened(tmp_path, OsFiles(), config.Spool(segment_bytes=Size(5000)))
    with ThreadPoolExecutor(1) as disk:
        ahead = disk.submit(box.commit)
        for record in range(1, 1001):
            put(box, "telemetry", record)
            if ahead.done():
                ahead.result()
                box.release("telemetry", box.heads()["telemetry"].next - 50)
                ahead = disk.submit(box.commit)
        ahead.result()
    box.commit()
    kept = records(box, "telemetry")
    assert kept == list(range(kept[0], 1001))
    box.close()


# Covers.


def test_a_cover_survives_a_restart(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "telemetry", range(1, 8))
    put(box, "telemetry", 8)  # not committed
    assert box.cover("telemetry") == Cover(8, 0)
    box.close()
    box = opened(tmp_path)
    assert (box.cover("telemetry"), box.cover("alerts")) == (Cover(7, 0), NOTHING)
    box.close()


def test_a_cover_survives_when_everything_is_receipted(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "telemetry", range(1, 30))
    box.release("telemetry", 29)
    box.close()
    box = opened(tmp_path)
    assert (box.cover("telemetry"), box.frames("telemetry"), box.heads()["telemetry"].next) == (Cover(29, 0), 0, 30)
    box.close()


def test_a_cover_survives_the_loss_of_the_newest_frame(tmp_path: Path) -> None:
    filled(opened(tmp_path), "telemetry", range(1, 10)).close()
    newest = max(tmp_path.glob("*/telemetry/*.seg"))
    data = newest.read_bytes()
    first = layout.first_of(newest.name) or 0
    newest.write_bytes(data[:-1])
    box = opened(tmp_path)
    assert box.cover("telemetry") == Cover(8, 0)
    box.close()
    at = next(at for at, _ in layout.walk(data, 3, first))
    newest.write_bytes(data[:at])  # nothing but the header, which says what came before
    box = opened(tmp_path)
    assert (box.cover("telemetry"), box.heads()["telemetry"].next) == (Cover(first - 1, 0), first)
    box.close()


# Receipts.


def test_receipted_frames_go_when_their_whole_file_is_receipted(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "alerts", range(1, 31))
    files = sorted(tmp_path.glob("*/alerts/*.seg"))
    second = layout.first_of(files[1].name) or 0
    box.release("alerts", second - 2)
    assert (box.frames("alerts"), box.heads()["alerts"].oldest) == (30 - second + 2, 1)
    box.release("alerts", second - 1)
    assert (box.read("alerts", 1), box.heads()["alerts"].oldest) == (None, second)
    box.release("alerts", 1000)
    assert (box.frames("alerts"), box.heads()["alerts"].next) == (0, 31)
    assert box.enforce(0) == []
    box.close()


def test_definitions_stay_though_they_are_receipted(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "definitions", range(1, 31))
    box.release("definitions", 30)
    assert (box.frames("definitions"), records(box, "definitions")) == (0, list(range(1, 31)))
    box.close()


def test_receipts_are_remembered_over_a_restart(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "telemetry", range(1, 31))
    box.release("telemetry", 28)
    box.close()
    box = opened(tmp_path)
    assert box.frames("telemetry") == 2
    box.close()
    next(tmp_path.glob("*/marks.fg")).write_bytes(b"damaged")
    box = opened(tmp_path)
    assert 2 < box.frames("telemetry") < 10  # only what is still on the disk is sent again
    box.close()


# Bounds.


def test_a_full_lane_drops_its_oldest_file_and_says_so(tmp_path: Path) -> None:
    box = opened(tmp_path)
    lost: list[Loss] = []
    for record in range(1, 101):
        filled(box, "telemetry", range(record, record + 1))
        lost += box.enforce(0)
        assert box.bytes("telemetry") <= 4000
    assert lost
    assert {(loss.lane, loss.cause) for loss in lost} == {("telemetry", "spool_full")}
    assert [loss.first for loss in lost] == [1, *(loss.last + 1 for loss in lost[:-1])]
    assert records(box, "telemetry") == list(range(lost[-1].last + 1, 101))
    assert [(loss.oldest, loss.newest) for loss in lost] == [(10 * loss.first, 10 * loss.last + 10) for loss in lost]
    box.close()


def test_only_frames_without_a_receipt_are_a_loss(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "telemetry", range(1, 41))
    box.release("telemetry", 2)
    first = box.enforce(0)[0]
    assert (first.first, first.cause) == (3, "spool_full")
    box.close()


def test_definitions_are_never_dropped(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "definitions", range(1, 201))
    assert box.bytes("definitions") > 4000
    assert (box.enforce(0), box.frames("definitions")) == ([], 200)
    box.close()


def test_room_is_made_from_telemetry_then_results_and_never_from_alerts(tmp_path: Path) -> None:
    box = opened(tmp_path)
    for lane in LANES:
        filled(box, lane, range(1, 31))
    while box.make_room():
        pass
    lanes = [loss.lane for loss in box.enforce(0)]
    assert lanes == sorted(lanes, reverse=True)
    assert set(lanes) == {"telemetry", "results"}
    assert (box.frames("alerts"), box.frames("definitions")) == (30, 30)
    box.close()


def test_what_a_dropped_frame_had_declared_is_declared_again_once_and_joined(tmp_path: Path) -> None:
    box = opened(tmp_path)
    said = [[Loss("telemetry", 1, 4, "disk_full", 10, 20)], [Loss("telemetry", 5, 6, "disk_full", 20, 30)], [], []]
    for record, losses in enumerate(said, 1):
        body = LossesBody(Cover(record, 0), losses, {random.Random(record).randbytes(400).hex(): 1})
        box.append("results", Kind.LOSSES, frame.dump(body), body.cover, record)
        box.commit()
    while box.make_room():
        pass
    assert box.again() == [Loss("telemetry", 1, 6, "disk_full", 10, 30)]
    assert (box.again(), {loss.lane for loss in box.enforce(0)}) == ([], {"results"})
    box.close()


def test_frames_that_the_disk_never_takes_are_bounded_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "max_waiting", 1000)
    files = FaultyFiles()
    box = filled(opened(tmp_path, files), "telemetry", range(1, 4))
    files.faults.update({("write", number): errno.ENOSPC for number in range(files.calls["write"] + 1, 100)})
    for record in range(4, 21):
        put(box, "telemetry", record)
        with pytest.raises(JournalUnusable, match="No space"):
            box.commit()
    lost = box.enforce(0)
    assert lost == [Loss("telemetry", 4, 20, "disk")]
    files.faults.clear()
    filled(box, "telemetry", range(21, 23))
    assert records(box, "telemetry") == [1, 2, 3, 21, 22]
    assert box.heads()["telemetry"].next == 23
    box.close()


def test_a_damaged_frame_is_declared_lost_once(tmp_path: Path) -> None:
    filled(opened(tmp_path), "telemetry", range(1, 21)).close()
    path = sorted(tmp_path.glob("*/telemetry/*.seg"))[1]
    data = bytearray(path.read_bytes())
    places = list(layout.walk(bytes(data), 3, layout.first_of(path.name) or 0))
    for at, _ in places[1:3]:
        data[at + 40] ^= 1
    path.write_bytes(data)
    first = places[1][1].seq
    box = opened(tmp_path)
    assert [box.read("telemetry", seq) for seq in (first, first + 1, first)] == [None] * 3
    assert box.read("telemetry", first + 2) is not None
    assert (box.enforce(0), box.enforce(0)) == ([Loss("telemetry", first, first + 1, "damaged")], [])
    assert box.damaged == 2
    box.close()


# Epochs.


def test_a_new_epoch_says_again_what_the_cloud_does_not_have_and_all_definitions(tmp_path: Path) -> None:
    box = opened(tmp_path)
    for lane in LANES:
        filled(box, lane, range(1, 21))
        box.release(lane, 15)
    put(box, "alerts", 21)  # waiting for its commit
    assert box.begin_epoch(0) == []
    assert box.epoch == 101
    for _ in range(2):
        assert {lane: records(box, lane) for lane in LANES} == {
            "definitions": list(range(1, 21)),
            "alerts": list(range(16, 22)),
            "results": list(range(16, 21)),
            "telemetry": list(range(16, 21)),
        }
        assert [head[:2] for head in map(_pair, box.heads().values())] == [(1, 21), (1, 7), (1, 6), (1, 6)]
        assert [box.frames(lane) for lane in LANES] == [20, 6, 5, 5]
        assert [box.cover(lane).record for lane in LANES] == [20, 21, 20, 20]
        box.close()
        box = opened(tmp_path, epochs=iter(()))
        assert box.epoch == 101
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
    filled(box, "telemetry", range(21, 24))
    assert records(box, "telemetry") == [16, 17, 18, 19, 20, 21, 22, 23]
    box.close()


def _pair(head: LaneHead) -> tuple[int, int]:
    return head.oldest, head.next


def test_covers_can_begin_anew_with_the_epoch_and_stay_so_over_restarts(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "telemetry", range(1001, 1011))
    box.begin_epoch(0, covers_anew=True)
    for _ in range(2):
        assert [box.cover(lane) for lane in LANES] == [NOTHING] * 4
        assert len(records(box, "telemetry")) == 10
        box.close()
        box = opened(tmp_path)
    filled(box, "telemetry", range(1, 2))
    box.close()
    box = opened(tmp_path)
    assert (box.cover("telemetry"), box.cover("alerts")) == (Cover(1, 0), NOTHING)
    box.close()


def test_losses_of_the_old_epoch_are_given_back(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "telemetry", range(1, 21))
    box.make_room()
    lost = box.begin_epoch(0)
    assert [(loss.first, loss.cause) for loss in lost] == [(1, "disk_full")]
    assert box.enforce(0) == []
    box.close()


def test_a_loss_that_waits_for_its_receipt_is_a_count_in_a_new_epoch_where_its_numbers_are_others(
    tmp_path: Path,
) -> None:
    box = opened(tmp_path)
    losses = [Loss("telemetry", 3, 4, "gone"), Loss("telemetry", 7, 7, "gone"), Loss("alerts", 1, 1, "disk")]
    body = LossesBody(Cover(1, 0), losses, {"messages": 5, "frames.alerts.disk": 2}, 9)
    box.append("results", Kind.LOSSES, frame.dump(body), body.cover, 0)
    box.begin_epoch(0)
    [held] = box.each("results")
    counts = {"messages": 5, "frames.alerts.disk": 3, "frames.telemetry.gone": 3}
    assert frame.load(held.kind, held.body) == LossesBody(Cover(1, 0), [], counts, 9)
    box.close()


def stamped(box: Spool, record: int, stamp: int) -> None:
    body = WindowsBody(Cover(record, 0), 1, random.Random(record).randbytes(40), stamp=stamp)
    box.append("telemetry", Kind.WINDOWS, frame.dump(body), body.cover, stamp)
    box.commit()


def test_what_waits_longest_is_known_by_its_stamp(box: Spool) -> None:
    seen = [box.since()]
    for record in range(1, 4):
        stamped(box, record, 100 * record)
        seen.append(box.since())
    for upto in (2, 3):
        box.release("telemetry", upto)
        seen.append(box.since())
    put(box, "results", 1)  # as an older version wrote it, without a stamp
    box.commit()
    assert [one.get("telemetry", 0) for one in seen] == [0, 100, 100, 100, 300, 0]
    assert box.since() == {}


def test_when_lost_frames_were_spooled_is_known_by_what_stands_around_them(tmp_path: Path) -> None:
    box = opened(tmp_path)
    for record in range(1, 21):
        stamped(box, record, 100 * record)
    assert box.between("telemetry", 3, 5) == (200, 600)
    assert box.between("telemetry", 1, 4) == (0, 500)
    assert box.between("telemetry", 18, 20) == (1700, 0)
    path = sorted(tmp_path.glob("*/telemetry/*.seg"))[1]
    first = layout.first_of(path.name) or 0
    box.close()
    path.write_bytes(bytes(path.stat().st_size))
    box = opened(tmp_path)
    assert box.read("telemetry", first) is None
    [lost] = box.enforce(0)
    assert (lost.first, lost.cause, lost.oldest, lost.newest) == (
        first,
        "damaged",
        100 * (lost.first - 1),
        100 * (lost.last + 1),
    )
    box.close()


def test_frames_that_cannot_be_read_for_a_new_epoch_are_a_loss(tmp_path: Path) -> None:
    files = FaultyFiles()
    box = filled(opened(tmp_path, files), "telemetry", range(1, 21))
    second = layout.first_of(sorted(tmp_path.glob("*/telemetry/*.seg"))[1].name) or 0
    files.faults["read", files.calls["read"] + 1] = errno.EIO
    assert box.begin_epoch(0) == [Loss("telemetry", 1, second - 1, "damaged")]
    assert records(box, "telemetry") == list(range(second, 21))
    box.close()


def test_a_new_epoch_that_fails_at_any_call_leaves_one_whole_epoch(tmp_path: Path) -> None:
    def prepared(directory: Path) -> tuple[Spool, FaultyFiles]:
        files = FaultyFiles()
        box = opened(directory, files)
        for lane in LANES:
            for record in range(1, 11):
                put(box, lane, record)
        box.commit()
        for lane in LANES:
            box.release(lane, 5)
        box.commit()
        files.calls.clear()
        return box, files

    box, files = prepared(tmp_path / "rehearsal")
    box.begin_epoch(0)
    calls = files.calls.copy()
    box.close()
    for method, number, code in every_call(calls):
        if code == errno.EIO:
            continue  # what cannot be read is lost and declared: another test
        directory = tmp_path / f"{method}-{number}-{code}"
        box, files = prepared(directory)
        files.faults[method, number] = code
        try:
            box.begin_epoch(0)
        except JournalUnusable:
            assert box.epoch == 100
        for _ in range(2):
            first = 6 if box.epoch == 101 else records(box, "telemetry")[0]
            assert first <= 6
            assert records(box, "telemetry") == list(range(first, 11))
            assert records(box, "definitions") == list(range(1, 11))
            assert [box.cover(lane).record for lane in LANES] == [10] * 4
            filled(box, "alerts", range(10, 11))
            box.close()
            files.faults.clear()
            box = opened(directory, files, epochs=iter(()))
        assert len([path for path in directory.iterdir() if path.is_dir()]) == 1
        box.close()


def test_an_epoch_that_got_its_name_but_not_durably_does_not_count(tmp_path: Path) -> None:
    box, files = opened(tmp_path / "rehearsal", rehearsal := FaultyFiles()), FaultyFiles()
    box.begin_epoch(0)
    box.close()
    box = opened(tmp_path / "real", files)
    files.faults["sync_directory", rehearsal.calls["sync_directory"]] = errno.EIO
    files.faults.update({("unlink", number): errno.EIO for number in range(files.calls["unlink"] + 9, 200)})
    with pytest.raises(JournalUnusable):
        box.begin_epoch(0)
    files.faults.clear()
    filled(box, "alerts", range(1, 3)).close()
    box = opened(tmp_path / "real", files)
    assert (box.epoch, records(box, "alerts")) == (100, [1, 2])
    box.close()


# Anything, in any order.


class Model:
    """A spool beside what is known of every frame: spooled, vouched for by a commit, receipted or declared lost."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.files, self.epochs = directory, FaultyFiles(), count(100)
        self.spooled = dict.fromkeys(LANES, 0)  # the record of the newest frame
        self.vouched = dict.fromkeys(LANES, 0)
        self.excused: dict[str, set[int]] = {lane: set() for lane in LANES}
        self.base = dict.fromkeys(LANES, 0)  # the record before this epoch's sequence 1
        self.box = opened(directory, self.files, epochs=self.epochs)

    def append(self, lane: str, number: int) -> None:
        for _ in range(number % 6 + 1):
            self.spooled[lane] += 1
            put(self.box, lane, self.spooled[lane])

    def commit(self, _lane: str, _number: int) -> None:
        self.box.commit()
        self.vouched = dict(self.spooled)

    def release(self, lane: str, number: int) -> None:
        self.box.release(lane, number)
        self._excuse(lane, 1, min(number, self.box.heads()[lane].next - 1))

    def enforce(self, _lane: str, _number: int) -> None:
        for loss in self.box.enforce(0):
            self._excuse(loss.lane, loss.first, loss.last)
        assert all(self.box.bytes(lane) <= 4500 for lane in LANES[1:])

    def reopen(self, _lane: str, _number: int) -> None:
        self.box.close()
        self.box = opened(self.directory, self.files, epochs=self.epochs)
        for lane in LANES:
            assert self.vouched[lane] <= self.box.cover(lane).record <= self.spooled[lane]
            self.spooled[lane] = self.vouched[lane] = self.box.cover(lane).record

    def power_cut(self, lane: str, number: int) -> None:
        self.box.close()
        self.files.power_cut(random.Random(number))
        self.reopen(lane, number)

    def begin_epoch(self, _lane: str, _number: int) -> None:
        for loss in self.box.begin_epoch(0):
            self._excuse(loss.lane, loss.first, loss.last)
        self.vouched = dict(self.spooled)
        for lane in LANES:
            self.base[lane] = self.spooled[lane] - len(records(self.box, lane))

    def _excuse(self, lane: str, first: int, last: int) -> None:
        self.excused[lane].update(range(self.base[lane] + first, self.base[lane] + last + 1))

    def check(self) -> None:
        for lane in LANES:
            here = records(self.box, lane)
            assert here == sorted(here)
            assert set(range(1, self.vouched[lane] + 1)) <= set(here) | self.excused[lane]


STEPS: list[Callable[[Model, str, int], None]] = [
    Model.append,
    Model.append,
    Model.append,
    Model.commit,
    Model.commit,
    Model.release,
    Model.enforce,
    Model.reopen,
    Model.power_cut,
    Model.begin_epoch,
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(LANES), st.integers(0, 40)), max_size=30))
def test_every_frame_is_here_or_receipted_or_declared_lost(
    steps: list[tuple[Callable[[Model, str, int], None], str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = Model(Path(directory))
        for step, lane, number in steps:
            step(model, lane, number)
            model.check()
        model.box.close()


# Power cuts, step by step; `tests/faults` takes all the others.


def test_sequences_that_were_given_up_are_passed_over_before_anybody_hears_of_it() -> None:
    for end_after in range(12):
        disk = Disk(random.Random(end_after))
        box = filled(opened(Path("/spool"), disk), "telemetry", range(1, 4))
        put(box, "telemetry", 4)
        box.max_waiting = 0
        disk.faults["write", disk.calls["write"] + 1] = errno.ENOSPC
        with pytest.raises(JournalUnusable):
            box.commit()
        assert box.enforce(0) == [Loss("telemetry", 4, 4, "disk")]
        put(box, "results", 4)  # the declaration
        disk.end_after = end_after
        with suppress(Died):
            box.commit()
        disk.cut()
        box = opened(Path("/spool"), disk)
        declared = box.frames("results") == 1
        assert box.heads()["telemetry"].next > 4 or not declared
        if end_after == 11:
            assert declared


def test_a_commit_that_a_power_cut_tore_in_the_middle_is_spooled_again_from_there(tmp_path: Path) -> None:
    box = filled(opened(tmp_path, settings_=config.Spool()), "telemetry", range(1, 3))
    for record in range(3, 7):
        put(box, "telemetry", record)
    box.commit()
    box.close()
    (path,) = tmp_path.glob("*/telemetry/*.seg")
    data = bytearray(path.read_bytes())
    places = {header.seq: (at, header.size) for at, header in layout.walk(bytes(data), 3, 1)}
    at, size = places[4]
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    box = opened(tmp_path, settings_=config.Spool())
    assert records(box, "telemetry") == [1, 2, 3, 5, 6]
    assert (box.cover("telemetry"), box.heads()["telemetry"].next) == (Cover(3, 0), 7)
    box.close()


def test_what_was_receipted_and_then_lost_is_not_given_again(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "telemetry", range(1, 11))
    box.release("telemetry", 10)
    chain = box.heads()["telemetry"].chain
    box.close()
    for path in tmp_path.glob("*/telemetry/*.seg"):
        path.unlink()
    box = opened(tmp_path)
    assert (box.heads()["telemetry"].next, box.frames("telemetry"), box.log("telemetry").damaged) == (11, 0, 10)
    assert put(box, "telemetry", 11) == 11
    box.commit()
    assert box.heads()["telemetry"].chain != chain
    assert box.chains({"telemetry": Mark(10, [], chain)}) == {"telemetry": 0}
    assert box.chains({"telemetry": Mark(11)}) == {"telemetry": box.heads()["telemetry"].chain}
    box.close()


def test_marks_that_the_disk_cannot_read_only_cause_frames_to_be_sent_again(tmp_path: Path) -> None:
    box = filled(opened(tmp_path), "alerts", range(1, 4))
    box.release("alerts", 2)
    box.close()
    files = FaultyFiles()
    opened(tmp_path, files).close()
    reads = files.calls["read"]
    box = opened(tmp_path, FaultyFiles({("read", reads): errno.EIO}))
    assert (box.frames("alerts"), records(box, "alerts")) == (3, [1, 2, 3])
    box.close()


def test_other_bounds_count_from_the_next_frame_on(tmp_path: Path) -> None:
    with closing(filled(opened(tmp_path), "telemetry", range(1, 25))) as box:
        assert box.enforce(0) == []
        before = box.bytes("telemetry")
        box.configure(config.Spool(telemetry_bytes=Size(before // 2), segment_bytes=Size(200)))
        assert box.log("telemetry").segment_bytes == 200
        assert {loss.cause for loss in box.enforce(0)} == {"spool_full"}
        assert box.bytes("telemetry") <= before // 2

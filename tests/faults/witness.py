"""Witnesses: each drives a log, a journal or a spool on a failing disk, and remembers what was promised.

`check` asserts the promises: it opens; what a commit has vouched for is there, once, in order, bit for bit; a sequence
that was told of never has other content. Steps take a number and do something with it, so that hypothesis and a random
generator can both choose. A step may be refused by the disk (JournalUnusable); then it has promised nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np

from gateway import config
from gateway.journal import Checkpoints, Journal
from gateway.records import Readings, ReadingsRecord, State, TickRecord
from gateway.segment import Log
from gateway.spool import Spool
from protocol import frame
from protocol.columns import encode_state
from protocol.errors import JournalUnusable
from protocol.messages import LANES, AlertsBody, Cover, DefinitionsBody, Kind, LossesBody, WindowsBody
from protocol.settings import Size
from tests.faults.power import Died, Disk

LANE, EPOCH = 3, 77
Fault = tuple[str, int, int]
TRIES = 50
"""Openings that may be refused one after the other: more than any test injects faults."""


class Witness:
    """What they share: steps, ends of the process and of the power, and opening again."""

    steps: ClassVar[dict[str, int]]  # by name, with how often it is chosen

    def __init__(self, chance: Random) -> None:
        self.disk = Disk(chance)
        self.refused = 0
        self.begin()
        self.open()

    def begin(self) -> None:
        """Promise nothing yet."""

    def open(self) -> None:
        """Open, and hold what is there against what was promised."""
        raise NotImplementedError

    def check(self) -> None:
        """Assert all promises."""
        raise NotImplementedError

    def look(self) -> None:
        """Open and close, whatever is there."""
        raise NotImplementedError

    def doom(self, within: int) -> None:
        """Let the process die after so many changes of the disk, whatever it then does."""
        self.disk.end_after = within

    def do(self, step: str, number: int, faults: Iterable[Fault] = ()) -> bool:
        """Do one step and tell whether the process lives.

        Faults (method, how many calls from now, errno) are injected meanwhile.
        """
        self.disk.faults = {(method, self.disk.calls[method] + ahead): number for method, ahead, number in faults}
        try:
            getattr(self, step)(number)
        except JournalUnusable:
            self.refused += 1
        except Died:
            return False
        self.disk.faults = {}
        return True

    def end(self, *, power: bool, within: Iterable[int] = ()) -> None:
        """End the process, or the machine, and open again; while it opens it dies once for each of `within`."""
        end = self.disk.cut if power else self.disk.kill
        end()
        self.disk.faults = {}
        for changes in within:
            self.disk.end_after = changes
            with suppress(Died):
                self.open()
            end()
        self.open()

    def patiently(self, what: Callable[[], Any]) -> Any:
        """Try until the disk no longer refuses."""
        for _ in range(TRIES):
            try:
                return what()
            except JournalUnusable:
                self.refused += 1
                assert self.disk.held == 0, "a refused opening keeps descriptors"
        raise AssertionError("it does not open")


class LogWitness(Witness):
    """Of one log."""

    steps: ClassVar[dict[str, int]] = {
        "append": 6,
        "commit": 4,
        "drop": 1,
        "give_up": 1,
        "roll": 1,
        "skip": 1,
        "reopen": 1,
    }
    directory = Path("/data/log")

    def begin(self) -> None:
        """Promise nothing yet."""
        self.bodies: dict[int, list[bytes]] = {}  # what was appended under a sequence and may be on the disk
        self.waiting: set[int] = set()  # of them, what waits for a commit
        self.vouched: dict[int, bytes] = {}  # what is durable
        self.told = 0  # the highest sequence that somebody may have heard of
        self.given_up = 0  # the highest sequence that is known to be lost, once a commit has ended well

    def open(self) -> None:
        """Open, and take what is there for promised."""
        self.log = self._opened()
        held = self.contents()
        assert held.items() >= self.vouched.items(), "what was vouched for is gone"
        assert all(body in self.bodies[seq] for seq, body in held.items()), "made up"
        assert list(held) == sorted(held)
        assert self.log.next > self.told, "a sequence would be given twice"
        self.vouched = held
        self.told = max(self.told, *held, 0)
        self.waiting.clear()
        self.given_up = 0

    def _opened(self) -> Log:
        opened: Log = self.patiently(
            lambda: Log.open(
                self.disk, self.directory, lane=LANE, epoch=EPOCH, segment_bytes=1500, about=lambda: {"told": self.told}
            )
        )
        return opened

    def look(self) -> None:
        """Open and close."""
        self._opened().close()

    def contents(self) -> dict[int, bytes]:
        """Give all durable records."""
        return {held.seq: held.body for held in self.log.frames(self.log.oldest)}

    def _vouch(self) -> None:
        done = {seq for seq in self.waiting if seq <= self.log.durable}
        self.waiting -= done
        self.vouched |= {seq: self.bodies[seq][-1] for seq in sorted(done)}
        self.told = max(self.told, *done, 0)

    def append(self, number: int) -> None:
        """Append a record, small or large."""
        body = Random(number).randbytes((0, 1, 60, 200, 700, 3000, 9000)[number % 7])
        seq = self.log.append(Kind.WINDOWS, body, stamp=number)
        assert seq > self.told
        self.bodies.setdefault(seq, []).append(body)
        self.waiting.add(seq)

    def commit(self, _number: int) -> None:
        """Commit."""
        try:
            self.log.commit()
            assert not self.log.pending_bytes
            self.told = max(self.told, self.given_up)
        finally:
            self._vouch()

    def give_up(self, _number: int) -> None:
        """Give up what waits."""
        if gone := self.log.forget_waiting():
            self.given_up = gone[1]
            self.waiting.clear()

    def drop(self, number: int) -> None:
        """Drop what lies before some sequence."""
        upto, vouched = self.log.oldest + number % 20, self.vouched
        self.vouched = {seq: body for seq, body in vouched.items() if seq >= upto}  # should it die meanwhile
        self.log.drop_before(upto)
        self.vouched = {seq: body for seq, body in vouched.items() if seq >= self.log.oldest}

    def roll(self, number: int) -> None:
        """Begin a file that says something and holds nothing."""
        if self.log.newest_first == self.log.next or self.log.gave_up:
            return
        try:
            self.log.roll(number)
        finally:
            self._vouch()

    def skip(self, number: int) -> None:
        """Leave sequences out."""
        if not self.log.pending_bytes:
            self.log.skip_to(self.log.next + number % 5)

    def reopen(self, _number: int) -> None:
        """Close and open."""
        self.log.close()
        assert self.disk.held == 0
        self.open()

    def check(self) -> None:
        """What is vouched for is there, however it is read, and its files are all there is."""
        assert self.contents() == self.vouched
        whole = {seq: self.log.read(seq) for seq in self.vouched}
        assert {seq: frame.decode(data).body for seq, data in whole.items() if data} == self.vouched
        assert list(self.vouched) == sorted(self.vouched)
        if not self.refused and not self.disk.faults:  # a file that could not be removed is not counted
            names = [name for name in self.disk.names(self.directory) if name.endswith(".seg")]
            assert self.log.bytes == sum(self.disk.size(self.directory / name) for name in names)


def readings(number: int) -> ReadingsRecord:
    """Give a record of a few readings, told by its number."""
    value = np.random.default_rng(number).normal(20, 1, number % 50 + 1)
    rows = len(value)
    columns = Readings(np.arange(rows, dtype=np.int32) % 3, np.full(rows, number, np.int64), value)
    return ReadingsRecord(number, columns)


def bits(record: Any) -> bytes:
    """Give a record's bytes: equal if and only if all bits are."""
    return encode_state(
        {"stamp": record.stamp, "columns": record.readings._asdict()}
        if isinstance(record, ReadingsRecord)
        else {"stamp": record.stamp}
    )


class JournalWitness(Witness):
    """Of a journal and its checkpoints."""

    steps: ClassVar[dict[str, int]] = {"append": 6, "commit": 4, "checkpoint": 2, "make_room": 1, "reopen": 1}
    settings = config.Journal(segment_bytes=Size(3000), max_bytes=Size(12_000))

    def begin(self) -> None:
        """Promise nothing yet."""
        self.records: dict[int, list[bytes]] = {}
        self.vouched: dict[int, bytes] = {}
        self.saved: dict[int, set[bytes]] = {}
        self.position = 0  # of the newest checkpoint that was promised

    def open(self) -> None:
        """Open both, and hold them against what was promised."""
        self.journal = self._opened()
        self.checkpoints = Checkpoints(self.disk, Path("/data/checkpoints"))
        found = self.patiently_load()
        position, state = found or (0, {})
        assert position >= self.position, "an older checkpoint than was promised"
        assert not found or encode_state(state) in self.saved[position]
        held = self.contents()
        missing = {seq for seq in self.vouched if seq > position} - set(held)
        assert not missing, "records behind the checkpoint are gone"
        assert all(record in self.records[seq] for seq, record in held.items()), "made up, or changed"
        assert list(held) == sorted(held)
        assert self.journal.next > max(self.vouched, default=0)
        self.journal.resume_after(position)
        self.position = position
        self.vouched = held

    def _opened(self) -> Journal:
        opened: Journal = self.patiently(
            lambda: Journal.open(self.disk, Path("/data/journal"), self.settings, about=lambda: {"names": ["a", "b"]})
        )
        return opened

    def look(self) -> None:
        """Open and close."""
        self._opened().close()

    def patiently_load(self) -> tuple[int, State] | None:
        """Load the newest checkpoint, trying again while the disk refuses."""
        for _ in range(TRIES):
            with suppress(JournalUnusable):
                return self.checkpoints.load()
        raise AssertionError("no checkpoint can be loaded")

    def contents(self) -> dict[int, bytes]:
        """Give all durable records, bit for bit."""
        return {seq: bits(record) for seq, record in self.journal.records(1)}

    def append(self, number: int) -> None:
        """Record readings, or a tick."""
        record = readings(number) if number % 3 else TickRecord(number)
        self.records.setdefault(self.journal.append(record), []).append(bits(record))

    def commit(self, _number: int) -> None:
        """Commit."""
        try:
            self.journal.commit()
        finally:
            begin = max(self.journal.oldest, *self.vouched, 0)
            fresh = [seq for seq in range(begin, self.journal.durable + 1) if seq in self.records]
            self.vouched |= {seq: self.records[seq][-1] for seq in fresh}

    def checkpoint(self, number: int) -> None:
        """Commit, save a checkpoint and drop what it allows."""
        self.commit(number)
        position = self.journal.durable
        state: State = {"number": number, "array": np.full(number % 2000, number)}
        self.saved.setdefault(position, set()).add(encode_state(state))
        self.checkpoints.save(position, state)
        self.position = position
        self._drop(lambda: self.journal.retain(0, self.checkpoints.older_position))

    def make_room(self, _number: int) -> None:
        """Drop a file though there is no need."""
        self._drop(lambda: self.journal.make_room(self.checkpoints.older_position))

    def _drop(self, drop: Callable[[], object]) -> None:
        vouched = self.vouched
        kept = self.checkpoints.older_position  # should it die meanwhile, what lies behind this is still promised
        self.vouched = {seq: held for seq, held in vouched.items() if seq > kept}
        drop()
        self.vouched = {seq: held for seq, held in vouched.items() if seq >= self.journal.oldest}

    def reopen(self, _number: int) -> None:
        """Close and open."""
        self.journal.close()
        assert self.disk.held == 0
        self.open()

    def check(self) -> None:
        """What is vouched for is there."""
        assert self.contents() == self.vouched


def body(lane: str, record: int) -> tuple[Kind, bytes, Cover]:
    """Give a body of a lane, told by its cover."""
    cover = Cover(record, 0)
    match lane:
        case "definitions":
            return Kind.DEFINITIONS, frame.dump(DefinitionsBody(cover, [], [])), cover
        case "alerts":
            return Kind.ALERTS, frame.dump(AlertsBody(cover, [])), cover
        case "results":
            return Kind.LOSSES, frame.dump(LossesBody(cover)), cover
        case _:
            return Kind.WINDOWS, frame.dump(WindowsBody(cover, 1, Random(record).randbytes(record % 900))), cover


class SpoolWitness(Witness):
    """Of a spool: each frame is there, or receipted, or declared lost; and its name is its own for ever."""

    steps: ClassVar[dict[str, int]] = {
        "append": 6,
        "commit": 4,
        "release": 2,
        "enforce": 2,
        "make_room": 1,
        "begin_epoch": 1,
        "reopen": 1,
    }
    settings = config.Spool(
        telemetry_bytes=Size(9000), results_bytes=Size(4000), alerts_bytes=Size(4000), segment_bytes=Size(1200)
    )

    def begin(self) -> None:
        """Promise nothing yet."""
        self.epochs = count(100)
        self.spooled = dict.fromkeys(LANES, 0)  # the record of the newest frame
        self.vouched = dict.fromkeys(LANES, 0)
        self.excused: dict[str, set[int]] = {lane: set() for lane in LANES}  # receipted or declared lost
        self.named: dict[tuple[int, str, int], bytes] = {}
        self.told: dict[tuple[int, str], int] = {}  # the highest sequence that the cloud may have heard of
        self.losing: dict[str, int] = {}  # of each lane, what it will hear of with the next commit
        self.dropping = False

    def open(self) -> None:
        """Open, and hold covers and names against what was promised."""
        self.box = self._opened()
        for lane in LANES:
            cover = self.box.cover(lane).record
            assert self.vouched[lane] <= cover <= self.spooled[lane], "a cover went back, or was made up"
            self.spooled[lane] = self.vouched[lane] = cover
            assert self.box.heads()[lane].next > self.told.get((self.box.epoch, lane), 0), "a sequence is given twice"
            if self.dropping:  # it died before it could say what it dropped
                self.excused[lane].update(range(1, min(self.records(lane).values(), default=cover + 1)))
        self.box.max_waiting = 2500
        self.losing, self.dropping = {}, False
        self._name()
        self._number()

    def _number(self) -> None:
        """Note the record that each sequence stands for."""
        self.sequences = {(lane, seq): record for lane in LANES for seq, record in self.records(lane).items()}

    def _opened(self) -> Spool:
        opened: Spool = self.patiently(
            lambda: Spool.open(self.disk, Path("/data/spool"), self.settings, new_epoch=lambda: next(self.epochs))
        )
        return opened

    def look(self) -> None:
        """Open and close."""
        self._opened().close()

    def frames(self, lane: str) -> dict[int, bytes]:
        """Give what is durable of a lane: whole frames by sequence."""
        head = self.box.heads()[lane]
        found = {seq: self.box.read(lane, seq) for seq in range(head.oldest, head.next)}
        return {seq: data for seq, data in found.items() if data is not None}

    def _name(self) -> None:
        for lane in LANES:
            for seq, data in self.frames(lane).items():
                known = self.named.setdefault((self.box.epoch, lane, seq), data)
                assert known == data, "a sequence has other content"
                self._tell(lane, seq)

    def _tell(self, lane: str, seq: int) -> None:
        self.told[self.box.epoch, lane] = max(seq, self.told.get((self.box.epoch, lane), 0))

    def records(self, lane: str) -> dict[int, int]:
        """Give the record that each frame of a lane covers, by sequence."""
        held = {seq: frame.decode(data) for seq, data in self.frames(lane).items()}
        return {seq: frame.load(one.kind, one.body).cover.record for seq, one in held.items()}

    def append(self, number: int) -> None:
        """Append some frames to a lane."""
        lane = LANES[number % 4]
        for _ in range(number // 4 % 4 + 1):
            kind, packed, cover = body(lane, self.spooled[lane] + 1)
            self.spooled[lane] += 1
            self.sequences[lane, self.box.append(lane, kind, packed, cover, number)] = self.spooled[lane]

    def commit(self, _number: int) -> None:
        """Commit."""
        self.box.commit()
        self.vouched = dict(self.spooled)
        for lane, seq in self.losing.items():
            self._tell(lane, seq)
        self.losing = {}
        self._name()

    def release(self, number: int) -> None:
        """Receipt some frames."""
        lane = LANES[number % 4]
        head = self.box.heads()[lane]
        upto = head.oldest + number // 4 % 12 - 1
        known = self.records(lane)
        self.excused[lane].update(record for seq, record in known.items() if seq <= upto)
        self.box.release(lane, upto)

    def enforce(self, number: int) -> None:
        """Keep the bounds, and declare what was lost."""
        known, self.dropping = dict(self.sequences), True
        losses = self.box.enforce(number)
        self.dropping = False
        for loss in losses:
            lost = range(loss.first, loss.last + 1)
            self.excused[loss.lane].update(known[loss.lane, seq] for seq in lost if (loss.lane, seq) in known)
            self.losing[loss.lane] = max(loss.last, self.losing.get(loss.lane, 0))
        if losses:
            self.append(2)

    def make_room(self, number: int) -> None:
        """Drop a file though there is no need."""
        self.dropping = True
        self.box.make_room()
        self.enforce(number)

    def begin_epoch(self, number: int) -> None:
        """Say all again."""
        for loss in self.box.begin_epoch(number):
            lost = range(loss.first, loss.last + 1)
            self.excused[loss.lane].update(self.sequences.get((loss.lane, seq), 0) for seq in lost)
        self.vouched, self.losing = dict(self.spooled), {}
        self._name()
        self._number()

    def reopen(self, _number: int) -> None:
        """Close and open."""
        self.box.close()
        assert self.disk.held == 0
        self.open()

    def check(self) -> None:
        """Each frame is there, in order, or excused."""
        for lane in LANES:
            here = list(self.records(lane).values())
            assert here == sorted(set(here)), "twice, or out of order"
            assert set(range(1, self.vouched[lane] + 1)) <= set(here) | self.excused[lane], "a frame is gone"

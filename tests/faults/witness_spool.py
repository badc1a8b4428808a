"""The witness of a spool: each frame is there, or receipted, or declared lost; and its name is its own for ever."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from random import Random
from typing import ClassVar

from gateway import config
from gateway.spool import Spool
from protocol import frame
from protocol.messages import LANES, AlertsBody, Cover, DefinitionsBody, Kind, LossesBody, WindowsBody
from protocol.settings import Size
from tests.faults.witness import Witness


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
        self.dropping = self.torn = False

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
            self.torn |= self.box.damaged > 0  # a commit: what stood behind the tear is spooled again
            assert self.torn or here == sorted(set(here)), "twice, or out of order"
            assert set(range(1, self.vouched[lane] + 1)) <= set(here) | self.excused[lane], "a frame is gone"

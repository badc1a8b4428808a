"""The spool: results that wait for the cloud's receipt, in lanes, durably and within bounds.

    spool/
      lock
      000001-8f3a19c2d4e5b607/      an epoch (`epochs`)
        definitions/ alerts/ results/ telemetry/     a log of frames each (`gateway.segment`)
        marks.fg                    up to where each lane is receipted (`marks`)

Rules:

1. (epoch, lane, sequence) names a frame for ever. What the cloud is told (`heads`) and given (`read`) is durable.
2. A lane's cover is that of the last frame appended: the frame's body says it, and a file's header says what it was
   before the file's first frame. So it is known after a restart even when every frame is receipted.
3. Receipted frames go when their whole file is receipted. Definitions stay: a new epoch must say them again, and their
   number is bounded by `max_series` and the changes of configuration.
4. What is lost here is a Loss: dropped by a bound ("spool_full") or for the disk ("disk_low", "disk_full"), not
   writable ("disk"), or unreadable ("damaged"). `oldest` and `newest` are when it was spooled, as far as that is known.
   A frame of `results` that is dropped may have declared losses: they are declared again (`again`).
5. A new epoch is a new directory, and the old one is there until it is whole (`epochs`).
6. What the marks say was receipted is never given again as a sequence, though the disk has lost it: the chain then
   tells the cloud, or us, that the histories differ, and a new epoch begins.
7. `commit` may run in another thread; everything else belongs to one.

| may fill | bound | answer when full |
|---|---|---|
| a lane | `spool.*_bytes` | its oldest file is dropped; definitions never |
| frames of a lane waiting for a commit | MAX_WAITING | they are given up, declared as lost; definitions never |
| the disk | | `make_room` drops the oldest telemetry, then results, alerts never |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from gateway import config
from gateway.segment import Files, Log, lock_directory
from gateway.spool.bodies import about, joined, last_cover, losses_in, restated, stamp_in
from gateway.spool.epochs import Epoch, Epochs
from gateway.spool.marks import Marks
from protocol import frame
from protocol.errors import JournalUnusable
from protocol.messages import LANES, Cover, Kind, LaneHead, Loss, Mark

MAX_WAITING = 16 << 20
"""Bytes of a lane in memory while the disk refuses: about an hour of 1,000 windows a second."""

LANE_PARTS = 4
"""A lane is at least so many files, so that dropping one gives up at most a quarter of what waits."""


class Spool:
    """Four lanes of frames. Made by `open`; see the rules above."""

    max_waiting = MAX_WAITING

    def __init__(self, files: Files, directory: Path, settings: config.Spool, new_epoch: Callable[[], int]) -> None:
        self.files, self.directory, self.settings = files, directory, settings
        self.new_epoch = new_epoch
        self.changing = False  # an epoch begins
        self.copied = 0  # frames, into epochs that began
        self._epochs = Epochs(files, directory)
        self._here = Epoch(0, 0)
        self._marks = Marks(files, directory)
        self._logs: dict[str, Log] = {}
        self._covers: dict[str, Cover] = dict.fromkeys(LANES, Cover())
        self._lost: list[Loss] = []
        self._again: list[Loss] = []  # declared once, and the frame that said so was dropped
        self._disk = Lock()  # held for a whole commit or change of epoch
        self._locked: int | None = None

    @classmethod
    def open(cls, files: Files, directory: Path, settings: config.Spool, *, new_epoch: Callable[[], int]) -> Spool:
        """Open and recover; JournalUnusable if another process has it or the disk refuses, never for damage."""
        spool = cls(files, directory, settings, new_epoch)
        spool._locked = lock_directory(files, directory)
        try:
            spool._recover()
        except OSError as error:
            spool.close()
            raise JournalUnusable(f"{directory} cannot be opened: {error.strerror}") from error
        except JournalUnusable:
            spool.close()
            raise
        return spool

    def close(self) -> None:
        """Close the files; what was not committed is gone."""
        with self._disk:
            with suppress(JournalUnusable):  # without its marks the next start only sends more again
                self._marks.write()
            self._close_logs()
            if self._locked is not None:
                self.files.close(self._locked)
                self._locked = None

    def _close_logs(self) -> None:
        for log in self._logs.values():
            log.close()
        self._logs = {}

    # Opening.

    def _recover(self) -> None:
        self._here = self._epochs.newest() or Epoch(1, self.new_epoch())
        home = self.home
        for lane in LANES:
            self._logs[lane] = self._open_log(home, self.epoch, lane, self._covers)
        for lane, log in self._logs.items():
            self._covers[lane] = last_cover(log)
        self._marks = Marks(self.files, home)
        self._marks.read()
        for lane, log in self._logs.items():
            if (receipted := self._marks[lane]) > log.durable:  # rule 6
                log.note_damage([(log.next, receipted)])
                log.skip_to(receipted + 1)

    def _open_log(self, directory: Path, epoch: int, lane: str, covers: dict[str, Cover]) -> Log:
        return Log.open(
            self.files,
            directory / lane,
            lane=LANES.index(lane),
            epoch=epoch,
            segment_bytes=self._segment_bytes(lane),
            about=lambda: about(covers[lane]),
        )

    def configure(self, settings: config.Spool) -> None:
        """Keep other bounds, from the next frame and the next `enforce` on."""
        self.settings = settings
        for lane, log in self._logs.items():
            log.segment_bytes = self._segment_bytes(lane)

    def _segment_bytes(self, lane: str) -> int:
        limit, size = self._limit(lane), int(self.settings.segment_bytes)
        return size if limit is None else min(size, limit // LANE_PARTS)

    def _limit(self, lane: str) -> int | None:
        return {
            "definitions": None,
            "alerts": int(self.settings.alerts_bytes),
            "results": int(self.settings.results_bytes),
            "telemetry": int(self.settings.telemetry_bytes),
        }[lane]

    # Frames in.

    def append(self, lane: str, kind: Kind, body: bytes, cover: Cover, now: int) -> int:
        """Take one body into its lane and give its sequence; durable, and to be sent, after the next commit."""
        seq = self._logs[lane].append(kind, body, stamp=now)
        self._covers[lane] = cover
        return seq

    def commit(self) -> None:
        """Make all frames taken durable, most precious lane first; JournalUnusable if the disk refused, then try again.

        May run in another thread while more is appended.
        """
        with self._disk:
            self._epochs.settle(self._here)
            for log in sorted(self._logs.values(), key=lambda log: not log.gave_up):  # before `results` says so
                log.commit()
            if self._marks.due:
                self._marks.write()

    # Frames out.

    def heads(self) -> dict[str, LaneHead]:
        """Say what is held of each lane, durably."""
        return {lane: LaneHead(log.oldest, log.durable + 1, log.durable_chain) for lane, log in self._logs.items()}

    @property
    def home(self) -> Path:
        """The directory of this epoch: its lanes, and `marks.fg`."""
        return self._epochs.path(self._here)

    @property
    def epoch(self) -> int:
        """The number of this epoch."""
        return self._here.number

    def log(self, lane: str) -> Log:
        """Give a lane's log, for a tool that looks at it."""
        return self._logs[lane]

    def receipted(self, lane: str) -> int:
        """Give the last sequence that is known here to be receipted, with all before it."""
        return self._marks[lane]

    def chains(self, marks: Mapping[str, Mark]) -> dict[str, int]:
        """Give the chain of the frame that each mark stands at; 0 where it is not here."""
        frames = {lane: self._logs[lane].read(mark.upto) for lane, mark in marks.items() if lane in self._logs}
        return {lane: frame.header(data).chain if data else 0 for lane, data in frames.items()}

    def cover(self, lane: str) -> Cover:
        """Give the last journal output that the lane's frames account for."""
        return self._covers[lane]

    def read(self, lane: str, seq: int) -> bytes | None:
        """Give a durable frame; None if it was dropped, or is damaged, and then `enforce` declares it lost."""
        log = self._logs[lane]
        data = log.read(seq)
        if data is None and log.oldest <= seq <= log.durable:
            self._declare_gap(lane, seq, log.next_here(seq))
        return data

    def since(self) -> dict[str, int]:
        """Say by lane when (ns) the oldest frame that waits for a receipt was spooled; lanes where none is known lack.

        Reads a frame of each lane.
        """
        heads = {lane: max(self._marks[lane] + 1, log.oldest) for lane, log in self._logs.items()}
        stamps = {lane: self._stamp(lane, seq) for lane, seq in heads.items()}
        return {lane: stamp for lane, stamp in stamps.items() if stamp}

    def between(self, lane: str, first: int, last: int) -> tuple[int, int]:
        """Say between which stamps (ns) a range was spooled, by the frames that stand around it; 0: not known."""
        return self._stamp(lane, first - 1), self._stamp(lane, last + 1)

    def _stamp(self, lane: str, seq: int) -> int:
        return stamp_in(self._logs[lane].read(seq)) if seq else 0

    def each(self, lane: str) -> Iterator[frame.Frame]:
        """Give all durable frames of a lane that are still here, in order, receipted or not."""
        return self._logs[lane].frames(self._logs[lane].oldest)

    def frames(self, lane: str) -> int:
        """Count the durable frames that wait for a receipt."""
        log = self._logs[lane]
        return log.durable - max(self._marks[lane], log.oldest - 1)

    def bytes(self, lane: str) -> int:
        """Give a lane's bytes, on the disk and waiting for it."""
        return self._logs[lane].bytes + self._logs[lane].pending_bytes

    @property
    def written(self) -> int:
        """Bytes written to the disk in this epoch by this process, headers included."""
        return sum(log.written for log in self._logs.values())

    @property
    def damaged(self) -> int:
        """Frames found unreadable in this epoch."""
        return sum(log.damaged for log in self._logs.values())

    def release(self, lane: str, upto: int) -> None:
        """Note that the cloud has committed all frames up to `upto`, and drop the files that hold only such."""
        log = self._logs[lane]
        upto = min(upto, log.durable)
        self._marks.note(lane, upto)
        if lane != "definitions" and log.drop_before(upto + 1)[0]:
            self._marks.due = True

    # Bounds.

    def enforce(self, now: int) -> list[Loss]:
        """Drop what is beyond the bounds, and return all losses that have not been returned before."""
        for lane, log in self._logs.items():
            limit = self._limit(lane)
            if limit is None:
                continue
            while self.bytes(lane) > limit and self._drop_oldest(lane, "spool_full"):
                pass
            stamps = log.waiting_since, now
            if log.pending_bytes > self.max_waiting and (gone := log.forget_waiting()):
                self._lost.append(Loss(lane, *gone, "disk", *stamps))
        lost, self._lost = self._lost, []
        return lost

    def again(self) -> list[Loss]:
        """Give the losses to be declared once more: the frame that said so was dropped before it was receipted."""
        again, self._again = self._again, []
        return again

    def make_room(self, cause: str = "disk_full") -> int:
        """Drop the oldest file of telemetry, else of results, for a disk that lacks room; bytes won, 0 if none is left.

        `enforce` returns the loss.
        """
        if self.changing:
            return 0
        return self._drop_oldest("telemetry", cause) or self._drop_oldest("results", cause)

    def _drop_oldest(self, lane: str, cause: str) -> int:
        """Drop a lane's oldest file and give its bytes; 0 if there is none, or the disk keeps it."""
        log = self._logs[lane]
        sealed = log.oldest_sealed()
        if sealed is None:
            return 0
        first = max(sealed.first, self._marks[lane] + 1)
        said = losses_in(log, first, sealed.last) if lane == "results" else []
        if not log.drop_before(sealed.last + 1)[0]:
            return 0
        if first <= sealed.last:
            self._again = joined(self._again + said)
            self._lost.append(Loss(lane, first, sealed.last, cause, sealed.oldest, sealed.newest))
        return sealed.bytes

    def _declare_gap(self, lane: str, first: int, end: int) -> None:
        """Declare the sequences from `first` on, below `end`, unless that was done just now."""
        known = any(loss.lane == lane and loss.first <= first and end <= loss.last + 1 for loss in self._lost)
        if first < end and not known:
            self._lost.append(Loss(lane, first, end - 1, "damaged", *self.between(lane, first, end - 1)))

    # Epochs.

    def begin_epoch(self, now: int, *, covers_anew: bool = False) -> list[Loss]:
        """Say everything again under a new epoch: all definitions, and what is not receipted. O(bytes), and rare.

        May run in another thread: meanwhile nothing may be appended, enforced or released, and `make_room` makes none.
        With `covers_anew` the covers start from nothing, for a journal that cannot vouch for them. Sequences begin
        at 1 again, so what was handed out before means nothing now: ask `heads`. Returns the losses that `enforce` has
        not: they count, but their sequences are the old epoch's. JournalUnusable leaves all as it was.
        """
        self.changing = True
        try:
            self.commit()
            with self._disk:
                return self._begin(dict.fromkeys(LANES, Cover()) if covers_anew else dict(self._covers), now)
        finally:
            self.changing = False

    def _begin(self, covers: dict[str, Cover], now: int) -> list[Loss]:
        old, epoch = self._here, Epoch(self._here.generation + 1, self.new_epoch())
        logs = self._copy(epoch, covers, now)
        left = self._logs
        self._here, self._covers, self._logs = epoch, covers, logs
        self._marks = Marks(self.files, self.home)
        for log in left.values():
            log.close()
        lost, self._lost = self.again() + self._lost, []
        self._epochs.remove(self._epochs.path(old))
        return lost

    def _copy(self, epoch: Epoch, covers: dict[str, Cover], now: int) -> dict[str, Log]:
        logs: dict[str, Log] = {}
        try:
            for lane in LANES:
                logs[lane] = self._open_log(self._epochs.draft(epoch), epoch.number, lane, covers)
                self._copy_lane(lane, logs[lane], now)
            self._epochs.place(epoch)
        except (OSError, JournalUnusable) as error:
            for log in logs.values():
                log.close()
            self._epochs.failed(epoch, self._here)
            raise JournalUnusable(f"{self.directory} cannot begin an epoch: {error}") from error
        for lane, log in logs.items():
            log.directory = self._epochs.path(epoch) / lane
        return logs

    def _copy_lane(self, lane: str, copy: Log, now: int) -> None:
        log = self._logs[lane]
        expected = log.oldest if lane == "definitions" else max(log.oldest, self._marks[lane] + 1)
        for held in log.frames(expected):
            self._declare_gap(lane, expected, held.seq)
            expected = held.seq + 1
            copy.append(held.kind, restated(held), stamp=now)
            self.copied += 1
            if copy.pending_bytes > copy.segment_bytes:
                copy.commit()
        self._declare_gap(lane, expected, log.durable + 1)
        copy.roll(now)  # a file without frames, whose header says the covers: the copied bodies may say others

"""The spool: results that wait for the cloud's receipt, in lanes, durably and within bounds.

    spool/
      lock
      000001-8f3a19c2d4e5b607/      generation and epoch; the highest generation counts
        definitions/ alerts/ results/ telemetry/     a log of frames each (`gateway.segment`)
        marks.fg                    up to where each lane is receipted; losing it only causes frames to be sent again

Rules:

1. (epoch, lane, sequence) names a frame for ever. What the cloud is told (`heads`) and given (`read`) is durable.
2. A lane's cover is that of the last frame appended: the frame's body says it, and a file's header says what it was
   before the file's first frame. So it is known after a restart even when every frame is receipted.
3. Receipted frames go when their whole file is receipted. Definitions stay: a new epoch must say them again, and their
   number is bounded by `max_series` and the changes of configuration.
4. What is lost here is a Loss: dropped by a bound ("spool_full"), dropped to free the disk ("disk_full"), not
   writable ("disk"), or unreadable ("damaged"). `oldest` and `newest` are when it was spooled, not event times.
5. A new epoch is a new directory: written in full under a draft name, renamed, and then the old one is removed. A kill
   at any point leaves one of the two, whole. One that failed after it had its name loses it durably before the old one
   gets another frame.
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

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from gateway import config
from gateway.records import State
from gateway.segment import Files, Log, lock_directory, write_atomically
from protocol import columns, frame
from protocol.errors import FrameRefused, JournalUnusable
from protocol.messages import LANES, Cover, Kind, LaneHead, Loss, Mark

MAX_WAITING = 16 << 20
"""Bytes of a lane in memory while the disk refuses: about an hour of 1,000 windows a second."""

LANE_PARTS = 4
"""A lane is at least so many files, so that dropping one gives up at most a quarter of what waits."""

MARKS = "marks.fg"
EPOCH = re.compile(r"(\d{6})-([0-9a-f]{16})")
DRAFT = ".draft"


class Spool:
    """Four lanes of frames. Made by `open`; see the rules above."""

    max_waiting = MAX_WAITING

    def __init__(self, files: Files, directory: Path, settings: config.Spool, new_epoch: Callable[[], int]) -> None:
        self.files, self.directory, self.settings = files, directory, settings
        self.new_epoch = new_epoch
        self.epoch = 0
        self._generation = 0
        self._logs: dict[str, Log] = {}
        self._covers: dict[str, Cover] = dict.fromkeys(LANES, Cover())
        self._receipted: dict[str, int] = dict.fromkeys(LANES, 0)
        self._lost: list[Loss] = []
        self._marks_changed = self._marks_due = False  # written when a file has gone, and at the end
        self._disk = Lock()  # held for a whole commit or change of epoch
        self._unsettled = False  # an epoch that failed may still have its name
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
                self._write_marks()
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
        names = self.files.names(self.directory)
        epochs = [match for name in names if (match := EPOCH.fullmatch(name))]
        for name in [match[0] for match in epochs[:-1]] + [name for name in names if name.endswith(DRAFT)]:
            with suppress(OSError):  # it does not count, and the next opening tries again
                self._remove_epoch(self.directory / name)
        if epochs:
            self._use(int(epochs[-1][1]), int(epochs[-1][2], 16))
        else:
            self._use(1, self.new_epoch())
        for lane, log in self._logs.items():
            self._covers[lane] = _last_cover(log)
        self._read_marks()

    def _use(self, generation: int, epoch: int) -> None:
        self._generation, self.epoch = generation, epoch
        for lane in LANES:
            self._logs[lane] = self._open_log(self._path(generation, epoch), epoch, lane, self._covers)

    def _open_log(self, directory: Path, epoch: int, lane: str, covers: dict[str, Cover]) -> Log:
        limit = self._limit(lane)
        size = int(self.settings.segment_bytes)
        return Log.open(
            self.files,
            directory / lane,
            lane=LANES.index(lane),
            epoch=epoch,
            segment_bytes=size if limit is None else min(size, limit // LANE_PARTS),
            about=lambda: _about(covers[lane]),
        )

    def _limit(self, lane: str) -> int | None:
        return {
            "definitions": None,
            "alerts": int(self.settings.alerts_bytes),
            "results": int(self.settings.results_bytes),
            "telemetry": int(self.settings.telemetry_bytes),
        }[lane]

    def _path(self, generation: int, epoch: int) -> Path:
        return self.directory / f"{generation:06}-{epoch:016x}"

    def _remove_epoch(self, path: Path) -> None:
        for lane in LANES:
            for name in self.files.names(path / lane):
                self.files.unlink(path / lane / name)
            if lane in self.files.names(path):
                self.files.rmdir(path / lane)
        for name in self.files.names(path):
            self.files.unlink(path / name)
        self.files.rmdir(path)

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
            self._settle()
            for log in sorted(self._logs.values(), key=lambda log: not log.gave_up):  # before `results` says so
                log.commit()
            if self._marks_due:
                self._write_marks()

    # Frames out.

    def heads(self) -> dict[str, LaneHead]:
        """Say what is held of each lane, durably."""
        return {lane: LaneHead(log.oldest, log.durable + 1, log.durable_chain) for lane, log in self._logs.items()}

    @property
    def home(self) -> Path:
        """The directory of this epoch: its lanes, and `marks.fg`."""
        return self._path(self._generation, self.epoch)

    def log(self, lane: str) -> Log:
        """Give a lane's log, for a tool that looks at it."""
        return self._logs[lane]

    def receipted(self, lane: str) -> int:
        """Give the last sequence that is known here to be receipted, with all before it."""
        return self._receipted[lane]

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

    def each(self, lane: str) -> Iterator[frame.Frame]:
        """Give all durable frames of a lane that are still here, in order, receipted or not."""
        return self._logs[lane].frames(self._logs[lane].oldest)

    def frames(self, lane: str) -> int:
        """Count the durable frames that wait for a receipt."""
        log = self._logs[lane]
        return log.durable - max(self._receipted[lane], log.oldest - 1)

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
        if upto > self._receipted[lane]:
            self._receipted[lane] = upto
            self._marks_changed = True
        if lane != "definitions" and log.drop_before(upto + 1)[0]:
            self._marks_due = True

    # Bounds.

    def enforce(self, now: int) -> list[Loss]:  # noqa: ARG002 - every decision over time is given the time
        """Drop what is beyond the bounds, and return all losses that have not been returned before."""
        for lane, log in self._logs.items():
            limit = self._limit(lane)
            if limit is None:
                continue
            while self.bytes(lane) > limit and self._drop_oldest(lane, "spool_full"):
                pass
            if log.pending_bytes > self.max_waiting and (gone := log.forget_waiting()):
                self._lost.append(Loss(lane, *gone, "disk"))
        lost, self._lost = self._lost, []
        return lost

    def make_room(self) -> bool:
        """Drop the oldest file of telemetry, else of results, for a disk that is full; False if there is none.

        `enforce` returns the loss.
        """
        return self._drop_oldest("telemetry", "disk_full") or self._drop_oldest("results", "disk_full")

    def _drop_oldest(self, lane: str, cause: str) -> bool:
        log = self._logs[lane]
        sealed = log.oldest_sealed()
        if sealed is None or not log.drop_before(sealed.last + 1)[0]:
            return False
        first = max(sealed.first, self._receipted[lane] + 1)
        if first <= sealed.last:
            self._lost.append(Loss(lane, first, sealed.last, cause, sealed.oldest, sealed.newest))
        return True

    def _declare_gap(self, lane: str, first: int, end: int) -> None:
        """Declare the sequences from `first` on, below `end`, unless that was done just now."""
        known = any(loss.lane == lane and loss.first <= first and end <= loss.last + 1 for loss in self._lost)
        if first < end and not known:
            self._lost.append(Loss(lane, first, end - 1, "damaged"))

    # Epochs.

    def begin_epoch(self, now: int, *, covers_anew: bool = False) -> list[Loss]:
        """Say everything again under a new epoch: all definitions, and what is not receipted. O(bytes), and rare.

        With `covers_anew` the covers start from nothing, for a journal that cannot vouch for them. Sequences begin
        at 1 again, so what was handed out before means nothing now: ask `heads`. Returns the losses that `enforce` has
        not: they count, but their sequences are the old epoch's. JournalUnusable leaves all as it was.
        """
        self.commit()
        with self._disk:
            covers = dict.fromkeys(LANES, Cover()) if covers_anew else dict(self._covers)
            old = self._path(self._generation, self.epoch)
            generation, epoch = self._generation + 1, self.new_epoch()
            logs = self._copy(self._path(generation, epoch), epoch, covers, now)
            self._close_logs()
            self._logs, self._covers, self._receipted = logs, covers, dict.fromkeys(LANES, 0)
            self._generation, self.epoch = generation, epoch
            lost, self._lost = self._lost, []
            with suppress(OSError):  # the next opening removes what is left of it
                self._remove_epoch(old)
            return lost

    def _copy(self, path: Path, epoch: int, covers: dict[str, Cover], now: int) -> dict[str, Log]:
        draft = path.with_name(path.name + DRAFT)
        logs: dict[str, Log] = {}
        try:
            for lane in LANES:
                logs[lane] = self._open_log(draft, epoch, lane, covers)
                self._copy_lane(lane, logs[lane], now)
            self.files.rename(draft, path)
            self.files.sync_directory(self.directory)
        except (OSError, JournalUnusable) as error:
            for log in logs.values():
                log.close()
            self._unsettled = True
            with suppress(OSError, JournalUnusable):  # then the next commit tries again, or the next opening
                self._settle()
                self._remove_epoch(draft)
            raise JournalUnusable(f"{self.directory} cannot begin an epoch: {error}") from error
        for lane, log in logs.items():
            log.directory = path / lane
        return logs

    def _settle(self) -> None:
        """Take its name, durably, from an epoch that could not begin: it would count after the next start."""
        if not self._unsettled:
            return
        here = self._path(self._generation, self.epoch).name
        try:
            for name in self.files.names(self.directory):
                if EPOCH.fullmatch(name) and name > here:
                    self.files.rename(self.directory / name, self.directory / (name + DRAFT))
            self.files.sync_directory(self.directory)
        except OSError as error:
            raise JournalUnusable(f"{self.directory} cannot be written: {error.strerror}") from error
        self._unsettled = False

    def _copy_lane(self, lane: str, copy: Log, now: int) -> None:
        log = self._logs[lane]
        expected = log.oldest if lane == "definitions" else max(log.oldest, self._receipted[lane] + 1)
        for held in log.frames(expected):
            self._declare_gap(lane, expected, held.seq)
            expected = held.seq + 1
            copy.append(held.kind, held.body, stamp=now)
            if copy.pending_bytes > copy.segment_bytes:
                copy.commit()
        self._declare_gap(lane, expected, log.durable + 1)
        copy.roll(now)  # a file without frames, whose header says the covers: the copied bodies may say others

    # Marks.

    def _read_marks(self) -> None:
        try:
            data = self.files.read(self.home / MARKS)
            marks = columns.decode_state(frame.decode(data).body)
        except (OSError, FrameRefused):  # a disk that refuses more than this file will say so elsewhere
            marks = {}
        for lane, log in self._logs.items():
            self._receipted[lane] = receipted = int(marks.get(lane, 0))
            if receipted > log.durable:  # rule 6
                log.note_damage([(log.next, receipted)])
                log.skip_to(receipted + 1)

    def _write_marks(self) -> None:
        if not self._marks_changed:
            return
        data = frame.encode(Kind.CHECKPOINT, columns.encode_state(dict(self._receipted)))
        try:
            write_atomically(self.files, self.home / MARKS, data)
        except OSError as error:
            raise JournalUnusable(f"{self.directory} cannot be written: {error.strerror}") from error
        self._marks_changed = self._marks_due = False


def _about(cover: Cover) -> State:
    return {"cover": [cover.record, cover.ordinal]}


def _last_cover(log: Log) -> Cover:
    """Give the cover of the newest frame, if the newest file has one, else what that file's header says.

    Where frames are missing from that file, give the cover before them: a power cut may have torn a commit, and the
    journal still knows what was in it. What stands behind them is then spooled twice, which harms nobody.
    """
    for seq in range(log.unbroken, log.newest_first - 1, -1):
        data = log.read(seq)
        if data is not None and (cover := _cover_of(data)) is not None:
            return cover
    record, ordinal = log.newest_about().get("cover", (0, -1))
    return Cover(record, ordinal)


def _cover_of(data: bytes) -> Cover | None:
    try:
        held = frame.decode(data)
        body = frame.load(held.kind, held.body)
    except FrameRefused:
        return None
    cover: Cover | None = getattr(body, "cover", None)
    return cover

"""The journal: what has been recorded, in the order in which `derive` saw it; and the checkpoints it is replayed from.

Rules:

1. One record is one `derive` call. Its sequence is its position; an acknowledgement waits for its commit.
2. Encoding is bit for bit: what is replayed is what was applied.
3. A record that cannot be read is stepped over and counted; the journal always opens.
4. Retention takes whole files, oldest first, by bytes and by age, and never past the older checkpoint; what lies behind
   it can be replayed even if the newer checkpoint turns out to be damaged.
5. A checkpoint is one file, written aside and renamed; two are kept. A damaged one is set aside when it is met.

Bytes: records are frames of lane JOURNAL_LANE in segments (`gateway.segment`); `about` in a segment's header is what
its records stand on. The body of READINGS is the State

    stamp | columns (series, time, value: `protocol.columns`) | names | tally [messages, decoded, redelivered, dead,
    refused] | packet_steps (from one packet id to the next, modulo 2^16) | hashes | ours (series, if it is known)

and of the others {stamp}, {stamp, text}, {stamp, boot, monotonic, synchronised, leap, shift, offset},
{stamp, manifest, content}, {stamp, total}. A file
`checkpoint-{position}.fg`, 20 digits, holds one long frame of kind CHECKPOINT: the State {position, state}.

| may fill | bound | answer when full |
|---|---|---|
| records waiting for a commit | `journal.max_pending`, by `pending_bytes` | intake stops reading |
| the journal | `journal.max_bytes` | `retain` drops; beyond that it grows until the next checkpoint |
| one record | frame.MAX_RAW | FrameRefused("size"), nothing is appended |
| a checkpoint | MAX_CHECKPOINT | JournalUnusable; the older ones stay |
| checkpoints set aside | 1 | replaced |
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gateway import config
from gateway.records import (
    ClockRecord,
    ConfigurationRecord,
    DropsRecord,
    ModelRecord,
    Readings,
    ReadingsRecord,
    Recent,
    Record,
    State,
    Tally,
    TickRecord,
)
from gateway.segment import NO_LIMIT, Files, Log, SealedFile, make_directory, write_atomically
from protocol import columns, frame
from protocol.errors import FrameRefused, JournalUnusable
from protocol.messages import JOURNAL_LANE, Kind

READING_DTYPES: dict[str, type[np.generic]] = {"series": np.int32, "time": np.int64, "value": np.float64}

MAX_ROWS = 1 << 20
"""Readings in a record: more than a socket read and a record interval can bring together."""

MAX_CHECKPOINT = 256 << 20
"""Bytes of a checkpoint before compression: 100,000 series with a few windows each take a tenth of it."""

AGE_PARTS = 8
"""Files per `max_age`: a quiet gateway's readings are kept at most an eighth longer than it says."""

UNSAID = {"leap": None, "shift": None, "offset": 0}
"""What a clock record leaves out."""

CHECKPOINT = re.compile(r"checkpoint-(\d{20})\.fg")


def encode_record(record: Record) -> tuple[Kind, bytes]:
    """Give a record's kind and body."""
    match record:
        case ReadingsRecord():
            return Kind.READINGS, _encode_readings(record)
        case TickRecord(stamp):
            return Kind.TICK, columns.encode_state({"stamp": stamp})
        case ConfigurationRecord(stamp, text):
            return Kind.CONFIGURATION, columns.encode_state({"stamp": stamp, "text": text})
        case ClockRecord():
            state = {name: value for name, value in asdict(record).items() if value != UNSAID.get(name, ...)}
            return Kind.CLOCK, columns.encode_state(state)
        case ModelRecord(stamp, manifest, content):
            return Kind.MODEL, columns.encode_state({"stamp": stamp, "manifest": manifest, "content": content})
        case DropsRecord(stamp, total):
            return Kind.DROPS, columns.encode_state({"stamp": stamp, "total": total})


def _encode_readings(record: ReadingsRecord) -> bytes:
    tally, recent = record.tally, record.recent
    ours = {} if record.ours is None else {"ours": record.ours}
    return columns.encode_state(
        {
            "stamp": record.stamp,
            "columns": columns.encode(record.readings._asdict()),
            "names": record.names,
            "tally": [tally.messages, tally.decoded, tally.redelivered, tally.dead, tally.refused],
            "packet_steps": np.diff(recent.packet_ids, prepend=np.uint16(0)),
            "hashes": recent.hashes,
            **ours,
        }
    )


def decode_record(kind: Kind, body: bytes) -> Record:
    """Read what `encode_record` gave; FrameRefused("kind") or ("body")."""
    state = columns.decode_state(body)
    try:
        match kind:
            case Kind.READINGS:
                return _decode_readings(state)
            case Kind.TICK:
                return TickRecord(**state)
            case Kind.CONFIGURATION:
                return ConfigurationRecord(**state)
            case Kind.CLOCK:
                return ClockRecord(**state)
            case Kind.MODEL:
                return ModelRecord(**state)
            case Kind.DROPS:
                return DropsRecord(**state)
            case _:
                raise FrameRefused("kind", f"{kind.name} is no journal record")
    except (KeyError, TypeError, ValueError) as error:
        raise FrameRefused("body", f"{kind.name}: {error}") from error


def _decode_readings(state: State) -> ReadingsRecord:
    readings = columns.decode(state["columns"], READING_DTYPES, max_rows=MAX_ROWS)
    return ReadingsRecord(
        state["stamp"],
        Readings(readings["series"], readings["time"], readings["value"]),
        state["names"],
        Tally(*state["tally"]),
        Recent(np.add.accumulate(state["packet_steps"], dtype=np.uint16), state["hashes"]),
        state.get("ours"),
    )


class Journal:
    """All records, from the oldest kept to the next. Made by `open`; see the rules above."""

    def __init__(self, log: Log, settings: config.Journal) -> None:
        self.log = log
        self.settings = settings

    @classmethod
    def open(
        cls,
        files: Files,
        directory: Path,
        settings: config.Journal,
        *,
        about: Callable[[], State],
        observe: Callable[[float], None] | None = None,
    ) -> Journal:
        """Open and recover; JournalUnusable if another process has it or the disk refuses, never for damage.

        `about()` is called by `append`, before it takes a record that begins a new file: it says what that record
        stands on.
        """
        log = Log.open(
            files,
            directory,
            lane=JOURNAL_LANE,
            epoch=0,
            segment_bytes=int(settings.segment_bytes),
            about=about,
            segment_age=int(settings.max_age) // AGE_PARTS,
            observe=observe,
        )
        return cls(log, settings)

    def configure(self, settings: config.Journal) -> None:
        """Keep other bounds, from the next record and the next `retain` on."""
        self.settings = settings
        self.log.segment_bytes = int(settings.segment_bytes)
        self.log.segment_age = int(settings.max_age) // AGE_PARTS

    def close(self) -> None:
        """Close the files; what was not committed is gone."""
        self.log.close()

    @property
    def observe(self) -> Callable[[float], None] | None:
        """What is given the seconds of each sync, in the committing thread."""
        return self.log.observe

    @observe.setter
    def observe(self, observe: Callable[[float], None] | None) -> None:
        self.log.observe = observe

    @property
    def oldest(self) -> int:
        """The first position kept; `next` if there is none."""
        return self.log.oldest

    @property
    def oldest_stamp(self) -> int:
        """The stamp (ns) of the first record kept; 0 if there is none or it is not known."""
        return self.log.oldest_stamp

    @property
    def next(self) -> int:
        """The position that the next record gets."""
        return self.log.next

    @property
    def durable(self) -> int:
        """The last position that a commit has vouched for."""
        return self.log.durable

    @property
    def bytes(self) -> int:
        """Bytes on the disk."""
        return self.log.bytes

    @property
    def written(self) -> int:
        """Bytes written to the disk by this process, headers included."""
        return self.log.written

    @property
    def pending_bytes(self) -> int:
        """Bytes waiting for a commit."""
        return self.log.pending_bytes

    @property
    def damaged(self) -> int:
        """Records found unreadable."""
        return self.log.damaged

    def append(self, record: Record) -> int:
        """Take a record and give its position; durable after the next commit."""
        kind, body = encode_record(record)
        return self.log.append(kind, body, stamp=record.stamp)

    def commit(self) -> int:
        """Make all records taken durable, and give the last one's position; JournalUnusable if the disk refused.

        May run in another thread while more is appended. After a failure nothing is lost: the next commit tries again,
        in a new file.
        """
        return self.log.commit()

    def resume_after(self, position: int) -> None:
        """Let the next record be behind `position`: that of a checkpoint that outlived the journal it was made from."""
        self.log.skip_to(position + 1)

    def records(self, from_seq: int, upto: int = NO_LIMIT) -> Iterator[tuple[int, Record]]:
        """Give (position, record) of all durable records from a position on, stepping over what cannot be read.

        No file is begun that holds only records behind `upto`.
        """
        for found in self.log.frames(from_seq, upto):
            try:
                record = decode_record(found.kind, found.body)
            except FrameRefused:
                self.log.note_damage([(found.seq, found.seq)])
                continue
            yield found.seq, record

    def sealed_files(self) -> list[SealedFile]:
        """Give all files but the newest: they do not change any more."""
        return self.log.sealed_files()

    def about_oldest(self) -> State:
        """Say what the oldest record kept stands on; {} if the journal is empty or its header is damaged."""
        return self.log.oldest_about()

    def about_newest(self) -> State:
        """Say what the newest file's records stand on; {} if the journal is empty or its header is damaged."""
        return self.log.newest_about()

    def retain(self, now: int, checkpoint_seq: int, leaps: Sequence[tuple[int, int]] = ()) -> tuple[int, int]:
        """Drop files beyond the bound on bytes or age that end at or before the older checkpoint; count and bytes.

        Time that passed for the clock alone makes nothing older: `leaps` are stamps, and what was leapt after each.
        """
        count = size = 0
        while (sealed := self.log.oldest_sealed()) and sealed.last <= checkpoint_seq:
            lived = now - sealed.newest - sum(leap for stamp, leap in leaps if stamp >= sealed.newest)
            aged = sealed.newest > 0 and lived > int(self.settings.max_age)
            if not aged and self.log.bytes <= int(self.settings.max_bytes):
                break
            dropped = self.log.drop_before(sealed.last + 1)
            if not dropped[0]:
                break
            count, size = count + dropped[0], size + dropped[1]
        return count, size

    def make_room(self, checkpoint_seq: int) -> tuple[int, int]:
        """Drop the oldest file whatever its age, if the older checkpoint allows: for a disk that lacks room."""
        sealed = self.log.oldest_sealed()
        if sealed is None or sealed.last > checkpoint_seq:
            return 0, 0
        dropped = self.log.drop_before(sealed.last + 1)[0]  # not the bytes: a commit may be adding some meanwhile
        return dropped, sealed.bytes if dropped else 0


class Checkpoints:
    """The two newest checkpoints in a directory."""

    def __init__(self, files: Files, directory: Path) -> None:
        self.files = files
        self.directory = directory
        self.damaged = 0
        self._settled = False  # what has a name here will have it after a power cut

    @property
    def older_position(self) -> int:
        """The older checkpoint's position: what lies behind it must be kept. 0 if there are not two, durably."""
        try:
            positions = self.positions()
        except OSError:
            return 0
        return positions[-2] if len(positions) > 1 and self._settled else 0

    def save(self, position: int, state: State) -> None:
        """Write a checkpoint durably, then remove all but the two newest; JournalUnusable if the disk refused."""
        parts = list(columns.state_parts({"position": position, "state": state}))
        if (size := sum(map(len, parts))) > MAX_CHECKPOINT:
            raise JournalUnusable(f"a checkpoint of {size} bytes, at most {MAX_CHECKPOINT}")
        data = frame.encode_long(Kind.CHECKPOINT, parts, lane=JOURNAL_LANE)
        self._settled = False
        try:
            make_directory(self.files, self.directory)
            write_atomically(self.files, self.path(position), data)
            self._settled = True
            for old in self.positions()[:-2]:
                self.files.unlink(self.path(old))
        except OSError as error:
            raise JournalUnusable(f"{self.directory} cannot be written: {error.strerror}") from error

    def load(self) -> tuple[int, State] | None:
        """Give the newest good checkpoint's position and state; None if there is none. JournalUnusable: try again."""
        with suppress(OSError):  # then nothing is dropped on its word until the next one is written
            self.files.sync_directory(self.directory)
            self._settled = True
        try:
            positions = self.positions()
        except OSError as error:
            raise JournalUnusable(f"{self.directory} cannot be read: {error.strerror}") from error
        for position in reversed(positions):
            try:
                return position, self.read(position)
            except FrameRefused:
                pass
            except OSError as error:
                if error.errno != errno.EIO:  # not damage: the next one would fare no better
                    raise JournalUnusable(f"{self.directory} cannot be read: {error.strerror}") from error
            self.damaged += 1
            self._set_aside(position)
        return None

    def read(self, position: int) -> State:
        """Give the state that the checkpoint of a position holds; FrameRefused if it is damaged, or OSError."""
        kind, body = frame.decode_long(self.files.read(self.path(position)), max_bytes=MAX_CHECKPOINT)
        held = columns.decode_state(body)
        state: State | None = held.get("state")
        if kind != Kind.CHECKPOINT or held.get("position") != position or state is None:
            raise FrameRefused("body", f"not the checkpoint of position {position}")
        return state

    def _set_aside(self, position: int) -> None:
        try:
            self.files.rename(self.path(position), self.directory / "checkpoint.damaged")
        except OSError as error:
            raise JournalUnusable(f"{self.directory} cannot be used: {error.strerror}") from error

    def positions(self) -> list[int]:
        """Give the positions of those that are here, good or not, the oldest first."""
        names = self.files.names(self.directory)
        return [int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))]

    def path(self, position: int) -> Path:
        """Name the checkpoint of a position."""
        return self.directory / f"checkpoint-{position:020}.fg"

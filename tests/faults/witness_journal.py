"""The witness of a journal and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gateway import config
from gateway.journal import Checkpoints, Journal
from gateway.records import Readings, ReadingsRecord, State, TickRecord
from protocol.columns import encode_state
from protocol.errors import JournalUnusable
from protocol.settings import Size
from tests.faults.witness import TRIES, Witness


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

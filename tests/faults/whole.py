"""The witness of a whole gateway, but for its connections: journal, derive, pack, spool and checkpoints together.

After every end it is recovered, and must be bit for bit what an uninterrupted gateway would have made of the same
records: its state, and every window in the spool, once.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import ClassVar

import numpy as np

from gateway import recovery
from gateway.config import Clean, Duration, GatewayConfig, PipelineConfig, Size, Source, Window, pipeline_text
from gateway.config import Journal as JournalSettings
from gateway.config import Spool as SpoolSettings
from gateway.derive import Derive
from gateway.records import (
    ClockRecord,
    Closed,
    ConfigurationRecord,
    Outputs,
    Readings,
    ReadingsRecord,
    Record,
    Tally,
    TickRecord,
    complete,
)
from protocol import frame
from protocol.columns import decode_windows, encode_state
from protocol.messages import LANES, WindowRows
from tests.faults.witness import Witness

S = 10**9
SECONDS = (Window(size=Duration(S)),)
PIPELINES = [
    PipelineConfig(window=SECONDS),
    PipelineConfig(window=(Window(size=Duration(4 * S), hop=Duration(2 * S)), *SECONDS)),
    PipelineConfig(window=SECONDS, clean=(Clean(series="*/hot", max=1e6),)),
]
CONFIG = GatewayConfig(
    "edge",
    "/data",
    (Source("sensors/{device}/{measurement}"),),
    window=SECONDS,
    journal=JournalSettings(segment_bytes=Size(4000), max_bytes=Size(20_000)),
    spool=SpoolSettings(segment_bytes=Size(2000)),
)
NAMES = [f"device-{number % 5}/{name}" for number in range(20) for name in ("hot", "cold")]

Stated = tuple[int, int, int, int, bytes]
"""Series, definition, start, revision, and the rest of the row."""


class GatewayWitness(Witness):
    """See above."""

    steps: ClassVar[dict[str, int]] = {
        "arrive": 8,
        "tick": 2,
        "configure": 1,
        "state_clock": 1,
        "commit": 5,
        "pack": 4,
        "spool": 2,
        "checkpoint": 1,
    }

    def begin(self) -> None:
        """Promise nothing yet."""
        self.reference = Derive(PipelineConfig())
        self.position = 0  # up to which the reference has been fed
        self.expected: Counter[Stated] = Counter()
        self.acknowledged: dict[int, bytes] = {}
        self.now = S

    def open(self) -> None:
        """Recover; hold state and windows against the reference, fed with what the journal has."""
        at = self.opened = self._recovered()
        self.waiting: list[tuple[int, Record, Outputs]] = []
        journal, held = at.journal, {}
        for seq, record in journal.records(self.position + 1):
            held[seq] = encode_state(_state(record))
            self._refer(seq, record)
        lost = {seq for seq in self.acknowledged if seq > self.position} - set(held)
        assert not lost, "an acknowledged record is gone"
        assert held.items() >= {seq: self.acknowledged.get(seq, one) for seq, one in held.items()}.items(), "changed"
        assert encode_state(at.at.derive.snapshot()) == encode_state(self.reference.snapshot()), "not the same state"
        self.spool(0)
        derive, spool = at.at.derive, at.spool
        assert recovery.names_in(spool) == dict(enumerate(derive.names)), "a series is not defined"
        assert recovery.definitions_in(spool) == derive.definitions, "a window is not defined"
        spooled = self.spooled()
        assert not self.expected - spooled, "a window is gone"
        assert set(spooled) == set(self.expected), "a window was made up"
        assert spooled == self.expected or self.opened.spool.damaged, "a window was spooled twice"

    def _recovered(self) -> recovery.Opened:
        opened: recovery.Opened = self.patiently(lambda: recovery.recover(CONFIG, self.disk, self.now, lambda: 7))
        return opened

    def look(self) -> None:
        """Recover and close."""
        opened = self._recovered()
        opened.journal.close()
        opened.spool.close()

    def _refer(self, seq: int, record: Record) -> None:
        named = complete(record, len(self.reference.names), lambda: recovery.names_in(self.opened.spool))
        outputs = self.reference.feed(named)
        for item in outputs.items:
            self.expected.update(_rows(item.rows) if isinstance(item, Closed) else [])
        self.position = seq

    def spooled(self) -> Counter[Stated]:
        """Give all windows in the spool."""
        bodies = [frame.load(held.kind, held.body) for held in self.opened.spool.each("telemetry")]
        return Counter(row for body in bodies for row in _rows(decode_windows(body.columns)))

    def _apply(self, record: Record) -> None:
        seq = self.opened.journal.append(record)
        outputs = recovery.apply(self.opened.at, seq, record, 100)
        self.waiting.append((seq, record, outputs))

    def arrive(self, number: int) -> None:
        """Record readings, some of series not seen before."""
        chance, known = Random(number), self.opened.at.derive.names
        self.now += number % 7 * S // 4
        fresh = NAMES[len(known) : len(known) + number % 3] if number % 4 == 0 else []
        if not known and not fresh:
            fresh = NAMES[:1]
        rows = number % 30 + len(fresh)
        series = [len(known) + at for at in range(len(fresh))]
        series += [chance.randrange(len(known) + len(fresh)) for _ in range(rows - len(fresh))]
        times = [self.now - chance.randrange(2 * S) for _ in range(rows)]
        values = [chance.gauss(20, 5) for _ in range(rows)]
        columns = Readings(np.array(series, np.int32), np.array(times, np.int64), np.array(values, np.float64))
        self._apply(ReadingsRecord(self.now, columns, list(fresh), Tally(messages=rows, decoded=rows)))

    def tick(self, number: int) -> None:
        """Let time pass."""
        self.now += number % 50 * S
        self._apply(TickRecord(self.now))

    def configure(self, number: int) -> None:
        """Change the pipeline."""
        self._apply(ConfigurationRecord(self.now, pipeline_text(PIPELINES[number % len(PIPELINES)])))

    def state_clock(self, number: int) -> None:
        """Say that the clock is good, or not."""
        self._apply(ClockRecord(self.now, f"boot-{number % 3}", number, number % 5 > 0))

    def commit(self, _number: int) -> None:
        """Commit the journal: what it held is acknowledged, and its outputs go to the spool."""
        opened = self.opened
        opened.journal.commit()
        waiting, self.waiting = self.waiting, []
        for seq, record, outputs in waiting:
            self.acknowledged[seq] = encode_state(_state(record))
            self._refer(seq, record)
            recovery.put(opened.spool, opened.pack.feed(seq, outputs, self.now), self.now)

    def pack(self, _number: int) -> None:
        """Commit the journal and pack, but let the spool wait: its next commit has several frames."""
        self.commit(0)
        recovery.put(self.opened.spool, self.opened.pack.flush(), self.now)

    def spool(self, _number: int) -> None:
        """Spool what is gathered, and commit the spool."""
        recovery.put(self.opened.spool, self.opened.pack.flush(), self.now)
        self.opened.spool.commit()

    def checkpoint(self, number: int) -> None:
        """Commit all, write a checkpoint, and drop what it allows."""
        self.commit(number)
        self.spool(number)
        opened = self.opened
        opened.checkpoints.save(opened.at.position, recovery.checkpoint_state(opened.at))
        opened.journal.retain(self.now, opened.checkpoints.older_position)

    def check(self) -> None:
        """Assert that the books close."""
        derive = self.opened.at.derive
        totals = derive.totals
        explained = totals.windowed + sum(totals.removed.values()) + totals.late + derive.pending
        assert totals.recorded == explained
        assert [self.opened.spool.frames(lane) >= 0 for lane in LANES] == [True] * 4


def _state(record: Record) -> dict[str, object]:
    held = {name: getattr(record, name) for name in record.__slots__}
    if isinstance(record, ReadingsRecord):
        held |= {"readings": record.readings._asdict(), "tally": record.tally.messages, "recent": []}
    return held


def _rows(windows: WindowRows) -> list[Stated]:
    return [
        (int(row[0]), int(row[1]), int(row[2]), int(row[3]), b"".join(value.tobytes() for value in row[4:]))
        for row in zip(*windows, strict=True)
    ]

"""`fieldgate gateway journal import`: a file's readings become journal records, in the order of their times.

They take the way of readings that arrive now: journal, derive, spool. What they close is sent up when the gateway runs
next; what is still open then closes by the rules for a device that has fallen silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any

import numpy as np

from cli.series import Series, read
from gateway import recovery
from gateway.clock import Clock, adrift, boot_id
from gateway.config import GatewayConfig, pipeline_text
from gateway.records import (
    ConfigurationRecord,
    Outputs,
    Readings,
    ReadingsRecord,
    Record,
    SeriesTable,
    no_readings,
)
from gateway.segment import OsFiles

ROWS = 4096
"""Readings a record."""

RECORDS = 64
"""Records a commit."""


def backfill(path: Path, config: GatewayConfig) -> dict[str, Any]:
    """Import a file; FileRefused or JournalUnusable says why not. What was imported, in numbers."""
    found = [_with_device(series, path.stem) for series in read(path)]
    rng = SystemRandom()
    opened = recovery.recover(config, OsFiles(), Clock().now(), lambda: rng.getrandbits(63))
    try:
        return _Import(config, opened).run(found)
    finally:
        opened.journal.close()
        opened.spool.close()


def _with_device(series: Series, device: str) -> Series:
    return series if "/" in series.name else series._replace(name=f"{device}/{series.name}")


class _Import:
    """One import into an open gateway's data."""

    def __init__(self, config: GatewayConfig, opened: recovery.Opened) -> None:
        self.config, self.opened = config, opened
        self.clock = Clock(opened.at.stamp, since=adrift(opened.at.derive.clock.last))
        self.waiting: list[tuple[int, Outputs]] = []

    def run(self, found: list[Series]) -> dict[str, Any]:
        """Record everything, and write a checkpoint."""
        at = self.opened.at
        totals = at.derive.totals
        before = totals.recorded, totals.windows, dict(totals.removed), totals.late
        self._begin()
        refused = self._record(found)
        self._commit(last=True)
        self.opened.checkpoints.save(at.position, recovery.checkpoint_state(at))
        totals = at.derive.totals
        removed = {cause: number - before[2].get(cause, 0) for cause, number in totals.removed.items()}
        return {
            "series": len(found),
            "readings": totals.recorded - before[0],
            "windows": totals.windows - before[1],
            "late": totals.late - before[3],
            "removed": {cause: number for cause, number in removed.items() if number},
            "refused": refused,
        }

    def _begin(self) -> None:
        """State the clock and, if it changed, the configuration, as a gateway does that starts."""
        now = self.clock.now()
        first = self.opened.journal.next == 1
        self._apply(self.clock.record(now, boot_id(), after=self.opened.at.stamp or now))
        text = pipeline_text(self.config.pipeline)
        if first or pipeline_text(self.opened.at.derive.config) != text:
            self._apply(ConfigurationRecord(now, text))

    def _record(self, found: list[Series]) -> int:
        table = SeriesTable(self.opened.at.derive.names, limit=self.config.max_series)
        known = len(table)
        numbers = [table.add(series.name) for series in found]
        names = table.names[known:]
        for readings in _batches(found, numbers):
            self._apply(ReadingsRecord(self.clock.now(), readings, names, ours=no_readings().series))
            names = []
            if len(self.waiting) >= RECORDS:
                self._commit(last=False)
        return sum(len(series.time) for series, number in zip(found, numbers, strict=True) if number < 0)

    def _apply(self, record: Record) -> None:
        seq = self.opened.journal.append(record)
        outputs = recovery.apply(self.opened.at, seq, record, self.config.devices.receive_maximum)
        self.waiting.append((seq, outputs))

    def _commit(self, *, last: bool) -> None:
        opened, now = self.opened, self.clock.now()
        opened.journal.commit()
        for seq, outputs in self.waiting:
            recovery.put(opened.spool, opened.pack.feed(seq, outputs, now), now)
        self.waiting.clear()
        if last:
            recovery.put(opened.spool, opened.pack.flush(), now)
        if losses := opened.spool.enforce(now):
            recovery.put(opened.spool, [opened.pack.losses(losses, opened.at.derive.totals.counts(), now)], now)
        opened.spool.commit()


def _batches(found: list[Series], numbers: list[int]) -> Iterator[Readings]:
    """Merge series by time, ties in the file's order, ROWS readings at a time; those without a number are left out."""
    kept = [(series, number) for series, number in zip(found, numbers, strict=True) if number >= 0]
    if not kept:
        return
    series = np.concatenate([np.full(len(one.time), number, np.int32) for one, number in kept])
    time = np.concatenate([one.time for one, _ in kept])
    value = np.concatenate([one.value for one, _ in kept])
    order = np.argsort(time, kind="stable")
    for begin in range(0, len(order), ROWS):
        rows = order[begin : begin + ROWS]
        yield Readings(series[rows], time[rows], value[rows])

"""`fieldgate gateway replay`: a journal's windows, computed anew."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gateway import recovery
from gateway.config import GatewayConfig
from gateway.journal import Journal
from gateway.records import Closed, Definitions, Outputs, ReadingsRecord, Tally, count
from gateway.segment import OsFiles
from protocol.errors import FieldgateError
from protocol.messages import WindowRows

HEADER = "series,definition,start,revision,count,mean,deviation,minimum,maximum,first,last"


def replay(path: Path, config: GatewayConfig, write: Callable[[str], None] | None) -> dict[str, Any]:
    """Run all records through `derive`; give the totals, and each window to `write` as a line of CSV."""
    directory = path / "journal" if (path / "journal").is_dir() else path
    if not any(directory.glob("*.seg")):
        raise FieldgateError(f"{directory}: no journal here (it is the directory `journal` in a gateway's `data`)")
    journal = Journal.open(OsFiles(), directory, config.journal, about=dict)
    totals = _Totals(list(journal.about_oldest().get("names") or []))
    if write is not None:
        write(HEADER)
    try:
        for _, record, outputs in recovery.rerun(journal, config.pipeline):
            totals.records += 1
            if isinstance(record, ReadingsRecord):
                totals.readings += record.readings.rows
                totals.tally.add(record.tally)
            for line in totals.lines(outputs):
                if write is not None:
                    write(line)
        return totals.summary() | {"damaged": journal.damaged}
    finally:
        journal.close()


class _Totals:
    """Counts over a replay; `digest` is over every window, in order, bit for bit."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.records = self.readings = self.windows = self.late = self.windowed = 0
        self.removed: dict[str, int] = {}
        self.tally = Tally()
        self.digest = hashlib.sha256()

    def lines(self, outputs: Outputs) -> Iterator[str]:
        """Count one record's outputs, and give a line for each of its windows."""
        self.late += outputs.late
        self.windowed += outputs.windowed
        count(self.removed, outputs.removed)
        for item in outputs.items:
            if isinstance(item, Definitions):
                self.names.extend(series.name for series in item.series)
            elif isinstance(item, Closed):
                yield from self._rows(item.rows)

    def _rows(self, rows: WindowRows) -> Iterator[str]:
        self.windows += rows.rows
        for column in rows:
            self.digest.update(column.tobytes())
        for series, *values in zip(*(column.tolist() for column in rows), strict=True):
            yield f"{_quoted(self.names[series])},{','.join(map(repr, values))}"

    def summary(self) -> dict[str, Any]:
        """Give the totals: recorded = windowed + removed + late + pending."""
        out = self.windowed + self.late + sum(self.removed.values())
        return {
            "records": self.records,
            "readings": self.readings,
            "series": len(self.names),
            "windows": self.windows,
            "windowed": self.windowed,
            "removed": self.removed,
            "late": self.late,
            "pending": self.readings - out,
            "refused": self.tally.refused,
            "dead": self.tally.dead,
            "digest": self.digest.hexdigest()[:16],
        }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(',"\n\r') & set(name) else name

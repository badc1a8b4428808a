"""`fieldgate gateway replay`: what a configuration makes of recorded data, and where it differs from another.

The numbers come from the same `derive` as live, on the virtual time of the records' stamps. The journal is only read,
without its lock: it may be the one that a running gateway writes, and is replayed as it stood when it was opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from cli.replay import text
from cli.replay.alerts import Differing
from cli.replay.diff import Diff
from cli.replay.totals import Totals
from gateway import recovery
from gateway.config import GatewayConfig
from gateway.journal import Journal
from gateway.records import Alerts, Closed, Outputs, ReadingsRecord, Record, Tally
from gateway.segment import ReadOnlyFiles
from protocol.errors import FieldgateError

LISTED = 1000
"""Differing alerts in a comparison's JSON: the rest is counted in `unlisted`."""

Write = Callable[[str], object]
"""Takes lines, each with its end."""


class Printed(NamedTuple):
    """Where windows go as CSV, alerts as CSV, and alerts for a person; None: nowhere."""

    windows: Write | None = None
    alerts: Write | None = None
    people: Write | None = None


def replay(path: Path, config: GatewayConfig, printed: Printed) -> dict[str, Any]:
    """Run all records through `derive`; give the totals."""
    with _read(path, config) as journal:
        run, totals = _Run(journal), Totals()
        _header(printed)
        for [outputs] in run.through(recovery.rerun(journal, config.pipeline)):
            totals.add(outputs)
            _print(outputs, run.names, printed)
        return run.summary() | totals.summary(run.readings)


def compare(path: Path, a: GatewayConfig, b: GatewayConfig, write: Write | None) -> dict[str, Any]:
    """Run all records through a `derive` of each configuration; give the differences, `write` those of alerts."""
    with _read(path, b) as journal:
        run = _Run(journal)
        diff = Diff(a.pipeline, b.pipeline, run.names)
        listed = _Listed(diff.names, write)
        for outputs in run.through(recovery.rerun(journal, a.pipeline, b.pipeline)):
            listed.add(diff.feed(outputs))
        listed.add(diff.finish())
        return run.summary() | diff.summary(run.readings) | {"alerts": listed.alerts, "unlisted": listed.unlisted}


@contextmanager
def _read(path: Path, config: GatewayConfig) -> Iterator[Journal]:
    directory = path / "journal" if (path / "journal").is_dir() else path
    if not any(directory.glob("*.seg")):
        raise FieldgateError(f"{directory}: no journal here (it is the directory `journal` in a gateway's `data`)")
    journal = Journal.open(ReadOnlyFiles(), directory, config.journal, about=dict)
    try:
        if journal.oldest == journal.next:
            raise FieldgateError(f"{directory}: this journal is empty: nothing has been recorded yet")
        yield journal
    finally:
        journal.close()


class _Run:
    """One reading of a journal: its records, the names of its series, and how fast it goes."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.names: list[str] = list(journal.about_oldest().get("names") or [])
        self.counted = self.readings = 0
        self.tally = Tally()
        self.begun = perf_counter()

    def through(self, found: Iterator[tuple[int, Record, list[Outputs]]]) -> Iterator[list[Outputs]]:
        """Give each record's outputs, its series named and its readings counted."""
        for seq, record, outputs in found:
            self.counted += seq > 0
            if isinstance(record, ReadingsRecord):
                self.readings += record.readings.rows
                self.names.extend(record.names)
                self.tally.add(record.tally)
            yield outputs

    def summary(self) -> dict[str, Any]:
        """Say what was read and how fast."""
        seconds = perf_counter() - self.begun
        return {
            "records": self.counted,
            "readings": self.readings,
            "series": len(self.names),
            "refused": self.tally.refused,
            "dead": self.tally.dead,
            "damaged": self.journal.damaged,
            "seconds": round(seconds, 3),
            "readings_per_second": round(self.readings / seconds),
        }


class _Listed:
    """Differing alerts, as lines like those of a diff and, the first of them, for JSON."""

    def __init__(self, names: list[str], write: Write | None) -> None:
        self.names, self.write = names, write
        self.alerts: list[dict[str, Any]] = []
        self.unlisted = 0

    def add(self, differing: list[Differing]) -> None:
        """Take what has been decided."""
        for side, alert in differing:
            if self.write is not None:
                self.write(f"{'-+'[side]} {text.alert_said(alert, self.names)}\n")
            if len(self.alerts) < LISTED:
                self.alerts.append({"only": "ab"[side], **text.alert_fields(alert, self.names)})
            else:
                self.unlisted += 1


def _header(printed: Printed) -> None:
    for write, header in ((printed.windows, text.WINDOWS), (printed.alerts, text.ALERTS)):
        if write is not None:
            write(f"{header}\n")


def _print(outputs: Outputs, names: list[str], printed: Printed) -> None:
    for item in outputs.items:
        if isinstance(item, Closed) and printed.windows is not None:
            printed.windows("".join(f"{line}\n" for line in text.window_lines(item.rows, names)))
        elif isinstance(item, Alerts):
            for alert in item.alerts:
                if printed.alerts is not None:
                    printed.alerts(f"{text.alert_line(alert, names)}\n")
                if printed.people is not None:
                    printed.people(f"{text.alert_said(alert, names)}\n")

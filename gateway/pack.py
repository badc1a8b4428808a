"""Outputs of committed records into lane bodies: what goes into one frame, and when it is full enough.

Rules:

1. Definitions and alerts go at once; windows are gathered for `interval`, or until there are MAX_ROWS of them.
2. Each body carries its cover: the last output (record, ordinal) it accounts for in its lane. Covers only grow.
3. An output at or below its lane's cover is spooled already, so after a restart the replay drops it here.
4. Memory is bounded by MAX_ROWS rows and one interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np

from gateway.records import NEVER, Alerts, Closed, Definitions, Learnt, Outputs, Swapped
from protocol.columns import encode_windows
from protocol.frame import dump
from protocol.messages import (
    AlertsBody,
    AnswerBody,
    Cover,
    DefinitionsBody,
    Kind,
    Loss,
    LossesBody,
    PartBody,
    QuestionsBody,
    ReportBody,
    StatisticsBody,
    WindowRows,
    WindowsBody,
    join_windows,
)

MAX_ROWS = 16_384
"""Rows in one frame: at 10 to 20 bytes each it stays well under the 1 MiB that may be in flight."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A body ready for its lane; `rows` is how many windows it states."""

    lane: str
    kind: Kind
    body: bytes
    cover: Cover
    rows: int = 0


@dataclass(slots=True)
class _Gathered:
    parts: list[WindowRows] = field(default_factory=list)
    rows: int = 0
    before: Cover = field(default_factory=Cover)  # what the lane covered before these
    cover: Cover = field(default_factory=Cover)
    domain: str = ""
    stamp: int = 0
    since: int = NEVER


class Pack:
    """Gathers the outputs of committed records; `covers` says per lane what the spool holds already."""

    def __init__(self, interval: int, covers: dict[str, Cover]) -> None:
        self.interval = interval
        self.apart = False  # a frame for each definition, so that some can be withheld
        self._covers = dict(covers)
        self._gathered = _Gathered()

    def feed(self, record: int, outputs: Outputs, now: int) -> list[Packed]:
        """Take one record's outputs; return what is ready."""
        ready: list[Packed] = []
        for ordinal, item in enumerate(outputs.items):
            cover = Cover(record, ordinal)
            match item:
                case Definitions() if self._is_new("definitions", cover):
                    ready.extend(self.flush())  # rows of earlier definitions go before the numbers change
                    body = DefinitionsBody(cover, item.series, item.windows, now, item.clocks)
                    ready.append(Packed("definitions", Kind.DEFINITIONS, dump(body), cover))
                case Alerts() if self._is_new("alerts", cover):
                    body_alerts = AlertsBody(cover, item.alerts, item.domain)
                    ready.append(Packed("alerts", Kind.ALERTS, dump(body_alerts), cover))
                case Closed() if cover > (before := self._covers.get("telemetry", Cover())):
                    self._covers["telemetry"] = cover
                    ready.extend(self._gather(item, before, cover, now))
                case Learnt() if self._is_new("results", cover):
                    learnt = (item.model, item.stamp, item.entries, item.alerts, item.shadow, item.version)
                    statistics = StatisticsBody(cover, *learnt)
                    ready.append(Packed("results", Kind.STATISTICS, dump(statistics), cover))
                case Swapped() if self._is_new("results", cover):
                    report = ReportBody(cover, item.model, item.version, "applied", "", item.digest, item.stamp)
                    ready.append(Packed("results", Kind.REPORT, dump(report), cover))
                case _:
                    pass  # spooled before the restart
        return ready

    def losses(self, losses: list[Loss], counts: dict[str, int], now: int) -> Packed:
        """Declare what was dropped; not a journal output, so the lane's cover stays where it is."""
        cover = self._covers.get("results", Cover())
        return Packed("results", Kind.LOSSES, dump(LossesBody(cover, losses, counts, now)), cover)

    def refused(
        self, model: str, version: int, reason: str, digest: str, now: int, *, outcome: str = "refused"
    ) -> Packed:
        """Report a model that was not taken, or did not do; not a journal output, so the lane's cover stays."""
        cover = self._covers.get("results", Cover())
        body = ReportBody(cover, model, version, outcome, reason, digest, now)
        return Packed("results", Kind.REPORT, dump(body), cover)

    def part(self, body: PartBody | AnswerBody) -> Packed:
        """Answer a task; not a journal output, so the lane's cover stays where it is."""
        covered = msgspec.structs.replace(body, cover=self._covers.get("results", Cover()))
        kind = Kind.ANSWER if isinstance(body, AnswerBody) else Kind.PART
        return Packed("results", kind, dump(covered), covered.cover)

    def questions(self, body: QuestionsBody) -> Packed:
        """Ask; not a journal output either."""
        covered = msgspec.structs.replace(body, cover=self._covers.get("results", Cover()))
        return Packed("results", Kind.QUESTIONS, dump(covered), covered.cover)

    def tick(self, now: int) -> list[Packed]:
        """Return the gathered windows when their interval has passed."""
        return self.flush() if now >= self.due() else []

    def due(self) -> int:
        """When (ns) the gathered windows must go."""
        return self._gathered.since + self.interval if self._gathered.rows else NEVER

    def flush(self) -> list[Packed]:
        """Return the gathered windows now."""
        gathered, self._gathered = self._gathered, _Gathered()
        if not gathered.rows:
            return []
        joined = join_windows(gathered.parts)
        frames = [rows for part in _by_definition(joined) for rows in _cut(part)] if self.apart else _cut(joined)
        return [self._windows(rows, gathered, last=rows is frames[-1]) for rows in frames]

    def _windows(self, rows: WindowRows, gathered: _Gathered, *, last: bool) -> Packed:
        cover = gathered.cover if last else gathered.before  # a crash between two frames repeats rows, never loses them
        body = WindowsBody(cover, rows.rows, encode_windows(rows), gathered.domain, gathered.stamp)
        return Packed("telemetry", Kind.WINDOWS, dump(body), cover, rows.rows)

    def _is_new(self, lane: str, cover: Cover) -> bool:
        if cover <= self._covers.get(lane, Cover()):
            return False
        self._covers[lane] = cover
        return True

    def _gather(self, item: Closed, before: Cover, cover: Cover, now: int) -> list[Packed]:
        ready: list[Packed] = []
        if self._gathered.rows and self._gathered.domain != item.domain:
            ready = self.flush()
        gathered = self._gathered
        if not gathered.parts:
            gathered.before = before
        gathered.parts.append(item.rows)
        gathered.rows += item.rows.rows
        gathered.cover, gathered.domain, gathered.stamp = cover, item.domain, now
        gathered.since = min(gathered.since, now)
        return [*ready, *self.flush()] if gathered.rows >= MAX_ROWS else ready


def _by_definition(rows: WindowRows) -> list[WindowRows]:
    which = [rows.definition == number for number in np.unique(rows.definition)]
    return [WindowRows._make(column[some] for column in rows) for some in which]


def _cut(rows: WindowRows) -> list[WindowRows]:
    cuts = range(0, rows.rows, MAX_ROWS)
    return [WindowRows._make(column[at : at + MAX_ROWS] for column in rows) for at in cuts]

"""What one transaction writes. Runs in the store's thread; knows nothing of futures or queues."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.ledger import Lane, Verdict
from cloud.store import MAX_IDS, MAX_RAISED, Applied, Arrived, Batch, Greeted, Stored, Undecodable, Windows
from cloud.store.answers import AlertView
from cloud.store.sqlite.clocks import Clocks
from cloud.store.sqlite.losses import Losses
from cloud.store.sqlite.models import Models
from cloud.store.sqlite.numbers import Contradicted, Epoch, Ids, Numbers
from cloud.store.sqlite.ours import Ours
from cloud.store.sqlite.outcome import Outcome, Page, joined
from cloud.store.sqlite.parts import Parts
from cloud.store.sqlite.schema import (
    ALERT,
    EXPIRE_ALERTS,
    EXPIRE_WINDOWS,
    GATEWAY,
    GREETED,
    HEAD,
    LANE,
    LATER,
    REMARK,
    VERSION,
    WINDOW,
)
from protocol.columns import encode_windows
from protocol.messages import (
    COPIED,
    LANES,
    LOST,
    Alert,
    AlertsBody,
    DefinitionsBody,
    Hello,
    LaneHead,
    LossesBody,
    PartBody,
    ReportBody,
    StatisticsBody,
    stamp_of,
)

MAX_REASON = 256
MAX_QUARANTINE = 1000
MAX_QUARANTINE_BODY = 16 << 10
"""The quarantine is a ring of this many frames and bytes each; the counts in `lanes` go on."""

EXPIRE_SERIES = 100
EXPIRE_ROWS = 1000
"""Bounds of one step of `expire`, per stream; run every ten minutes it finds few rows in each."""

ENCODE = msgspec.msgpack.encode
ENCODE_JSON = msgspec.json.encode
UNSTORABLE = (OverflowError, sqlite3.DataError, sqlite3.IntegrityError)
"""What the database cannot hold; any other error of its is not the batch's fault."""
DECODE = msgspec.msgpack.Decoder(Lane).decode
DECODE_COUNTS = msgspec.json.Decoder(dict[str, int]).decode

COPIES = "two copies of its data directory are in use; stop one, and give it a name and token of its own"


class Told(NamedTuple):
    """An alert, and its series in the store's own numbers."""

    alert: Alert
    series: list[int]
    missing: list[int]
    domain: str


class Writer:
    """Writes on one connection, inside a transaction its caller began; `clock` gives the stamp of what is stored."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self.models = Models(connection)
        self.parts = Parts(connection)
        self._numbers = Numbers(connection)
        self.ours = Ours(connection, self._numbers)
        self._losses = Losses(connection)
        self._clocks = Clocks(connection, self._numbers)
        self._clock = clock

    def forget(self) -> None:
        """Forget what was read: the transaction was rolled back."""
        self._numbers.forget()

    def touch(self) -> None:
        """Write something, to see whether that can be done."""
        self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def hello(self, hello: Hello, now: int) -> Greeted:
        """Note that a gateway speaks, and compare its lanes with the ledger."""
        run = self._connection.execute
        run(GATEWAY, (hello.gateway, now, now, hello.epoch, hello.boot, hello.version, hello.readings))
        gateway = self._numbers.gateway(hello.gateway)
        run(GREETED, (gateway, hello.epoch, now))
        lanes = {lane: self._ledger(gateway, hello.epoch, lane) for lane in LANES}
        if fork := self._forked(gateway, hello.epoch):
            return Greeted({}, fork)
        fork = _contradiction(lanes, hello.lanes)
        remark = self._remark(gateway, hello, fork, now)
        if fork:
            return Greeted({}, fork)
        for lane, head in hello.lanes.items():
            key = (gateway, hello.epoch, LANES.index(lane), ENCODE(lanes[lane]))
            run(HEAD, (*key, head.oldest, head.next, hello.since.get(lane, 0)))
        return Greeted({lane: ledger.mark for lane, ledger in lanes.items()}, "", remark)

    def apply(self, batch: Batch) -> Applied:
        """Write a batch; a frame that the database cannot hold is quarantined instead."""
        try:
            return self._apply(batch)
        except UNSTORABLE:
            self._connection.execute("ROLLBACK TO batch")
            self.forget()
            return joined([self._apply_alone(batch._replace(frames=[frame])) for frame in batch.frames])

    def expire(self, before: int, after: int) -> int:
        """Delete what is older, of the next EXPIRE_SERIES series; give the series to go on after, 0 when done."""
        run = self._connection.execute
        (last,) = run("SELECT coalesce(max(id), 0) FROM series").fetchone()
        if after >= last:
            run(EXPIRE_ALERTS, (before, EXPIRE_ROWS))
            return 0
        sql = "SELECT series, definition, domain FROM streams WHERE series > ? AND series <= ?"
        for stream in run(sql, (after, after + EXPIRE_SERIES)).fetchall():
            run(EXPIRE_WINDOWS, (*stream, before, EXPIRE_ROWS))
        return int(after + EXPIRE_SERIES)

    def _apply_alone(self, batch: Batch) -> Applied:
        self._connection.execute("SAVEPOINT frame")
        try:
            return self._apply(batch)
        except UNSTORABLE as error:
            self._connection.execute("ROLLBACK TO frame")
            self.forget()
            refused = Undecodable("store", str(error), b"")
            return self._apply(batch._replace(frames=[frame._replace(holds=refused) for frame in batch.frames]))
        finally:
            self._connection.execute("RELEASE frame")

    def _apply(self, batch: Batch) -> Applied:
        gateway = self._numbers.gateway(batch.gateway)
        outcome = Outcome(fork=self._forked(gateway, batch.epoch))
        epoch = self._numbers.epoch(gateway, batch.epoch)
        now = self._clock()
        for frame in batch.frames:
            if outcome.fork:
                break
            self._take(epoch, frame, outcome, now)
        self._write_pages(epoch, outcome)
        self._write_gateway(epoch, outcome, now)
        return outcome.applied()

    def _take(self, epoch: Epoch, frame: Arrived, outcome: Outcome, now: int) -> None:
        page = self._page(epoch, frame.lane, outcome)
        page.next = max(page.next, frame.seq + 1)
        if isinstance(frame.holds, LossesBody) and not self._closable(epoch, frame.holds, outcome):
            outcome.deferred += 1
            return
        match page.ledger.feed(frame.seq, frame.chain, frame.content):
            case Verdict.ACCEPT:
                page.received += 1
                page.bytes += frame.size
                if page.ledger.upto >= frame.seq:
                    page.since = max(page.since, stamp_of(frame.holds))
                self._write(epoch, frame, outcome, now)
            case Verdict.DUPLICATE:
                page.duplicate += 1
            case Verdict.DEFER:
                outcome.deferred += 1
            case Verdict.FORK:
                outcome.fork = f"{frame.lane} frame {frame.seq} does not follow the one before it: {COPIED}"
                sql = "UPDATE epochs SET fork = ?, remarked = ? WHERE gateway = ? AND epoch = ?"
                self._connection.execute(sql, (outcome.fork, now, epoch.gateway, epoch.epoch))

    def _write(self, epoch: Epoch, frame: Arrived, outcome: Outcome, now: int) -> None:
        refused: Undecodable | None = None
        match frame.holds:
            case Windows() as windows:
                refused = self._write_windows(epoch, self._clocks.windows(epoch.gateway, windows), outcome, now)
            case DefinitionsBody() as body:
                refused = self._define(epoch, body, outcome)
            case AlertsBody() as body:
                refused = self._write_alerts(epoch, self._clocks.alerts(epoch.gateway, body), outcome, now)
            case StatisticsBody() as body:
                refused = self.models.learn(epoch.gateway, body, outcome.news, now)
            case ReportBody() as body:
                name = self._numbers.name_of(epoch.gateway)
                refused = self.models.report(epoch.gateway, name, body, outcome.news, now)
            case PartBody() as body:
                self.parts.take(epoch.gateway, body, outcome.news, now)
            case LossesBody() as body:
                self._write_losses(epoch, body, outcome, now)
            case Undecodable() as held:
                refused = held
        if refused is not None:
            self._quarantine(epoch, frame, refused, outcome, now)

    def _define(self, epoch: Epoch, body: DefinitionsBody, outcome: Outcome) -> Undecodable | None:
        try:
            outcome.new_series += self._numbers.define(epoch, body)
        except Contradicted as error:
            return Undecodable("redefined", str(error), ENCODE(body))
        self._clocks.learn(epoch.gateway, body.clocks)
        return None

    def _write_windows(self, epoch: Epoch, windows: Windows, outcome: Outcome, now: int) -> Undecodable | None:
        rows = windows.rows
        series, definition = _translate(epoch.series, rows.series), _translate(epoch.definitions, rows.definition)
        if series is None:
            return Undecodable("series", "a row of a series that was never defined", encode_windows(rows))
        if definition is None:
            return Undecodable("definition", "a row of a definition that was never given", encode_windows(rows))
        domain = self._numbers.domain(windows.domain)
        for number in np.unique(definition).tolist():
            self._numbers.stream(series[definition == number], number, domain)
        columns = (series.tolist(), definition.tolist(), *(column.tolist() for column in rows[2:]))
        written = self._upsert(zip(*columns, strict=True), domain, now)
        outcome.windows += int(np.count_nonzero(written))
        outcome.readings += _readings(epoch, windows, written)
        outcome.stored.append(Stored(windows.domain == "", series, rows.start, epoch.sizes[rows.definition], rows))
        return None

    def _upsert(self, rows: Iterable[tuple[Any, ...]], domain: int, now: int) -> NDArray[np.bool_]:
        """Write window rows, and say of each whether it was new or a higher revision."""
        changes: list[int] = []

        def values() -> Iterator[tuple[Any, ...]]:
            for number, kind, start, revision, *rest in rows:
                changes.append(self._connection.total_changes)  # before this row, after the one above
                yield (number, kind, domain, start, revision, *rest, now)

        self._connection.executemany(WINDOW, values())
        return np.diff(changes, append=self._connection.total_changes) > 0

    def _write_alerts(self, epoch: Epoch, body: AlertsBody, outcome: Outcome, now: int) -> Undecodable | None:
        told = []
        for alert in body.alerts:
            series = _translate(epoch.series, np.asarray(alert.series, np.int64))
            missing = _translate(epoch.series, np.asarray(alert.missing, np.int64))
            if series is None or missing is None:
                return Undecodable("series", "an alert about a series that was never defined", ENCODE(body))
            told.append(Told(alert, series.tolist(), missing.tolist(), body.domain))
        fresh = [one for one in told if self._write_alert(epoch, one, now)]
        outcome.news.alerts += len(fresh)
        shown = [self._alert_view(epoch, one, now) for one in fresh[-MAX_RAISED:]]
        outcome.news.raised = (outcome.news.raised + shown)[-MAX_RAISED:]
        return None

    def _write_alert(self, epoch: Epoch, told: Told, now: int) -> bool:
        """Write an alert, and say whether it is new."""
        alert = told.alert
        domain = self._numbers.domain(told.domain)
        key = (epoch.gateway, _text(told.series), alert.start, alert.revision, alert.rule, domain)
        scored = (alert.stamp, alert.score, alert.version, now, alert.threshold)
        values = (*key, *scored, _text(alert.contributions), _text(told.missing))
        return self._connection.execute(ALERT, values).rowcount > 0

    def _alert_view(self, epoch: Epoch, told: Told, now: int) -> AlertView:
        alert = told.alert
        return AlertView(
            gateway=self._numbers.name_of(epoch.gateway),
            series=told.series,
            names=self._numbers.names(told.series),
            start=alert.start,
            revision=alert.revision,
            stamp=alert.stamp,
            score=alert.score,
            rule=alert.rule,
            version=alert.version,
            domain=told.domain,
            stored=now,
            threshold=alert.threshold,
            contributions=list(alert.contributions),
            missing=self._numbers.names(told.missing),
        )

    def _closable(self, epoch: Epoch, body: LossesBody, outcome: Outcome) -> bool:
        """Say whether all losses can be taken down; tried on copies, because it is all of the frame or nothing."""
        trial: dict[str, Lane] = {}
        for loss in body.losses:
            page = self._page(epoch, loss.lane, outcome)
            ledger = trial.setdefault(loss.lane, DECODE(ENCODE(page.ledger)))
            if ledger.drop(loss.first, loss.last) is None:
                return False
        return True

    def _write_losses(self, epoch: Epoch, body: LossesBody, outcome: Outcome, now: int) -> None:
        outcome.news.counts.update(body.counts)
        for loss in body.losses:
            page = self._page(epoch, loss.lane, outcome)
            closed = page.ledger.drop(loss.first, loss.last) or []
            key = (epoch.gateway, epoch.epoch, LANES.index(loss.lane))
            page.dropped += self._losses.note(key, loss, closed, now)
            page.next = max(page.next, loss.last + 1)
            page.since = max(page.since, loss.newest if page.ledger.upto >= loss.last else 0)

    def _quarantine(self, epoch: Epoch, frame: Arrived, held: Undecodable, outcome: Outcome, now: int) -> None:
        self._page(epoch, frame.lane, outcome).quarantined += 1
        outcome.quarantined[held.cause] = outcome.quarantined.get(held.cause, 0) + 1
        key = (epoch.gateway, epoch.epoch, LANES.index(frame.lane), frame.seq)
        cursor = self._connection.execute(
            "INSERT INTO quarantine (gateway, epoch, lane, seq, cause, detail, stored, size, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, held.cause, held.detail[:500], now, frame.size, held.body[:MAX_QUARANTINE_BODY]),
        )
        oldest = (cursor.lastrowid or 0) - MAX_QUARANTINE
        self._connection.execute("DELETE FROM quarantine WHERE id <= ?", (oldest,))

    def _page(self, epoch: Epoch, lane: str, outcome: Outcome) -> Page:
        if lane not in outcome.pages:
            outcome.pages[lane] = Page(self._ledger(epoch.gateway, epoch.epoch, lane))
        return outcome.pages[lane]

    def _ledger(self, gateway: int, epoch: int, lane: str) -> Lane:
        sql = "SELECT ledger FROM lanes WHERE gateway = ? AND epoch = ? AND lane = ?"
        row = self._connection.execute(sql, (gateway, epoch, LANES.index(lane))).fetchone()
        return DECODE(row[0]) if row else Lane()

    def _forked(self, gateway: int, epoch: int) -> str:
        sql = "SELECT fork FROM epochs WHERE gateway = ? AND epoch = ?"
        row = self._connection.execute(sql, (gateway, epoch)).fetchone()
        return str(row[0]) if row else ""

    def _remark(self, gateway: int, hello: Hello, fork: str, now: int) -> str:
        """Note what an operator should look at, and give it; "" if that is nothing, or is said of another epoch."""
        remark = fork or self._returned(gateway, hello.epoch) or hello.reason[:MAX_REASON]
        noted = remark and self._connection.execute(REMARK, (gateway, hello.epoch, remark, now)).rowcount
        return remark if noted else ""

    def _returned(self, gateway: int, epoch: int) -> str:
        """Say what it means that an epoch speaks although a later one has begun; "" if none has."""
        row = self._connection.execute(LATER, (gateway, epoch)).fetchone()
        return f"it speaks again although {row[0]:016x} began later: {COPIES}" if row else ""

    def _with_lost(self, gateway: int, counts: dict[str, int]) -> dict[str, int]:
        """Add what was said of frames lost with earlier epochs: each epoch tells only its own, at its beginning."""
        (text,) = self._connection.execute("SELECT counts FROM gateways WHERE id = ?", (gateway,)).fetchone()
        before = {name: value for name, value in DECODE_COUNTS(text).items() if name.startswith(LOST)}
        return counts | {name: value + counts.get(name, 0) for name, value in before.items()}

    def _write_pages(self, epoch: Epoch, outcome: Outcome) -> None:
        values = []
        for lane, page in outcome.pages.items():
            key = (epoch.gateway, epoch.epoch, LANES.index(lane), ENCODE(page.ledger))
            counts = (page.received, page.duplicate, page.quarantined, page.dropped, page.bytes)
            values.append((*key, *counts, page.next, page.since))
        self._connection.executemany(LANE, values)

    def _write_gateway(self, epoch: Epoch, outcome: Outcome, now: int) -> None:
        size = sum(page.bytes for page in outcome.pages.values())
        self._connection.execute(
            "UPDATE gateways SET last_seen = ?, windowed = windowed + ?, windows = windows + ?, bytes = bytes + ?, "
            "alerts = alerts + ? WHERE id = ?",
            (now, outcome.readings, outcome.windows, size, outcome.news.alerts, epoch.gateway),
        )
        if outcome.news.counts:
            counts = outcome.news.counts = self._with_lost(epoch.gateway, outcome.news.counts)
            sql = "UPDATE gateways SET counts = ?, recorded = max(recorded, ?) WHERE id = ?"
            text = ENCODE_JSON(counts).decode()
            self._connection.execute(sql, (text, counts.get("recorded", 0), epoch.gateway))


def _contradiction(lanes: dict[str, Lane], heads: dict[str, LaneHead]) -> str:
    for lane, head in heads.items():
        if why := lanes[lane].contradicts(head):
            return f"{lane}: {why}"
    head = heads.get("definitions", LaneHead(1, 1, 0))
    if not lanes["definitions"].newest and head.oldest > 1:
        return f"definitions: frames before {head.oldest} were receipted and are not here; say them again"
    return ""


def _translate(table: Ids, numbers: np.ndarray[tuple[int], np.dtype[np.integer]]) -> Ids | None:
    """Give the store's numbers for a gateway's; None if one of them was never defined."""
    if not len(numbers):
        return np.empty(0, np.int64)
    if numbers.min() < 0 or numbers.max() >= len(table):
        return None
    found: Ids = table[numbers]
    return found if found.min() >= 0 else None


def _text(values: list[int] | list[float]) -> str:
    return ENCODE_JSON(values).decode()


def _readings(epoch: Epoch, windows: Windows, written: NDArray[np.bool_]) -> int:
    """Count the readings in rows stated for the first time: of a series, those of the definition that holds most.

    A hopping window holds a reading several times, and counts it once.
    """
    rows = windows.rows
    share = epoch.hops[rows.definition] / epoch.sizes[rows.definition]
    counted = np.where(written & (rows.revision == 0), rows.count * share, 0.0)
    pair, which = np.unique(rows.series.astype(np.int64) * MAX_IDS + rows.definition, return_inverse=True)
    _, first = np.unique(pair // MAX_IDS, return_index=True)
    return int(np.maximum.reduceat(np.bincount(which, counted), first).sum().round()) if len(first) else 0

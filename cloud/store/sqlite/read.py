"""What is asked of the database. Every query goes by a key or is bounded by a limit. Runs in the store's thread."""

from __future__ import annotations

import sqlite3

import msgspec

from cloud.ledger import Lane
from cloud.store import MAX_ROWS, OURS, Totals
from cloud.store.answers import (
    AccountView,
    AlertsPage,
    AlertView,
    DefinitionView,
    EpochView,
    FrameCounts,
    GatewayView,
    LaneView,
    QuarantinedView,
    SeriesView,
    WindowsPage,
    WindowView,
)
from cloud.store.sqlite.losses import Losses
from cloud.store.sqlite.models import Models
from cloud.store.sqlite.parts import Parts
from cloud.store.sqlite.sums import Summing
from protocol.messages import LANES

EPOCHS = 4
"""The ledger shows this many epochs of a gateway: the one that counts, then the newest."""

DECODE = msgspec.msgpack.Decoder(Lane).decode
SERIES = msgspec.json.Decoder(list[int]).decode
COUNTS = msgspec.json.Decoder(dict[str, int]).decode
CONTRIBUTIONS = msgspec.json.Decoder(list[float | None]).decode

GATEWAYS = """
SELECT name, last_seen, gateways.epoch, version, (SELECT count(*) FROM series WHERE gateway = gateways.id), windows,
    max(recorded, windowed), gateways.bytes, counts, alerts, total(received), total(duplicate), total(quarantined)
FROM gateways LEFT JOIN lanes ON lanes.gateway = gateways.id WHERE name <> ?2
GROUP BY gateways.id ORDER BY name LIMIT ?1
"""

NEWEST = """
SELECT max((SELECT max(start) FROM windows WHERE series = streams.series AND definition = streams.definition
    AND domain = streams.domain)) FROM streams WHERE series = ? AND domain = 0
"""

WINDOWS = """
SELECT start, revision, count, mean, deviation, minimum, maximum, first, last, stored FROM windows
WHERE series = ? AND definition = ? AND domain = ? AND start >= ? AND start < ?
"""

LANE = """
SELECT gateways.name, gateways.id, lanes.epoch, lane, ledger, received, duplicate, quarantined, dropped, oldest, next,
    lanes.bytes, since, fork
FROM gateways JOIN epochs ON epochs.gateway = gateways.id
JOIN lanes ON lanes.gateway = gateways.id AND lanes.epoch = epochs.epoch
WHERE (?1 IS NULL OR gateways.name = ?1) AND epochs.epoch IN
    (SELECT e.epoch FROM epochs AS e JOIN gateways AS g ON g.id = e.gateway WHERE g.id = gateways.id
        ORDER BY e.epoch = g.epoch DESC, e.began DESC LIMIT ?2)
ORDER BY gateways.name, epochs.epoch = gateways.epoch DESC, epochs.began DESC, lane LIMIT ?3
"""

ACCOUNTS = """
SELECT id, name, last_seen, epoch, counts FROM gateways WHERE name <> ?3 AND (?1 IS NULL OR name = ?1) ORDER BY name
LIMIT ?2
"""

EPOCHS_OF = """
SELECT epochs.epoch, began, heard, fork, remark, remarked FROM epochs JOIN gateways ON gateways.id = epochs.gateway
WHERE gateway = ? ORDER BY epochs.epoch = gateways.epoch DESC, began DESC LIMIT ?
"""

ALERTS = """
SELECT gateways.name, series, missing, contributions, start, revision, stamp, score, rule, alerts.version,
    domains.name, stored, threshold FROM alerts
JOIN gateways ON gateways.id = alerts.gateway JOIN domains ON domains.id = alerts.domain
WHERE stamp < ?1 AND (?2 IS NULL OR gateways.name = ?2) ORDER BY stamp DESC LIMIT ?3
"""

LEAST = -(1 << 63)
EARLIEST = 1_451_606_400 * 10**9
"""In ns, the year 2016: an earlier stamp is of a clock that had not been set."""


class Reader:
    """Reads on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.models = Models(connection)
        self._losses = Losses(connection)
        self.parts = Parts(connection)
        self.sums = Summing(connection)
        self._connection = connection

    def gateways(self) -> list[GatewayView]:
        """Give all gateways by name."""
        views = []
        for (
            name,
            seen,
            epoch,
            version,
            series,
            windows,
            readings,
            size,
            counts,
            alerts,
            *frames,
        ) in self._connection.execute(GATEWAYS, (MAX_ROWS, OURS)).fetchall():
            numbers = FrameCounts(*map(int, frames))
            view = GatewayView(
                name, False, seen, None, f"{epoch:016x}", version, series, windows, readings, size, numbers
            )
            view.counts = COUNTS(counts)
            view.models, view.shadow = self._running(name)
            view.alerts = alerts
            views.append(view)
        return views

    def series(self, gateway: str | None, match: str | None, after: int, limit: int) -> list[SeriesView]:
        """Give series with an id above `after`, whose name matches the glob."""
        rows = self._connection.execute(
            "SELECT series.id, gateways.name, series.name FROM series JOIN gateways ON gateways.id = series.gateway "
            "WHERE series.id > ?1 AND (?2 IS NULL OR gateways.name = ?2) AND (?3 IS NULL OR series.name GLOB ?3) "
            "ORDER BY series.id LIMIT ?4",
            (after, gateway, match, limit),
        ).fetchall()
        return [SeriesView(number, owner, name, self._newest(number)) for number, owner, name in rows]

    def windows(
        self, series: int, definition: int | None, domain: str, between: tuple[int | None, int], limit: int
    ) -> WindowsPage | None:
        """Give a page of windows; rows of one start are never parted between two pages."""
        row = self._connection.execute(
            "SELECT gateways.name, series.name FROM series JOIN gateways ON gateways.id = gateway WHERE series.id = ?",
            (series,),
        ).fetchone()
        if row is None:
            return None
        view = SeriesView(series, row[0], row[1], self._newest(series))
        ways = self._definitions(series)
        asked = [way for way in ways if definition in (None, way.id)]
        found = self._found(series, asked, domain, between, limit)
        page, following = _cut(found, limit) if between[0] is not None else (found[-limit:], None)
        return WindowsPage(view, ways, page, following)

    def alerts(self, gateway: str | None, before: int, limit: int) -> AlertsPage:
        """Give alerts raised before a time, newest first."""
        rows = self._connection.execute(ALERTS, (before, gateway, limit)).fetchall()
        views = []
        for name, series_text, missing_text, contributions_text, *rest in rows:
            series, missing = SERIES(series_text), SERIES(missing_text)
            names = [self._name(number) for number in series]
            view = AlertView(name, series, names, *rest)
            view.contributions = CONTRIBUTIONS(contributions_text)
            view.missing = [self._name(number) for number in missing]
            views.append(view)
        return AlertsPage(views, views[-1].stamp if len(views) == limit else None)

    def ledger(self, gateway: str | None) -> list[LaneView]:
        """Give the lanes of each gateway's newest epochs."""
        rows = self._connection.execute(LANE, (gateway, EPOCHS, MAX_ROWS)).fetchall()
        return [self._lane(*row) for row in rows]

    def accounts(self, gateway: str | None) -> list[AccountView]:
        """Give each gateway's newest epochs and its own counts."""
        rows = self._connection.execute(ACCOUNTS, (gateway, MAX_ROWS, OURS)).fetchall()
        return [
            AccountView(name, False, seen, f"{epoch:016x}", COUNTS(counts), self._epochs(number))
            for number, name, seen, epoch, counts in rows
        ]

    def quarantine(self, limit: int) -> list[QuarantinedView]:
        """Give what was quarantined, newest first."""
        rows = self._connection.execute(
            "SELECT name, quarantine.epoch, lane, seq, cause, detail, stored, size FROM quarantine "
            "JOIN gateways ON gateways.id = gateway ORDER BY quarantine.id DESC LIMIT ?",
            (limit,),
        )
        return [
            QuarantinedView(name, f"{epoch:016x}", LANES[lane], *rest) for name, epoch, lane, *rest in rows.fetchall()
        ]

    def totals(self) -> Totals:
        """Count what is stored; windows as they were counted when written."""
        sql = "SELECT count(*) FILTER (WHERE name <> ?), total(windows) FROM gateways"
        gateways, windows = self._connection.execute(sql, (OURS,)).fetchone()
        (series,) = self._connection.execute("SELECT count(*) FROM series").fetchone()
        return Totals(gateways, series, int(windows))

    def _running(self, gateway: str) -> tuple[dict[str, int], int]:
        """Give the versions that run on a gateway, by model, and its alerts in the shadow."""
        sql = (
            "SELECT model, version, shadow FROM runs "
            "WHERE gateway = (SELECT id FROM gateways WHERE name = ?) ORDER BY model"
        )
        rows = self._connection.execute(sql, (gateway,)).fetchall()
        return {model: version for model, version, _ in rows if version}, sum(shadow for *_, shadow in rows)

    def _newest(self, series: int) -> int | None:
        newest: int | None = self._connection.execute(NEWEST, (series,)).fetchone()[0]
        return newest

    def _name(self, series: int) -> str:
        row = self._connection.execute("SELECT name FROM series WHERE id = ?", (series,)).fetchone()
        return str(row[0]) if row else ""

    def _definitions(self, series: int) -> list[DefinitionView]:
        rows = self._connection.execute(
            "SELECT DISTINCT id, digest, size, hop FROM streams JOIN definitions ON id = definition WHERE series = ? "
            "ORDER BY id",
            (series,),
        )
        return [DefinitionView(*row) for row in rows]

    def _found(
        self,
        series: int,
        ways: list[DefinitionView],
        domain: str,
        between: tuple[int | None, int],
        limit: int,
    ) -> list[WindowView]:
        row = self._connection.execute("SELECT id FROM domains WHERE name = ?", (domain,)).fetchone()
        if row is None:
            return []
        since, until = between
        order = "ORDER BY start DESC LIMIT ?" if since is None else "ORDER BY start LIMIT ?"
        found = []
        for way in ways:
            key = (series, way.id, row[0], LEAST if since is None else since, until, limit + 1)
            for start, *rest in self._connection.execute(WINDOWS + order, key):
                found.append(WindowView(start, way.size, way.id, domain, *rest))
        found.sort(key=lambda item: (item.start, item.definition))
        return found

    def _lane(self, name: str, gateway: int, epoch: int, lane: int, blob: bytes, *counts: int) -> LaneView:
        received, duplicate, quarantined, dropped, oldest, following, size, since, fork = counts
        ledger = DECODE(blob)
        here = ledger.upto + sum(item.last - item.first + 1 for item in ledger.ranges)
        queued = max(0, following - 1 - here)
        key = (gateway, epoch, lane)
        return LaneView(
            gateway=name,
            epoch=f"{epoch:016x}",
            lane=LANES[lane],
            upto=ledger.upto,
            ranges=ledger.mark.ranges,
            holes=ledger.holes,
            received=received,
            duplicate=duplicate,
            quarantined=quarantined,
            dropped=self._losses.ranges(key),
            dropped_frames=dropped,
            queued=queued,
            oldest=oldest,
            next=following,
            bytes=size,
            fork=str(fork),
            causes=self._losses.causes(key) if dropped else [],
            since=since if queued and since >= EARLIEST else 0,
        )

    def _epochs(self, gateway: int) -> list[EpochView]:
        rows = self._connection.execute(EPOCHS_OF, (gateway, EPOCHS))
        return [EpochView(f"{epoch:016x}", *rest) for epoch, *rest in rows]


def _cut(found: list[WindowView], limit: int) -> tuple[list[WindowView], int | None]:
    """Part a sorted list at a change of start: the page, and the start that follows it."""
    if len(found) <= limit:
        return found, None
    following = found[limit].start
    page = [item for item in found[:limit] if item.start < following]
    if page:
        return page, following
    rest = [item.start for item in found if item.start > following]
    return [item for item in found if item.start == following], rest[0] if rest else None

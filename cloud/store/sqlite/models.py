"""Models in the database: what gateways say of them, and the versions that were published. In the store's thread.

A gateway's word is kept when its stamp is not below that of the one before: a frame that is sent again, under whatever
epoch, changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from cloud.store import (
    MAX_CONTENTS,
    MAX_MODELS,
    MAX_REPORTS,
    MAX_ROWS,
    MAX_VERSIONS,
    Learnt,
    News,
    Published,
    Undecodable,
)
from cloud.store.answers import ModelView, ReportView, RunView, VersionView
from protocol.messages import Moments, ReportBody, StatisticsBody

SHOWN = 20
"""Versions of a model that are shown, newest first."""

ENCODE = msgspec.msgpack.encode
DECODE = msgspec.msgpack.Decoder(list[Moments]).decode

STATISTICS = """
UPDATE runs SET alerts = ?3, shadow = ?4, windows = ?5, stamp = ?6, stored = ?7, entries = ?8
WHERE gateway = ?1 AND model = ?2 AND stamp <= ?6
"""

RUNNING = "UPDATE runs SET version = ?3, said = ?4 WHERE gateway = ?1 AND model = ?2 AND said <= ?4 AND version <> ?3"
SAID = "UPDATE runs SET said = ?3 WHERE gateway = ?1 AND model = ?2 AND said <= ?3"

REPORT = """
INSERT OR IGNORE INTO reports (gateway, model, version, outcome, reason, digest, stamp, stored)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

FORGET_REPORTS = """
DELETE FROM reports WHERE gateway = ?1 AND model = ?2 AND id NOT IN
    (SELECT id FROM reports WHERE gateway = ?1 AND model = ?2 ORDER BY stamp DESC, id DESC LIMIT ?3)
"""

FORGET_CONTENTS = """
DELETE FROM contents WHERE digest IN (SELECT digest FROM models WHERE name = ?1 AND version <= ?2 - ?3)
    AND NOT EXISTS (SELECT 1 FROM models WHERE models.digest = contents.digest
        AND version > (SELECT max(version) FROM models AS own WHERE own.name = models.name) - ?3)
"""

COLUMNS = "name, version, digest, schema, size, created, expires, windows, manifest"

REPORTS = """
SELECT gateways.name, model, reports.version, outcome, reason, digest, stamp, stored
FROM reports JOIN gateways ON gateways.id = gateway
"""

RUNS = """
SELECT model, gateway, gateways.name, runs.version, runs.alerts, shadow, runs.windows, stamp, stored
FROM runs JOIN gateways ON gateways.id = gateway ORDER BY model, gateways.name LIMIT ?
"""


class Models:
    """Reads and writes on one connection; writes inside a transaction that the caller began."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def learn(self, gateway: int, body: StatisticsBody, news: News, now: int) -> Undecodable | None:
        """Take a gateway's statistics in place of those before."""
        if refused := self._make_run(gateway, body.model, body):
            return refused
        key = (gateway, body.model)
        sql = "SELECT shadow FROM runs WHERE gateway = ? AND model = ?"
        (shadow,) = self._connection.execute(sql, key).fetchone()
        windows = sum(part.count for part in body.entries)
        values = (body.alerts, body.shadow, windows, body.stamp, now, ENCODE(body.entries))
        if self._connection.execute(STATISTICS, (*key, *values)).rowcount:
            news.shadow += body.shadow - shadow
            news.learnt[body.model] = windows
        self._note_running(key, body.version, body.stamp, news)
        return None

    def report(self, gateway: int, name: str, body: ReportBody, news: News, now: int) -> Undecodable | None:
        """Note what became of a version on a gateway."""
        if refused := self._make_run(gateway, body.model, body):
            return refused
        key = (gateway, body.model)
        said = (body.model, body.version, body.outcome, body.reason, body.digest, body.stamp, now)
        if self._connection.execute(REPORT, (gateway, *said)).rowcount:
            news.reports.append(ReportView(name, *said))
            self._connection.execute(FORGET_REPORTS, (*key, MAX_REPORTS))
        if body.outcome == "applied":
            self._note_running(key, body.version, body.stamp, news)
        return None

    def publish(self, version: Published, content: bytes) -> bool:
        """Keep a version and its content; False if it is not above the newest of its model."""
        run = self._connection.execute
        (newest,) = run("SELECT coalesce(max(version), 0) FROM models WHERE name = ?", (version.name,)).fetchone()
        if version.version <= newest:
            return False
        run(f"INSERT INTO models ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", version)  # noqa: S608 - our constant
        run("INSERT OR IGNORE INTO contents VALUES (?, ?)", (version.digest, content))
        run(FORGET_CONTENTS, (version.name, version.version, MAX_CONTENTS))
        run("DELETE FROM models WHERE name = ? AND version <= ?", (version.name, version.version - MAX_VERSIONS))
        return True

    def published(self) -> list[Published]:
        """Give the newest version of each model, by name."""
        sql = f"SELECT {COLUMNS}, max(version) FROM models GROUP BY name ORDER BY name LIMIT ?"  # noqa: S608 - the same
        return [Published(*row[:-1]) for row in self._connection.execute(sql, (MAX_ROWS,))]

    def content(self, digest: str) -> bytes | None:
        """Give a content that is kept."""
        row = self._connection.execute("SELECT content FROM contents WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def learnt(self, model: str) -> list[Learnt]:
        """Give the newest statistics of each gateway for a model, by gateway."""
        sql = (
            "SELECT gateways.name, entries FROM runs JOIN gateways ON gateways.id = gateway "
            "WHERE model = ? AND stored > 0 ORDER BY gateways.name LIMIT ?"
        )
        return [Learnt(name, DECODE(entries)) for name, entries in self._connection.execute(sql, (model, MAX_ROWS))]

    def reports(self, gateway: str | None, limit: int) -> list[ReportView]:
        """Give what became of model versions, newest first."""
        sql = REPORTS + "WHERE ?1 IS NULL OR gateways.name = ?1 ORDER BY reports.id DESC LIMIT ?2"
        return [ReportView(*row) for row in self._connection.execute(sql, (gateway, limit))]

    def models(self) -> list[ModelView]:
        """Give all models by name, with the gateways that have them."""
        runs: dict[str, list[RunView]] = {}
        for model, run in self._runs():
            runs.setdefault(model, []).append(run)
        names = {name for (name,) in self._connection.execute("SELECT DISTINCT name FROM models")} | set(runs)
        return [self._model(name, runs.get(name, [])) for name in sorted(names)]

    def _model(self, name: str, runs: list[RunView]) -> ModelView:
        sql = (
            "SELECT version, digest, schema, size, created, expires, windows FROM models WHERE name = ? "
            "ORDER BY version DESC LIMIT ?"
        )
        versions = [VersionView(*row) for row in self._connection.execute(sql, (name, SHOWN))]
        newest = versions[0] if versions else VersionView(0, "", "", 0, 0, 0, 0)
        of_newest = (newest.version, newest.digest, newest.size, newest.created, newest.expires)
        return ModelView(name, *of_newest, versions, runs)

    def _runs(self) -> Iterator[tuple[str, RunView]]:
        for model, number, *about in self._connection.execute(RUNS, (MAX_ROWS,)).fetchall():
            run = RunView(*about)
            run.reported, run.refused = self._newest(number, model, "%"), self._newest(number, model, "refused")
            run.rolled_back, run.drifted = (self._newest(number, model, word) for word in ("rolled back", "drifted"))
            yield model, run

    def _newest(self, gateway: int, model: str, outcome: str) -> ReportView | None:
        sql = (
            REPORTS + "WHERE gateway = ? AND model = ? AND outcome LIKE ? ORDER BY stamp DESC, reports.id DESC LIMIT 1"
        )
        row = self._connection.execute(sql, (gateway, model, outcome)).fetchone()
        return None if row is None else ReportView(*row)

    def _make_run(self, gateway: int, model: str, body: StatisticsBody | ReportBody) -> Undecodable | None:
        """Make the row of a gateway's model, if there is room for one more."""
        run = self._connection.execute
        if run("SELECT 1 FROM runs WHERE gateway = ? AND model = ?", (gateway, model)).fetchone():
            return None
        (known,) = run("SELECT count(*) FROM runs WHERE gateway = ?", (gateway,)).fetchone()
        if known >= MAX_MODELS:
            return Undecodable("models", f"{known} models of this gateway are known already", ENCODE(body))
        run("INSERT INTO runs (gateway, model) VALUES (?, ?)", (gateway, model))
        return None

    def _note_running(self, key: tuple[int, str], version: int, stamp: int, news: News) -> None:
        if self._connection.execute(RUNNING, (*key, version, stamp)).rowcount:
            news.running[key[1]] = version
        self._connection.execute(SAID, (*key, stamp))

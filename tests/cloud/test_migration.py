"""A database of an earlier version is brought up to date where it is, in one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cloud.store.answers import AlertView, CauseView
from cloud.store.sqlite import SqliteStore, schema
from protocol.errors import StoreUnavailable
from protocol.messages import Alert
from tests.cloud.wire import Clock, Wire

VERSION_1 = """
CREATE TABLE gateways (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
    epoch INTEGER NOT NULL, boot TEXT NOT NULL, version TEXT NOT NULL,
    recorded INTEGER NOT NULL DEFAULT 0, windowed INTEGER NOT NULL DEFAULT 0, windows INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0, counts TEXT NOT NULL DEFAULT '{}');

CREATE TABLE epochs (
    gateway INTEGER, epoch INTEGER, began INTEGER NOT NULL, fork TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (gateway, epoch)) WITHOUT ROWID;

CREATE TABLE lanes (
    gateway INTEGER, epoch INTEGER, lane INTEGER, ledger BLOB NOT NULL,
    received INTEGER NOT NULL DEFAULT 0, duplicate INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    oldest INTEGER NOT NULL DEFAULT 1, next INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (gateway, epoch, lane)) WITHOUT ROWID;

CREATE TABLE losses (
    gateway INTEGER, epoch INTEGER, lane INTEGER, first INTEGER, last INTEGER NOT NULL, cause TEXT NOT NULL,
    oldest INTEGER NOT NULL, newest INTEGER NOT NULL, stored INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch, lane, first)) WITHOUT ROWID;

CREATE TABLE series (
    id INTEGER PRIMARY KEY, gateway INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE (gateway, name));

CREATE TABLE series_ids (
    gateway INTEGER, epoch INTEGER, local INTEGER, series INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch, local)) WITHOUT ROWID;

CREATE TABLE definitions (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL, hop INTEGER NOT NULL,
    UNIQUE (digest, size, hop));

CREATE TABLE definition_ids (
    gateway INTEGER, epoch INTEGER, local INTEGER, definition INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch, local)) WITHOUT ROWID;

CREATE TABLE domains (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
INSERT INTO domains VALUES (0, '');

CREATE TABLE streams (
    series INTEGER, definition INTEGER, domain INTEGER, PRIMARY KEY (series, definition, domain)) WITHOUT ROWID;

CREATE TABLE windows (
    series INTEGER, definition INTEGER, domain INTEGER, start INTEGER, revision INTEGER NOT NULL,
    count INTEGER NOT NULL, mean REAL, deviation REAL, minimum REAL, maximum REAL, first REAL, last REAL,
    stored INTEGER NOT NULL, PRIMARY KEY (series, definition, domain, start)) WITHOUT ROWID;

CREATE TABLE alerts (
    gateway INTEGER NOT NULL, series TEXT NOT NULL, start INTEGER NOT NULL, revision INTEGER NOT NULL,
    rule TEXT NOT NULL, domain INTEGER NOT NULL, stamp INTEGER NOT NULL, score REAL, version INTEGER NOT NULL,
    stored INTEGER NOT NULL, UNIQUE (gateway, series, start, revision, rule, domain));
CREATE INDEX alerts_by_stamp ON alerts (stamp);

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, gateway INTEGER NOT NULL, epoch INTEGER NOT NULL, lane INTEGER NOT NULL,
    seq INTEGER NOT NULL, cause TEXT NOT NULL, detail TEXT NOT NULL, stored INTEGER NOT NULL, size INTEGER NOT NULL,
    body BLOB NOT NULL);
"""

ROWS = """
INSERT INTO gateways (id, name, first_seen, last_seen, epoch, boot, version) VALUES (1, 'barn', 1, 2, 7, '', '0.1');
INSERT INTO series VALUES (1, 1, 'a/t'), (2, 1, 'b/t');
INSERT INTO epochs VALUES (1, 7, 1, '');
INSERT INTO lanes VALUES (1, 7, 3, x'83a47570746f06a5636861696e00a672616e67657390', 0, 0, 0, 6, 0, 1, 7);
INSERT INTO losses VALUES (1, 7, 3, 1, 4, 'gone', 5, 9, 800), (1, 7, 3, 5, 6, 'gone', 0, 20, 900);
INSERT INTO alerts VALUES (1, '[1,2]', 10, 0, 'limit', 0, 100, 2.5, 0, 900);
INSERT INTO alerts VALUES (1, '[2]', 20, 0, 'limit', 0, 90, 1.5, 0, 900);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database as version 1 left it."""
    made = tmp_path / "old.db"
    with closing(sqlite3.connect(made)) as connection:
        connection.executescript(f"BEGIN; {VERSION_1} {ROWS} PRAGMA user_version = 1; COMMIT;")
    return made


def columns(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The columns of every table, and the indices: what a query can tell of a format."""
    with closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchall()
        names = connection.execute("SELECT type, name FROM sqlite_master ORDER BY name").fetchall()
        tables = [name for kind, name in names if kind == "table"]
        return {"names": names, "version": version} | {
            table: connection.execute(f"PRAGMA table_info({table})").fetchall() for table in tables
        }


async def test_what_was_stored_by_version_1_is_there_and_goes_on(path: Path, clock: Clock, wire: Wire) -> None:
    store = SqliteStore(path, clock)
    await store.open()
    old = [
        AlertView("barn", [1, 2], ["a/t", "b/t"], 10, 0, 100, 2.5, "limit", 0, "", 900),
        AlertView("barn", [2], ["b/t"], 20, 0, 90, 1.5, "limit", 0, "", 900),
    ]
    assert (await store.alerts(None, 1 << 62, 10)).alerts == old
    await store.hello(wire.hello(), 0)
    new = wire.alerts(Alert([1], 30, 0, 200, 9.0, "t2", 4, 6.0, [1.0], [0]))
    await store.apply(wire.batch(wire.definitions(), new, wire.statistics("t2", 1, 5)))
    (newest, *_) = (await store.alerts(None, 1 << 62, 10)).alerts
    assert (newest.threshold, newest.contributions, newest.missing) == (6.0, [1.0], ["a/t"])
    assert [(view.alerts, view.series) for view in await store.gateways()] == [(3, 2)]
    assert [view.name for view in await store.models()] == ["t2"]
    (lane,) = [view for view in await store.ledger("barn") if view.lane == "telemetry"]
    assert lane.causes == [CauseView("gone", 6, 0, 20, 900)]
    await store.close()


async def test_it_becomes_what_a_new_database_is(path: Path, tmp_path: Path, clock: Clock) -> None:
    for file in (path, tmp_path / "new.db"):
        store = SqliteStore(file, clock)
        await store.open()
        await store.close()
    assert columns(path) == columns(tmp_path / "new.db")


async def test_a_migration_that_fails_leaves_everything_as_it_was(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = columns(path)
    with monkeypatch.context() as patch:
        patch.setitem(schema.MIGRATIONS, 1, schema.MIGRATIONS[1] + "INSERT INTO nowhere VALUES (1);")
        with pytest.raises(StoreUnavailable, match="nowhere"):
            await SqliteStore(path, clock).open()
    assert columns(path) == before
    store = SqliteStore(path, clock)
    await store.open()
    assert [view.alerts for view in await store.gateways()] == [2]
    await store.close()

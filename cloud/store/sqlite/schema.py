"""The tables, and the statements that write them.

A series is (gateway, name) for ever; `series_ids` says which number it has in one epoch. Numbers here are small because
they are repeated: a window row holds integers only. Tables whose rows are found by key alone have no row id.
"""

from __future__ import annotations

VERSION = 4

PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",  # one process, one connection: see the file's head in __init__
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # with NORMAL a commit, and with it a receipt, may vanish at power loss
    "PRAGMA cache_size = -32768",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA foreign_keys = OFF",
)

MODELS = """
CREATE TABLE runs (
    gateway INTEGER NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL DEFAULT 0, said INTEGER NOT NULL DEFAULT 0,
    alerts INTEGER NOT NULL DEFAULT 0, shadow INTEGER NOT NULL DEFAULT 0, windows INTEGER NOT NULL DEFAULT 0,
    stamp INTEGER NOT NULL DEFAULT 0, stored INTEGER NOT NULL DEFAULT 0, entries BLOB NOT NULL DEFAULT x'90',
    UNIQUE (gateway, model));

CREATE TABLE reports (
    id INTEGER PRIMARY KEY AUTOINCREMENT, gateway INTEGER NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, digest TEXT NOT NULL, stamp INTEGER NOT NULL, stored INTEGER NOT NULL,
    UNIQUE (gateway, model, stamp, version, outcome, reason));

CREATE TABLE models (
    name TEXT, version INTEGER, digest TEXT NOT NULL, schema TEXT NOT NULL, size INTEGER NOT NULL,
    created INTEGER NOT NULL, expires INTEGER NOT NULL, windows INTEGER NOT NULL, manifest BLOB NOT NULL,
    PRIMARY KEY (name, version)) WITHOUT ROWID;
CREATE INDEX models_by_digest ON models (digest);

CREATE TABLE contents (digest TEXT NOT NULL UNIQUE, content BLOB NOT NULL);
"""
"""`runs` has a row for each model of a gateway; `said` is the stamp of the newest word about what runs there."""

CLOCKS = """
CREATE TABLE clocks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, gateway INTEGER NOT NULL, domain INTEGER NOT NULL, shift INTEGER NOT NULL,
    UNIQUE (gateway, domain));
"""
"""What makes UTC of a gateway's clock domains, where it has said so."""

DROPS = """
CREATE TABLE drops (
    gateway INTEGER, epoch INTEGER, lane INTEGER, cause TEXT, frames INTEGER NOT NULL, oldest INTEGER NOT NULL,
    newest INTEGER NOT NULL, stored INTEGER NOT NULL, PRIMARY KEY (gateway, epoch, lane, cause)) WITHOUT ROWID;
"""
"""What was lost of a lane by cause, summed; `losses` has the newest ranges of it."""

WORK = """
CREATE TABLE parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, gateway INTEGER NOT NULL, job TEXT NOT NULL, attempt INTEGER NOT NULL,
    body BLOB NOT NULL, stored INTEGER NOT NULL, UNIQUE (gateway, job, attempt));
CREATE TABLE machines (name TEXT PRIMARY KEY, handled INTEGER NOT NULL, state BLOB NOT NULL);
"""
"""`parts` are answers to tasks; `machines` what those that handle them keep, and how far they have come."""

KEPT = """
CREATE TABLE kept (machine TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (machine, key));
"""
"""What a machine keeps beside its state, row by row, so that a change writes only what it changes."""

TABLES = (
    """
CREATE TABLE gateways (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
    epoch INTEGER NOT NULL, boot TEXT NOT NULL, version TEXT NOT NULL,
    recorded INTEGER NOT NULL DEFAULT 0, windowed INTEGER NOT NULL DEFAULT 0, windows INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0, counts TEXT NOT NULL DEFAULT '{}', alerts INTEGER NOT NULL DEFAULT 0);

CREATE TABLE epochs (
    gateway INTEGER, epoch INTEGER, began INTEGER NOT NULL, fork TEXT NOT NULL DEFAULT '',
    heard INTEGER NOT NULL DEFAULT 0, remark TEXT NOT NULL DEFAULT '', remarked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (gateway, epoch)) WITHOUT ROWID;

CREATE TABLE lanes (
    gateway INTEGER, epoch INTEGER, lane INTEGER, ledger BLOB NOT NULL,
    received INTEGER NOT NULL DEFAULT 0, duplicate INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    oldest INTEGER NOT NULL DEFAULT 1, next INTEGER NOT NULL DEFAULT 1, since INTEGER NOT NULL DEFAULT 0,
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
    stored INTEGER NOT NULL, threshold REAL DEFAULT 0, contributions TEXT NOT NULL DEFAULT '[]',
    missing TEXT NOT NULL DEFAULT '[]', UNIQUE (gateway, series, start, revision, rule, domain));
CREATE INDEX alerts_by_stamp ON alerts (stamp);

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, gateway INTEGER NOT NULL, epoch INTEGER NOT NULL, lane INTEGER NOT NULL,
    seq INTEGER NOT NULL, cause TEXT NOT NULL, detail TEXT NOT NULL, stored INTEGER NOT NULL, size INTEGER NOT NULL,
    body BLOB NOT NULL);
"""
    + MODELS
    + CLOCKS
    + WORK
    + KEPT
    + DROPS
)

TO_VERSION_2 = """
ALTER TABLE gateways ADD COLUMN alerts INTEGER NOT NULL DEFAULT 0;
UPDATE gateways SET alerts = (SELECT count(*) FROM alerts WHERE gateway = gateways.id);
ALTER TABLE alerts ADD COLUMN threshold REAL DEFAULT 0;
ALTER TABLE alerts ADD COLUMN contributions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE alerts ADD COLUMN missing TEXT NOT NULL DEFAULT '[]';
"""

TO_VERSION_3 = """
ALTER TABLE epochs ADD COLUMN heard INTEGER NOT NULL DEFAULT 0;
ALTER TABLE epochs ADD COLUMN remark TEXT NOT NULL DEFAULT '';
ALTER TABLE epochs ADD COLUMN remarked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lanes ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
"""

SUM_DROPS = """
INSERT INTO drops SELECT gateway, epoch, lane, cause, sum(last - first + 1), min(oldest),
    iif(min(newest), max(newest), 0), max(stored) FROM losses GROUP BY gateway, epoch, lane, cause;
"""

MIGRATIONS = {1: TO_VERSION_2 + MODELS, 2: TO_VERSION_3 + CLOCKS + WORK + DROPS + SUM_DROPS, 3: KEPT}
"""What makes a version's tables the next version's."""

ALERT = """
INSERT OR IGNORE INTO alerts (gateway, series, start, revision, rule, domain, stamp, score, version, stored, threshold,
    contributions, missing) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

WINDOW = """
INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET revision = excluded.revision, count = excluded.count, mean = excluded.mean,
    deviation = excluded.deviation, minimum = excluded.minimum, maximum = excluded.maximum, first = excluded.first,
    last = excluded.last, stored = excluded.stored
WHERE excluded.revision > windows.revision
"""

GATEWAY = """
INSERT INTO gateways (name, first_seen, last_seen, epoch, boot, version, recorded) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET last_seen = excluded.last_seen, epoch = excluded.epoch, boot = excluded.boot,
    version = excluded.version, recorded = max(recorded, excluded.recorded)
"""

HEAD = """
INSERT INTO lanes (gateway, epoch, lane, ledger, oldest, next, since) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET oldest = excluded.oldest, next = max(next, excluded.next),
    since = coalesce(nullif(excluded.since, 0), since)
"""

LANE = """
INSERT INTO lanes (gateway, epoch, lane, ledger, received, duplicate, quarantined, dropped, bytes, next, since)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ledger = excluded.ledger, received = received + excluded.received,
    duplicate = duplicate + excluded.duplicate, quarantined = quarantined + excluded.quarantined,
    dropped = dropped + excluded.dropped, bytes = bytes + excluded.bytes, next = max(next, excluded.next),
    since = max(since, excluded.since)
"""

GREETED = """
INSERT INTO epochs (gateway, epoch, began, heard) VALUES (?1, ?2, ?3, ?3)
ON CONFLICT DO UPDATE SET heard = excluded.heard
"""

REMARK = """
UPDATE epochs SET remark = ?3, remarked = ?4 WHERE gateway = ?1 AND epoch = ?2
    AND NOT EXISTS (SELECT 1 FROM epochs WHERE gateway = ?1 AND epoch <> ?2 AND ?3 IN (remark, fork))
"""
"""Where a contradiction was noticed here, the epoch that it ended says so; the one that began needs not."""

LATER = """
SELECT epoch FROM epochs WHERE gateway = ?1 AND began > (SELECT began FROM epochs WHERE gateway = ?1 AND epoch = ?2)
ORDER BY began DESC LIMIT 1
"""

EXPIRE_WINDOWS = """
DELETE FROM windows WHERE series = ?1 AND definition = ?2 AND domain = ?3 AND start < ?4 AND start <= coalesce(
    (SELECT start FROM windows WHERE series = ?1 AND definition = ?2 AND domain = ?3 ORDER BY start LIMIT 1 OFFSET ?5),
    ?4)
"""

EXPIRE_ALERTS = """
DELETE FROM alerts WHERE rowid IN (SELECT rowid FROM alerts WHERE stamp < ? ORDER BY stamp LIMIT ?)
"""

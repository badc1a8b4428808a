"""The numbers of one gateway's epoch in the store's own: looked up once, then an array index.

What is remembered here is only what is in the database; after a rollback everything is forgotten and read again.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloud.store import MAX_IDS
from protocol.messages import DefinitionsBody

MAX_EPOCHS = 256
"""Epochs remembered, newest used last: a thousand series each are 2 MB together."""
MAX_NAME = 1024
UNKNOWN = -1

SERIES = """
SELECT series.id, name FROM series_ids JOIN series ON series.id = series_ids.series
WHERE series_ids.gateway = ? AND epoch = ?"""
DEFINITIONS = """
SELECT id, digest, size, hop FROM definition_ids JOIN definitions ON id = definition
WHERE gateway = ? AND epoch = ?"""

Ids = NDArray[np.int64]


def no_ids() -> Ids:
    """Know nothing yet."""
    return np.empty(0, np.int64)


@dataclass(slots=True)
class Epoch:
    """What one epoch's numbers mean; arrays are indexed by the gateway's number, UNKNOWN where it was never defined."""

    gateway: int
    epoch: int
    series: Ids = field(default_factory=no_ids)
    definitions: Ids = field(default_factory=no_ids)
    sizes: Ids = field(default_factory=no_ids)
    hops: Ids = field(default_factory=no_ids)


class Contradicted(Exception):
    """A number that was defined before is defined otherwise, or is out of bounds; its text says which."""


class Numbers:
    """Reads and makes numbers on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._epochs: OrderedDict[tuple[int, int], Epoch] = OrderedDict()
        self._gateways: dict[str, int] = {}
        self._domains: dict[str, int] = {}
        self._streams: OrderedDict[tuple[int, int], NDArray[np.bool_]] = OrderedDict()

    def forget(self) -> None:
        """Forget everything: what was read may have been rolled back."""
        self._epochs.clear()
        self._gateways.clear()
        self._domains.clear()
        self._streams.clear()

    def gateway(self, name: str) -> int:
        """Give a gateway's number; it has said hello before."""
        if name not in self._gateways:
            row = self._connection.execute("SELECT id FROM gateways WHERE name = ?", (name,)).fetchone()
            self._gateways[name] = row[0]
        return self._gateways[name]

    def name_of(self, gateway: int) -> str:
        """Give a gateway's name."""
        return str(self._connection.execute("SELECT name FROM gateways WHERE id = ?", (gateway,)).fetchone()[0])

    def names(self, series: list[int]) -> list[str]:
        """Give the names of series, by the store's numbers."""
        sql = "SELECT name FROM series WHERE id = ?"
        return [str(self._connection.execute(sql, (number,)).fetchone()[0]) for number in series]

    def epoch(self, gateway: int, epoch: int) -> Epoch:
        """Give what is known of an epoch's numbers."""
        key = (gateway, epoch)
        if key in self._epochs:
            self._epochs.move_to_end(key)
            return self._epochs[key]
        known = self._epochs[key] = Epoch(gateway, epoch)
        _extend(known, self._read_series(key), self._read_definitions(key))
        while len(self._epochs) > MAX_EPOCHS:
            self._epochs.popitem(last=False)
        return known

    def domain(self, name: str) -> int:
        """Give a clock domain's number, making one if need be."""
        if name == "":
            return 0
        if name not in self._domains:
            self._connection.execute("INSERT OR IGNORE INTO domains (name) VALUES (?)", (name,))
            if len(self._domains) >= MAX_EPOCHS:
                self._domains.clear()
            found = self._connection.execute("SELECT id FROM domains WHERE name = ?", (name,)).fetchone()
            self._domains[name] = found[0]
        return self._domains[name]

    def define(self, epoch: Epoch, body: DefinitionsBody) -> int:
        """Learn definitions; Contradicted, and nothing learnt, if they differ from what was said. Counts the new."""
        _check(body)
        key = (epoch.gateway, epoch.epoch)
        self._connection.execute("SAVEPOINT define")
        try:
            made = self._define_series(key, body)
            self._define_windows(key, body)
            series = self._compare_series(key, body)
            definitions = self._compare_windows(key, body)
        except Contradicted:
            self._connection.execute("ROLLBACK TO define")
            raise
        finally:
            self._connection.execute("RELEASE define")
        _extend(epoch, series, definitions)
        return made

    def stream(self, series: Ids, definition: int, domain: int) -> None:
        """Note that these series have rows of this definition and domain."""
        known = self._streams.pop((definition, domain), np.zeros(0, np.bool_))
        if len(known) <= (top := int(series.max(initial=0))):
            known = np.append(known, np.zeros(top + 1 + top // 4 - len(known), np.bool_))
        fresh = np.unique(series[~known[series]])
        self._connection.executemany(
            "INSERT OR IGNORE INTO streams VALUES (?, ?, ?)", [(item, definition, domain) for item in fresh.tolist()]
        )
        known[fresh] = True
        self._streams[definition, domain] = known
        while len(self._streams) > MAX_EPOCHS:
            self._streams.popitem(last=False)

    def _define_series(self, key: tuple[int, int], body: DefinitionsBody) -> int:
        before = self._connection.total_changes
        self._connection.executemany(
            "INSERT OR IGNORE INTO series (gateway, name) VALUES (?, ?)", [(key[0], item.name) for item in body.series]
        )
        made = self._connection.total_changes - before
        self._connection.executemany(
            "INSERT OR IGNORE INTO series_ids SELECT ?, ?, ?, id FROM series WHERE gateway = ? AND name = ?",
            [(*key, item.id, key[0], item.name) for item in body.series],
        )
        return made

    def _define_windows(self, key: tuple[int, int], body: DefinitionsBody) -> None:
        self._connection.executemany(
            "INSERT OR IGNORE INTO definitions (digest, size, hop) VALUES (?, ?, ?)",
            [(item.digest, item.size, item.hop) for item in body.windows],
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO definition_ids "
            "SELECT ?, ?, ?, id FROM definitions WHERE digest = ? AND size = ? AND hop = ?",
            [(*key, item.id, item.digest, item.size, item.hop) for item in body.windows],
        )

    def _compare_series(self, key: tuple[int, int], body: DefinitionsBody) -> dict[int, int]:
        found = {}
        for item in body.series:
            number, name = self._connection.execute(f"{SERIES} AND local = ?", (*key, item.id)).fetchone()
            if name != item.name:
                raise Contradicted(f"series {item.id} is {name!r}, now said to be {item.name!r}")
            found[item.id] = number
        return found

    def _compare_windows(self, key: tuple[int, int], body: DefinitionsBody) -> dict[int, tuple[int, int, int]]:
        found = {}
        for item in body.windows:
            number, digest, size, hop = self._connection.execute(
                f"{DEFINITIONS} AND local = ?", (*key, item.id)
            ).fetchone()
            if (digest, size, hop) != (item.digest, item.size, item.hop):
                raise Contradicted(f"window definition {item.id} is {digest}, now said to be {item.digest}")
            found[item.id] = (number, size, hop)
        return found

    def _read_series(self, key: tuple[int, int]) -> dict[int, int]:
        rows = self._connection.execute("SELECT local, series FROM series_ids WHERE gateway = ? AND epoch = ?", key)
        return dict(rows.fetchall())

    def _read_definitions(self, key: tuple[int, int]) -> dict[int, tuple[int, int, int]]:
        rows = self._connection.execute(
            "SELECT local, id, size, hop FROM definition_ids JOIN definitions ON id = definition "
            "WHERE gateway = ? AND epoch = ?",
            key,
        )
        return {local: (number, size, hop) for local, number, size, hop in rows}


def _check(body: DefinitionsBody) -> None:
    for number in (*(item.id for item in body.series), *(item.id for item in body.windows)):
        if not 0 <= number < MAX_IDS:
            raise Contradicted(f"number {number} is not below {MAX_IDS}")
    for series in body.series:
        if not 0 < len(series.name) <= MAX_NAME:
            raise Contradicted(f"the name of series {series.id} has {len(series.name)} characters")
    for window in body.windows:
        if not 0 < window.hop <= window.size < 1 << 62 or len(window.digest) > MAX_NAME:
            raise Contradicted(f"window {window.id} has size {window.size} and hop {window.hop}")


def _extend(epoch: Epoch, series: dict[int, int], definitions: dict[int, tuple[int, int, int]]) -> None:
    epoch.series = _table(epoch.series, series)
    epoch.definitions = _table(epoch.definitions, {local: item[0] for local, item in definitions.items()})
    epoch.sizes = _table(epoch.sizes, {local: item[1] for local, item in definitions.items()})
    epoch.hops = _table(epoch.hops, {local: item[2] for local, item in definitions.items()})


def _table(table: Ids, values: dict[int, int]) -> Ids:
    if not values:
        return table
    longer = np.full(max(len(table), max(values) + 1), UNKNOWN, np.int64)
    longer[: len(table)] = table
    longer[np.fromiter(values.keys(), np.int64, len(values))] = np.fromiter(values.values(), np.int64, len(values))
    return longer

"""Series of this cloud's own, made of numbers that jobs came to. In the store's thread.

They have no epoch and no ledger: (series, definition, start) is the key, and a number that is there stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import numpy as np

from cloud.store import MAX_OURS, OURS, Results, Stored
from cloud.store.sqlite.numbers import Numbers
from cloud.store.sqlite.schema import GATEWAY, WINDOW
from protocol.messages import WindowRows

DEFINE = "INSERT OR IGNORE INTO definitions (digest, size, hop) VALUES (?, ?, ?)"
DEFINITION = "SELECT id FROM definitions WHERE digest = ? AND size = ? AND hop = ?"
COUNT = "UPDATE gateways SET last_seen = ?, windows = windows + ? WHERE id = ?"


class Ours:
    """Writes inside a transaction that the caller began."""

    def __init__(self, connection: sqlite3.Connection, numbers: Numbers) -> None:
        self._connection, self._numbers = connection, numbers

    def record(self, results: Results, now: int) -> Stored:
        """Write a row for each number, and give those that have a series."""
        run = self._connection.execute
        run(GATEWAY, (OURS, now, now, 0, "", "", 0))
        gateway = self._numbers.gateway(OURS)
        way = (results.digest, results.size, results.hop)
        run(DEFINE, way)
        (definition,) = run(DEFINITION, way).fetchone()
        ids = self._series(gateway, results.values)
        series = np.array(list(ids.values()), np.int64)
        self._numbers.stream(series, definition, 0)
        value = np.array([results.values[name] for name in ids])
        before = self._connection.total_changes
        self._connection.executemany(
            WINDOW,
            [
                (number, definition, 0, results.start, 0, 1, one, 0.0, one, one, one, one, now)
                for number, one in zip(ids.values(), value.tolist(), strict=True)
            ],
        )
        run(COUNT, (now, self._connection.total_changes - before, gateway))
        return _stored(results, series, value, definition)

    def _series(self, gateway: int, names: Iterable[str]) -> dict[str, int]:
        """Give the number of each name, making those that fit."""
        known = dict(self._connection.execute("SELECT name, id FROM series WHERE gateway = ?", (gateway,)))
        fresh = [name for name in names if name not in known][: MAX_OURS - len(known)]
        for name in fresh:
            sql = "INSERT INTO series (gateway, name) VALUES (?, ?) RETURNING id"
            (known[name],) = self._connection.execute(sql, (gateway, name)).fetchone()
        return {name: known[name] for name in names if name in known}


def _stored(results: Results, series: np.ndarray, value: np.ndarray, definition: int) -> Stored:
    size = len(series)
    start, zeros = np.full(size, results.start), np.zeros(size, np.int32)
    rows = WindowRows(
        series.astype(np.int32),
        np.full(size, definition, np.int32),
        start,
        zeros,
        np.ones(size, np.int64),
        value.astype(np.float32),
        np.zeros(size, np.float32),
        *(value,) * 4,
    )
    return Stored(True, series, start, np.full(size, results.size), rows)

"""Stored windows added up, in the store's thread: tumbling ones in UTC. A read is about one series, or one gateway."""

from __future__ import annotations

import sqlite3

from cloud.store import Sums

LAST = (1 << 63) - 1

TUMBLING = """
SELECT definition, size FROM streams JOIN definitions ON definitions.id = definition
WHERE series = ? AND domain = 0 AND hop = size ORDER BY size
"""

OLDEST = """
SELECT min((SELECT min(start) FROM windows WHERE series = streams.series AND definition = streams.definition
    AND domain = 0))
FROM streams JOIN definitions ON definitions.id = definition JOIN series ON series.id = streams.series
WHERE domain = 0 AND hop = size AND series.gateway = (SELECT id FROM gateways WHERE name = ?) AND series.name GLOB ?
"""

CHOSEN = """
FROM windows WHERE series = ?1 AND definition = ?2 AND domain = 0 AND start >= ?3 AND start <= ?4 AND count > 0
    AND mean IS NOT NULL
"""

MEAN = f"SELECT total(count), total(count * mean), min(minimum), max(maximum), min(start), max(start) {CHOSEN}"
SCATTER = f"SELECT total(count * (deviation * deviation + (mean - ?5) * (mean - ?5))) {CHOSEN}"


class Summing:
    """Reads on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def oldest(self, gateway: str, match: str) -> int | None:
        """Give when the oldest window of a gateway's series begins; None if there is none."""
        found: int | None = self._connection.execute(OLDEST, (gateway, match)).fetchone()[0]
        return found

    def sums(self, series: int, start: int, end: int) -> Sums | None:
        """Add up the windows of a series, of the definition that holds most readings, else of the finest."""
        ways = self._connection.execute(TUMBLING, (series,)).fetchall()
        found = [self._sums((series, way, start, (end or LAST) - size), size) for way, size in ways]
        return max(filter(None, found), key=lambda one: one.count, default=None)

    def _sums(self, chosen: tuple[int, int, int, int], size: int) -> Sums | None:
        count, total, least, most, first, last = self._connection.execute(MEAN, chosen).fetchone()
        if not count:
            return None
        mean = total / count
        (scatter,) = self._connection.execute(SCATTER, (*chosen, mean)).fetchone()
        return Sums(int(count), mean, scatter, least, most, first, last + size)

"""Clock domains: what a gateway stamped while its clock was not UTC, and what brings it there.

Rules:

1. A gateway states the shift of a domain once, and the first statement counts: a repeat changes nothing.
2. What is here of the domain moves to UTC with the statement, in its transaction; what comes later moves as it comes.
3. Keys stay unique: a gateway's shifts are odd, so that no moved row begins where one that was never moved does. What
   would meet another all the same, or lie beyond MAX_TIME, stays in its domain.
4. Of each gateway the newest MAX_CLOCKS statements are remembered; what comes of a forgotten domain stays in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from cloud.store import Windows
from cloud.store.sqlite.numbers import Numbers
from protocol.messages import AlertsBody, ClockDefinition

MAX_CLOCKS = 1000
"""A boot without a clock makes one: with ten a day, what is spooled arrives within 100 days."""

MAX_TIME = 1 << 61
"""In ns: two such add up to what the database holds."""

MOVE_WINDOWS = """
UPDATE OR IGNORE windows SET domain = 0, start = start + ?4
WHERE series = ?1 AND definition = ?2 AND domain = ?3 AND start BETWEEN -?5 AND ?5
"""

MOVE_ALERTS = """
UPDATE OR IGNORE alerts SET domain = 0, start = start + ?3, stamp = stamp + ?3
WHERE gateway = ?1 AND domain = ?2 AND start BETWEEN -?4 AND ?4 AND stamp BETWEEN -?4 AND ?4
"""

STREAMS = """
SELECT streams.series, definition FROM streams JOIN series ON series.id = streams.series
WHERE domain = ? AND series.gateway = ?
"""

FORGET = """
DELETE FROM clocks WHERE gateway = ?1 AND id <=
    (SELECT id FROM clocks WHERE gateway = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)
"""


class Clocks:
    """What is known of gateways' clock domains, on one connection."""

    def __init__(self, connection: sqlite3.Connection, numbers: Numbers) -> None:
        self._connection = connection
        self._numbers = numbers

    def learn(self, gateway: int, clocks: Sequence[ClockDefinition]) -> None:
        """Take statements of a gateway, and move what is here of their domains."""
        for clock in clocks:
            domain = self._numbers.domain(clock.domain)
            sql = "INSERT OR IGNORE INTO clocks (gateway, domain, shift) VALUES (?, ?, ?)"
            if self._connection.execute(sql, (gateway, domain, clock.shift)).rowcount:
                self._move(gateway, domain, clock.shift)
                self._connection.execute(FORGET, (gateway, MAX_CLOCKS))

    def _move(self, gateway: int, domain: int, shift: int) -> None:
        run = self._connection.execute
        for stream in run(STREAMS, (domain, gateway)).fetchall():
            run(MOVE_WINDOWS, (*stream, domain, shift, MAX_TIME))
            run("INSERT OR IGNORE INTO streams VALUES (?, ?, 0)", stream)
        run(MOVE_ALERTS, (gateway, domain, shift, MAX_TIME))

    def windows(self, gateway: int, windows: Windows) -> Windows:
        """Bring window rows to UTC if that can be done."""
        shift = self._shift(gateway, windows.domain)
        if shift is None or abs(windows.rows.start).max(initial=0) > MAX_TIME:
            return windows
        return windows._replace(rows=windows.rows._replace(start=windows.rows.start + shift), domain="")

    def alerts(self, gateway: int, body: AlertsBody) -> AlertsBody:
        """Bring alerts to UTC if that can be done."""
        shift = self._shift(gateway, body.domain)
        if shift is None or any(max(abs(one.start), abs(one.stamp)) > MAX_TIME for one in body.alerts):
            return body
        alerts = [msgspec.structs.replace(one, start=one.start + shift, stamp=one.stamp + shift) for one in body.alerts]
        return msgspec.structs.replace(body, alerts=alerts, domain="")

    def _shift(self, gateway: int, domain: str) -> int | None:
        if not domain:
            return None
        sql = "SELECT shift FROM clocks JOIN domains ON domains.id = domain WHERE gateway = ? AND name = ?"
        row = self._connection.execute(sql, (gateway, domain)).fetchone()
        return row[0] if row else None

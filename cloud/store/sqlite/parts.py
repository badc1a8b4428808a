"""Answers to tasks, in the order they came, and what state machines keep of them. In the store's thread.

An answer is kept once, by (gateway, job, attempt), until every machine has handled it. A machine's state, its rows and
how far it has come are written together, so after a restart it goes on with the first answer that it has not handled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import msgspec

from cloud.store import MAX_PARTS, News, Part
from protocol.messages import PartBody

ENCODE = msgspec.msgpack.encode
DECODE = msgspec.msgpack.Decoder(PartBody).decode

PARTS = """
SELECT parts.id, gateways.name, body FROM parts JOIN gateways ON gateways.id = gateway
WHERE parts.id > ? ORDER BY parts.id LIMIT ?
"""

CROWDED = """
DELETE FROM parts WHERE gateway = ?1 AND id <= (
    SELECT id FROM parts WHERE gateway = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)
"""

KEEP = """
INSERT INTO machines VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET handled = excluded.handled, state = excluded.state
"""

KEEP_ROW = """
INSERT INTO kept VALUES (?, ?, ?) ON CONFLICT (machine, key) DO UPDATE SET value = excluded.value
"""

DROP_ROW = "DELETE FROM kept WHERE machine = ? AND key = ?"

ROWS = """
SELECT key, value FROM kept WHERE machine = ? AND key >= ? AND key > ? AND key < ? ORDER BY key LIMIT ?
"""

HANDLED = "DELETE FROM parts WHERE id <= (SELECT min(handled) FROM machines)"


class Parts:
    """Reads and writes on one connection; writes inside a transaction that the caller began."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def take(self, gateway: int, body: PartBody, news: News, now: int) -> None:
        """Keep an answer if it is new; beyond MAX_PARTS a gateway's oldest are forgotten."""
        row = (gateway, body.job, body.attempt, ENCODE(body), now)
        sql = "INSERT OR IGNORE INTO parts (gateway, job, attempt, body, stored) VALUES (?, ?, ?, ?, ?)"
        if self._connection.execute(sql, row).rowcount:
            news.parts += 1
            self._connection.execute(CROWDED, (gateway, MAX_PARTS))

    def parts(self, after: int, limit: int) -> list[Part]:
        """Give answers with an id above `after`, in the order they came."""
        rows = self._connection.execute(PARTS, (after, limit))
        return [Part(number, name, DECODE(body)) for number, name, body in rows]

    def keep(self, machine: str, handled: int, state: bytes, rows: Mapping[str, bytes | None]) -> None:
        """Replace what a machine keeps, rows that are named too, and forget the answers that all have handled."""
        self._connection.execute(KEEP, (machine, handled, state))
        self._connection.executemany(DROP_ROW, [(machine, key) for key, value in rows.items() if value is None])
        self._connection.executemany(
            KEEP_ROW, [(machine, key, value) for key, value in rows.items() if value is not None]
        )
        self._connection.execute(HANDLED)

    def pass_over(self, machine: str, handled: int) -> None:
        """Note how far a machine has come."""
        self._connection.execute("UPDATE machines SET handled = ? WHERE name = ?", (handled, machine))
        self._connection.execute(HANDLED)

    def rows(self, machine: str, begins: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Give rows whose key begins so and is above `after`, by key."""
        found = self._connection.execute(ROWS, (machine, max(begins, after), after, f"{begins}\U0010ffff", limit))
        return [(key, bytes(value)) for key, value in found]

    def row(self, machine: str, key: str) -> bytes | None:
        """Give one row."""
        sql = "SELECT value FROM kept WHERE machine = ? AND key = ?"
        found = self._connection.execute(sql, (machine, key)).fetchone()
        return bytes(found[0]) if found else None

    def kept(self, machine: str) -> tuple[int, bytes]:
        """Give how far a machine has come, and its state; (0, b"") if it has not begun."""
        sql = "SELECT handled, state FROM machines WHERE name = ?"
        found = self._connection.execute(sql, (machine,)).fetchone()
        return (int(found[0]), bytes(found[1])) if found else (0, b"")

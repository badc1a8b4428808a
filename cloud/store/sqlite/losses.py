"""What gateways declared lost: sums by cause for ever, and the newest ranges. In the store's thread.

Rules:

1. A range that goes on where one of its cause ended makes that one longer.
2. Sums count every frame; of the ranges of a lane the newest MAX_LOSSES are kept.
3. Where one side of a time is not known (0), that side of the sum is not known either.
4. A lane has at most MAX_CAUSES causes; what has yet another is summed under OTHER.
"""

from __future__ import annotations

import sqlite3

from cloud.store import MAX_CAUSES, MAX_LOSSES
from cloud.store.answers import CauseView, DropView
from protocol.messages import Loss

SHOWN = 100
"""Ranges of a lane that are shown, newest first."""
OTHER = "other"
MAX_TEXT = 64
"""Characters of a cause."""

Key = tuple[int, int, int]
"""Gateway, epoch and lane, in the store's numbers."""

BEFORE = """
SELECT first FROM (SELECT first, last, cause FROM losses WHERE gateway = ?1 AND epoch = ?2 AND lane = ?3 AND first < ?4
    ORDER BY first DESC LIMIT 1) WHERE last = ?4 - 1 AND cause = ?5
"""

RANGE = """
INSERT INTO losses VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT DO UPDATE SET last = excluded.last, newest = excluded.newest, stored = excluded.stored
"""

FORGET = """
DELETE FROM losses WHERE gateway = ?1 AND epoch = ?2 AND lane = ?3 AND first <= (SELECT first FROM losses
    WHERE gateway = ?1 AND epoch = ?2 AND lane = ?3 ORDER BY first DESC LIMIT 1 OFFSET ?4)
"""

CAUSE = """
INSERT INTO drops VALUES (?1, ?2, ?3,
    iif((SELECT count(*) FROM drops WHERE gateway = ?1 AND epoch = ?2 AND lane = ?3
        AND cause NOT IN (?4, ?10)) < ?9, ?4, ?10), ?5, ?6, ?7, ?8)
ON CONFLICT DO UPDATE SET frames = frames + excluded.frames, oldest = min(oldest, excluded.oldest),
    newest = iif(min(newest, excluded.newest), max(newest, excluded.newest), 0), stored = excluded.stored
"""

RANGES_OF = """
SELECT first, last, cause, oldest, newest, stored FROM losses WHERE gateway = ? AND epoch = ? AND lane = ?
ORDER BY first DESC LIMIT ?
"""

CAUSES_OF = """
SELECT cause, frames, oldest, newest, stored FROM drops WHERE gateway = ? AND epoch = ? AND lane = ?
ORDER BY frames DESC, cause
"""


class Losses:
    """Reads and writes on one connection; writes inside a transaction that the caller began."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def note(self, key: Key, loss: Loss, closed: list[tuple[int, int]], now: int) -> int:
        """Note those ranges of a loss that were holes till now; give how many frames that are."""
        if not closed:
            return 0
        run, frames = self._connection.execute, sum(last - first + 1 for first, last in closed)
        cause, times = loss.cause[:MAX_TEXT], (loss.oldest, loss.newest, now)
        for first, last in closed:
            before = run(BEFORE, (*key, first, cause)).fetchone()
            run(RANGE, (*key, before[0] if before else first, last, cause, *times))
        run(FORGET, (*key, MAX_LOSSES))
        run(CAUSE, (*key, cause, frames, *times, MAX_CAUSES, OTHER))
        return frames

    def ranges(self, key: Key) -> list[DropView]:
        """Give the newest ranges of a lane, newest first."""
        return [DropView(*row) for row in self._connection.execute(RANGES_OF, (*key, SHOWN))]

    def causes(self, key: Key) -> list[CauseView]:
        """Give the sums of a lane by cause, most frames first."""
        return [CauseView(*row) for row in self._connection.execute(CAUSES_OF, key)]

"""When a commit is due: as late as is safe, so that one fsync serves many readings. Pure.

A broker stops sending when its in-flight window is full, and the window is its secret: stock mosquitto allows 20, our
own Receive Maximum may be 20,000. Waiting for the larger number would cap the smaller broker at 20 messages per commit
interval. So:

1. A commit is due when half of the window waits, and at latest `interval` after the oldest waiting reading.
2. The window is learnt upward from LEARN_FROM: it is at least what has been seen waiting at one moment.
3. The next commit begins when the last has ended; what arrives meanwhile waits for it.
"""

from __future__ import annotations

from gateway.records import NEVER

LEARN_FROM = 20
"""Stock mosquitto's max_inflight_messages (mosquitto.conf(5))."""


class Gate:
    """Counts what waits for the disk, and says when it must go."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.window = LEARN_FROM
        self._waiting = 0  # QoS 1 messages of records no commit has begun for
        self._committing = 0
        self._oldest = NEVER

    def feed(self, messages: int, now: int) -> None:
        """So many QoS 1 messages arrived (0: a reading that nobody waits for, which still must reach the disk)."""
        self._waiting += messages
        self._oldest = min(self._oldest, now)
        self.window = max(self.window, self._waiting + self._committing)

    def due(self) -> int:
        """When (ns) the commit must begin: 0 is at once, NEVER if nothing waits."""
        if self._oldest == NEVER:
            return NEVER
        return 0 if 2 * self._waiting >= self.window else self._oldest + self.interval

    def begin(self) -> None:
        """Note that a commit took all that waited."""
        self._committing, self._waiting, self._oldest = self._waiting, 0, NEVER

    def forget(self) -> None:
        """Learn the window anew: another connection may have another broker behind it."""
        self.window = max(LEARN_FROM, self._waiting + self._committing)

    def end(self, now: int, *, durable: bool) -> None:
        """Note that it ended; if it failed, all it held waits again."""
        if not durable:
            self._waiting += self._committing
            self._oldest = now
        self._committing = 0

"""When a commit is due: as late as is safe, so that one fsync serves many readings. Pure.

A broker stops sending when its in-flight window is full, and the window is its secret: stock mosquitto allows 20, our
own Receive Maximum may be 20,000. Waiting for the larger number would cap the smaller broker at 20 messages per commit
interval. So:

1. A commit is due when half of the window waits, and at latest `interval` after the oldest waiting reading.
2. The window is learnt upward from LEARN_FROM: it is at least what has been seen waiting at one moment, and with each
   commit that half of it made due a quarter more is tried, up to our own Receive Maximum: a broker with more to send
   would otherwise be answered as fast as the disk syncs, and each sync costs a block of the disk.
3. Too much was tried when messages stopped coming and the interval had to end: what waits is the window then, and for
   TRY_AGAIN no more is tried.
4. The next commit begins when the last has ended; what arrives meanwhile waits for it.
"""

from __future__ import annotations

from gateway.records import NEVER

LEARN_FROM = 20
"""Stock mosquitto's max_inflight_messages (mosquitto.conf(5))."""

MOST = 65_535
"""The largest Receive Maximum (MQTT 5, 3.1.2.11.3)."""

TRY_AGAIN = 60 * 10**9
"""In ns: a try that fails costs one interval without messages."""


class Gate:
    """Counts what waits for the disk, and says when it must go; `most` is our Receive Maximum."""

    def __init__(self, interval: int, most: int = MOST) -> None:
        self.interval, self.most = interval, most
        self.window = LEARN_FROM
        self._known = 0  # the window, until `_until`, once too much was tried; 0: not known
        self._until = 0
        self._waiting = 0  # QoS 1 messages of records no commit has begun for
        self._committing = 0
        self._oldest = NEVER
        self._newest = 0  # when a message came last

    def feed(self, messages: int, now: int) -> None:
        """So many QoS 1 messages arrived (0: a reading that nobody waits for, which still must reach the disk)."""
        self._waiting += messages
        self._oldest = min(self._oldest, now)
        self._newest = now if messages else self._newest
        self.window = max(self.window, self._waiting + self._committing)

    def due(self) -> int:
        """When (ns) the commit must begin: 0 is at once, NEVER if nothing waits."""
        if self._oldest == NEVER:
            return NEVER
        return 0 if 2 * self._waiting >= self.window else self._oldest + self.interval

    def begin(self, now: int) -> None:
        """Note that a commit takes all that waits."""
        if 2 * self._waiting >= self.window:
            self._try_more(now)
        elif self._waiting >= LEARN_FROM and self._oldest + self.interval <= now > self._newest + self.interval // 2:
            self.window = self._known = self._waiting
            self._until = now + TRY_AGAIN
        self._committing, self._waiting, self._oldest = self._waiting, 0, NEVER

    def _try_more(self, now: int) -> None:
        most = self._known if now < self._until else self.most
        self.window = max(self.window, min(self.window * 5 // 4, most))

    def forget(self) -> None:
        """Learn the window anew: another connection may have another broker behind it."""
        self.window = max(LEARN_FROM, self._waiting + self._committing)
        self._until = 0

    def end(self, now: int, *, durable: bool) -> None:
        """Note that it ended; if it failed, all it held waits again."""
        if not durable:
            self._waiting += self._committing
            self._oldest = now
        self._committing = 0

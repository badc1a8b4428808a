"""How fast the link has taken frames, when there was enough to send."""

from __future__ import annotations

ENOUGH = 128 << 10
"""Bytes in a row: fewer say how long a receipt takes, not how fast the link is."""


class Throughput:
    """Measures spells in which something was in flight all the time."""

    def __init__(self) -> None:
        self.rate: float | None = None  # bytes/s, the newest spell as much as all before it; None: there was none yet
        self._since = self._bytes = 0

    def begin(self, now: int) -> None:
        """Note that a frame leaves, and no other is in flight."""
        self._since, self._bytes = now, 0

    def add(self, size: int, now: int) -> None:
        """Note that so many bytes were receipted."""
        self._bytes += size
        if self._bytes >= ENOUGH and now > self._since:
            rate = self._bytes * 1e9 / (now - self._since)
            self.rate = rate if self.rate is None else (self.rate + rate) / 2
            self.begin(now)

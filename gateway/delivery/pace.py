"""How much may be in flight, and how fast it may leave.

Rules:

1. Bytes may leave while fewer than `window` of them and fewer than MAX_FRAMES frames are in flight: so never more than
   the window and one frame.
2. The window begins at FLOOR, grows by what is receipted in time up to `limit`, and halves when a receipt takes LATE_NS
   and twice the fastest one: on a slow link an alert must not wait behind a megabyte in the socket's buffer.
3. The bucket fills at `rate` bytes a second and holds a second's worth; one frame may overdraw it.
"""

from __future__ import annotations

from gateway.records import NEVER

FLOOR = 64 << 10
MAX_FRAMES = 512
LATE_NS = 2 * 10**9
DEFER_NS = 5 * 10**9
QUIET_NS = 10**9
SILENCE_NS = 120 * 10**9
SECOND_NS = 10**9


class Pace:
    """Counts what is in flight against window and bucket."""

    def __init__(self, limit: int, rate: int | None, now: int) -> None:
        self._most, self._rate = limit, rate
        self._level, self._filled = float(rate or 0), now
        self.reset(limit)

    def reset(self, limit: int) -> None:
        """Begin a connection; `limit` is what the cloud allows in flight."""
        self._allowed = limit
        self.limit = max(min(self._most, limit), 1)
        self.window = min(FLOOR, self.limit)
        self.bytes = self.frames = 0
        self._largest = 0
        self._fastest = NEVER

    def configure(self, limit: int, rate: int | None, now: int) -> None:
        """Keep other bounds from now on; what is in flight beyond them stays there. Another rate begins anew."""
        self._most = limit
        self.limit = max(min(limit, self._allowed), 1)
        self.window = min(self.window, self.limit)
        self._largest = max(self._largest, self.bytes - self.limit)
        if rate != self._rate:
            self._rate, self._level, self._filled = rate, float(rate or 0), now

    @property
    def full(self) -> bool:
        """Whether nothing may leave before a receipt comes."""
        return self.bytes >= self.window or self.frames >= MAX_FRAMES

    def opens(self, now: int) -> int:
        """When (ns) the bucket lets bytes leave: `now` if it does."""
        if self._rate is None:
            return now
        self._level = min(self._rate, self._level + max(now - self._filled, 0) * self._rate / SECOND_NS)
        self._filled = max(now, self._filled)
        return now if self._level > 0 else now + 1 + int(-self._level * SECOND_NS / self._rate)

    def take(self, size: int) -> None:
        """Note that a frame left."""
        self.bytes += size
        self.frames += 1
        self._largest = max(self._largest, size)
        self._level -= size

    def give(self, sizes: list[int]) -> None:
        """Note that frames are in flight no more."""
        self.bytes -= sum(sizes)
        self.frames -= len(sizes)

    def adapt(self, size: int, took: int) -> None:
        """Fit the window to a receipt of so many bytes, so many ns after the newest of them was sent."""
        self._fastest = min(self._fastest, took)
        if took > max(LATE_NS, 2 * self._fastest):
            self.window = max(self.window // 2, min(FLOOR, self.limit))
        else:
            self.window = min(self.window + size, self.limit)

    def check(self) -> None:
        """Assert rule 1."""
        assert 0 <= self.bytes <= self.limit + self._largest
        assert 0 <= self.frames <= MAX_FRAMES
        assert 0 < self.window <= self.limit

"""When to look away from the socket for a moment. Pure.

A broker writes message by message, so a fast reader wakes for each one, and waking costs ten times what reading does.
When short reads follow closely on one another, we look away for a moment and find a batch. A read that follows a
silence is never followed by a pause, so an idle gateway pays nothing, in delay or in wake-ups.
"""

from __future__ import annotations

SHORT_READ = 32 << 10
"""Bytes: a longer read is a batch already."""

PAUSE_S = 0.002
"""Measured behind mosquitto at full rate: a quarter of the CPU of reading at once."""

STREAM = 2 << 10
LONG_PAUSE_S = 0.005
"""After reads of STREAM bytes: a tenth less CPU again, and half a record interval at most. A broker that stops at 20
messages in flight never gives so much at once, and is not held up for longer than PAUSE_S."""

BUSY_S = 0.001
"""A read this soon after the last one, or after looking again, is one of many: a pause will gather at least two."""


class Pacing:
    """Remembers when the socket was last read or looked at again."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def feed(self, size: int, now: float) -> float:
        """Take note of a read of `size` bytes at `now` seconds; give the seconds to look away, 0.0 for not at all."""
        busy = now - self._last < BUSY_S
        self._last = now
        if not busy or size >= SHORT_READ:
            return 0.0
        return PAUSE_S if size < STREAM else LONG_PAUSE_S

    def look(self, now: float) -> None:
        """Take note that we look again."""
        self._last = now

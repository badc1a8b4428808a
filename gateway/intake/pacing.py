"""When to look away from the socket for a moment. Pure.

A broker writes message by message, so a fast reader wakes for each one, and waking costs ten times what reading does.
When short reads follow closely on one another, we look away for a moment and find a batch. A read that follows a
silence is never followed by a pause, so an idle gateway pays nothing, in delay or in wake-ups. Nor is one that finds
hardly anything after a pause: a broker with Nagle's algorithm sends the rest when that has been confirmed.
"""

from __future__ import annotations

SHORT_READ = 100 << 10
"""Bytes: a longer read has nearly filled the buffer (`framing.BUFFER`), and more is waiting."""

PAUSES = ((16 << 10, 0.010), (2 << 10, 0.005), (0, 0.002))
"""After a read of so many bytes, so many seconds: the faster the stream, the longer. Behind mosquitto at full rate 2 ms
take a quarter of the CPU of reading at once, and each of the longer ones a tenth less again. The longest is a record
interval. A broker that stops at 20 messages in flight never gives so much at once, and is not held up by more than
2 ms."""

LITTLE = 256
"""Bytes, a message or two: after a pause that is no batch, and the next pause would only come on top."""

BUSY_S = 0.001
"""A read this soon after the last one, or after looking again, is one of many: a pause will gather at least two."""


class Pacing:
    """Remembers when the socket was last read or looked at again."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._looked = False  # and not read since

    def feed(self, size: int, now: float) -> float:
        """Take note of a read of `size` bytes at `now` seconds; give the seconds to look away, 0.0 for not at all."""
        busy = now - self._last < BUSY_S
        lone = self._looked and size < LITTLE
        self._last, self._looked = now, False
        if not busy or lone or size >= SHORT_READ:
            return 0.0
        return next(pause for least, pause in PAUSES if size >= least)

    def look(self, now: float) -> None:
        """Take note that we look again."""
        self._last, self._looked = now, True

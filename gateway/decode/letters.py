"""What could not be read: the newest messages of each batch, with their cause. Pure.

Bounds: MAX_LETTERS letters of at most MAX_BYTES together, the oldest go first; a payload is kept up to KEPT bytes, a
topic up to KEPT_TOPIC characters; MAX_HEARD topics that no source has, the first ones heard stay.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MAX_LETTERS = 1000
MAX_BYTES = 1 << 20
MAX_HEARD = 100
KEPT = 1024
KEPT_TOPIC = 512


class DeadLetter(NamedTuple):
    """A message that was acknowledged, counted and not recorded."""

    now: int  # ns
    topic: str
    cause: str
    payload: bytes


class Letters:
    """The ring of dead letters, and the topics that no source has with how often each was heard."""

    def __init__(self) -> None:
        self.ring: deque[DeadLetter] = deque()
        self.heard: dict[str, int] = {}
        self.bytes = 0

    def add(self, now: int, topic: str, cause: str, payload: bytes) -> None:
        """Keep one; older ones go when a bound is reached."""
        letter = DeadLetter(now, topic[:KEPT_TOPIC], cause, payload[:KEPT])
        if cause == "topic" and (letter.topic in self.heard or len(self.heard) < MAX_HEARD):
            self.heard[letter.topic] = self.heard.get(letter.topic, 0) + 1
        self.ring.append(letter)
        self.bytes += _size(letter)
        while len(self.ring) > MAX_LETTERS or self.bytes > MAX_BYTES:
            self.bytes -= _size(self.ring.popleft())


def _size(letter: DeadLetter) -> int:
    return len(letter.payload) + 4 * len(letter.topic)  # a character takes at most four bytes

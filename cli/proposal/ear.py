"""What was heard: topics, some messages of each, and how often they came. Pure.

Bounds: MAX_TOPICS topics and MAX_BYTES of names and messages, the first ones heard stay; of a topic the first SAMPLES
messages, each up to MAX_SAMPLE bytes. What comes beyond is counted: messages of further topics in `unheard`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MAX_TOPICS = 4_000
MAX_BYTES = 32 << 20
MAX_SAMPLE = 8 << 10
SAMPLES = 5


class Sample(NamedTuple):
    """One message: when it came (ns), whether the broker had kept it from earlier, and what it held."""

    now: int
    retained: bool
    payload: bytes


@dataclass(slots=True)
class Heard:
    """One topic; `first` and `last` (ns) are of the `live` messages, which were sent while we listened."""

    samples: list[Sample] = field(default_factory=list)
    live: int = 0
    first: int = 0
    last: int = 0
    large: bool = False  # a message was too large to be kept

    @property
    def interval(self) -> int:
        """Mean time (ns) between messages; 0 if fewer than two came."""
        return (self.last - self.first) // (self.live - 1) if self.live > 1 else 0


class Ear:
    """Takes messages, keeps what a proposal needs."""

    def __init__(self) -> None:
        self.topics: dict[str, Heard] = {}
        self.messages = self.unheard = 0
        self._bytes = 0

    def hear(self, topic: str, payload: bytes, retained: bool, now: int) -> None:
        """Take one message that came at `now` (ns)."""
        self.messages += 1
        heard = self.topics.get(topic)
        if heard is None:
            if len(self.topics) >= MAX_TOPICS or self._bytes >= MAX_BYTES:
                self.unheard += 1
                return
            heard = self.topics[topic] = Heard()
            self._bytes += 4 * len(topic)  # a character takes at most four bytes
        if not retained:
            heard.live += 1
            heard.first, heard.last = heard.first or now, now
        heard.large |= len(payload) > MAX_SAMPLE
        if payload and len(payload) <= MAX_SAMPLE and len(heard.samples) < SAMPLES and self._bytes < MAX_BYTES:
            heard.samples.append(Sample(now, retained, payload))
            self._bytes += len(payload)

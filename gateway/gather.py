"""What arrived within about 10 ms, on its way into one journal record. Pure.

Rules:

1. Messages are decoded together when the record is closed: what decoding costs per batch is paid a hundred times a
   second, and not once a socket read.
2. A record holds messages of one connection only, so that its acknowledgements have one way back.
3. A message whose payload is refused is in the record too, as a count: its acknowledgement waits for the same commit.
4. It is full at MAX_MESSAGES: the owner closes it then, whatever the time.
5. It is closed one interval after its first message; two, if there are many: what a record costs by itself, about two
   milliseconds, is then paid half as often. If there are few, it is closed one interval after the record before it,
   where that is sooner: what came just after that one need not wait until it was applied, and then an interval.
"""

from __future__ import annotations

from gateway.records import NEVER, Arrivals

MAX_MESSAGES = 8_192
"""Messages in one record: more would make one `derive` call longer than an alert may wait."""


MANY = 64
"""Messages in an interval of 10 ms: 6,400 a second."""

FEW = 32
"""Likewise: 3,200 a second. A quarter more records are no burden there, and an alert comes 3 ms sooner."""


class Gathering:
    """Arrivals that are not a record yet; `after` is when the record before was closed. Times are ns."""

    def __init__(self, interval: int, after: int = 0) -> None:
        self._interval, self._after = interval, after
        self._parts: list[Arrivals] = []
        self._messages = 0
        self._first = NEVER

    def __bool__(self) -> bool:
        """Tell whether there is anything to record."""
        return bool(self._parts)

    @property
    def full(self) -> bool:
        """Whether it must be closed now."""
        return self._messages >= MAX_MESSAGES

    def due(self) -> int:
        """When it is to be closed (rule 5); NEVER while there is nothing to record."""
        if not self._parts:
            return NEVER
        if self._messages < FEW and self._after <= self._first < self._after + self._interval:
            return self._after + self._interval
        return self._first + self._interval * (2 if self._messages >= MANY else 1)

    def takes(self, arrivals: Arrivals) -> bool:
        """Tell whether these arrivals may go into the same record (rule 2)."""
        return not self._parts or self._parts[0].connection == arrivals.connection

    def feed(self, arrivals: Arrivals, now: int) -> None:
        """Add what one socket read held."""
        self._first = min(self._first, now)
        self._parts.append(arrivals)
        self._messages += len(arrivals.topics)

    def joined(self) -> Arrivals:
        """Give everything as one; the caller makes a new Gathering for what comes next."""
        first = self._parts[0]
        return first if len(self._parts) == 1 else _join(self._parts)


def _join(parts: list[Arrivals]) -> Arrivals:
    topics: list[str] = []
    payloads: list[bytes] = []
    packet_ids: list[int] = []
    for part in parts:
        topics += part.topics
        payloads += part.payloads
        packet_ids += part.packet_ids
    at_least_once: list[int] | range = range(len(packet_ids))
    if len(packet_ids) not in (0, len(topics)):
        at_least_once = _shifted(parts)
    return Arrivals(topics, payloads, packet_ids, at_least_once, _duplicates(parts), parts[0].connection)


def _shifted(parts: list[Arrivals]) -> list[int]:
    rows: list[int] = []
    start = 0
    for part in parts:
        rows += [start + row for row in part.at_least_once]
        start += len(part.topics)
    return rows


def _duplicates(parts: list[Arrivals]) -> list[bool] | None:
    if all(part.duplicate is None for part in parts):
        return None
    return [mark for part in parts for mark in part.duplicate or [False] * len(part.packet_ids)]

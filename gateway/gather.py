"""What arrived within about 10 ms, on its way into one journal record. Pure.

Rules:

1. A record holds messages of one connection only, so that its acknowledgements have one way back.
2. A message whose payload was refused is in the record too, as a count: its acknowledgement waits for the same commit.
3. It is full at MAX_ROWS readings: the owner closes it then, whatever the time.
"""

from __future__ import annotations

from gateway.records import Arrivals, Decoded, ReadingsRecord, Tally, join_readings, join_recent

MAX_ROWS = 8_192
"""Readings in one record: more would make one `derive` call longer than an alert may wait."""


class Gathering:
    """Decoded arrivals that are not a record yet."""

    def __init__(self) -> None:
        self.packet_ids: list[int] = []
        self.connection = 0
        self._parts: list[Decoded] = []
        self._rows = 0

    def __bool__(self) -> bool:
        """Tell whether there is anything to record."""
        return bool(self._parts)

    @property
    def full(self) -> bool:
        """Whether it must be closed now."""
        return self._rows >= MAX_ROWS

    def takes(self, arrivals: Arrivals) -> bool:
        """Tell whether these arrivals may go into the same record (rule 1)."""
        return not self._parts or self.connection == arrivals.connection

    def feed(self, arrivals: Arrivals, decoded: Decoded) -> None:
        """Add what one socket read held."""
        self._parts.append(decoded)
        self._rows += decoded.readings.rows
        self.packet_ids += arrivals.packet_ids
        self.connection = arrivals.connection

    def record(self, stamp: int) -> ReadingsRecord:
        """Give the record; the caller makes a new Gathering for what comes next."""
        tally = Tally()
        for part in self._parts:
            tally.add(part.tally)
        return ReadingsRecord(
            stamp,
            join_readings([part.readings for part in self._parts]),
            [name for part in self._parts for name in part.names],
            tally,
            join_recent([part.recent for part in self._parts]),
        )

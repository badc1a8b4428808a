"""What flows between the stages: readings as columns, journal records, outputs.

After decode there is no object per reading. A journal record is exactly one `derive` call, and its `stamp` is that
call's `now`; stamps never decrease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.messages import Alert, ClockDefinition, Moments, SeriesDefinition, WindowDefinition, WindowRows

State = dict[str, Any]
"""A stage's snapshot: text keys; values are arrays, numbers, text, lists of those, or another State. Bit for bit."""

NEVER = (1 << 63) - 1
"""`due()` of a stage that waits for nothing."""


class Readings(NamedTuple):
    """A columnar batch; arrays of shape (n,), row i is one value of one series at one event time."""

    series: NDArray[np.int32]
    time: NDArray[np.int64]  # ns
    value: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """How many readings these are."""
        return len(self.series)


def no_readings() -> Readings:
    """Give zero readings, with every column's dtype."""
    return Readings(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64))


def join_readings(parts: list[Readings]) -> Readings:
    """Concatenate batches in the order given."""
    if len(parts) == 1:
        return parts[0]
    return Readings(*map(np.concatenate, zip(*parts, strict=True))) if parts else no_readings()


@dataclass(slots=True)
class Tally:
    """Counts of one record, or cumulative ones: messages = decoded + dead-lettered + redelivered; readings likewise."""

    messages: int = 0
    decoded: int = 0  # messages that became readings (perhaps none: all refused)
    redelivered: int = 0
    dead: dict[str, int] = field(default_factory=dict)  # messages, by cause
    refused: dict[str, int] = field(default_factory=dict)  # readings decoded but not recorded, by reason

    def add(self, other: Tally) -> None:
        """Add another tally to this one, in place."""
        self.messages += other.messages
        self.decoded += other.decoded
        self.redelivered += other.redelivered
        count(self.dead, other.dead)
        count(self.refused, other.refused)


def count(into: dict[str, int], more: Mapping[str, int]) -> None:
    """Add `more` to `into` key by key, leaving out zeros."""
    for reason, number in more.items():
        if number:
            into[reason] = into.get(reason, 0) + number


class Arrivals(NamedTuple):
    """What one socket read held: message i is topics[i], payloads[i]. No object per message.

    `packet_ids` are those of the QoS 1 messages only, in order; `at_least_once` are their indices; `duplicate` marks
    which of *those* carried DUP. `connection` tells which connection an acknowledgement must go to.
    """

    topics: list[str]
    payloads: list[bytes]
    packet_ids: list[int]
    at_least_once: list[int] | range
    duplicate: list[bool] | None  # None: no DUP among them
    connection: int


class Recent(NamedTuple):
    """The newest QoS 1 messages, oldest first: packet ids and what tells messages apart (`decode`), shape (n,)."""

    packet_ids: NDArray[np.uint16]
    hashes: NDArray[np.uint32]


def no_recent() -> Recent:
    """Give an empty memory."""
    return Recent(np.empty(0, np.uint16), np.empty(0, np.uint32))


def join_recent(parts: list[Recent]) -> Recent:
    """Concatenate memories, oldest first."""
    return Recent(*map(np.concatenate, zip(*parts, strict=True))) if parts else no_recent()


@dataclass(frozen=True, slots=True)
class Decoded:
    """What `decode` makes of arrivals: readings, the names of series seen for the first time, counts."""

    readings: Readings
    names: list[str]
    tally: Tally
    recent: Recent
    ours: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class ReadingsRecord:
    """What arrived within about 10 ms. New series take the next integers, in the order of `names`.

    While our clock is not UTC, `ours` are the series that got their time from it; None: it is not known which.
    """

    stamp: int
    readings: Readings
    names: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    recent: Recent = field(default_factory=no_recent)
    ours: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class TickRecord:
    """Time passed and a stage was due."""

    stamp: int


@dataclass(frozen=True, slots=True)
class ConfigurationRecord:
    """The pipeline part of the configuration changed; `text` is its canonical form (`config.pipeline_text`)."""

    stamp: int
    text: str


@dataclass(frozen=True, slots=True)
class ClockRecord:
    """A statement about the clock: which boot this is, the monotonic time, and whether wall time can be believed.

    Where stamps are not UTC, they run on by monotonic time from one statement to the next.
    """

    stamp: int
    boot: str
    monotonic: int  # ns
    synchronised: bool
    leap: int | None = None  # ns that stamps went ahead here without our having lived through it; None: not known
    shift: int | None = None  # ns that make UTC of stamps since the statement before; None: not known
    offset: int = 0  # ns that make UTC of stamps from here on, if it is synchronised


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Another model scores from here on: verified, and kept whole, so that a replay needs nobody."""

    stamp: int
    manifest: bytes  # sealed: the signature and what it signs (`protocol.manifest`)
    content: bytes  # the model's bytes; the manifest holds their digest


@dataclass(frozen=True, slots=True)
class DropsRecord:
    """So many messages the devices' broker is known to have dropped by now."""

    stamp: int
    total: int


Record = ReadingsRecord | TickRecord | ConfigurationRecord | ClockRecord | ModelRecord | DropsRecord


Announced = Callable[[], Mapping[int, str]]
"""Gives the names of series by number, as they were once announced."""


def complete(record: Record, known: int, announced: Announced = dict) -> Record:
    """Let a record also name the series that a damaged one before it named (rule 6 of `recovery`)."""
    if not isinstance(record, ReadingsRecord) or not record.readings.rows:
        return record
    # A series is named by the record of its first reading, so the highest number here is that of the last name.
    first = int(np.maximum.reduce(record.readings.series)) + 1 - len(record.names)
    if first <= known:
        return record
    names = announced()
    lost = [names.get(number, f"unknown/{number}") for number in range(known, first)]
    return replace(record, names=[*lost, *record.names])


@dataclass(frozen=True, slots=True)
class Definitions:
    """Output: series and window definitions that later outputs refer to, and what the times of earlier ones are."""

    series: list[SeriesDefinition]
    windows: list[WindowDefinition]
    clocks: list[ClockDefinition] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Closed:
    """Output: windows that closed, or were revised, in this record."""

    rows: WindowRows
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Alerts:
    """Output: alerts of this record."""

    alerts: list[Alert]
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Learnt:
    """Output: what has been learnt for one model so far, as mergeable statistics."""

    model: str
    stamp: int
    entries: list[Moments]
    alerts: int = 0
    shadow: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Swapped:
    """Output: a model version was applied."""

    model: str
    version: int
    digest: str
    stamp: int


class Verdicts(NamedTuple):
    """What a [[score]] thinks of windows that start together, before hold-down; arrays of shape (k,), a row a group."""

    rule: str
    start: int
    series: NDArray[np.int32]  # the group's first
    score: NDArray[np.float64]
    over: NDArray[np.bool_]  # beyond the threshold


Output = Definitions | Closed | Alerts | Learnt | Swapped


@dataclass(frozen=True, slots=True)
class Outputs:
    """All outputs of one record; an output's ordinal is its index in `items`."""

    items: list[Output]
    removed: dict[str, int] = field(default_factory=dict)  # readings removed in cleaning, by reason
    late: int = 0
    windowed: int = 0  # readings now inside windows that have been stated
    verdicts: list[Verdicts] = field(default_factory=list)  # of every window scored; they stay here


class SeriesTable:
    """Names to integers, in order of first sight; never reused, at most `limit` of them.

    When full, `add` answers -1 and the caller refuses the reading with reason `series_limit`.
    """

    def __init__(self, names: Iterable[str] = (), *, limit: int = 100_000) -> None:
        self.names: list[str] = list(names)
        self.limit = limit
        self._ids = {name: number for number, name in enumerate(self.names)}

    def __len__(self) -> int:
        """How many series are known."""
        return len(self.names)

    def get(self, name: str) -> int:
        """Give the series' integer, or -1 if it is unknown."""
        return self._ids.get(name, -1)

    def add(self, name: str) -> int:
        """Give the series' integer, making one if need be; -1 when full."""
        number = self._ids.get(name, -1)
        if number < 0 and len(self.names) < self.limit:
            number = self._ids[name] = len(self.names)
            self.names.append(name)
        return number

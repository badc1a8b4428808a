"""What travels: the meaning of every frame kind, as types.

Rules of the wire: a field is never removed or given another meaning; a new field has a default; unknown fields are
ignored. Times are int64 nanoseconds since 1970 unless a name says otherwise. Sequences begin at 1; 0 means none yet.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

LANES = ("definitions", "alerts", "results", "telemetry")
"""Ordered streams of frames up, most precious first; the index is the lane's number on the wire."""

JOURNAL_LANE = 255
"""The lane number of journal records: they never travel."""


class Kind(IntEnum):
    """What a frame's body holds. Below 32 on a gateway's disk only, below 64 in a lane, above on a connection only."""

    READINGS = 1
    TICK = 2
    CONFIGURATION = 3
    CLOCK = 4
    MODEL = 5
    DROPS = 6
    CHECKPOINT = 16
    SEGMENT = 17
    DEFINITIONS = 32
    WINDOWS = 33
    ALERTS = 34
    LOSSES = 35
    STATISTICS = 36
    REPORT = 37
    PART = 38
    ANSWER = 40
    QUESTIONS = 41
    HELLO = 64
    WELCOME = 65
    RECEIPT = 66
    REFUSAL = 67


class WindowRows(NamedTuple):
    """Closed windows as columns; all arrays have shape (n,) and one row a window.

    Upsert key: (gateway, series, definition, clock domain, start); the higher revision wins.
    """

    series: NDArray[np.int32]
    definition: NDArray[np.int32]
    start: NDArray[np.int64]  # ns, inclusive
    revision: NDArray[np.int32]  # 0 for the first statement of a window
    count: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.count, which nobody asks of columns
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]  # population standard deviation
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    first: NDArray[np.float64]  # value at the earliest event time
    last: NDArray[np.float64]  # value at the latest event time

    @property
    def rows(self) -> int:
        """How many windows these are."""
        return len(self.series)


WINDOW_DTYPES: dict[str, type[np.generic]] = {
    "series": np.int32,
    "definition": np.int32,
    "start": np.int64,
    "revision": np.int32,
    "count": np.int64,
    "mean": np.float32,
    "deviation": np.float32,
    "minimum": np.float64,
    "maximum": np.float64,
    "first": np.float64,
    "last": np.float64,
}


def no_windows() -> WindowRows:
    """Give zero rows, with every column's dtype."""
    return WindowRows(*(np.empty(0, dtype) for dtype in WINDOW_DTYPES.values()))


def join_windows(parts: list[WindowRows]) -> WindowRows:
    """Concatenate rows in the order given."""
    if len(parts) == 1:
        return parts[0]
    return WindowRows(*map(np.concatenate, zip(*parts, strict=True))) if parts else no_windows()


class Cover(msgspec.Struct, frozen=True, array_like=True, order=True):
    """The last journal output a lane's frames account for: journal record and the output's ordinal in it."""

    record: int = 0
    ordinal: int = -1


class SeriesDefinition(msgspec.Struct, frozen=True):
    """One series of one gateway and epoch: its integer and its name, `{device}/{measurement}`."""

    id: int
    name: str


class WindowDefinition(msgspec.Struct, frozen=True):
    """One way to window: its integer in this epoch, and the digest of kind, size, hop and cleaning that names it."""

    id: int
    digest: str
    size: int  # ns
    hop: int  # ns; equal to size for a tumbling window


class ClockDefinition(msgspec.Struct, frozen=True):
    """What makes UTC of the times of a clock domain: so many ns are to be added. Said once; it never changes."""

    domain: str
    shift: int


class DefinitionsBody(msgspec.Struct, frozen=True):
    """Body of DEFINITIONS."""

    cover: Cover
    series: list[SeriesDefinition] = []
    windows: list[WindowDefinition] = []
    stamp: int = 0  # ns, when it was packed
    clocks: list[ClockDefinition] = []


class WindowsBody(msgspec.Struct, frozen=True):
    """Body of WINDOWS: `columns` is `protocol.columns` over the fields of WindowRows."""

    cover: Cover
    rows: int
    columns: bytes
    domain: str = ""  # "" is UTC, otherwise begins with a boot id
    stamp: int = 0  # ns, the journal stamp of the newest record in it


class Alert(msgspec.Struct, frozen=True):
    """One alert; (series, start, revision) identifies it, so a repeat is harmless.

    Without series it is about the gateway itself and of no window: `start` is when it was raised. Rule "broker": the
    devices' broker dropped `score` messages that it had acknowledged.
    """

    series: list[int]
    start: int
    revision: int
    stamp: int
    score: float
    rule: str
    version: int = 0  # of the model that scored; 0: what was learnt on the gateway, or a rule
    threshold: float = 0.0  # what the score went beyond
    contributions: list[float] = []  # each series' share of the score, in the order of `series`
    missing: list[int] = []  # series of the group whose window was empty; their values were imputed


class AlertsBody(msgspec.Struct, frozen=True):
    """Body of ALERTS."""

    cover: Cover
    alerts: list[Alert]
    domain: str = ""


class Loss(msgspec.Struct, frozen=True):
    """A range of sequences of a lane that will never arrive, and why.

    Its frames were spooled, a moment after their windows had closed, between `oldest` and `newest` (ns); 0: not known.
    """

    lane: str
    first: int
    last: int
    cause: str
    oldest: int = 0
    newest: int = 0


class LossesBody(msgspec.Struct, frozen=True):
    """Body of LOSSES (lane `results`): what the gateway dropped, and its cumulative counts when it said so."""

    cover: Cover
    losses: list[Loss] = []
    counts: dict[str, int] = {}
    stamp: int = 0  # ns, when it was said


LOST = "frames."
"""Begins the names of counts of frames that were lost with an epoch: `frames.{lane}.{cause}`. They are added up; of
other counts the newest replaces those before."""


def lost_counts(losses: list[Loss]) -> dict[str, int]:
    """Count the frames of losses by lane and cause, for whom their sequences mean nothing any more."""
    counts: dict[str, int] = {}
    for loss in losses:
        name = f"{LOST}{loss.lane}.{loss.cause}"
        counts[name] = counts.get(name, 0) + loss.last - loss.first + 1
    return counts


class Moments(msgspec.Struct, frozen=True):
    """Mergeable statistics of one vector of features: its mean and scatter over `count` windows."""

    features: list[str]  # measurements, or whole series names where a group spans devices
    count: int
    mean: list[float]
    scatter: list[float]  # sum of (x - mean)(x - mean)^T, row by row


class StatisticsBody(msgspec.Struct, frozen=True):
    """Body of STATISTICS (lane `results`): all that a gateway has learnt for one model so far.

    A later one replaces an earlier one of the same gateway and model, so a repeat is harmless.
    """

    cover: Cover
    model: str
    stamp: int
    entries: list[Moments] = []
    alerts: int = 0  # raised so far by what was learnt on the gateway, or by the model while that warmed up
    shadow: int = 0  # that the model would have raised where it does not score
    version: int = 0  # of the model that was in force; 0: none


class ReportBody(msgspec.Struct, frozen=True):
    """Body of REPORT (lane `results`): what became of a model version on this gateway, and why."""

    cover: Cover
    model: str
    version: int
    outcome: str  # "applied", "refused", "rolled back" to the version before, or "drifted": what it sees has changed
    reason: str = ""
    digest: str = ""  # SHA-256 of the model's content, hexadecimal
    stamp: int = 0


class PartBody(msgspec.Struct, frozen=True):
    """Body of PART (lane `results`): a gateway's answer to a task; (job, gateway, attempt) names it.

    How complete it is: of the event times `asked` for, `held` are those that the journal still had. In ns, [from, to).
    """

    cover: Cover
    job: str
    attempt: int
    name: str  # of the task: "train"
    version: int
    outcome: str  # "done", "refused" or "failed"
    reason: str = ""
    content: bytes = b""
    stamp: int = 0
    seconds: float = 0.0  # of CPU
    readings: int = 0  # that went into it
    asked: tuple[int, int] = (0, 0)
    held: tuple[int, int] = (0, 0)


ENDS = ("done", "refused", "failed")
"""How a task ends; the index is its number in an AnswerBody."""


class AnswerBody(msgspec.Struct, frozen=True, array_like=True):
    """Body of ANSWER (lane `results`): a PartBody without the names of its fields, for who asked for it so.

    Of a round's update by `topk` those are a fifth. A new field is one more at the end.
    """

    cover: Cover
    job: str
    attempt: int
    name: str
    version: int
    ended: int  # in ENDS
    content: bytes
    stamp: int
    milliseconds: int = 0  # of CPU
    readings: int = 0
    held: tuple[int, int] = (0, 0)
    asked: tuple[int, int] = (0, 0)
    reason: str = ""

    @classmethod
    def of(cls, part: PartBody) -> AnswerBody:
        """Say the same in fewer bytes."""
        named = (part.cover, part.job, part.attempt, part.name, part.version)
        how = (ENDS.index(part.outcome), part.content, part.stamp, round(part.seconds * 1e3), part.readings)
        return cls(*named, *how, part.held, part.asked, part.reason)

    def part(self) -> PartBody:
        """Give what it says; one that ended in none of ENDS has "" as its outcome."""
        outcome = ENDS[self.ended] if 0 <= self.ended < len(ENDS) else ""
        named = (self.cover, self.job, self.attempt, self.name, self.version)
        said = (outcome, self.reason, self.content, self.stamp)
        return PartBody(*named, *said, self.milliseconds / 1e3, self.readings, self.asked, self.held)


class QuestionsBody(msgspec.Struct, frozen=True, array_like=True):
    """Body of QUESTIONS (lane `results`): windows of which a gateway asks a larger model what they are.

    A row each in `devices`, `start`, `span` and `seen`; the rules are in `protocol.cascade`. A new field is one more at
    the end.
    """

    cover: Cover
    model: str
    version: int
    digest: bytes  # SHA-256 of that version's content
    devices: list[str]
    start: list[int]  # event time of the first sample
    span: list[int]  # ns from there to the last one
    seen: bytes  # features, of protocol.cascade
    stamp: int
    heard: int = 0  # `at` of the newest answer that was taken


class LaneHead(msgspec.Struct, frozen=True, array_like=True):
    """What a gateway still holds of a lane: sequences [oldest, next), and the chain of frame next - 1."""

    oldest: int
    next: int
    chain: int


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """What the cloud has of a lane: all of 1..upto, and the inclusive ranges above it; `chain` is frame upto's."""

    upto: int = 0
    ranges: list[tuple[int, int]] = []
    chain: int = 0


MAX_RANGES = 64
"""Bound on ranges above `upto`; a frame that would open one more is not taken and is sent again later."""


class Hello(msgspec.Struct, frozen=True):
    """First message of a gateway on a connection."""

    gateway: str
    epoch: int
    lanes: dict[str, LaneHead]
    boot: str = ""
    version: str = ""
    now: int = 0
    readings: int = 0  # recorded so far, for the fleet view
    since: dict[str, int] = {}  # by lane, the stamp (ns) of the oldest frame without a receipt, where one is known
    reason: str = ""  # why this epoch began, if it began because another was contradicted


COPIED = "the gateway's data directory was copied, or put back from a backup, or has lost its end"
"""What it means that the histories of gateway and cloud differ; either side may notice."""


class Welcome(msgspec.Struct, frozen=True):
    """The cloud's answer. A `fork` says why the epoch contradicts what is stored: begin a new one, say hello again."""

    marks: dict[str, Mark]
    now: int = 0
    fork: str = ""
    max_bytes: int = 4 << 20  # how many bytes of frames may be in flight


class Receipt(msgspec.Struct, frozen=True):
    """What is committed, per lane that changed."""

    marks: dict[str, Mark]


class Refusal(msgspec.Struct, frozen=True):
    """Why the cloud ends the connection; `retry_after_s` of 0 means with the usual back-off."""

    reason: str
    retry_after_s: float = 0.0


Body = (
    DefinitionsBody
    | WindowsBody
    | AlertsBody
    | LossesBody
    | StatisticsBody
    | ReportBody
    | PartBody
    | AnswerBody
    | QuestionsBody
    | Hello
    | Welcome
    | Receipt
    | Refusal
)

BODIES: dict[Kind, type[Any]] = {
    Kind.DEFINITIONS: DefinitionsBody,
    Kind.WINDOWS: WindowsBody,
    Kind.ALERTS: AlertsBody,
    Kind.LOSSES: LossesBody,
    Kind.STATISTICS: StatisticsBody,
    Kind.REPORT: ReportBody,
    Kind.PART: PartBody,
    Kind.ANSWER: AnswerBody,
    Kind.QUESTIONS: QuestionsBody,
    Kind.HELLO: Hello,
    Kind.WELCOME: Welcome,
    Kind.RECEIPT: Receipt,
    Kind.REFUSAL: Refusal,
}


def stamp_of(body: object) -> int:
    """Give the stamp (ns) that what a lane's frame holds bears; 0 if it bears none."""
    if isinstance(body, AlertsBody):
        return body.alerts[0].stamp if body.alerts else 0
    stamp: int = getattr(body, "stamp", 0)
    return stamp

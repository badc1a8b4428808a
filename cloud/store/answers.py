"""What a store answers, as the API shows it. Times are int64 nanoseconds since 1970; a float that is none is null."""

from __future__ import annotations

from typing import Any

import msgspec


class FrameCounts(msgspec.Struct):
    """Frames of a gateway, over all its epochs."""

    received: int = 0
    duplicate: int = 0
    quarantined: int = 0


class GatewayView(msgspec.Struct):
    """One gateway of the fleet. `lag_s` is from the end of its newest window to that window's commit."""

    name: str
    online: bool
    last_seen: int
    lag_s: float | None
    epoch: str  # sixteen hex digits
    version: str
    series: int
    windows: int
    readings: int
    bytes: int
    frames: FrameCounts
    counts: dict[str, int] = {}  # what the gateway last declared of itself
    models: dict[str, int] = {}  # the version of each model that runs there
    alerts: int = 0  # stored
    shadow: int = 0  # that its models would have raised where they do not score


class SeriesView(msgspec.Struct):
    """One series; `last` is the start of its newest window."""

    id: int
    gateway: str
    name: str
    last: int | None


class DefinitionView(msgspec.Struct):
    """One way in which a series is windowed; sizes in nanoseconds."""

    id: int
    digest: str
    size: int
    hop: int


class WindowView(msgspec.Struct):
    """One window; `stored` is when it was committed."""

    start: int
    size: int
    definition: int
    domain: str  # "" is UTC, otherwise a boot id
    revision: int
    count: int
    mean: float | None
    deviation: float | None
    minimum: float | None
    maximum: float | None
    first: float | None
    last: float | None
    stored: int


class WindowsPage(msgspec.Struct):
    """Windows of one series, oldest first; `next` is the `from` of the page after this one."""

    series: SeriesView
    definitions: list[DefinitionView]
    windows: list[WindowView]
    next: int | None


class AlertView(msgspec.Struct):
    """One alert; `stamp` is when the gateway raised it, `stored` when it was committed here.

    Without series it is about the gateway itself; by rule `broker`, `score` messages were dropped by its broker.
    """

    gateway: str
    series: list[int]
    names: list[str]
    start: int
    revision: int
    stamp: int
    score: float | None
    rule: str
    version: int  # of the model that scored; 0: what was learnt on the gateway, or a rule
    domain: str
    stored: int
    threshold: float | None = 0.0  # what the score went beyond
    contributions: list[float | None] = []  # each series' share of the score, in the order of `series`
    missing: list[str] = []  # names of the series whose window was empty


class AlertsPage(msgspec.Struct):
    """Alerts, newest first; `next` is the `before` of the page after this one."""

    alerts: list[AlertView]
    next: int | None


class DropView(msgspec.Struct):
    """Sequences the gateway declared dropped, and the times between which they were spooled; 0: not known."""

    first: int
    last: int
    cause: str
    oldest: int
    newest: int
    stored: int  # when it was declared here, or last grew


class CauseView(msgspec.Struct):
    """All frames of a lane that were dropped for one cause; times as in DropView, `stored` the newest."""

    cause: str
    frames: int
    oldest: int
    newest: int
    stored: int


class LaneView(msgspec.Struct):
    """The ledger of one lane. `queued` frames are known to exist and are neither here nor dropped.

    The oldest of them was spooled at `since`, by the gateway's clock, or a little later; 0: none, or not known.
    """

    gateway: str
    epoch: str  # sixteen hex digits
    lane: str
    upto: int
    ranges: list[tuple[int, int]]
    holes: list[tuple[int, int]]
    received: int
    duplicate: int
    quarantined: int
    dropped: list[DropView]
    dropped_frames: int
    queued: int
    oldest: int
    next: int
    bytes: int
    fork: str = ""
    causes: list[CauseView] = []  # most frames first
    since: int = 0


class EpochView(msgspec.Struct):
    """One epoch: when it was first and last greeted, and what is wrong with it.

    A `fork` ended it: nothing more is taken. A `remark` did not: a hello contradicted the ledger, or it speaks again
    although a later epoch has begun. `remarked` is when.
    """

    epoch: str  # sixteen hex digits
    began: int
    heard: int  # 0: not since this was written down
    fork: str
    remark: str
    remarked: int


class AccountView(msgspec.Struct):
    """A gateway in the ledger: what it counted itself, and its epochs, the one that counts first, then the newest."""

    gateway: str
    online: bool
    last_seen: int
    epoch: str
    counts: dict[str, int]
    epochs: list[EpochView]


class QuarantinedView(msgspec.Struct):
    """One frame that was taken and not understood; its body is not shown."""

    gateway: str
    epoch: str
    lane: str
    seq: int
    cause: str
    detail: str
    stored: int
    bytes: int


class VersionView(msgspec.Struct):
    """One published version of a model; `windows` are those that it was made of."""

    version: int
    digest: str
    schema: str
    size: int
    created: int
    expires: int  # 0 is never
    windows: int


class ReportView(msgspec.Struct):
    """What became of a model version on a gateway; `stamp` is the gateway's, `stored` when it was committed here."""

    gateway: str
    model: str
    version: int
    outcome: str  # "applied", "refused", "rolled back" or "drifted"
    reason: str
    digest: str
    stamp: int
    stored: int


class RunView(msgspec.Struct):
    """A model on one gateway: what runs there, and what was learnt there for it so far."""

    gateway: str
    version: int  # that runs; 0: none
    alerts: int
    shadow: int
    windows: int  # learnt from
    stamp: int  # of its newest statistics; 0: none came
    stored: int
    reported: ReportView | None = None  # the newest word about a version
    refused: ReportView | None = None  # the newest refusal
    rolled_back: ReportView | None = None  # the newest time that the gateway went back to the version before
    drifted: ReportView | None = None  # the newest time that what the model sees had changed there


class ModelView(msgspec.Struct):
    """A model: its newest version (0: none yet), the ones before it, newest first, and the gateways that have it."""

    name: str
    version: int
    digest: str
    size: int
    created: int
    expires: int
    versions: list[VersionView]
    gateways: list[RunView]


class StageView(msgspec.Struct):
    """A stage of a training that has ended: who answered, who was late, who was refused and why."""

    training: str
    run: int
    round: int
    stage: str  # "survey", "round" or "trial"
    answered: list[str]
    late: list[str]
    refused: dict[str, str]
    accuracy: float | None  # of the model the stage began with, over what gateways had held out
    bytes_up: int
    seconds: float
    ended: int  # ns


class PrivacyView(msgspec.Struct):
    """A training's privacy budget: what one gateway's part in it may tell at most, over all runs."""

    epsilon: float  # that may be spent, at `delta`
    delta: float
    spent: float  # epsilon so far
    rounds: int  # in which it was spent
    left: int  # rounds that the rest covers


class TrainingView(msgspec.Struct):
    """A training: where it stands, what was, and how the last run ended."""

    name: str
    run: int
    stage: str
    round: int
    rounds: int
    waiting: list[str]  # gateways that are asked and have not answered
    verdict: str  # of the last run: "promoted", "below", "worse", "unproven", or "" before the first has ended
    accuracy: float | None  # of its best candidate
    before: float | None  # of what was in force then
    history: list[StageView]
    drifted: list[str] = []  # gateways that say so, for which no run has begun yet
    ended: str = ""  # "budget": the last run, before its rounds, since privacy allowed no more
    privacy: PrivacyView | None = None


class JobPartView(msgspec.Struct):
    """One gateway's part of a job. Event times (ns), [from, to): those asked for, those of what was found."""

    gateway: str
    state: str  # "open": not asked, or away; "asked", "done", "lost"
    reason: str  # of the last failure
    attempts: int
    readings: int
    bytes: int
    cpu_s: float
    predicted_s: float
    asked: tuple[int, int]
    held: tuple[int, int]
    ended: int
    source: str = msgspec.field(
        name="from", default="readings"
    )  # or "windows": of cleaned readings, stored in the cloud


class JobView(msgspec.Struct):
    """A job: what was asked for, how it stands, and how complete it is; 0 in `start` and `end` is without bound."""

    id: str
    work: str
    series: list[str]
    gateways: list[str]
    start: int = msgspec.field(name="from")
    end: int = msgspec.field(name="to")
    priority: int
    deadline: int
    state: str  # "running", "merging", "done", "failed" or "cancelled"
    reason: str  # why it is not whole, or has failed
    began: int
    ended: int
    seconds: float  # so far
    predicted_s: float
    parts: int
    done: int
    lost: int
    waiting: int  # asked, and have not answered
    complete: float  # share of the parts that are done
    readings: int
    bytes: int  # of answers
    cpu_s: float
    held: tuple[int, int]  # event times of what was found
    each: list[JobPartView] = []
    result: Any = None
    standing: str = ""  # the standing job that this is a run of
    stored: int = 0  # parts that were computed from windows stored in the cloud


class StandingView(msgspec.Struct):
    """A standing job: its newest run, and the next. Times in ns; 0: never."""

    name: str
    work: str
    series: list[str]
    gateways: list[str]
    every: int
    over: int
    last: int  # end of the interval of the newest run
    run: str  # that run's job, which may be forgotten already
    next: int  # when the next one is due
    passed: int  # intervals that nothing was run for
    lacking: str  # why the newest could not begin

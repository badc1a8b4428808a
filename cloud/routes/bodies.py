"""What the addresses give, as it goes out in JSON. Pure."""

from __future__ import annotations

import msgspec

from cloud.store.answers import (
    AccountView,
    GatewayView,
    JobView,
    LaneView,
    ModelView,
    QuarantinedView,
    ReportView,
    SeriesView,
    StandingView,
    TrainingView,
)


class Trouble(msgspec.Struct):
    """What was wrong with a request, where in it, and what to do."""

    what: str
    where: str
    do: str


class ErrorBody(msgspec.Struct):
    """The body of every answer that is not a success."""

    error: Trouble


class GatewaysBody(msgspec.Struct):
    """The fleet."""

    gateways: list[GatewayView]


class SeriesBody(msgspec.Struct):
    """Series in the order of their ids; `next` is the `after` of the page after this one."""

    series: list[SeriesView]
    next: int | None


class LedgerBody(msgspec.Struct):
    """Lanes of the newest epochs of each gateway, and the gateways themselves; `now` (ns) is this cloud's time."""

    ledger: list[LaneView]
    gateways: list[AccountView]
    now: int


class QuarantineBody(msgspec.Struct):
    """Frames that were not understood, newest first."""

    quarantine: list[QuarantinedView]


class ModelsBody(msgspec.Struct):
    """Models by name, and what became of their versions on gateways, newest first."""

    models: list[ModelView]
    reports: list[ReportView]


class RollbackBody(msgspec.Struct):
    """A model's new version, and the earlier one whose content it has."""

    model: str
    version: int
    of: int


class PushBody(msgspec.Struct):
    """What became of a model that was pushed: its version, or None while the gateways of its training try it."""

    model: str
    version: int | None


class PinsBody(msgspec.Struct):
    """Versions that are kept, by model and then by gateway; "*" is all of them."""

    pins: dict[str, dict[str, int]]


class TrainingsBody(msgspec.Struct):
    """All trainings by name."""

    trainings: list[TrainingView]


class JobsBody(msgspec.Struct):
    """All jobs that are remembered, newest first, without parts and results; and standing ones, as configured."""

    jobs: list[JobView]
    standing: list[StandingView] = []


class LatencyView(msgspec.Struct):
    """Milliseconds from the end of a window to its commit, since this cloud started."""

    p50: float | None
    p99: float | None


class FramesView(msgspec.Struct):
    """Frames since this cloud started."""

    received: int
    duplicate: int
    quarantined: int


class StatsBody(msgspec.Struct):
    """What this cloud did since it started."""

    latency_ms: LatencyView
    frames: FramesView
    windows_stored: int
    bytes_received: int
    commits: int
    gateways_online: int


class WhoamiBody(msgspec.Struct):
    """Whom a gateway's token speaks for, and who answers."""

    gateway: str
    version: str  # of this cloud
    now: int  # ns, by this cloud's clock

"""What a store answers, as the API shows it. Times are int64 nanoseconds since 1970; a float that is none is null."""

from __future__ import annotations

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
    """One alert; `stamp` is when the gateway raised it, `stored` when it was committed here."""

    gateway: str
    series: list[int]
    names: list[str]
    start: int
    revision: int
    stamp: int
    score: float | None
    rule: str
    version: int
    domain: str
    stored: int


class AlertsPage(msgspec.Struct):
    """Alerts, newest first; `next` is the `before` of the page after this one."""

    alerts: list[AlertView]
    next: int | None


class DropView(msgspec.Struct):
    """Sequences the gateway declared dropped, and the event times they held."""

    first: int
    last: int
    cause: str
    oldest: int
    newest: int


class LaneView(msgspec.Struct):
    """The ledger of one lane. `queued` frames are known to exist and are neither here nor dropped."""

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

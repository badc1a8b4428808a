"""What a gateway says of itself at one moment, as it is counted: plain numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.derive import Totals
from gateway.reload import Reloads
from gateway.score import Progress

if TYPE_CHECKING:
    from gateway.cascade import Standing as Asked
    from gateway.classes import Standing

FSYNC_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. A good SSD syncs in about 1 ms, an SD card in 5 to 50; above 100 ms it holds up the commit interval."""


class Syncs:
    """How long the journal's syncs took; `counts` by bucket, the last one for all that took longer."""

    def __init__(self) -> None:
        self.counts = [0] * (len(FSYNC_BUCKETS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Note one that took so long."""
        self.counts[bisect_left(FSYNC_BUCKETS, seconds)] += 1
        self.seconds += seconds


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a gateway says of itself at one moment. Byte counts are of files on the disk."""

    totals: Totals
    unread: dict[str, int]  # messages acknowledged before anybody could decode them, by cause
    pending: int
    frames_sent: int
    frames_receipted: int
    cloud_connected: bool
    journal_bytes: int
    journal_pending: int
    journal_written: int
    spool_frames: dict[str, int]
    spool_bytes: dict[str, int]
    progress: Progress
    models: dict[str, int]  # the version of each model that scores
    models_refused: dict[str, int]  # manifests and parts, by reason
    lacking: list[str]  # why it is not ready; empty when it is
    reloads: Reloads
    classes: Standing | None = None
    cascade: Asked | None = None
    broker_drops: int = 0  # messages of this or other clients that the broker says it dropped
    disk: tuple[int, int] = (0, 0)  # bytes free, and how many should be
    budget: tuple[int, int] | None = None  # bytes sent up today, and how many may be; None: any number
    journal_dropped: Mapping[str, int] = field(default_factory=dict)  # bytes of history, by cause
    frames_dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)  # declared lost, by lane and cause

"""Counts of this process, as plain integers; made into metric families when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from cloud.fleet import Fleet
from cloud.store import Applied

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0)
STEP = 1.01
FINEST_NS = 1e6
BINS = 2400
"""1 ms to about 270 days in steps of one hundredth: a quantile is exact to half a step."""


class Lag:
    """How long after their end windows were committed: a histogram in fixed memory."""

    def __init__(self) -> None:
        self.bins: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.buckets: NDArray[np.int64] = np.zeros(len(BUCKETS_S) + 1, np.int64)
        self.sum_s = 0.0

    def observe(self, lags: NDArray[np.int64]) -> None:
        """Add lags in ns, shape (n,); a negative one (a gateway's clock is ahead) counts as none."""
        if not len(lags):
            return
        positive = np.maximum(lags, 0)
        places = np.log(np.maximum(positive, FINEST_NS) / FINEST_NS) / np.log(STEP)
        self.bins += np.bincount(np.minimum(places.astype(np.int64), BINS - 1), minlength=BINS)
        seconds = positive / 1e9
        at = np.searchsorted(BUCKETS_S, seconds)
        self.buckets += np.bincount(at, minlength=len(self.buckets))
        self.sum_s += float(seconds.sum())

    def quantile_ms(self, share: float) -> float | None:
        """Give the lag in ms that this share of windows stays under; None before the first."""
        total = int(self.bins.sum())
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self.bins), share * total))
        return round(float(FINEST_NS * STEP ** (place + 0.5)) / 1e6, 1)


@dataclass(slots=True)
class Counters:
    """Since this process began."""

    frames_stored: int = 0
    frames_duplicate: int = 0
    frames_deferred: int = 0
    frames_quarantined: dict[str, int] = field(default_factory=dict)
    windows_stored: int = 0
    alerts_stored: int = 0
    bytes_received: int = 0
    commits: int = 0
    forks: int = 0
    refused: int = 0  # connections ended with a refusal
    unauthorised: int = 0  # requests without a good token
    chunks_sent: int = 0
    wants_refused: dict[str, int] = field(default_factory=dict)  # by reason
    questions_answered: int = 0  # windows
    questions_refused: dict[str, int] = field(default_factory=dict)  # by reason
    lag: Lag = field(default_factory=Lag)

    def refuse_questions(self, reason: str, windows: int) -> None:
        """Count windows that get no answer."""
        self.questions_refused[reason] = self.questions_refused.get(reason, 0) + windows

    def add(self, applied: Applied) -> None:
        """Add what a commit brought."""
        self.frames_stored += applied.accepted
        self.frames_duplicate += applied.duplicate
        self.frames_deferred += applied.deferred
        for cause, number in applied.quarantined.items():
            self.frames_quarantined[cause] = self.frames_quarantined.get(cause, 0) + number
        self.windows_stored += applied.windows
        self.alerts_stored += applied.news.alerts
        self.commits += 1
        self.forks += bool(applied.fork)


class CloudCollector(Collector):
    """Everything above, and the fleet's size, as metric families."""

    def __init__(
        self, counters: Counters, fleet: Fleet, viewers: Callable[[], int], versions: Callable[[], Mapping[str, int]]
    ) -> None:
        self.counters = counters
        self.fleet = fleet
        self.viewers = viewers
        self.versions = versions

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        counts = self.counters
        yield _counter("frames_stored", "frames committed for the first time", counts.frames_stored)
        yield _counter("frames_duplicate", "frames that were here already", counts.frames_duplicate)
        yield _counter("frames_deferred", "frames not taken because the ledger was full", counts.frames_deferred)
        yield _counters("frames_quarantined", "frames not understood, by cause", "cause", counts.frames_quarantined)
        yield _counter("windows_stored", "window rows written, revisions included", counts.windows_stored)
        yield _counter("alerts_stored", "alerts stored for the first time", counts.alerts_stored)
        yield _counter("uplink_received_bytes", "bytes of messages from gateways", counts.bytes_received)
        yield _counter("commits", "batches committed", counts.commits)
        yield _counter("forks", "epochs found to contradict the ledger", counts.forks)
        yield _counter("uplinks_refused", "connections of gateways ended with a refusal", counts.refused)
        yield _counter("requests_unauthorised", "requests without a good token", counts.unauthorised)
        yield GaugeMetricFamily("fieldgate_gateways_online", "gateways connected", value=self.fleet.online)
        yield GaugeMetricFamily("fieldgate_viewers", "pages that watch live", value=self.viewers())
        yield _counter("chunks_sent", "parts of models sent over the bus", counts.chunks_sent)
        yield _counters("wants_refused", "parts asked for and not sent, by reason", "reason", counts.wants_refused)
        yield _counter(
            "questions_answered", "windows that a larger model has said the class of", counts.questions_answered
        )
        refused = counts.questions_refused
        yield _counters("questions_refused", "windows asked about that have no answer, by reason", "reason", refused)
        versions = GaugeMetricFamily("fieldgate_model_version", "newest version published", labels=["model"])
        for model, version in sorted(self.versions().items()):
            versions.add_metric([model], version)
        yield versions
        yield _histogram(counts.lag)


class Metrics:
    """The registry of one cloud; `versions` gives the newest published of each model."""

    def __init__(
        self,
        counters: Counters,
        fleet: Fleet,
        viewers: Callable[[], int],
        versions: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(CloudCollector(counters, fleet, viewers, versions))

    def text(self) -> bytes:
        """Give all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"fieldgate_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"fieldgate_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _histogram(lag: Lag) -> HistogramMetricFamily:
    sums = np.cumsum(lag.buckets).tolist()
    bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
    return HistogramMetricFamily(
        "fieldgate_window_lag_seconds",
        "time from a window's end to its commit",
        buckets=list(zip(bounds, sums, strict=True)),
        sum_value=lag.sum_s,
    )

"""What a demonstration counts: devices by their reports, gateways by their metrics, the cloud by its answers. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.accounting import Account, Ranges, Stated

MARGIN = 100_000
"""How far above the last counter heard of, the counters of devices begin that were killed: no counter is used twice."""

SAMPLE = re.compile(r'(fieldgate_\w+)(?:\{\w+="((?:[^"\\]|\\.)*)"\})? (\S+)')


class Reports:
    """What one process of devices says it did, over all its lives."""

    def __init__(self) -> None:
        self.pairs: dict[str, Ranges] = {}
        self.highest = 0  # the highest counter acknowledged
        self.firsts: list[int] = []  # the counters with which its lives began
        self._first = 0  # where the counters of this life begin
        self._now: dict[str, Any] = {}
        self._before = {"published": 0, "bytes_json": 0}

    def feed(self, line: bytes) -> None:
        """Take a line of `simulate --progress`; one that a kill cut short says nothing."""
        try:
            said = json.loads(line)
        except ValueError:
            return
        self._now = said
        for device, ranges in said["pairs"].items():
            known = self.pairs.setdefault(device, Ranges())
            for first, last in ranges:
                known.add(first, last)
                self.highest = max(self.highest, last)

    def begin_again(self) -> int:
        """Close the books of a process that was killed; give the first counter of the next one."""
        self._before = {name: self.count(name) for name in self._before}
        self._now = {}
        self._first = max(self._first, self.highest) + MARGIN if self._first else 1
        self.firsts.append(self._first)
        return self._first

    def count(self, name: str) -> int:
        """Give `published` or `bytes_json`, over all lives."""
        return self._before[name] + int(self._now.get(name, 0))

    @property
    def acknowledged(self) -> int:
        """Pairs acknowledged."""
        return sum(map(len, self.pairs.values()))


def read_metrics(text: str) -> dict[str, dict[str, float]]:
    """Read Prometheus' text format: by metric, then by the value of its only label ("" without one)."""
    metrics: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if found := SAMPLE.fullmatch(line):
            metrics.setdefault(found[1], {})[found[2] or ""] = float(found[3])
    return metrics


@dataclass(frozen=True, slots=True)
class Edge:
    """One gateway, by its metrics."""

    recorded: int = 0
    pending: int = 0
    queued: int = 0  # frames in its spool
    dropped: dict[str, float] = field(default_factory=dict)
    warming: int = 0  # groups of series that do not score by themselves yet
    seen: int = 0  # windows that the least of them has seen
    needed: int = 0  # windows that it needs
    refused: int = 0  # models, or parts of them

    @property
    def idle(self) -> bool:
        """Whether all it took in has gone up."""
        return self.pending == 0 and self.queued == 0


def edge_of(metrics: Mapping[str, Mapping[str, float]]) -> Edge:
    """Read what matters here."""
    return Edge(
        recorded=int(metrics.get("fieldgate_readings_recorded_total", {}).get("", 0)),
        pending=int(metrics.get("fieldgate_readings_pending", {}).get("", 0)),
        queued=int(sum(metrics.get("fieldgate_spool_frames", {}).values())),
        dropped=dict(metrics.get("fieldgate_readings_dropped_total", {})),
        warming=int(metrics.get("fieldgate_score_groups", {}).get("warming", 0)),
        seen=int(metrics.get("fieldgate_score_windows_seen", {}).get("", 0)),
        needed=int(metrics.get("fieldgate_score_windows_needed", {}).get("", 0)),
        refused=int(sum(metrics.get("fieldgate_models_refused_total", {}).values())),
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one moment; `at` in seconds since the demonstration began."""

    at: float
    recorded: int
    windows: int
    bytes_up: int
    lag_s: float | None
    online: int
    gateways: int
    queued: int = 0  # frames that wait in the gateways
    away: bool = False  # the cloud did not answer: what is said of it is old
    learning: str = ""  # how far the detectors are
    alerts: int = 0  # in the cloud
    shadow: int = 0  # that the shared model would have raised
    refused: int = 0  # models, or parts of them, by gateways


def sample_of(at: float, edges: Sequence[Edge], fleet: Sequence[Mapping[str, Any]], *, away: bool = False) -> Sample:
    """Add gateways and fleet up."""
    lags = [one["lag_s"] for one in fleet if one["lag_s"] is not None]
    return Sample(
        at=at,
        recorded=sum(edge.recorded for edge in edges),
        windows=sum(one["windows"] for one in fleet),
        bytes_up=sum(one["bytes"] for one in fleet),
        lag_s=max(lags, default=None),
        online=sum(one["online"] for one in fleet),
        gateways=len(edges),
        queued=sum(edge.queued for edge in edges),
        away=away,
        learning=learning(edges, fleet),
        alerts=sum(one["alerts"] for one in fleet),
        shadow=sum(one["shadow"] for one in fleet),
        refused=sum(edge.refused for edge in edges),
    )


def learning(edges: Sequence[Edge], fleet: Sequence[Mapping[str, Any]]) -> str:
    """Say how far detectors and models are."""
    if warming := [edge for edge in edges if edge.warming]:
        least = min(warming, key=lambda edge: edge.seen)
        return f"warming up {least.seen}/{least.needed}"
    running = [max(one["models"].values()) for one in fleet if one["models"]]
    return f"model {min(running)} on {len(running)} of {len(edges)}" if running else "no model yet"


def versions(fleet: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Give each gateway's version of the model, 0 for none."""
    return {one["name"]: max(one["models"].values(), default=0) for one in fleet}


def line(before: Sample, now: Sample) -> str:
    """Say what happened between two moments, in 120 columns as long as all is well."""
    passed = max(now.at - before.at, 1e-3)
    each = f"{now.bytes_up / now.recorded:.2f}" if now.recorded else "-"
    lag = "-" if now.lag_s is None else f"{now.lag_s:.1f} s"
    cloud = "the cloud does not answer" if now.away else f"{now.online} of {now.gateways} online"
    waiting = f", {now.queued} waiting" if now.queued else ""
    return (
        f"{now.at:4.0f} s {max(0, now.recorded - before.recorded) / passed:6,.0f} readings/s"
        f" {now.windows:8,} windows  {each} B/reading  lag {lag}"
        f"  {now.learning}  {now.alerts} alerts  {cloud}{waiting}"
    )


def stated(windows: Sequence[Mapping[str, Any]]) -> list[Stated]:
    """Read a page of /v1/windows of a counter's series."""
    return [
        Stated(one["start"], one["revision"], one["count"], int(one["minimum"]), int(one["maximum"]))
        for one in windows
        if one["count"]
    ]


def latencies_ms(windows: Sequence[Mapping[str, Any]], until: int) -> list[float]:
    """Give, for windows stated once that ended before `until` (ns), the time from their end to their commit."""
    ends = [(one["start"] + one["size"], one["stored"]) for one in windows if one["revision"] == 0]
    return [(committed - end) / 1e6 for end, committed in ends if end <= until]


def quantile(values: Sequence[float], share: float) -> float | None:
    """Give the value that `share` of all stay at or under, rounded to 0.1; None if there are none."""
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 1) if values else None


def result(
    balance: Account,
    last: Sample,
    *,
    dropped: int,
    frames: Mapping[str, int],
    bytes_json: int,
    latencies: Sequence[float],
    models: Mapping[str, int],
    labelled: int,
    restarts: Mapping[str, int],
    seconds: float,
) -> dict[str, Any]:
    """Give what `demo --json` prints."""
    return {
        "published": balance.published,
        "acknowledged": balance.acknowledged,
        "recorded": last.recorded,
        "dropped": dropped,
        "windows_stored": last.windows,
        "frames": {
            "sent": frames["received"] + frames["duplicate"],
            "duplicate": frames["duplicate"],
            "quarantined": frames["quarantined"],
        },
        "bytes_json": bytes_json,
        "bytes_up": last.bytes_up,
        "latency_ms": {"p50": quantile(latencies, 0.5), "p99": quantile(latencies, 0.99)},
        "gateways": last.gateways,
        "alerts": last.alerts,
        "labelled": labelled,
        "shadow": last.shadow,
        "models": dict(models),
        "refused": last.refused,
        "restarts": {name: number for name, number in restarts.items() if number},
        "seconds": round(seconds, 1),
        "queued": last.queued,
        "lost": balance.lost,
    }


def summary(balance: Account, result: dict[str, Any]) -> list[str]:
    """Say in a few lines how it ended."""
    latency, frames = result["latency_ms"], result["frames"]
    each = result["bytes_up"] / max(result["recorded"], 1)
    return [
        f"published {balance.published:,}, acknowledged {balance.acknowledged:,}, lost {balance.lost:,}",
        f"in the cloud {balance.accounted:,}, declared as dropped {balance.declared:,}",
        f"{result['windows_stored']:,} windows of {result['recorded']:,} readings",
        f"{result['alerts']} alerts, {result['labelled']} of them on anomalies that people had labelled,"
        f" {result['shadow']} in the shadow; versions of the model: "
        + (", ".join(f"{version} on {name}" for name, version in result["models"].items()) or "none"),
        f"{frames['sent']:,} frames, {frames['duplicate']:,} duplicate, {frames['quarantined']:,} quarantined",
        f"{result['bytes_json']:,} bytes of JSON became {result['bytes_up']:,} bytes up, {each:.2f} a reading",
        f"from a window's end to its commit: p50 {latency['p50']} ms, p99 {latency['p99']} ms",
        *(f"lost: {number:,} of {device}" for device, number in sorted(balance.by_device.items())[:5]),
    ]

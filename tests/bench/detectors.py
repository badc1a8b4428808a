"""The detector with its defaults on public sets: `python -m tests.bench detectors --data DIR`.

SKAB (valve1, sixteen runs, each a gateway of its own): a group of all sensors, verdicts of every window smoothed by the
median of three, as its leaderboard does; F1, false alarms and missed alarms over whole runs. NAB: each series a gateway
of its own; alerts, as they are held down, in the standard profile of its scorer, normalised over the series at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.config import Duration, PipelineConfig, Score, Window
from gateway.derive import Derive
from gateway.records import Alerts, Outputs, Readings, ReadingsRecord, TickRecord

S = 10**9
ROWS = 4096
"""Readings a record, as `journal import` makes them."""

FALSE_POSITIVE = 0.11
"""What one costs in NAB's standard profile."""

Mask = NDArray[np.bool_]
Times = NDArray[np.int64]


class Seen(NamedTuple):
    """What a gateway made of a recording: a verdict and an alert for each time, in the order of times."""

    over: Mask
    alerts: Mask


def measure(data: Path) -> Iterator[dict[str, object]]:
    """Both sets, with the same defaults."""
    if (data / "skab_valve1.npz").exists():
        yield {"set": "skab_valve1"} | skab(data / "skab_valve1.npz")
    if (data / "nab.npz").exists():
        yield {"set": "nab"} | nab(data / "nab.npz")


def watch(names: list[str], times: Times, values: NDArray[Any], score: Score) -> Seen:
    """Run a recording through derive, a window for each time; `values` is (times, series)."""
    step = int(np.median(np.diff(times)))
    window = Window(size=Duration(step), revise_for=Duration(0))
    derive = Derive(PipelineConfig(window=(window,), score=(score,)))
    over, told = dict[int, bool](), set[int]()
    for outputs in _outputs(derive, names, times, values):
        for verdicts in outputs.verdicts:
            over[verdicts.start] = bool(verdicts.over[0])
        told |= {alert.start for item in outputs.items if isinstance(item, Alerts) for alert in item.alerts}
    starts = (times // step * step).tolist()
    return Seen(np.array([over.get(start, False) for start in starts]), np.array([start in told for start in starts]))


def _outputs(derive: Derive, names: list[str], times: Times, values: NDArray[Any]) -> Iterator[Outputs]:
    order = np.argsort(times, kind="stable")
    now = int(times.max())
    for begin in range(0, len(order), ROWS // len(names)):
        rows = order[begin : begin + ROWS // len(names)]
        series = np.tile(np.arange(len(names), dtype=np.int32), len(rows))
        readings = Readings(series, np.repeat(times[rows], len(names)), values[rows].astype(np.float64).ravel())
        yield derive.feed(ReadingsRecord(now, readings, names if begin == 0 else []))
    yield derive.feed(TickRecord(now + 10**18))


def skab(path: Path) -> dict[str, object]:
    """F1 over all windows of all runs, with false and missed alarms in per cent."""
    data = np.load(path, allow_pickle=False)
    names = [f"valve/{name}" for name in data["sensor"].tolist()]
    hits = misses = false = normal = 0
    for run in np.unique(data["run"]):
        which = data["run"] == run
        seen = watch(names, data["t"][which] * S, data["X"][which], Score(by="device"))
        over, bad = _smooth(seen.over), data["anomaly"][which] > 0
        hits, misses = hits + int((over & bad).sum()), misses + int((~over & bad).sum())
        false, normal = false + int((over & ~bad).sum()), normal + int((~over & ~bad).sum())
    return {
        "f1": round(2 * hits / (2 * hits + false + misses), 3),
        "false_alarms_percent": round(100 * false / (false + normal), 1),
        "missed_alarms_percent": round(100 * misses / (misses + hits), 1),
    }


def _smooth(over: Mask) -> Mask:
    """Give the median of each verdict and the two before it; False for the first two."""
    return np.concatenate([[False, False], over[2:].astype(int) + over[1:-1] + over[:-2] >= 2])


def nab(path: Path) -> dict[str, object]:
    """NAB's score: 0 for a detector that says nothing, 100 for a perfect one."""
    data = np.load(path, allow_pickle=False)
    total, found, false, events = 0.0, 0, 0, 0
    for name in sorted(key.removesuffix("|v") for key in data.files if key.endswith("|v")):
        times, spans = data[f"{name}|t"], data[f"{name}|w"]
        seen = watch([f"{name}/value"], times * S, data[f"{name}|v"][:, None], Score(by="device"))
        places = [
            (int(np.flatnonzero(times == first)[0]), int(np.flatnonzero(times == last)[-1])) for first, last in spans
        ]
        points, hits, wrong = rate(seen.alerts, places)
        total, found, false, events = total + points, found + hits, false + wrong, events + len(places)
    return {
        "score": round(100 * (total + events) / (2 * events), 2),
        "events": events,
        "found": found,
        "false_alerts": false,
    }


def rate(alerts: Mask, spans: list[tuple[int, int]]) -> tuple[float, int, int]:
    """Rate one series as NAB's sweeper does: its points, spans found, false alerts.

    The first 15 % (750 rows at most) do not count. An alert inside a span earns the more the earlier it is, once; one
    outside costs the more the further it is behind the span before it. A span without an alert costs 1.
    """
    best = dict.fromkeys(spans, -1.0)
    cost, false = 0.0, 0
    for at in np.flatnonzero(alerts).tolist():
        if at < int(0.15 * min(len(alerts), 5000)):
            continue
        if inside := next((span for span in spans if span[0] <= at <= span[1]), None):
            place = -(inside[1] - at + 1) / (inside[1] - inside[0] + 1)
            best[inside] = max(best[inside], _sigmoid(place) / _sigmoid(-1.0))
            continue
        before = max((span for span in spans if span[1] < at), default=None)
        cost += FALSE_POSITIVE * (_sigmoid((at - before[1]) / (before[1] - before[0])) if before else -1.0)
        false += 1
    return cost + sum(best.values()), sum(points > -1.0 for points in best.values()), false


def _sigmoid(place: float) -> float:
    return -1.0 if place > 3.0 else 2.0 / (1.0 + math.exp(5.0 * place)) - 1.0

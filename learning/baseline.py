"""The baseline: what windows of each group of features look like over the whole fleet. Merged, never trained.

It scores a group that is still warming up, and runs in the shadow elsewhere: what is learnt on the spot is better (F1
0.755 against 0.593 for means and covariances pooled over 16 valves; `make bench ARGS=detectors` measures ours).

Bytes: the State {schema, entries: [{features, weight, mean (d,), covariance (d, d)}]} of `protocol.columns`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from learning.statistics import MAX_FEATURES, Statistics, Vector, covariance, merge, unpack
from protocol import messages
from protocol.columns import decode_state, encode_state
from protocol.errors import FrameRefused, ModelRefused

SCHEMA = "baseline/1"

MAX_ENTRIES = 4_096
"""Groups of features in one baseline."""

MAX_NAME = 512
"""Characters of a feature's name."""

Features = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is normal for one group of d features: mean, shape (d,), and covariance, (d, d), over `weight` windows."""

    weight: float
    mean: Vector
    covariance: Vector


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is normal, by group of features."""

    entries: dict[Features, Entry]


def merged(moments: Iterable[messages.Moments]) -> Baseline:
    """Merge the statistics of many gateways; ModelRefused if one of them can be nobody's.

    Beyond MAX_ENTRIES the rest is left out: the first come is served.
    """
    sums: dict[Features, Statistics] = {}
    for part in moments:
        features = tuple(part.features)
        statistics = unpack(part)
        if features in sums:
            sums[features] = merge(sums[features], statistics)
        elif len(sums) < MAX_ENTRIES:
            sums[features] = statistics
    return Baseline(
        {key: Entry(sum_.weight, sum_.mean, covariance(sum_)) for key, sum_ in sums.items() if sum_.weight > 1}
    )


def encode(baseline: Baseline) -> bytes:
    """Give a baseline's bytes: the same for the same content."""
    entries = [
        {"features": list(features), "weight": entry.weight, "mean": entry.mean, "covariance": entry.covariance}
        for features, entry in sorted(baseline.entries.items())
    ]
    return encode_state({"schema": SCHEMA, "entries": entries})


def decode(content: bytes) -> Baseline:
    """Read a baseline's bytes; ModelRefused("content") for whatever may not score."""
    try:
        state = decode_state(content)
    except FrameRefused as error:
        raise ModelRefused("content", str(error)) from error
    entries = state.get("entries")
    if state.get("schema") != SCHEMA or not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise ModelRefused("content", f"not a {SCHEMA}")
    return Baseline(dict(_entry(entry) for entry in entries))


def _entry(entry: object) -> tuple[Features, Entry]:
    if not isinstance(entry, dict):
        raise ModelRefused("content", "an entry that is no map")
    features, weight = _features(entry), entry.get("weight")
    if not isinstance(weight, float) or not 1.0 < weight < float(1 << 53):
        raise ModelRefused("content", f"a weight of {weight!r}")
    mean, spread = _array(entry, "mean", (len(features),)), _array(entry, "covariance", (len(features),) * 2)
    if (np.diagonal(spread) < 0).any() or not np.array_equal(spread, spread.T):
        raise ModelRefused("content", "a covariance that cannot be one")
    return features, Entry(weight, mean, spread)


def _features(entry: dict[str, Any]) -> Features:
    features = entry.get("features")
    if not isinstance(features, list) or not 0 < len(features) <= MAX_FEATURES:
        raise ModelRefused("content", "no features, or too many")
    if any(not isinstance(name, str) or len(name) > MAX_NAME for name in features):
        raise ModelRefused("content", "a feature's name that is none")
    return tuple(features)


def _array(entry: dict[str, Any], key: str, shape: tuple[int, ...]) -> Vector:
    array = entry.get(key)
    if not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.shape != shape:
        raise ModelRefused("content", f"{key} is not of shape {shape}")
    if not np.isfinite(array).all():
        raise ModelRefused("content", f"{key} is not finite")
    return array

"""`covariance` and `correlation` of series side by side (`aligned` says what belongs together).

The part is `learning.statistics` of the rows: count, mean and scatter, merged by Chan, Golub and LeVeque (1979).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from learning import reading, statistics
from learning.statistics import Statistics
from learning.work.aligned import Aligned, Features, Step, check_features
from learning.work.contract import Batch
from protocol.columns import encode_state
from protocol.errors import ModelRefused

SCHEMA = "rows/1"


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is side by side; `step` in ns."""

    features: Features
    step: Step

    def __post_init__(self) -> None:
        """Refuse features that cannot be."""
        check_features(self.features)


class Rows(NamedTuple):
    """Statistics of rows, and what was in none."""

    statistics: Statistics
    alone: int
    late: int


def of(batches: Iterable[Batch], features: Sequence[str], step: int) -> Rows:
    """Give the statistics of all rows."""
    aligned, found = Aligned(features, step), statistics.nothing(len(features))
    for batch in batches:
        for rows in aligned.feed(batch):
            found = statistics.merge(found, statistics.of(rows))
    for rows in aligned.finish():
        found = statistics.merge(found, statistics.of(rows))
    return Rows(found, aligned.alone, aligned.late)


def merge(parts: Sequence[bytes], features: int) -> Rows:
    """Give the statistics of all parts together."""
    read = [decode(part, features) for part in parts]
    found = statistics.merge_all([rows.statistics for rows in read], features)
    return Rows(found, sum(rows.alone for rows in read), sum(rows.late for rows in read))


def encode(rows: Rows) -> bytes:
    """Give a part's bytes."""
    return encode_state({"schema": SCHEMA, **rows.statistics._asdict(), "alone": rows.alone, "late": rows.late})


def decode(part: bytes, features: int) -> Rows:
    """Read a part; ModelRefused("part")."""
    state = reading.state(part, SCHEMA, "part")
    weight = reading.number(state, "weight", "part")
    mean = reading.array(state, "mean", np.float64, (features,), "part")
    scatter = reading.array(state, "scatter", np.float64, (features, features), "part")
    counts = [state.get(key) for key in ("alone", "late")]
    if (np.diagonal(scatter) < 0).any() or weight != int(weight):
        raise ModelRefused("part", "a negative variance, or a count that is none")
    alone, late = (count if type(count) is int and 0 <= count < reading.MAX_WEIGHT else -1 for count in counts)
    if min(alone, late) < 0:
        raise ModelRefused("part", f"counts of {counts!r:.64}")
    return Rows(Statistics(weight, mean, (scatter + scatter.T) / 2), alone, late)


class Covariance:
    """See `learning.work.contract`."""

    name = "covariance"
    version = 1
    params = Params
    raw = False

    def map(self, batches: Iterable[Batch], params: Params) -> bytes:
        """Give the statistics of rows."""
        return encode(of(batches, params.features, params.step))

    def merge(self, parts: Sequence[bytes], params: Params) -> bytes:
        """Add them up."""
        return encode(merge(parts, len(params.features)))

    def result(self, part: bytes, params: Params) -> dict[str, Any]:
        """Give means and the sample covariance."""
        rows = decode(part, len(params.features))
        return said(rows, params.features) | {"covariance": statistics.covariance(rows.statistics).tolist()}


class Correlation(Covariance):
    """The same part, said as Pearson's coefficients."""

    name = "correlation"

    def result(self, part: bytes, params: Params) -> dict[str, Any]:
        """Give coefficients; None where one of two features does not vary."""
        rows = decode(part, len(params.features))
        spread = np.sqrt(np.diagonal(rows.statistics.scatter))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = rows.statistics.scatter / np.outer(spread, spread)
        told = [[float(np.clip(r, -1, 1)) if np.isfinite(r) else None for r in row] for row in found]
        return said(rows, params.features) | {"correlation": told}


def said(rows: Rows, features: Sequence[str]) -> dict[str, Any]:
    """Say what all results of rows say."""
    counts = {"rows": round(rows.statistics.weight), "alone": rows.alone, "late": rows.late}
    return {"features": list(features), "mean": rows.statistics.mean.tolist(), **counts}


covariance = Covariance()
correlation = Correlation()

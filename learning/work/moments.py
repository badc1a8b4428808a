"""`moments`: count, mean, deviation, least and greatest value. Counts and extremes are exact, the others to rounding.

The part is a `learning.summary`. Readings that are no finite number are left out; repeats count as often as they were
recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning import summary
from learning.summary import Summary
from learning.work.contract import Batch
from learning.work.groups import By, Groups, Runs, finite, group_of, runs
from protocol.errors import ModelRefused


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is told apart."""

    by: By = "series"


class Moments:
    """See `learning.work.contract`."""

    name = "moments"
    version = 1
    params = Params
    raw = False

    def map(self, batches: Iterable[Batch], params: Params) -> bytes:
        """Summarise each group."""
        groups, sums = Groups(params.by), _Sums()
        for batch in batches:
            of, value = groups.of(batch), batch.value
            if (sound := finite(value)) is not None:
                of, value = of[sound], value[sound]
            if len(value):
                sums.add(runs(of, value))
        return summary.encode(sums.summary(groups.names))

    def merge(self, parts: Sequence[bytes], params: Params) -> bytes:  # noqa: ARG002 - a part says all
        """Add up."""
        return summary.encode(summary.merge_all(map(_read, parts)))

    def of_windows(self, packed: bytes, params: Params) -> bytes:
        """Give the part of what windows say of each series."""
        found = _read(packed)
        if not found.names:
            return packed
        groups, at = np.unique([group_of(name, params.by) for name in found.names], return_inverse=True)
        count = np.bincount(at, found.count)
        mean = np.bincount(at, found.count * found.mean) / count
        about: Any = np.bincount(at, found.scatter + found.count * (found.mean - mean[at]) ** 2)
        least, most = np.full(len(groups), np.inf), np.full(len(groups), -np.inf)
        np.minimum.at(least, at, found.minimum)
        np.maximum.at(most, at, found.maximum)
        return summary.encode(Summary(tuple(groups.tolist()), count.astype(np.int64), mean, about, least, most))

    def result(self, part: bytes, params: Params) -> dict[str, Any]:  # noqa: ARG002 - the same
        """Give each group's numbers; the deviation is that of a population."""
        found = _read(part)
        columns = (found.count, found.mean, summary.deviation(found), found.minimum, found.maximum)
        keys = ("count", "mean", "deviation", "minimum", "maximum")
        rows = zip(found.names, *(column.tolist() for column in columns), strict=True)
        return {"groups": {name: dict(zip(keys, row, strict=True)) for name, *row in rows}}


def _read(part: bytes) -> Summary:
    try:
        return summary.decode(part)
    except ModelRefused as refused:
        raise ModelRefused("part", str(refused)) from refused


class _Sums:
    """Sums of each group, by number; merged by Chan, Golub and LeVeque (1979)."""

    def __init__(self) -> None:
        self.count = np.zeros(0, np.int64)
        self.mean = self.scatter = np.zeros(0)
        self.least, self.most = np.zeros(0), np.zeros(0)

    def add(self, found: Runs) -> None:
        """Add readings of at least one group, finite."""
        self._grow(int(found.groups.max()) + 1)
        at, [value] = found.groups, found.columns
        mean, scatter, least, most = _alone(value) if len(at) == 1 else _each(value, found)
        count = self.count[at] + found.sizes
        delta, share = mean - self.mean[at], found.sizes / count
        self.scatter[at] += scatter + delta**2 * (self.count[at] * share)
        self.mean[at] += delta * share
        self.count[at] = count
        self.least[at] = np.minimum(self.least[at], least)
        self.most[at] = np.maximum(self.most[at], most)

    def _grow(self, size: int) -> None:
        if (more := size - len(self.count)) > 0:
            self.count = np.concatenate([self.count, np.zeros(more, np.int64)])
            self.mean, self.scatter = (np.concatenate([old, np.zeros(more)]) for old in (self.mean, self.scatter))
            self.least = np.concatenate([self.least, np.full(more, np.inf)])
            self.most = np.concatenate([self.most, np.full(more, -np.inf)])

    def summary(self, names: Sequence[str]) -> Summary:
        """Give all groups that have a reading, sorted by name."""
        at = sorted(np.flatnonzero(self.count).tolist(), key=names.__getitem__)
        moments = self.count[at], self.mean[at], self.scatter[at]
        return Summary(tuple(names[number] for number in at), *moments, self.least[at], self.most[at])


def _alone(value: NDArray[np.float64]) -> tuple[Any, Any, Any, Any]:
    """Give mean, scatter, least and most of one group."""
    mean = value.sum() / len(value)
    about = value - mean
    over = about.sum() / len(value)  # what rounding left over
    scatter = np.square(about, out=about).sum() - over**2 * len(value)
    return mean + over, max(scatter, 0.0), value.min(), value.max()


def _each(value: NDArray[np.float64], found: Runs) -> tuple[Any, Any, Any, Any]:
    """Give the same of each run."""
    starts, sizes = found.starts, found.sizes
    mean = np.add.reduceat(value, starts) / sizes
    about = value - np.repeat(mean, sizes)
    over = np.add.reduceat(about, starts) / sizes
    scatter = np.add.reduceat(np.square(about, out=about), starts) - over**2 * sizes
    least, most = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
    return mean + over, np.maximum(scatter, 0.0), least, most


moments = Moments()

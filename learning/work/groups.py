"""What is told apart: each series, all of a measurement, or nothing. And readings in the order of their groups.

| may fill | bound | answer when full |
|---|---|---|
| groups in one part | MAX_GROUPS | TaskRefused("groups") |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learning.work.contract import Batch
from protocol.errors import ModelRefused, TaskRefused

By = Literal["series", "measurement", "all"]

MAX_GROUPS = 100_000
EVERYTHING = "*"
"""The name of the group of all."""

GATHERED = 1 << 17
_NARROW = 1 << 16


def group_of(name: str, by: By) -> str:
    """Give the group of a series."""
    if by == "all":
        return EVERYTHING
    return name.rpartition("/")[2] if by == "measurement" else name


class Groups:
    """Numbers groups as they come."""

    def __init__(self, by: By, most: int = MAX_GROUPS) -> None:
        self.names: list[str] = []
        self._by, self._most = by, most
        self._numbers: dict[str, int] = {}
        self._of = np.full(0, -1, np.int64)  # group of each series, -1: not seen yet

    def of(self, batch: Batch) -> NDArray[np.int64]:
        """Give the group of each reading, shape (n,)."""
        if len(self._of) < len(batch.names):
            self._of = np.concatenate([self._of, np.full(len(batch.names) - len(self._of), -1)])
        series = batch.series
        if len(series) and (series == series[0]).all():
            if self._of[series[0]] < 0:
                self._see(batch, series[:1])
            return np.full(len(series), self._of[series[0]])
        found = self._of[series]
        if len(found) and found.min() < 0:
            self._see(batch, np.unique(series[found < 0]))
            found = self._of[series]
        return found

    def _see(self, batch: Batch, fresh: NDArray[np.int32]) -> None:
        for series in fresh.tolist():
            self._of[series] = self._number(group_of(batch.names[series], self._by))

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            if len(self.names) >= self._most:
                raise TaskRefused("groups", f"more than {self._most} groups: choose fewer series")
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]


class Runs(NamedTuple):
    """Readings in the order of their groups: run i is `groups[i]`, from `starts[i]` on, and `sizes[i]` long; (r,)."""

    groups: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    columns: tuple[NDArray[Any], ...]  # (n,) each


def runs(groups: NDArray[np.int64], *columns: NDArray[Any]) -> Runs:
    """Bring columns into the order of at least one group; within a group they stay as they were."""
    first = groups[0]
    if (groups == first).all():
        return Runs(groups[:1], np.zeros(1, np.int64), np.array([len(groups)]), columns)
    if (groups[1:] < groups[:-1]).any():
        narrow = groups.astype(np.uint16) if groups.max() < _NARROW else groups  # 16 bits are sorted by radix
        order = np.argsort(narrow, kind="stable")
        groups, columns = groups[order], tuple(column[order] for column in columns)
    starts = np.concatenate([[0], np.flatnonzero(groups[1:] != groups[:-1]) + 1])
    return Runs(groups[starts], starts, np.diff(starts, append=len(groups)), columns)


def gathered(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Give the same readings in batches of GATHERED: what costs much for each batch is done less often."""
    held, rows = list[Batch](), 0
    for batch in batches:
        held.append(batch)
        rows += len(batch.time)
        if rows >= GATHERED:
            yield _joined(held)
            held, rows = [], 0
    if held:
        yield _joined(held)


def _joined(held: list[Batch]) -> Batch:
    columns = zip(*(batch[1:] for batch in held), strict=True)
    return Batch(held[-1].names, *map(np.concatenate, columns)) if len(held) > 1 else held[0]


def merged_names(parts: Sequence[Sequence[str]]) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Give all names, sorted, and where each part's are among them; ModelRefused("part") for too many."""
    names = sorted(set().union(*parts)) if parts else []
    if len(names) > MAX_GROUPS:
        raise ModelRefused("part", f"{len(names)} groups together, {MAX_GROUPS} at most")
    at = {name: place for place, name in enumerate(names)}
    return names, [np.array([at[name] for name in part], np.int64) for part in parts]


def read_names(state: dict[str, Any], key: str = "names") -> list[str]:
    """Give names of groups, sorted, each once; ModelRefused("part")."""
    names = state.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MAX_GROUPS:
        raise ModelRefused("part", f"{key} is no list of at most {MAX_GROUPS} names")
    if names != sorted(set(names)):
        raise ModelRefused("part", f"{key} are not sorted, or one comes twice")
    return names


def finite(values: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Say which values are finite; None if all are."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return None
    sound = np.isfinite(values)
    return None if sound.all() else sound

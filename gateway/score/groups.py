"""Which series make which group, and where in its vector each stands.

Rules:

1. A group is a series, a device's series, or all, as far as one window definition holds them: the first that matches,
   or the first of the size asked for. A series belongs to one group of a detector at most.
2. A vector's features are measurements (whole series names under `all`), sorted; so two devices that measure the same
   have the same features, whichever came first.
3. A series that appears later joins its group, which is then another group: it begins anew.

| may fill | bound | answer when full |
|---|---|---|
| features of a group | MAX_FEATURES | further series are left out, their windows counted as `features` |
| what all groups know | `limit` numbers | further series are left out, their windows counted as `groups` |
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from gateway.config import Score, Window
from learning.statistics import MAX_FEATURES

MAX_NUMBERS = 1 << 23
"""Of covariances and first values: 64 MB a detector, enough for 900,000 single series or 1,800 groups of 64."""

FEW = 8
"""Values after which a member is known: no fewer have a median worth the name."""

NOBODY, TOO_MANY_FEATURES, TOO_MANY_GROUPS = -1, -2, -3
REASONS = {TOO_MANY_FEATURES: "features", TOO_MANY_GROUPS: "groups"}


def definition_of(name: str, pattern: str, size: int | None, windows: Sequence[Window]) -> int:
    """Give the number of the definition whose windows of a series are judged, or NOBODY."""
    if not fnmatchcase(name, pattern):
        return NOBODY
    sizes = ((number, window) for number, window in enumerate(windows) if size is None or window.size == size)
    return next((number for number, window in sizes if fnmatchcase(name, window.series)), NOBODY)


class Groups:
    """The groups of one detector, numbered in the order in which their first series appeared."""

    def __init__(self, score: Score, windows: Sequence[Window], limit: int = MAX_NUMBERS) -> None:
        self.members: list[list[int]] = []  # series, in the order of features
        self.features: list[tuple[str, ...]] = []
        self.definition: list[int] = []
        self.keys: list[str] = []
        self.of: NDArray[np.int32] = np.empty((len(windows), 0), np.int32)  # (definitions, series): group, or why none
        self.slot: NDArray[np.int32] = np.empty(0, np.int32)  # of each series in its group's vector
        self._score, self._windows, self._left = score, windows, limit
        self._numbers: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self.members)

    def define(self, names: Sequence[str]) -> list[int]:
        """Append series; give the groups that are new or have grown, in order."""
        first = len(self.slot)
        self.of = np.concatenate([self.of, np.full((len(self._windows), len(names)), NOBODY, np.int32)], axis=1)
        self.slot = np.concatenate([self.slot, np.zeros(len(names), np.int32)])
        changed = set[int]()
        for series, name in enumerate(names, first):
            definition = definition_of(name, self._score.series, self._score.window, self._windows)
            if definition != NOBODY:
                group = self._join(series, name, definition)
                self.of[definition, series] = group
                changed.add(group)
        return sorted(group for group in changed if group >= 0)

    def _join(self, series: int, name: str, definition: int) -> int:
        device, _, measurement = name.rpartition("/")
        key, feature = {
            "series": (name, measurement),
            "device": (device or name, measurement),
            "all": ("", name),
        }[self._score.by]
        group = self._numbers.get((key, definition), len(self))
        features = self.features[group] if group < len(self) else ()
        if len(features) >= MAX_FEATURES:
            return TOO_MANY_FEATURES
        cost = 2 * len(features) + 1 + FEW  # numbers more in its covariance and its first values
        if cost > self._left:
            return TOO_MANY_GROUPS
        self._left -= cost
        if group == len(self):
            self._begin(key, definition)
        self._insert(group, series, feature)
        return group

    def _begin(self, key: str, definition: int) -> None:
        self._numbers[key, definition] = len(self)
        self.keys.append(key)
        self.definition.append(definition)
        self.members.append([])
        self.features.append(())

    def _insert(self, group: int, series: int, feature: str) -> None:
        order = sorted(zip((*self.features[group], feature), (*self.members[group], series), strict=True))
        self.features[group] = tuple(name for name, _ in order)
        self.members[group] = [member for _, member in order]
        self.slot[self.members[group]] = np.arange(len(order))

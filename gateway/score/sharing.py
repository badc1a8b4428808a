"""When what has been learnt is told to the cloud, and how much of it.

Rules:

1. Every `share`, if a window has been scored since.
2. Features that have not been told yet: SOON after the first group that has them is ready, so that a fleet that begins
   need not wait. More groups of the same features wait for the next `share`.
3. Features that the most groups have go first; what exceeds MAX_TOLD numbers or MAX_ENTRIES stays here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from gateway.records import NEVER, State
from learning.baseline import MAX_ENTRIES, MAX_NAME, Features
from learning.statistics import Statistics, pack
from protocol.messages import Moments

SOON = 10 * 10**9
MAX_TOLD = 1 << 18
"""2.4 MB as they travel, well under a frame."""


class Sharing:
    """See the rules above; `share` of 0 is never."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.at = NEVER
        self._changed = False
        self._told: set[Features] = set()

    def note(self, grown: Iterable[Features], now: int, *, scored: bool) -> None:
        """Note whose first group has become ready, and whether a window was scored."""
        if not self.share:
            return
        if any(features not in self._told for features in grown):
            self.at = min(self.at, now + min(self.share, SOON))
        self._changed |= scored
        if self._changed and self.at == NEVER:
            self.at = now + self.share

    def leap(self, leap: int) -> None:
        """Note that `now` has leapt so far."""
        self.at += leap if self.at != NEVER else 0

    def tell(self, entries: list[Moments]) -> None:
        """Note that this has been told."""
        self.at, self._changed = NEVER, False
        self._told = {tuple(entry.features) for entry in entries}

    def follow(self, before: Sharing) -> None:
        """Go on from another configuration's."""
        self._told, self._changed = before._told, before._changed
        self.at = before.at if self.share else NEVER

    def snapshot(self) -> State:
        """Give all state."""
        return {"at": self.at, "changed": self._changed, "told": [list(features) for features in sorted(self._told)]}

    def restore(self, state: State) -> None:
        """Continue from a snapshot."""
        self.at, self._changed = state["at"], state["changed"]
        self._told = {tuple(features) for features in state["told"]}


def entries(features: Sequence[Features], statistics: Callable[[Features, list[int]], Statistics]) -> list[Moments]:
    """Give what the groups of each tuple of features have learnt together; `features` are those of each group."""
    alike: dict[Features, list[int]] = {}
    for group, one in enumerate(features):
        alike.setdefault(one, []).append(group)
    told, left = list[Moments](), MAX_TOLD
    for one, groups in sorted(alike.items(), key=lambda item: (-len(item[1]), item[0])):
        left -= len(one) ** 2
        if left < 0 or len(told) == MAX_ENTRIES:
            break
        learnt = statistics(one, groups)
        if learnt.weight > 1 and _can_travel(one, learnt):
            told.append(pack(one, learnt))
    return told


def _can_travel(features: Features, statistics: Statistics) -> bool:
    return bool(np.isfinite(statistics.scatter).all()) and all(len(name) <= MAX_NAME for name in features)

"""Windows of a group that spans devices, until all members have had their say.

Rules:

1. A start is ready when every member's window is here, or can no longer come (the watermark of its device has passed
   it), or `grace` after the first of them came. Starts are scored in their order: one that is ready waits for those
   before it, and these are ready soon.
2. Values are kept by series, so a member that joins meanwhile changes nothing here.

| may fill | bound | answer when full |
|---|---|---|
| starts that wait, per group | MAX_WAITING | the earliest is scored with what is there |
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.records import NEVER, State

MAX_WAITING = 64

Passed = Callable[[int, NDArray[np.int64]], NDArray[np.int64]]
"""Of a definition and some series: the event time (ns) up to which every window of each has been stated."""


@dataclass(slots=True)
class Start:
    """What is there of one start."""

    since: int  # `now` when the first came
    values: dict[int, float] = field(default_factory=dict)  # by series


@dataclass(slots=True)
class Queue:
    """The starts of one group that wait."""

    order: list[int] = field(default_factory=list)
    starts: dict[int, Start] = field(default_factory=dict)

    def add(self, start: int, series: Sequence[int], values: Sequence[float], now: int) -> None:
        """Let windows wait."""
        if start not in self.starts:
            insort(self.order, start)
            self.starts[start] = Start(now)
        self.starts[start].values.update(zip(series, values, strict=True))

    def pop(self) -> tuple[int, dict[int, float]]:
        """Take the earliest start."""
        start = self.order.pop(0)
        return start, self.starts.pop(start).values

    def due(self, grace: int) -> int:
        """Tell when (ns) the earliest start has waited long enough."""
        return self.starts[self.order[0]].since + grace if self.order else NEVER

    def leap(self, leap: int) -> None:
        """Let everything have come so much later."""
        for start in self.starts.values():
            start.since += leap

    def is_ready(self, members: Sequence[int], definition: int, size: int, passed: Passed) -> bool:
        """Whether the earliest start has all that can come."""
        start = self.order[0]
        values = self.starts[start].values
        absent = np.array([series for series in members if series not in values], np.int64)
        return not len(absent) or bool((passed(definition, absent) >= start + size).all())

    def snapshot(self) -> State:
        """Give all state."""
        return {
            "starts": list(self.order),
            "since": [self.starts[start].since for start in self.order],
            "series": [list(self.starts[start].values) for start in self.order],
            "values": [list(self.starts[start].values.values()) for start in self.order],
        }

    @classmethod
    def restore(cls, state: State) -> Queue:
        """Continue from a snapshot."""
        queue = cls(list(state["starts"]))
        columns = zip(state["starts"], state["since"], state["series"], state["values"], strict=True)
        for start, since, series, values in columns:
            queue.starts[start] = Start(since, dict(zip(series, values, strict=True)))
        return queue

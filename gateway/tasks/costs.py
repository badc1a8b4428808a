"""What tasks have cost here: measured as they end, for whoever decides where the next one runs. Pure."""

from __future__ import annotations

from collections import OrderedDict

from protocol.jobs import Cost

MAX_NAMES = 64
"""Tasks remembered; then the one that ran the longest ago is forgotten."""

FEWEST = 10_000
"""Readings: with fewer the cost is that of starting."""


class Costs:
    """By task, over those that were done: the newest counts as much as all before it."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Cost] = OrderedDict()

    def note(self, name: str, seconds: float, readings: int, size: int) -> None:
        """Note a task that was done: CPU time, readings that went into it, bytes of its answer."""
        if readings < FEWEST:
            return
        each = seconds * 1e6 / readings
        before = self._known.pop(name, Cost(each, 0, 0))
        largest = max(before.bytes, size)
        self._known[name] = Cost((before.seconds + each) / 2, before.readings + readings, largest)
        while len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)

    def all(self) -> dict[str, Cost]:
        """Give all of them, by name."""
        return dict(self._known)

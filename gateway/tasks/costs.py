"""What tasks have cost here: measured as they end, for whoever decides where the next one runs. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from protocol.jobs import Cost

MAX_NAMES = 64
"""Tasks remembered; then the one that ran the longest ago is forgotten."""

FEWEST = 500_000
"""Readings: with fewer the cost is that of everything else."""

LIGHT = 0.1
"""What a task counts that found nothing in blocks: readings as recorded are in no order, and cost any work more."""

WHOLE = 1.0
"""Seconds of CPU from which a task says how busy the machine is as well as any other."""

LEAST = 100_000
"""Bytes read as recorded: the same."""


class Effort(NamedTuple):
    """What one task has cost, in seconds of CPU."""

    work: float = 0.0  # without what follows
    starting: float = 0.0  # until it began with its readings
    reading: float = 0.0  # what no block holds, as it was recorded
    recorded: int = 0  # bytes of the journal that were read so
    unblocked: int = 0  # readings that came from there
    series: int = 0  # that went into it
    took: float = 0.0  # seconds of any clock, all of it
    sent: int = 0  # bytes of its answer as it goes up

    @property
    def cpu(self) -> float:
        """All of it."""
        return self.work + self.starting + self.reading


class Rate:
    """Seconds by amount; what was before counts half with every new measurement, so large ones tell."""

    def __init__(self) -> None:
        self._seconds = self._amount = 0.0

    def add(self, seconds: float, amount: float) -> None:
        """Note a measurement."""
        self._seconds = self._seconds / 2 + seconds
        self._amount = self._amount / 2 + amount

    @property
    def millions(self) -> float:
        """Seconds for a million; 0 without a measurement."""
        return self._seconds * 1e6 / self._amount if self._amount else 0.0


class _Known(NamedTuple):
    rate: Rate
    cost: Cost


class Costs:
    """By task, over those that were done."""

    def __init__(self) -> None:
        self.starting = 0.0  # the newest counts as much as all before it
        self.guess = 0.0  # of `reading`, before anything was measured
        self._reading, self._took = Rate(), Rate()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    @property
    def reading(self) -> float:
        """Seconds of CPU that reading 10^6 bytes of the journal as recorded costs; 0: not known."""
        return self._reading.millions or self.guess

    @property
    def slowed(self) -> float:
        """How many times its CPU time a task has taken; 0: not known."""
        times = self._took.millions / 1e6
        return max(1.0, times) if times else 0.0

    def note(self, name: str, effort: Effort, readings: int) -> None:
        """Note a task that was done: what it cost, and readings that went into it."""
        self.starting = _mean(self.starting, effort.starting)
        if effort.cpu > 0:
            weight = min(effort.cpu, WHOLE)
            self._took.add(effort.took / effort.cpu * weight, weight)
        if effort.recorded >= LEAST:
            self._reading.add(effort.reading, effort.recorded)
        if readings < FEWEST:
            return
        rate, before = self._known.pop(name, _Known(Rate(), Cost(0.0, 0)))
        weight = max(LIGHT, 1.0 - effort.unblocked / readings)
        rate.add(effort.work * weight, readings * weight)
        cost = Cost(rate.millions, before.readings + readings, effort.sent, effort.series)
        self._known[name] = _Known(rate, cost)
        while len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)

    def all(self) -> dict[str, Cost]:
        """Give all of them, by name."""
        return {name: known.cost for name, known in self._known.items()}


def _mean(before: float, now: float) -> float:
    return (before + now) / 2 if before else now

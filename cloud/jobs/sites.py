"""Who may be asked next: places that are free, and jobs that have something for them. Pure.

Rules:

1. At most `each` leases at a gateway, `here` in the cloud, `most` in all; a lease of a gateway that is away counts only
   for that gateway.
2. Of the jobs that have something for a free place the one comes next that has spent least, by its priority: a lease is
   charged as it begins with what it is thought to take, and set right as it ends. A job that begins, or had nothing to
   do, stands where the least of those that have stands without what is under way: it makes up for leases that were
   given just before it came, and not for time in which it was not there.
3. A job's parts come in the order of its plan.

A step costs the logarithm of what waits: a part whose places are taken waits there, and is looked at again when one is
free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from cloud.jobs.state import CLOUD


class Bounds(NamedTuple):
    """How many leases at once."""

    most: int = 256
    each: int = 1
    here: int = 2


class Ready(NamedTuple):
    """A part that may be tried: its place in its job's plan, and where it can be, best first."""

    order: int
    gateway: str
    sites: tuple[str, ...]


@dataclass(slots=True)
class _Site:
    there: bool = False
    leases: int = 0
    waiting: dict[tuple[str, str], Ready] = field(default_factory=dict)  # by job and gateway: found it taken or away


@dataclass(slots=True)
class _Line:
    weight: int
    spent: float
    under_way: float = 0.0  # of it, thought of leases that have not ended
    leases: int = 0
    ready: list[Ready] = field(default_factory=list)  # a heap
    standing: bool = False  # whether it is in the heap of lines


class Sites:
    """See the rules above."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.leases = 0  # at places that are there
        self._sites: dict[str, _Site] = {CLOUD: _Site(there=True)}
        self._lines: dict[str, _Line] = {}
        self._heap: list[tuple[float, str]] = []

    def open(self, job: str, weight: int, spent: float | None = None) -> None:
        """Take a job in; `spent` is what it had spent before a restart."""
        self._lines[job] = _Line(weight, self._level() if spent is None else spent)

    def close(self, job: str) -> None:
        """Let a job go: what it has waiting is passed over."""
        del self._lines[job]

    def spent(self, job: str) -> float:
        """Give what a job has spent, without what is under way."""
        return self._lines[job].spent - self._lines[job].under_way

    def offer(self, job: str, ready: Ready) -> None:
        """Let a part be tried as soon as one of its places is free."""
        line = self._lines[job]
        if not line.ready and not line.leases:
            line.spent = max(line.spent, self._level())
        heappush(line.ready, ready)
        self._stand(job, line)

    def is_there(self, site: str) -> bool:
        """Whether a place can be asked at all."""
        return site in self._sites and self._sites[site].there

    def is_free(self, site: str) -> bool:
        """Whether a place could take one more."""
        found = self._sites.get(site)
        return found is not None and found.there and found.leases < self._room(site)

    def present(self, gateways: Iterable[str]) -> tuple[list[str], list[str]]:
        """Say which gateways are there now; give those that came and those that went."""
        now = {CLOUD, *gateways}
        came = [name for name in now if not self.is_there(name)]
        went = [name for name, site in self._sites.items() if site.there and name not in now]
        for name in came:
            site = self._sites.setdefault(name, _Site())
            site.there = True
            self.leases += site.leases
            self._wake(name, site)
        for name in went:
            self._sites[name].there = False
            self.leases -= self._sites[name].leases
        return came, went

    def begin(self, job: str, site: str, seconds: float) -> None:
        """Note a lease."""
        found = self._sites.setdefault(site, _Site())
        found.leases += 1
        self.leases += found.there
        if (line := self._lines.get(job)) is not None:
            line.leases += 1
            line.spent += seconds / line.weight
            line.under_way += seconds / line.weight

    def end(self, job: str, site: str, thought: float, took: float) -> None:
        """Note that a lease is over: how many seconds it was thought to take, and took."""
        found = self._sites[site]
        found.leases -= 1
        self.leases -= found.there
        if (line := self._lines.get(job)) is not None:
            line.leases -= 1
            line.spent += (took - thought) / line.weight
            line.under_way -= thought / line.weight
        self._wake(site, found)

    def choose(self) -> Iterator[tuple[str, str, str]]:
        """Give job, gateway and site of what comes next, until all is taken; each is to be begun before the next."""
        while self.leases < self.bounds.most and self._heap:
            spent, job = heappop(self._heap)
            line = self._lines.get(job)
            if line is None:
                continue
            line.standing = False
            if spent < line.spent:
                self._stand(job, line)
                continue
            if (found := self._first(job, line)) is not None:
                yield job, *found
                if self._lines.get(job) is line:
                    self._stand(job, line)

    def _first(self, job: str, line: _Line) -> tuple[str, str] | None:
        while line.ready:
            ready = heappop(line.ready)
            site = next((site for site in ready.sites if self.is_free(site)), None)
            if site is not None:
                return ready.gateway, site
            for site in ready.sites:
                self._sites.setdefault(site, _Site()).waiting[job, ready.gateway] = ready
        return None

    def _stand(self, job: str, line: _Line) -> None:
        if line.ready and not line.standing:
            line.standing = True
            heappush(self._heap, (line.spent, job))

    def _level(self) -> float:
        """Where the least of those that have something to do stands."""
        busy = [line.spent - line.under_way for line in self._lines.values() if line.leases or line.ready]
        return min(busy, default=0.0)

    def _room(self, site: str) -> int:
        return self.bounds.here if site == CLOUD else self.bounds.each

    def _wake(self, site: str, found: _Site) -> None:
        """Let all that waited for a place be looked at again."""
        if not self.is_free(site):
            return
        waiting, found.waiting = found.waiting, {}
        for (job, _gateway), ready in waiting.items():
            if job in self._lines:
                self.offer(job, ready)

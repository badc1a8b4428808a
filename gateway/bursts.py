"""What the devices' broker drops, as alerts about the gateway itself: one a burst. Pure.

Rules:

1. A growth of the count is told at once; what follows within QUIET_NS of an alert is told together, when that is over.
2. Such an alert is of no series and of no window: it starts when it is raised, which no other does, so a repeat is
   harmless. Its score is how many messages it speaks of.
3. A count below the one before is what an older file held, or none: counting goes on there, and nothing is told of it.
"""

from __future__ import annotations

from gateway.records import NEVER, State
from protocol.messages import Alert

RULE = "broker"
"""What raises them, as the ledger names the cause."""

QUIET_NS = 600 * 10**9
"""A broker that drops all day is told of 144 times."""


class Bursts:
    """The stage: a count that grows, and how much of it has been told."""

    def __init__(self) -> None:
        self.total = 0
        self._untold = 0
        self._quiet_until = 0  # ns

    def feed(self, total: int, now: int) -> list[Alert]:
        """Take the count as it is now."""
        self._untold += max(total - self.total, 0)
        self.total = total
        return self.tick(now)

    def tick(self, now: int) -> list[Alert]:
        """Time passed: tell what has waited long enough."""
        if now < self.due():
            return []
        untold, self._untold, self._quiet_until = self._untold, 0, now + QUIET_NS
        return [Alert([], now, 0, now, float(untold), RULE)]

    def due(self) -> int:
        """When (ns) what waits is told; NEVER if nothing does."""
        return self._quiet_until if self._untold else NEVER

    def snapshot(self) -> State:
        """Give all state."""
        return {"total": self.total, "untold": self._untold, "quiet_until": self._quiet_until}

    def restore(self, state: State) -> None:
        """Continue from a snapshot."""
        self.total, self._untold, self._quiet_until = state["total"], state["untold"], state["quiet_until"]

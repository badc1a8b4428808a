"""What may still go up today over a metered link. Pure; a day is one of UTC.

| spent today | what goes up |
|---|---|
| below the line | everything |
| above it, until it is an hour's share below | telemetry in coarse windows only; finer ones are withheld |
| TELEMETRY of the limit | no telemetry: it waits for tomorrow |
| RESULTS of the limit | alerts, and the definitions they need |
| all of it | nothing: there is no connection before tomorrow |

Rules:

1. The line rises through the day: at midnight it is an hour's share of what telemetry may take, an hour before the end
   all of it. So a day has coarse windows to its end, and a quiet night pays for nothing but itself.
2. What is withheld is gone for the cloud, though the journal has it: its frames are declared with the cause "budget",
   in ranges, at the latest when there are RANGES of them or the oldest has waited DECLARE_NS.
3. A day begins when the number of the day grows. A clock that falls back within AMISS days stays on the day it had; one
   that falls further was wrong before: its day becomes today, and what was spent counts on.
4. `granted` is what may be spent before it must be written down, so that a kill makes us poorer, not richer: at most by
   a GRANTS-th of the limit.
"""

from __future__ import annotations

from typing import NamedTuple

from protocol.messages import LANES, Loss

DAY_NS, HOURS = 86_400 * 10**9, 24
TELEMETRY, RESULTS = 0.75, 0.875
AMISS = 2
GRANTS = 256
RANGES = 16
"""The cloud holds 64 ranges of a lane: so many wait for their declaration at most, the others may be damage."""

DECLARE_NS = 600 * 10**9


class Spent(NamedTuple):
    """What is written down: the day (of UTC, since 1970) and the bytes spent on it, or granted."""

    day: int = 0
    bytes: int = 0


class Budget:
    """The bytes of one day against `limit`; `now` in ns."""

    def __init__(self, limit: int, kept: Spent = Spent()) -> None:  # noqa: B008 - it does not change
        self.limit = limit
        self.day, self.spent = kept
        self.granted = kept.bytes
        self.coarse = True  # only coarse windows go up: so a restart begins, unless there is plenty
        self._withheld: list[Loss] = []
        self._since = 0  # when the first of them was

    def spend(self, size: int, now: int) -> None:
        """Note that so many bytes went up."""
        self._turn(now)
        self.spent += size
        self._decide(now)

    def barred(self, now: int) -> frozenset[str]:
        """Give the lanes that wait."""
        self._turn(now)
        self._decide(now)
        if self.spent >= self.limit:
            return frozenset(LANES)
        late = [("results", RESULTS), ("telemetry", TELEMETRY)]
        return frozenset(lane for lane, share in late if self.spent >= share * self.limit)

    def tomorrow(self, now: int) -> int:
        """When (ns) the next day begins."""
        self._turn(now)
        return (self.day + 1) * DAY_NS

    def _turn(self, now: int) -> None:
        day = now // DAY_NS
        if day > self.day:
            self.day, self.spent, self.granted = day, 0, 0
        elif day < self.day - AMISS:
            self.day = day

    def _decide(self, now: int) -> None:
        share = TELEMETRY * self.limit / HOURS
        line = share * min(1 + (now - self.day * DAY_NS) * HOURS / DAY_NS, HOURS)
        if self.spent >= line:
            self.coarse = True
        elif self.spent <= line - share:
            self.coarse = False

    # What is withheld.

    def withhold(self, lane: str, seq: int, stamp: int, now: int) -> None:
        """Note that a frame, spooled at `stamp`, is not sent."""
        if not self._withheld:
            self._since = now
        for number, known in enumerate(self._withheld):  # what is live and what waited take turns
            if known.lane == lane and known.first <= seq <= known.last + 1:
                last = max(seq, known.last)
                self._withheld[number] = Loss(lane, known.first, last, "budget", known.oldest, max(stamp, known.newest))
                return
        self._withheld.append(Loss(lane, seq, seq, "budget", stamp, stamp))

    def losses(self, now: int) -> list[Loss]:
        """Give what is to be declared now; each once."""
        if len(self._withheld) < RANGES and now < self._since + DECLARE_NS:
            return []
        lost, self._withheld = self._withheld, []
        return lost

    def forget(self) -> None:
        """Forget what was withheld: a new epoch gives its frames other numbers."""
        self._withheld.clear()

    # What is written down.

    def grant(self, now: int) -> Spent | None:
        """Give what must be written down before more is sent; None if nothing must."""
        self._turn(now)
        if self.spent < self.granted:
            return None
        self.granted = self.spent + max(self.limit // GRANTS, 1)
        return Spent(self.day, self.granted)

    def kept(self) -> Spent:
        """Give what is to be written down at an end in order."""
        return Spent(self.day, self.spent)

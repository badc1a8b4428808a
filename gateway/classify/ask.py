"""Which windows a larger model is asked about: those that the model here is least sure of, as many as may go up. Pure.

Rules:

1. A window is the less sure, the smaller the margin: the likeliest class's probability less the next one's.
2. Questions and bytes are earned evenly over the hour, and an hour's worth can be saved up; `FIRST` of it is there at
   the start, so a gateway that is started again and again asks no more.
3. What is asked lies below a quantile of the newest KNOWN margins of its model: that share of windows which what is
   saved, and earned within the next hour, would pay. So it goes to the least sure, and is spent.
4. Before FEWEST margins of a model are known nothing is asked.

| reason | what was left out, though less sure than others |
|---|---|
| questions | what `per_hour` did not pay |
| bytes | what `bytes_per_hour` did not pay |

| may fill | bound | answer when full |
|---|---|---|
| models | MAX_MODELS | the margins of the one seen first are forgotten |
| margins of a model | KNOWN | the oldest are forgotten |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from learning.parameters import Array

KNOWN = 1_024
FEWEST = 32
MAX_MODELS = 16
FIRST = 0.1
HOUR_NS = 3600 * 10**9


class Ask:
    """See the rules above."""

    def __init__(self, per_hour: int, bytes_per_hour: int) -> None:
        self.left_out: dict[str, int] = {}
        self._rates = np.array([per_hour, bytes_per_hour], np.float64)
        self._saved = self._rates * FIRST  # questions, bytes
        self._at: int | None = None
        self._seen: dict[str, Margins] = {}

    def configure(self, per_hour: int, bytes_per_hour: int) -> None:
        """Earn other amounts, from here on."""
        self._rates = np.array([per_hour, bytes_per_hour], np.float64)
        self._saved = np.minimum(self._saved, self._rates)

    def feed(self, model: str, margins: Array, cost: Array, now: int) -> NDArray[np.int64]:
        """Take windows of a model, (n,) each, `cost` being bytes; give the places of those to ask, least sure first."""
        self._earn(now)
        seen = self._seen.setdefault(model, Margins())
        below = seen.quantile(self._share(float(cost.mean()), now)) if len(seen) >= FEWEST else -1.0
        seen.add(margins, now)
        if len(self._seen) > MAX_MODELS:
            del self._seen[next(iter(self._seen))]
        unsure = np.argsort(margins, kind="stable")[: int((margins <= below).sum())]
        return np.array([place for place in unsure.tolist() if self._pays(float(cost[place]))], np.int64)

    def spend(self, cost: int) -> None:
        """Pay bytes that go up beside questions, on credit if need be."""
        self._saved = self._saved - (0.0, cost)

    def _earn(self, now: int) -> None:
        before, self._at = self._at, now
        passed = max(0, now - before) if before is not None else 0
        self._saved = np.minimum(self._saved + self._rates * (passed / HOUR_NS), self._rates)

    def _share(self, cost: float, now: int) -> float:
        """Say which share of windows can be paid within the next hour."""
        each = np.array([1.0, cost])
        windows = sum(seen.per_hour(now) for seen in self._seen.values())
        return float(np.clip(((self._rates + self._saved) / each).min() / max(windows, 1.0), 0.0, 1.0))

    def _pays(self, cost: float) -> bool:
        left = self._saved - (1.0, cost)
        if (left < 0).any():
            reason = "questions" if left[0] < 0 else "bytes"
            self.left_out[reason] = self.left_out.get(reason, 0) + 1
            return False
        self._saved = left
        return True


class Margins:
    """The newest margins of one model, and when they came."""

    def __init__(self) -> None:
        self._margin, self._time = np.empty(0), np.empty(0, np.int64)

    def __len__(self) -> int:
        """How many are known."""
        return len(self._margin)

    def add(self, margins: Array, now: int) -> None:
        """Take those of windows that were said just now."""
        self._margin = np.concatenate([self._margin, margins])[-KNOWN:]
        self._time = np.concatenate([self._time, np.full(len(margins), now)])[-KNOWN:]

    def quantile(self, share: float) -> float:
        """Give the margin that this share of windows does not exceed; of a tiny share it is the least that is known."""
        return float(np.quantile(self._margin, share)) if share > 0 else -1.0

    def per_hour(self, now: int) -> float:
        """Give how many windows an hour come, as far as is known."""
        passed = now - int(self._time[0]) if len(self) else 0
        return len(self) * HOUR_NS / max(passed, 10**9) if len(self) else 0.0

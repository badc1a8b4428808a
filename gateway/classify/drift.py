"""Whether what a classifier sees, or how sure it is, is no longer what it was. Pure.

Page's CUSUM ("Continuous inspection schemes", 1954), to both sides, over means of blocks:

    z = (s - mean_c) / deviation_c    c: the class that was said; mean and deviation of the first REFERENCE windows
    x = sum of z over BLOCK windows / (sqrt(BLOCK) * spread)    spread: of x over these, at least 1
    up = max(0, up + x - SLACK);  down = max(0, down - x - SLACK);  drift when either passes LIMIT

Drift that was found is looked for anew after RESTS blocks, and then after twice as many each time, against the same
reference: where it lasts it is said again, by when there may be more labels to learn from.

By class, since other classes in another mix are no drift; by blocks, and with their own spread, since neighbouring
windows are alike. Of gas sensors half a year older (accuracy 0.98 to 0.79) it tells after 160 to 260 windows, of the
same rows in a mixed order never.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from learning.parameters import Array

REFERENCE = 256
BLOCK = 32
SLACK, LIMIT = 1.25, 8.0
"""SLACK is well above the error of a mean over REFERENCE windows, sqrt(BLOCK / REFERENCE) = 0.35. With normal numbers
that stay one gateway in 20 errs within 100,000 windows; half a deviation is noticed after 160, a third after 290."""
RESTS = 4
FEWEST = 8
"""Windows of a class in the reference: with fewer it is judged by all."""
FARTHEST = 3.0
TINY = 1e-6


class Drift:
    """Of one number a window; see above."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._mean, self._deviation = np.zeros(classes), np.ones(classes)
        self._spread = 0.0  # 0: still learning
        self._held: list[tuple[float, int]] = []
        self.up = self.down = 0.0
        self._rests, self._next = 0, RESTS  # blocks that are not looked at, and how many the next time

    def rest(self) -> None:
        """Look away for a while: it is known."""
        self.up = self.down = 0.0
        self._rests, self._next = self._next, 2 * self._next

    @property
    def learning(self) -> bool:
        """Whether it does not know yet what is normal."""
        return not self._spread

    def feed(self, values: Array, classes: NDArray[np.int64]) -> bool:
        """Take what windows in order have, (n,), and the class that was said of each; whether that is drift.

        Where it is, let it `rest`: the last windows are looked at when it is fed again.
        """
        self._held += zip(values.tolist(), classes.tolist(), strict=True)
        if self.learning and len(self._held) >= REFERENCE:
            self._learn(self._take(REFERENCE))
        while not self.learning and len(self._held) >= BLOCK:
            [x] = self._blocks(self._take(BLOCK)) / self._spread
            if self._rests:
                self._rests -= 1
                continue
            self.up = max(0.0, self.up + x - SLACK)
            self.down = max(0.0, self.down - x - SLACK)
            if max(self.up, self.down) > LIMIT:
                return True
        return False

    def _take(self, size: int) -> Array:
        taken, self._held = self._held[:size], self._held[size:]
        return np.array(taken)

    def _learn(self, rows: Array) -> None:
        self._mean[:], self._deviation[:] = rows[:, 0].mean(), max(rows[:, 0].std(), TINY)
        for which, seen in enumerate(np.bincount(rows[:, 1].astype(int), minlength=self._classes)):
            if seen >= FEWEST:
                own = rows[rows[:, 1] == which, 0]
                self._mean[which], self._deviation[which] = own.mean(), max(own.std(), TINY)
        self._spread = max(1.0, float(self._blocks(rows).std()))

    def _blocks(self, rows: Array) -> Array:
        which = rows[:, 1].astype(int)
        apart = np.clip((rows[:, 0] - self._mean[which]) / self._deviation[which], -FARTHEST, FARTHEST)
        return np.asarray(apart.reshape(-1, BLOCK).sum(axis=1) / np.sqrt(BLOCK))

"""Which of what a gateway has of a model is used: the version in force, the one before it, or a head of its own. Pure.

| used | when |
|---|---|
| active | else |
| personal | a head for the version in force won on this gateway's hold-out by `margin`, and has not lost live since |
| previous | the version in force is used, and has lost to it live, by `margin`: until another version comes |

Live is: over the windows whose label came afterwards, both having said their class. One has lost to another there if,
over at least FEWEST windows, the other was right so much more often, and that is no chance: McNemar's test (1947), by
which the windows that one of two got right count, (better - worse)^2 / (better + worse) >= SURE. Older windows count
less: when there are MOST, all counts are halved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

FEWEST = 50
MOST = 2_000
SURE = 9.0
"""Three deviations. It is asked after each window, so a bound for one asking (3.84) would be passed by chance."""

Which = Literal["active", "personal", "previous", "shadow"]


class Tally(msgspec.Struct):
    """How one fared beside the version in force, over the same windows whose label came."""

    windows: float = 0
    right: float = 0
    better: float = 0  # right where the version in force was wrong
    worse: float = 0

    def add(self, right: NDArray[np.bool_], active: NDArray[np.bool_]) -> None:
        """Count windows: which it got right, and which the version in force did, (n,)."""
        self.windows += len(right)
        self.right += int(right.sum())
        self.better += int((right & ~active).sum())
        self.worse += int((active & ~right).sum())
        if self.windows >= MOST:
            for name in self.__struct_fields__:
                setattr(self, name, getattr(self, name) / 2)

    @property
    def accuracy(self) -> float | None:
        """The share of right answers; None before there was a label."""
        return self.right / self.windows if self.windows else None

    def wins(self, margin: float) -> bool:
        """Whether it beats the version in force."""
        return self._ahead(self.better, self.worse, margin)

    def loses(self, margin: float) -> bool:
        """Whether the version in force beats it."""
        return self._ahead(self.worse, self.better, margin)

    def _ahead(self, one: float, other: float, margin: float) -> bool:
        if self.windows < FEWEST or one <= other:
            return False
        return (one - other) / self.windows >= margin and (one - other) ** 2 / (one + other) >= SURE


class Trust:
    """Decides for one model; `margin` is a share of right answers. `begin` when another version is in force."""

    def __init__(self, *, fallen: bool = False, lost: bool = False) -> None:
        self.fallen, self.lost = fallen, lost  # for good: back on the version before; the head lost live
        self.live: dict[Which, Tally] = {}
        self.won = False  # the head won on the hold-out

    @property
    def used(self) -> Which:
        """Say which one is."""
        if self.fallen:
            return "previous"
        return "personal" if self.won and not self.lost else "active"

    def offer(self, before: float, after: float, windows: int, margin: float) -> None:
        """Take what a head did for the version in force, over so many windows of this gateway's hold-out."""
        self.won = windows >= FEWEST and after >= before + margin

    def feed(self, right: Mapping[Which, NDArray[np.bool_]], margin: float) -> list[Which]:
        """Take which windows each got right, (n,); give which have lost by that: "active", "personal"."""
        for which, own in right.items():
            self.live.setdefault(which, Tally()).add(own, right["active"])
        lost: list[Which] = []
        personal, previous = self.live.get("personal"), self.live.get("previous")
        if self.used == "personal" and personal and personal.loses(margin):
            self.lost = True
            lost.append("personal")
        if self.used == "active" and previous and previous.wins(margin):
            self.fallen = True
            lost.append("active")
        return lost

"""Whether a candidate is promoted: judged by every gateway on readings that nobody has learnt from. Pure.

| verdict | when |
|---|---|
| promoted | nothing is in force, or the candidate's score is above its by `margin`, and few are worse off |
| below | the score is not above that of what is in force by `margin` |
| worse | more than `share` of the gateways lose more than `most` by it |
| unproven | fewer than `quorum` gateways have said what it is worth |

Scores are shares of right answers, weighted by the windows they were made of; one gateway weighs at most HEAVIEST times
the median, since what it says of its own data is only its word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

HEAVIEST = 10.0


class Score(NamedTuple):
    """One gateway's word: what the candidate and what is in force are worth over so many windows."""

    windows: int
    candidate: float
    active: float | None  # None: nothing is in force
    local: float = 0.0  # what the candidate became by learning there
    personal: float = 0.0  # the candidate with a head of that gateway's own


class Terms(NamedTuple):
    """What is asked of a candidate; see the table above."""

    margin: float = 0.005
    share: float = 0.2
    most: float = 0.05
    quorum: int = 1


class Verdict(NamedTuple):
    """What becomes of a candidate, and why: its weighted score, that of what is in force, and the share worse off."""

    word: str
    candidate: float
    active: float | None
    worse: float
    gateways: int

    @property
    def promoted(self) -> bool:
        """Whether it takes over."""
        return self.word == "promoted"


def judge(scores: Mapping[str, Score], terms: Terms) -> Verdict:
    """Judge a candidate by the scores of gateways; those of no window do not count."""
    said = [score for _, score in sorted(scores.items()) if score.windows > 0]
    if len(said) < max(terms.quorum, 1):
        return Verdict("unproven", 0.0, None, 0.0, len(said))
    windows = np.array([score.windows for score in said], np.float64)
    weights = np.minimum(windows, HEAVIEST * np.median(windows))
    candidate = float(np.average([score.candidate for score in said], weights=weights))
    compared = [(score.candidate, score.active) for score in said if score.active is not None]
    if not compared:
        return Verdict("promoted", candidate, None, 0.0, len(said))
    active = float(
        np.average(
            [before for _, before in compared],
            weights=[weight for weight, score in zip(weights, said, strict=True) if score.active is not None],
        )
    )
    worse = sum(now < before - terms.most for now, before in compared) / len(compared)
    if worse > terms.share:
        return Verdict("worse", candidate, active, worse, len(said))
    word = "promoted" if candidate >= active + terms.margin else "below"
    return Verdict(word, candidate, active, worse, len(said))

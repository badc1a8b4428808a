"""What goes in and out of detectors and rules: windows that start together, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.config import Window
from gateway.records import Learnt, Verdicts
from learning.gaussian import Mask
from learning.statistics import Vector
from protocol.messages import Alert, WindowRows


class Run(NamedTuple):
    """Windows of one definition that start together and are stated for the first time: rows[at], one a series."""

    definition: int
    start: int
    size: int
    series: NDArray[np.int32]
    rows: WindowRows
    at: slice


def runs(rows: WindowRows, windows: Sequence[Window]) -> Iterator[Run]:
    """Part rows, ordered by definition, start and series, into runs; revisions are left out."""
    if rows.revision.any():
        rows = WindowRows._make(column[rows.revision == 0] for column in rows)
    if not rows.rows:
        return
    same = (rows.start[1:] == rows.start[:-1]) & (rows.definition[1:] == rows.definition[:-1])
    borders = [0, *(np.flatnonzero(~same) + 1).tolist(), rows.rows]
    for begin, end in pairwise(borders):
        definition = int(rows.definition[begin])
        at = slice(begin, end)
        yield Run(definition, int(rows.start[begin]), int(windows[definition].size), rows.series[at], rows, at)


class Vectors(NamedTuple):
    """One window of each of k groups of one size: values x, shape (k, d), finite where they are `there`."""

    groups: NDArray[np.int32]
    start: int
    x: Vector
    there: Mask


@dataclass(slots=True)
class Outcome:
    """What one call, at `now`, made of its windows."""

    now: int
    alerts: list[Alert] = field(default_factory=list)
    learnt: list[Learnt] = field(default_factory=list)
    verdicts: list[Verdicts] = field(default_factory=list)
    raised: dict[str, int] = field(default_factory=dict)  # alerts, by rule
    shadow: dict[str, int] = field(default_factory=dict)  # that models would have raised where they do not score
    left_out: dict[str, int] = field(default_factory=dict)  # windows that no detector scored, by reason

    def alert(self, alert: Alert) -> None:
        """Raise it, and count it."""
        self.alerts.append(alert)
        self.raised[alert.rule] = self.raised.get(alert.rule, 0) + 1

    def leave_out(self, reason: str, windows: int) -> None:
        """Count windows that are not scored."""
        if windows:
            self.left_out[reason] = self.left_out.get(reason, 0) + windows

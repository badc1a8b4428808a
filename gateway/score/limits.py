"""[[rule]]: fixed limits, for all series at once.

Rules:

1. `value > x` holds in a window that has a reading beyond x; with `for`, in one whose readings all are. `rate` is the
   change of the mean from the window before, a second; the first window of a series has none.
2. The condition has lasted from the start of the first window to the end of the newest, as long as no window between
   them says otherwise: a silence does not end it.
3. One alert when it has lasted for `for`; the next after it has ended.
4. A window that is not later than one judged before (late, or a revision) is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.config import Rule, Window
from gateway.records import NEVER, State
from gateway.score.groups import NOBODY, definition_of
from gateway.score.outcome import Outcome, Run
from learning.statistics import Vector
from protocol.messages import Alert

BEFORE_ALL = -(1 << 62)


class Limits:
    """One rule over all its series."""

    def __init__(self, rule: Rule, windows: Sequence[Window]) -> None:
        self.rule = rule
        self.when = rule.condition
        self._windows = windows
        self._definition = np.empty(0, np.int64)  # of each series
        self._last = np.empty(0, np.int64)  # start of the newest window judged
        self._mean = np.empty(0)  # of that window
        self._since = np.empty(0, np.int64)  # the condition holds since; NEVER: it does not
        self._told = np.empty(0, bool)

    def define(self, names: Sequence[str]) -> None:
        """Append series."""
        definition = [definition_of(name, self.rule.series, self.rule.window, self._windows) for name in names]
        self._definition = np.concatenate([self._definition, np.array(definition, np.int64)])
        self._last = np.concatenate([self._last, np.full(len(names), BEFORE_ALL)])
        self._mean = np.concatenate([self._mean, np.full(len(names), np.nan)])
        self._since = np.concatenate([self._since, np.full(len(names), NEVER)])
        self._told = np.concatenate([self._told, np.zeros(len(names), bool)])

    def feed(self, run: Run, outcome: Outcome) -> None:
        """Judge windows that start together."""
        mine = self._definition[run.series] == run.definition
        if not mine.any():
            return
        late = mine & (run.start <= self._last[run.series])
        outcome.leave_out("late", int(np.count_nonzero(late)))
        which = (mine & ~late).nonzero()[0]
        series = run.series[which]
        value = self._value(run, which, series)
        with np.errstate(invalid="ignore"):
            holds = value > self.when.limit if self.when.above else value < self.when.limit
        since = np.where(holds, np.minimum(self._since[series], run.start), NEVER)
        lasted = holds & (run.start + run.size - since >= self.when.lasting)
        told = lasted & ~self._told[series]
        self._since[series] = since
        self._told[series] = lasted
        for at in told.nonzero()[0].tolist():
            outcome.alert(self._alert(int(series[at]), run.start, outcome.now, float(value[at])))

    def _value(self, run: Run, which: NDArray[np.intp], series: NDArray[np.int32]) -> Vector:
        rows = run.rows
        if self.when.what == "value":
            every = self.when.lasting > 0
            column: Vector = (rows.minimum if self.when.above == every else rows.maximum)[run.at][which]
            self._last[series] = run.start
            return column
        mean = rows.mean[run.at][which].astype(np.float64)
        passed = (run.start - self._last[series]) / 1e9
        with np.errstate(invalid="ignore"):  # an infinite mean
            rate: Vector = (mean - self._mean[series]) / passed
        self._last[series], self._mean[series] = run.start, mean
        return rate

    def _alert(self, series: int, start: int, now: int, value: float) -> Alert:
        return Alert([series], start, 0, now, value, self.rule.title, threshold=self.when.limit, contributions=[1.0])

    def leap(self, leap: int, adrift: NDArray[np.bool_]) -> None:
        """Let the times of these series have leapt: a condition lasts as it did, and no rate is one over the leap."""
        self._since[adrift & (self._since != NEVER)] += leap
        self._mean[adrift] = np.nan

    def follow(self, before: Limits) -> None:
        """Go on where the same rule was under another configuration; its series' windows must be the same."""
        same = [
            NOBODY not in (a, b) and self._windows[a].size == before._windows[b].size
            for a, b in zip(self._definition.tolist(), before._definition.tolist(), strict=True)
        ]
        for name in ("_last", "_mean", "_since", "_told"):
            getattr(self, name)[same] = getattr(before, name)[same]

    def snapshot(self) -> State:
        """Give all state but names and configuration."""
        return {
            "last": self._last.copy(),
            "mean": self._mean.copy(),
            "since": self._since.copy(),
            "told": self._told.astype(np.int8),
        }

    def restore(self, state: State) -> None:
        """Continue from a snapshot; the same series must have been defined."""
        self._last, self._mean, self._since = (state[name].copy() for name in ("last", "mean", "since"))
        self._told = state["told"].astype(bool)

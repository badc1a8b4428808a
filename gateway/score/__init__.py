"""Windows in, alerts out: detectors that learn where they run, and fixed limits beside them.

Rules:

1. A [[score]] is a `Detector` over groups of series (`groups`), each with what it has learnt (`learner`) and the
   fleet's model (`model`); a [[rule]] is `Limits`. Each takes the windows of one definition that start together, for
   all series at once, in the order in which the window stage states them.
2. Alerts come in the order of windows, and of one start in the order of the configuration, [[score]] before [[rule]];
   those of groups that span devices come last.
3. `feed` and `tick` first take what closed, then let time pass: what waits for members is scored, what has been learnt
   is told. A tick only ever does earlier what the next feed would have done.
4. A change of configuration scores what waits with what is there. What was learnt stays with the groups that are the
   same: same name, statistic, windows and members. Another threshold or hold judges the next window.
5. Everything is a function of state and input. A state is the same however windows were split into calls, as long as a
   device's windows of one start stay together, as they leave the window stage.
6. Counted by reason, once for each detector or rule: windows that it leaves out (`late`, `missing`, `features`,
   `groups`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.config import PipelineConfig
from gateway.records import NEVER, State
from gateway.score.detector import Detector
from gateway.score.limits import Limits
from gateway.score.outcome import Outcome, runs
from gateway.score.waiting import Passed
from learning.baseline import Baseline
from protocol.messages import WindowRows

__all__ = ["NOTHING", "Outcome", "Passed", "Progress", "Scoring"]

NOTHING = Outcome(0)
"""What a call gives that had nothing to do; never changed."""


class Progress(NamedTuple):
    """How far the groups are."""

    warming: int  # groups that do not score by themselves yet
    scoring: int
    seen: int  # windows that the least of those has seen
    needed: int  # windows that it needs


class Scoring:
    """The stage: all detectors and rules."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._names: list[str] = []
        self._detectors = [Detector(score, config.window) for score in config.score]
        self._limits = [Limits(rule, config.window) for rule in config.rule]
        self._waits = False
        self._due = NEVER

    def define(self, names: Sequence[str]) -> None:
        """Append series; their groups are looked up once, here."""
        self._names.extend(names)
        for judge in self._judges():
            judge.define(names)

    def _judges(self) -> list[Detector | Limits]:
        return [*self._detectors, *self._limits]

    def use(self, name: str, baseline: Baseline | None, version: int) -> None:
        """Let another model score under this name; None for none."""
        for detector in self._detectors:
            if detector.score.name == name:
                detector.use(baseline, version)

    def feed(self, rows: WindowRows, passed: Passed, now: int) -> Outcome:
        """Take windows that were stated now, numbered as configured, ordered by definition, start and series."""
        if not rows.rows:
            return self.tick(passed, now)
        if not self._detectors and not self._limits:
            return NOTHING
        return self._pass_time(passed, self._judge(rows, now))

    def _judge(self, rows: WindowRows, now: int) -> Outcome:
        outcome, judges = Outcome(now), self._judges()
        for run in runs(rows, self._config.window):
            for judge in judges:
                judge.feed(run, outcome)
        return outcome

    def tick(self, passed: Passed, now: int) -> Outcome:
        """Time passed: score what has waited long enough, tell what has been learnt."""
        return self._pass_time(passed, Outcome(now)) if self._waits or now >= self._due else NOTHING

    def _pass_time(self, passed: Passed, outcome: Outcome) -> Outcome:
        for detector in self._detectors:
            detector.pass_time(passed, outcome)
        self._look_ahead()
        return outcome

    def _look_ahead(self) -> None:
        self._due = min((detector.due() for detector in self._detectors), default=NEVER)
        self._waits = any(detector.is_waiting for detector in self._detectors)

    def leap(self, leap: int, adrift: NDArray[np.bool_]) -> None:
        """Note that `now` has leapt so far, and event times of these series with it; shape (series,)."""
        for detector in self._detectors:
            detector.leap(leap)
        for one in self._limits:
            one.leap(leap, adrift)
        self._look_ahead()

    def due(self) -> int:
        """When (ns) a tick would score or tell something; NEVER if nothing waits for time."""
        return self._due

    def progress(self) -> Progress:
        """Tell how far the groups are."""
        parts = [detector.progress() for detector in self._detectors]
        least = min((part[2:] for part in parts if part[0]), default=(0, 0))
        return Progress(sum(part[0] for part in parts), sum(part[1] for part in parts), *least)

    def configure(self, config: PipelineConfig, rows: WindowRows, now: int) -> Outcome:
        """Take the windows that vanish, numbered as before, then another configuration; models must be told anew."""
        outcome = self._pass_time(_all_of_it, self._judge(rows, now))
        detectors = {detector.score.name: detector for detector in self._detectors}
        limits = {one.rule: one for one in self._limits}
        names, self._names = self._names, []
        self._config = config
        self._detectors = [Detector(score, config.window) for score in config.score]
        self._limits = [Limits(rule, config.window) for rule in config.rule]
        self.define(names)
        for detector in self._detectors:
            if before := detectors.get(detector.score.name):
                detector.follow(before)
        for one in self._limits:
            if former := limits.get(one.rule):
                one.follow(former)
        self._look_ahead()
        return outcome

    def introduce(self, known: Collection[str], outcome: Outcome) -> None:
        """Say of each [[score]] that was not `known` before that it is here: who warms up needs a model most."""
        for detector in self._detectors:
            if detector.score.name not in known:
                detector.introduce(outcome)

    def snapshot(self) -> State:
        """Give all state but names, configuration and models."""
        return {
            "detectors": [detector.snapshot() for detector in self._detectors],
            "limits": [one.snapshot() for one in self._limits],
        }

    def restore(self, state: State) -> None:
        """Continue from a snapshot; the same series must have been defined, under the same configuration."""
        for detector, part in zip(self._detectors, state["detectors"], strict=True):
            detector.restore(part)
        for one, part in zip(self._limits, state["limits"], strict=True):
            one.restore(part)
        self._look_ahead()


def _all_of_it(_: int, series: NDArray[np.int64]) -> NDArray[np.int64]:
    """Say that no window can come any more."""
    return np.full(len(series), NEVER)

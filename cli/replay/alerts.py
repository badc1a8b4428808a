"""Two streams of alerts over the same readings, compared as they come. Pure.

Rules:

1. An alert is in both when each side raised one by the same rule, for groups that share a series, at times no further
   apart than the longer of the two rules' reaches: a detector's `hold`, a fixed limit's window and its `for`.
2. One meets one: of the same window first, then, in the order of time, the nearest.
3. Rules are the same by name. Fixed limits that are named by their text are also the same when that text is all that
   differs: "value > 80" on one side and "value > 90" on the other, over the same series and windows.
4. At most `ahead` alerts wait on a side. When there are more, those that have waited longest, all but half of `ahead`,
   are taken to be on their side only, and counted in `early`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from gateway.config import PipelineConfig, Rule, Window
from protocol.messages import Alert

AHEAD = 4096
"""Alerts that wait on a side."""


class Differing(NamedTuple):
    """An alert of one side only."""

    side: int
    alert: Alert


@dataclass(slots=True)
class Met:
    """How many alerts of a rule only one side raised, and how many both."""

    only: list[int] = field(default_factory=lambda: [0, 0])
    both: int = 0


@dataclass(slots=True, eq=False)
class _Raised:
    """An alert that waits."""

    side: int
    alert: Alert
    label: str
    reach: int
    met: bool = False


_Table = dict[tuple[str, int], list[_Raised]]


class AlertDiff:
    """See the rules above. Sides are 0 and 1; both must know the same series, by the same numbers."""

    def __init__(self, one: PipelineConfig, other: PipelineConfig, *, ahead: int = AHEAD) -> None:
        self.ahead = ahead
        self.early = 0
        self.rules: dict[str, Met] = {}
        self._sides = (one, other)
        self._labels = labels(one, other)
        self._names: list[str] = []
        self._waiting: list[list[_Raised]] = [[], []]

    def define(self, names: Sequence[str]) -> None:
        """Append series."""
        self._names.extend(names)

    def feed(self, side: int, alerts: Sequence[Alert]) -> None:
        """Take what a side raised."""
        for alert in alerts:
            name = self._names[alert.series[0]] if alert.series else ""
            reach = reach_of(alert.rule, name, self._sides[side])
            label = self._labels[side].get(alert.rule, alert.rule)
            self._waiting[side].append(_Raised(side, alert, label, reach))

    def settle(self) -> list[Differing]:
        """Both sides have raised what they make of a record: give what is decided, if too much waits."""
        if max(map(len, self._waiting)) <= self.ahead:
            return []
        self._meet_in_place()
        if max(map(len, self._waiting)) <= self.ahead:
            return []
        decided = self._decide(self.ahead // 2)
        self.early += len(decided)
        return decided

    def finish(self) -> list[Differing]:
        """Nothing more comes: decide what waits."""
        self._meet_in_place()
        return self._decide(0)

    def _decide(self, keep: int) -> list[Differing]:
        """Decide all but the `keep` newest of each side."""
        old = [raised[: max(len(raised) - keep, 0)] for raised in self._waiting]
        tables = [_by_series(raised) for raised in self._waiting]
        for raised in sorted((*old[0], *old[1]), key=_start):
            other = None if raised.met else _nearest(raised, tables[1 - raised.side])
            if other is not None:
                self._meet(raised, other)
        self._waiting = [raised[len(gone) :] for raised, gone in zip(self._waiting, old, strict=True)]
        self._forget_met()
        alone = [raised for raised in sorted((*old[0], *old[1]), key=_start) if not raised.met]
        for raised in alone:
            self._rule(raised).only[raised.side] += 1
        return [Differing(raised.side, raised.alert) for raised in alone]

    def _meet_in_place(self) -> None:
        there: dict[tuple[str, int, tuple[int, ...]], list[_Raised]] = {}
        for raised in reversed(self._waiting[1]):
            there.setdefault(_place(raised), []).append(raised)
        for raised in self._waiting[0]:
            if same := there.get(_place(raised)):
                self._meet(raised, same.pop())
        self._forget_met()

    def _forget_met(self) -> None:
        self._waiting = [[raised for raised in waiting if not raised.met] for waiting in self._waiting]

    def _meet(self, raised: _Raised, other: _Raised) -> None:
        raised.met = other.met = True
        self._rule(raised).both += 1

    def _rule(self, raised: _Raised) -> Met:
        return self.rules.setdefault(raised.label, Met())


def _start(raised: _Raised) -> int:
    return raised.alert.start


def _place(raised: _Raised) -> tuple[str, int, tuple[int, ...]]:
    return raised.label, raised.alert.start, tuple(raised.alert.series)


def _by_series(waiting: list[_Raised]) -> _Table:
    table: _Table = {}
    for raised in waiting:
        for series in raised.alert.series:
            table.setdefault((raised.label, series), []).append(raised)
    return table


def _nearest(raised: _Raised, table: _Table) -> _Raised | None:
    near = [
        (apart, other)
        for series in raised.alert.series
        for other in table.get((raised.label, series), ())
        if not other.met and (apart := abs(_start(raised) - _start(other))) <= max(raised.reach, other.reach)
    ]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def labels(one: PipelineConfig, other: PipelineConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Say what each side's rules are called in the comparison, where that is not their name (rule 3)."""
    left, right = _texts(one, other), _texts(other, one)
    found: tuple[dict[str, str], dict[str, str]] = {}, {}
    for rule in left:
        same = next((there for there in right if (there.series, there.window) == (rule.series, rule.window)), None)
        if same is not None:
            right.remove(same)
            found[0][rule.when] = found[1][same.when] = f"{rule.when} -> {same.when}"
    return found


def _texts(here: PipelineConfig, there: PipelineConfig) -> list[Rule]:
    """Give the fixed limits without a name of their own whose text the other side does not have."""
    known = {rule.title for rule in there.rule}
    return [rule for rule in here.rule if not rule.name and rule.when not in known]


def reach_of(rule: str, series: str, config: PipelineConfig) -> int:
    """Tell how far apart (ns) two alerts of a rule for this series may begin and still be of one event."""
    for score in config.score:
        if score.name == rule:
            window = _window(config, series, score.window)
            return max(score.hold * window.step, int(window.size))
    for limit in config.rule:
        if limit.title == rule:
            return int(_window(config, series, limit.window).size) + limit.condition.lasting
    return 0


def _window(config: PipelineConfig, series: str, size: int | None) -> Window:
    """Give the definition whose windows of a series are judged."""
    windows = (one for one in config.window if size in (None, one.size) and fnmatchcase(series, one.series))
    return next(windows, Window())

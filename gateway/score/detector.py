"""One [[score]]: its groups, what each has learnt, and what is said of their windows.

Rules:

1. A group inside one device scores at once: the window stage states a device's windows of one start in one call, so
   what is not among them had no reading. A group that spans devices waits for its members (`waiting`).
2. A group's windows are scored in the order of their starts. One that is not later than the last one scored (a
   straggler's first window) is counted as `late`. A revised window is not scored again: the event it may tell of is
   over, and learning it twice would count it twice. While its start still waits, only its first statement counts.
3. Missing members: `impute` scores those that are there, as if the others were where these let expect them (T2 of the
   part is T2 of the whole with the conditional mean in its place); `skip` leaves the window out, counted as `missing`.
4. What is learnt is told when it is due (`sharing`): merged over all groups with the same features that have ended
   their warm-up. These statistics leave the gateway, never a reading. A detector that is new is told of at once, with
   none: so it is given the fleet's model while it warms up.

| may fill | bound | answer when full |
|---|---|---|
| groups and features | see `groups` | left out, counted as `groups`, `features` |
| starts that wait | see `waiting` | the earliest is scored with what is there |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.config import Score, Window
from gateway.records import NEVER, Learnt, State, Verdicts
from gateway.score.groups import MAX_NUMBERS, NOBODY, REASONS, Groups
from gateway.score.learner import Judged, Learner
from gateway.score.model import Model
from gateway.score.outcome import Outcome, Run, Vectors
from gateway.score.sharing import Sharing, entries
from gateway.score.waiting import MAX_WAITING, Passed, Queue
from learning.baseline import Baseline, Features
from learning.gaussian import TINY
from learning.statistics import Statistics, Vector
from protocol.messages import Alert


class Detector:
    """See the rules above. Groups are numbers, `row` is a group's place in the learner of its size."""

    def __init__(self, score: Score, windows: Sequence[Window], limit: int = MAX_NUMBERS) -> None:
        self.score = score
        self.groups = Groups(score, windows, limit)
        self._windows = windows
        self._learners: dict[int, Learner] = {}
        self._size: NDArray[np.int64] = np.empty(0, np.int64)  # of each group
        self._row: NDArray[np.int64] = np.empty(0, np.int64)
        self._first: NDArray[np.int32] = np.empty(0, np.int32)  # series
        self._queues: dict[int, Queue] = {}
        self._baseline: Baseline | None = None
        self._version = 0
        self._raised = self._shadow = 0
        self._sharing = Sharing(int(score.share or 0))

    # Series and models.

    def define(self, names: Sequence[str]) -> None:
        """Append series."""
        changed = self.groups.define(names)
        more = len(self.groups) - len(self._size)
        self._size = np.concatenate([self._size, np.zeros(more, np.int64)])
        self._row = np.concatenate([self._row, np.zeros(more, np.int64)])
        self._first = np.concatenate([self._first, np.zeros(more, np.int32)])
        for group in changed:
            if before := int(self._size[group]):
                self._learners[before].drop(int(self._row[group]))
            features = self.groups.features[group]
            self._size[group] = len(features)
            self._first[group] = self.groups.members[group][0]
            self._row[group] = self._learner(len(features)).add(features)

    def _learner(self, size: int) -> Learner:
        if size not in self._learners:
            self._learners[size] = Learner(size, self.score)
            self._learners[size].model = Model(size, self._baseline)
        return self._learners[size]

    def use(self, baseline: Baseline | None, version: int) -> None:
        """Let another model score what warms up, and run in the shadow elsewhere."""
        self._baseline, self._version = baseline, version
        for size, learner in self._learners.items():
            learner.model = Model(size, baseline)
            for group in np.flatnonzero(self._size == size).tolist():
                learner.known[self._row[group]] = learner.model.entry(self.groups.features[group])

    def follow(self, before: Detector) -> None:
        """Take over what the same groups of an earlier configuration have learnt of the same windows."""
        if before.score.statistic != self.score.statistic:
            return
        known = {before._identity(group): group for group in range(len(before.groups))}
        for group in range(len(self.groups)):
            former = known.get(self._identity(group))
            if former is not None:
                size = int(self._size[group])
                state = before._learners[size].take([int(before._row[former])])
                self._learners[size].put([int(self._row[group])], state)
        self._raised, self._shadow = before._raised, before._shadow
        self._sharing.follow(before._sharing)

    def _identity(self, group: int) -> tuple[object, ...]:
        window = self._windows[self.groups.definition[group]]
        return self.groups.keys[group], window.size, window.step, window.series, tuple(self.groups.members[group])

    # Windows.

    def feed(self, run: Run, outcome: Outcome) -> None:
        """Take windows that start together."""
        of = self.groups.of[run.definition][run.series]
        if (lowest := of.min()) < NOBODY:
            for code, reason in REASONS.items():
                outcome.leave_out(reason, int(np.count_nonzero(of == code)))
        series, values = run.series, getattr(run.rows, self.score.statistic)[run.at].astype(np.float64)
        finite = np.isfinite(values)
        if lowest < 0 or not finite.all():
            mine = finite & (of >= 0)
            of, series, values = of[mine], series[mine], values[mine]
        if not len(of):
            return
        if self.score.by == "series":
            self._judge(Vectors(of, run.start, values[:, None], np.ones((len(of), 1), bool)), outcome)
        elif self.score.by == "device":
            self._gather(run.start, of, series, values, outcome)
        else:
            for group in np.unique(of).tolist():
                mine = of == group
                self._wait(run.start, group, series[mine].tolist(), values[mine].tolist(), outcome)

    def _gather(
        self, start: int, of: NDArray[np.int32], series: NDArray[np.int32], values: Vector, outcome: Outcome
    ) -> None:
        """Make vectors of windows that are complete, and judge them: all groups of one size at once."""
        groups, place = np.unique(of, return_inverse=True)
        sizes = self._size[groups]
        for size in sorted(set(sizes.tolist())):
            which = sizes == size
            at = np.cumsum(which) - 1  # of each group, its row in the vectors
            mine = which[place]
            x = np.zeros((int(at[-1]) + 1, size))
            there = np.zeros(x.shape, bool)
            cells = at[place[mine]], self.groups.slot[series[mine]]
            x[cells], there[cells] = values[mine], True
            self._judge(Vectors(groups[which], start, x, there), outcome)

    def _wait(self, start: int, group: int, series: list[int], values: list[float], outcome: Outcome) -> None:
        if start <= self._last(np.array([group]))[0]:
            outcome.leave_out("late", len(series))
            return
        queue = self._queues.setdefault(group, Queue())
        queue.add(start, series, values, outcome.now)
        if len(queue.order) > MAX_WAITING:
            self._settle(group, queue, outcome)

    def pass_time(self, passed: Passed, outcome: Outcome) -> None:
        """Score what has waited long enough, and tell what has been learnt if it is time."""
        for group, queue in list(self._queues.items()):
            definition, members = self.groups.definition[group], self.groups.members[group]
            size = int(self._windows[definition].size)
            while queue.order and (
                outcome.now >= queue.due(self.score.grace) or queue.is_ready(members, definition, size, passed)
            ):
                self._settle(group, queue, outcome)
            if not queue.order:
                del self._queues[group]
        if outcome.now >= self._sharing.at:
            self._share(outcome)

    def leap(self, leap: int) -> None:
        """Let what waits have come, and be told, so much later."""
        for queue in self._queues.values():
            queue.leap(leap)
        self._sharing.leap(leap)

    def _settle(self, group: int, queue: Queue, outcome: Outcome) -> None:
        """Score the earliest start that waits."""
        start, values = queue.pop()
        series = np.array(list(values), np.int32)
        self._gather(start, np.full(len(values), group, np.int32), series, np.array(list(values.values())), outcome)

    def _last(self, groups: NDArray[Any]) -> NDArray[np.int64]:
        """Give the last start scored of groups of one size."""
        return self._learners[int(self._size[groups[0]])].last(self._row[groups])

    def _judge(self, vectors: Vectors, outcome: Outcome) -> None:
        groups, start, x, there = vectors
        kept = start > self._last(groups)
        if not kept.all():
            outcome.leave_out("late", int(there[~kept].sum()))
        if self.score.missing == "skip":
            whole = there.all(axis=1)
            outcome.leave_out("missing", int(there[kept & ~whole].sum()))
            kept &= whole
        if not kept.all():
            vectors = Vectors(groups[kept], start, x[kept], there[kept])
        if len(vectors.groups):
            rows = self._row[vectors.groups]
            self._tell(vectors, self._learners[x.shape[1]].judge(rows, *vectors[1:]), outcome)

    def _tell(self, vectors: Vectors, judged: Judged, outcome: Outcome) -> None:
        for at in judged.told.nonzero()[0].tolist():
            outcome.alert(self._alert(vectors, judged, at, outcome.now))
            self._raised += 1
        if judged.shadow:
            self._shadow += judged.shadow
            outcome.shadow[self.score.name] = outcome.shadow.get(self.score.name, 0) + judged.shadow
        which = judged.judged.nonzero()[0]
        if len(which):
            verdicts = self._first[vectors.groups[which]], judged.score[which], judged.over[which]
            outcome.verdicts.append(Verdicts(self.score.name, vectors.start, *verdicts))
        grown = (self.groups.features[group] for group in vectors.groups[judged.grown].tolist())
        self._sharing.note(grown, outcome.now, scored=len(which) > 0)

    def _alert(self, vectors: Vectors, judged: Judged, at: int, now: int) -> Alert:
        members, parts = self.groups.members[vectors.groups[at]], judged.parts[at]
        there = vectors.there[at].tolist()
        return Alert(
            series=list(members),
            start=vectors.start,
            revision=0,
            stamp=now,
            score=float(judged.score[at]),
            rule=self.score.name,
            version=0 if judged.ready[at] else self._version,
            threshold=self.score.threshold,
            contributions=(parts / max(float(parts.sum()), TINY)).round(4).tolist(),
            missing=[member for member, here in zip(members, there, strict=True) if not here],
        )

    def introduce(self, outcome: Outcome) -> None:
        """Say that a model of this name is of use here, before anything has been learnt."""
        outcome.learnt.append(Learnt(self.score.name, outcome.now, [], version=self._version))

    def _share(self, outcome: Outcome) -> None:
        told = entries(self.groups.features, self._statistics)
        self._sharing.tell(told)
        if told:
            counts = self._raised, self._shadow, self._version
            outcome.learnt.append(Learnt(self.score.name, outcome.now, told, *counts))

    def _statistics(self, features: Features, groups: list[int]) -> Statistics:
        return self._learners[len(features)].statistics(self._row[groups])

    def due(self) -> int:
        """When (ns) `pass_time` has something to do; NEVER if nothing waits for time."""
        waiting = (queue.due(self.score.grace) for queue in self._queues.values())
        return min(self._sharing.at, min(waiting, default=NEVER))

    @property
    def is_waiting(self) -> bool:
        """Whether windows wait for others."""
        return bool(self._queues)

    def progress(self) -> tuple[int, int, int, int]:
        """Give groups warming up, groups scoring, windows seen by the least of those, and windows it needs."""
        warming, least = 0, (NEVER, 0)
        for size, learner in self._learners.items():
            seen = learner.warming(self._row[self._size == size])
            warming += len(seen)
            if len(seen):
                least = min(least, (int(seen.min()), learner.needed))
        return (warming, len(self.groups) - warming, *(least if warming else (0, 0)))

    # State.

    def snapshot(self) -> State:
        """Give all state but names, configuration and model."""
        return {
            "learners": {
                str(size): self._learners[size].take(self._rows(size)) for size in sorted(set(self._size.tolist()))
            },
            "queues": [[group, queue.snapshot()] for group, queue in sorted(self._queues.items())],
            "raised": self._raised,
            "shadow": self._shadow,
            "sharing": self._sharing.snapshot(),
        }

    def _rows(self, size: int) -> list[int]:
        rows: list[int] = self._row[self._size == size].tolist()
        return rows

    def restore(self, state: State) -> None:
        """Continue from a snapshot; the same series must have been defined, under the same configuration."""
        for size, learnt in state["learners"].items():
            self._learners[int(size)].put(self._rows(int(size)), learnt)
        self._queues = {group: Queue.restore(queue) for group, queue in state["queues"]}
        self._raised, self._shadow = state["raised"], state["shadow"]
        self._sharing.restore(state["sharing"])

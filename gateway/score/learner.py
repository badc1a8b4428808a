"""What is normal for each group of d features, learnt on the spot, and what it thinks of the group's next window.

For all groups of one size at once: row i of every array is a group. Rules:

1. A window is judged before it is learnt: by T2 of the members that are there and known; the estimate's own doubt
   widens variances by 3 d / windows. A member is known when it has said FEW values: these are kept as they are until
   then, and clipped about their median, so that a sensor's first word may be nonsense.
2. `level` is the mean of T2 over about SMOOTH windows, in units of the gate (GATE deviations), no window counting for
   more than CAP. A window is an outlier when its T2 or the level passes the threshold's limit: an event is one thing,
   also where single windows of it look normal.
3. What lasts is an event, and is not learnt; what comes and goes is how this group is, and is. So learning fades out as
   the level before a window rises from an eighth to a quarter of the way between what is usual (d) and the gate. It
   does not depend on the threshold. What is left out is paid from `credit`: `patience` windows at first, REFILL more
   with each window. When that is used up, everything is learnt: a change that lasts becomes the new normal.
4. A window further out than FAR is learnt as if it stood there: no single value can poison what was learnt.
5. Weights grow to `memory`, then older windows fade. Each feature has its own weight, so a member that seldom speaks
   keeps its mean and deviation; its correlations fade with the others' news. The covariance is a congruence plus a
   square, so it never loses its sign.
6. A group scores by itself after `warmup` windows, or ENOUGH for each member if that is more. Before that the model of
   the fleet scores it, if it has one for these features; after that, the model runs in the shadow.
7. One event, one alert: the next outlier is news after `hold` windows without one, or when the event has lasted longer
   than `patience`. The same, apart, for the model.

The constants were chosen on public sets, in the middle of what does well on both (`python -m tests.bench detectors`):
halving or doubling CAP, FAR, REFILL or the ridge moves F1 by less than 0.01 and the NAB score by less than 3; SMOOTH of
64 costs 0.04 of F1. `warmup` and `patience` matter most: 60 windows of warm-up cost 0.08 of F1 and 5 of the NAB score,
and a patience of 250 where events last 400 costs 0.18 of F1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.config import Score
from gateway.records import State
from gateway.score.groups import FEW
from gateway.score.model import NO_ENTRY, Model
from learning import gaussian, statistics
from learning.gaussian import Mask
from learning.statistics import Statistics, Vector

GATE = 3.0
SMOOTH = 24
CAP = 4.0
FAR = 9.0
REFILL = 0.01
ENOUGH = 4
DOUBT = 3.0
WIDE = 3 * 1.4826
"""Three deviations, in median absolute ones."""
LONG = 1 << 40
"""Windows since something that never was."""

BEFORE_ALL = -(1 << 62)

Rows = NDArray[np.int64]


class Known(NamedTuple):
    """What k groups know: weight and mean of each feature, shape (k, d), and covariance, (k, d, d)."""

    weight: Vector
    mean: Vector
    covariance: Vector


class Judged(NamedTuple):
    """What is thought of one window of k groups; arrays of shape (k,), `parts` of (k, d)."""

    ready: Mask  # scored by what was learnt here
    judged: Mask  # scored at all: by that, or by the model
    score: Vector  # in deviations
    over: Mask
    told: Mask  # an alert is due
    parts: Vector  # what each member adds to T2
    shadow: int  # alerts that the model would have raised where it does not score
    grown: Mask  # has just ended its warm-up


class Learner:
    """See the rules above."""

    def __init__(self, features: int, score: Score) -> None:
        self.features = features
        self.model = Model(features)
        self._free: list[int] = []
        self._made = 0
        self._state = {name: np.empty((0, *shape), dtype) for name, (dtype, shape, _) in self._fields(score).items()}
        self.known = np.empty(0, np.int64)  # of each row: its entry in the model
        self.configure(score)

    def configure(self, score: Score) -> None:
        """Take other settings; what was learnt stays."""
        self._score = score
        counts = range(1, self.features + 1)
        self._gates = np.array([1.0, *(gaussian.limit(GATE, count) for count in counts)])
        self._limits = np.array([1.0, *(gaussian.limit(score.threshold, count) for count in counts)])
        self.needed = max(score.warmup, ENOUGH * self.features)

    def _fields(self, score: Score) -> dict[str, tuple[type[np.generic], tuple[int, ...], float]]:
        """Give dtype, shape and first value of all that is known of a group."""
        d = self.features
        return {
            "last": (np.int64, (), BEFORE_ALL),  # start of the last window judged
            "seen": (np.int64, (), 0),
            "young": (np.float64, (FEW, d), 0),  # the first values, until there are FEW
            "weight": (np.float64, (d,), 0),
            "mean": (np.float64, (d,), 0),
            "covariance": (np.float64, (d, d), 0),
            "level": (np.float64, (), d / gaussian.limit(GATE, d)),
            "credit": (np.float64, (), score.patience),
            "quiet": (np.int64, (), LONG),  # windows since the last outlier
            "alerted": (np.int64, (), LONG),  # windows since the last alert
            "model_quiet": (np.int64, (), LONG),
            "model_alerted": (np.int64, (), LONG),
        }

    # Rows.

    def add(self, features: tuple[str, ...]) -> int:
        """Give a row to a group that knows nothing yet."""
        row = self._free.pop() if self._free else self._made
        self._made = max(self._made, row + 1)
        if row >= len(self.known):
            self._grow(max(2 * len(self.known), row + 1, 8))
        for name, (_, _, value) in self._fields(self._score).items():
            self._state[name][row] = value
        self.known[row] = self.model.entry(features)
        return row

    def _grow(self, rows: int) -> None:
        more = rows - len(self.known)
        for name, array in self._state.items():
            self._state[name] = np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])
        self.known = np.concatenate([self.known, np.full(more, NO_ENTRY)])

    def drop(self, row: int) -> None:
        """Take a row back."""
        self._free.append(row)

    def take(self, rows: Sequence[int]) -> State:
        """Give all that is known of groups, in the order asked for."""
        return {name: array[np.array(rows, np.int64)] for name, array in self._state.items()}

    def put(self, rows: Sequence[int], state: State) -> None:
        """Let groups know what `take` gave."""
        for name, array in self._state.items():
            array[np.array(rows, np.int64)] = state[name]

    def last(self, rows: Rows) -> NDArray[np.int64]:
        """Give the start (ns) of the last window that was judged of each group."""
        last: NDArray[np.int64] = self._state["last"][rows]
        return last

    def warming(self, rows: Rows) -> NDArray[np.int64]:
        """Give the windows seen by those groups that do not score by themselves yet."""
        seen = self._state["seen"][rows]
        left: NDArray[np.int64] = seen[seen < self.needed]
        return left

    # One window of each of some groups.

    def judge(self, rows: Rows, start: int, x: Vector, there: Mask) -> Judged:
        """Judge, then learn; x is (k, d), finite where `there`. Rows are different groups."""
        state = self._state
        state["last"][rows] = start
        learnt = Known(*(state[name][rows] for name in ("weight", "mean", "covariance")))
        ready = state["seen"][rows] >= self.needed
        known = there & (learnt.weight >= FEW)
        about = np.where(known, x - learnt.mean, 0.0)
        square, parts = self._distances(learnt, about, known)
        count = known.sum(axis=1)
        ratio = square / self._gates[count]
        before = state["level"][rows]
        level = before + np.where(ready, (np.minimum(ratio, CAP) - before) / SMOOTH, 0.0)
        state["level"][rows] = level
        gain = self._gain(rows, ready, before, count)
        about *= np.sqrt(FAR / np.maximum(ratio, FAR))[:, None]
        self._learn(rows, learnt, about, known * gain[:, None])
        if (young := there & ~known).any():
            self._begin(rows, x, young)
        state["seen"][rows] += 1
        worst = np.maximum(ratio, level) * self._gates[count] / self._limits[count]
        own = np.where(count > 0, self._score.threshold * np.sqrt(worst), 0.0)
        grown = ~ready & (state["seen"][rows] >= self.needed)
        return self._verdict(rows, x, there, Judged(ready, ready, own, ready, ready, parts, 0, grown))

    def _distances(self, learnt: Known, about: Vector, known: Mask) -> tuple[Vector, Vector]:
        """Give T2 and its parts; `about` is bounded by what T2 can tell."""
        weight, mean, covariance = learnt
        diagonal = np.arange(self.features)
        deviation = gaussian.deviations(mean, covariance[:, diagonal, diagonal])
        widened = deviation * np.sqrt(1.0 + DOUBT * self.features / np.maximum(weight, 1.0))
        furthest = gaussian.FURTHEST * widened
        np.clip(about, -furthest, furthest, out=about)
        correlation = gaussian.correlations(covariance, deviation) if self.features > 1 else covariance
        return gaussian.distances(about / widened, correlation, known)

    def _gain(self, rows: Rows, ready: Mask, level: Vector, count: NDArray[np.int64]) -> Vector:
        """Give how much of each window is learnt, 0 to 1, and pay for the rest."""
        usual = count / self._gates[count]
        width = (1.0 - usual) / 8.0
        left_out = np.where(ready, np.clip((level - usual - width) / width, 0.0, 1.0), 0.0)
        credit = self._state["credit"][rows]
        left_out = np.where(credit >= left_out, left_out, 0.0)
        self._state["credit"][rows] = np.minimum(credit - left_out + REFILL, self._score.patience)
        return 1.0 - left_out

    def _learn(self, rows: Rows, learnt: Known, about: Vector, gain: Vector) -> None:
        weight, mean, covariance = learnt
        share = gain / np.maximum(weight + gain, gaussian.TINY)
        keep = np.sqrt(1.0 - share)
        moved = about * np.sqrt(share) * keep
        covariance *= keep[:, :, None] * keep[:, None, :]
        covariance += moved[:, :, None] * moved[:, None, :]
        self._state["covariance"][rows] = covariance
        self._state["mean"][rows] = mean + about * share
        self._state["weight"][rows] = np.minimum(weight + gain, self._score.memory)

    def _begin(self, rows: Rows, x: Vector, young: Mask) -> None:
        """Keep first values; what has FEW of them is known from here on."""
        state = self._state
        row, member = young.nonzero()
        place = state["weight"][rows[row], member].astype(np.int64)
        state["young"][rows[row], place, member] = x[row, member]
        state["weight"][rows[row], member] = place + 1.0
        ripe = np.zeros(young.shape, bool)
        ripe[row, member] = place + 1 == FEW
        for at in np.flatnonzero(ripe.any(axis=1)).tolist():
            self._ripen(int(rows[at]), ripe[at])

    def _ripen(self, row: int, ripe: Mask) -> None:
        """Make a mean and a covariance of a group's first values of these members."""
        values = self._state["young"][row][:, ripe]
        middle = np.median(values, axis=0)
        reach = WIDE * np.median(np.abs(values - middle), axis=0)
        first = statistics.of(np.clip(values, middle - reach, middle + reach))
        self._state["mean"][row][ripe] = first.mean
        self._state["covariance"][row][np.ix_(ripe, ripe)] = first.scatter / FEW
        self._state["young"][row][:, ripe] = 0.0

    def _verdict(self, rows: Rows, x: Vector, there: Mask, own: Judged) -> Judged:
        over = own.ready & (own.score > self._score.threshold)
        told = self._tell("", rows, own.ready, over)
        known = self.known[rows]
        fits = known != NO_ENTRY
        if not fits.any():
            return own._replace(over=over, told=told)
        square, parts = self.model.distances(known, x, there)
        by_model = np.where(fits, self._score.threshold * np.sqrt(square / self._limits[there.sum(axis=1)]), 0.0)
        beyond = fits & (by_model > self._score.threshold)
        raised = self._tell("model_", rows, fits, beyond)
        return own._replace(
            judged=own.ready | fits,
            score=np.where(own.ready, own.score, by_model),
            over=np.where(own.ready, over, beyond),
            told=np.where(own.ready, told, raised),
            parts=np.where(own.ready[:, None], own.parts, parts),
            shadow=int(np.count_nonzero(raised & own.ready)),
        )

    def _tell(self, whose: str, rows: Rows, judged: Mask, over: Mask) -> Mask:
        """Say which outliers are news."""
        quiet, alerted = (self._state[f"{whose}{name}"] for name in ("quiet", "alerted"))
        quiet[rows] += judged
        alerted[rows] += judged
        lasting = max(self._score.hold, self._score.patience)
        told: Mask = over & ((quiet[rows] > self._score.hold) | (alerted[rows] > lasting))
        quiet[rows[over]] = 0
        alerted[rows[told]] = 0
        return told

    def statistics(self, rows: Rows) -> Statistics:
        """Give what groups have learnt, together: those that have ended their warm-up."""
        state: dict[str, NDArray[Any]] = self._state
        rows = rows[state["seen"][rows] >= self.needed]
        weight = np.round(state["weight"][rows].mean(axis=1))
        total = float(weight.sum())
        mean = (state["mean"][rows] * weight[:, None]).sum(axis=0) / max(total, 1.0)
        about = state["mean"][rows] - mean
        scatter = (state["covariance"][rows] + about[:, :, None] * about[:, None, :]) * weight[:, None, None]
        return Statistics(total, mean, scatter.sum(axis=0))

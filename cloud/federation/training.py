"""One training: rounds of asking gateways to learn, and of merging what they learnt; then a verdict. Pure.

    rest ──begin──▶ survey ──▶ round 1 ──▶ ... ──▶ round n ──▶ trial ──▶ rest
                                                                └─ promoted, or not

Rules:

1. Answers are counted once, by (job, gateway): jobs are called `{training}.{run}.{round}`. One that came already, that
   belongs to another run, or that nobody asked for, changes nothing.
2. A stage ends when `goal` gateways have answered with something, or when all who were asked have answered and they
   are at least `fewest`, or at its deadline with at least one. Whoever comes while it goes on is asked too. At a
   deadline with none it begins again: it never waits for ever. Whoever was silent then is asked on, and not waited for
   until it answers.
3. A late answer counts in the round that is under way, the less the older its base is, up to `staleness` rounds; beyond
   it is refused. Whoever still works on an older round is not asked again before that.
4. What a round says of its base, before learning, is the score of a candidate. After the last round a trial (no
   learning) scores what that one made. The best one that the gate lets through is promoted, and only that. What a
   round makes does not depend on the order in which answers came.
5. A candidate from elsewhere is tried in a run of its own, which is a trial and nothing else. One that the gate held
   back may be promoted by hand, until the next run begins.
6. With `privacy` a round is merged with noise and charged, and one that the budget does not cover is not begun
   (`private`); then the run ends early, as BUDGET, with the trial of what there is.
7. Everything is in `snapshot`; after a restart it goes on from there, and asks again what it had asked.

| may fill | bound | answer when full |
|---|---|---|
| gateways asked | MAX_ASKED | the first by name are asked |
| candidates kept | 1, the best so far | a worse one is forgotten |
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.random import Generator, default_rng

from cloud.config.training import Training as Settings
from cloud.federation import gate, private
from cloud.federation.gate import Score
from cloud.federation.private import BUDGET
from cloud.federation.state import (
    MAX_ASKED,
    NEVER,
    REST,
    ROUND,
    SURVEY,
    TRIAL,
    Ask,
    Ended,
    Instruction,
    Promote,
    Rest,
    State,
    TakeBack,
)
from learning import aggregation, classifier, scorer, server, spread
from learning.aggregation import Admitted, Limits, Offer
from learning.classifier import Classifier
from learning.parameters import Flat
from learning.server import Memory, Step
from learning.spread import Spread
from learning.statistics import MAX_COUNT
from protocol.columns import decode_state
from protocol.errors import FrameRefused, ModelRefused, TaskRefused
from protocol.messages import PartBody
from protocol.tasks import MAX_TASK, Task
from protocol.training import VERSION, Given, Survey, Surveyed, Train, Trained, read, read_trained

MAX_GIVEN = MAX_TASK - (16 << 10)
"""Bytes of models in one task; if both do not fit, or what is in force was made of another dataset, the gate judges
without it."""

TOO_LONG = ("outlier", "norm")


class Training:
    """See the rules above."""

    def __init__(self, settings: Settings, state: State | None = None, rng: Generator | None = None) -> None:
        self.settings = settings
        self.state = state or State()
        self._rng = rng

    def snapshot(self) -> bytes:
        """Give all that lasts."""
        return msgspec.msgpack.encode(self.state)

    @classmethod
    def restore(cls, settings: Settings, snapshot: bytes, rng: Generator | None = None) -> Training:
        """Go on from a snapshot; TaskRefused("params") if it is none."""
        return cls(settings, read(snapshot, State), rng)

    @property
    def job(self) -> str:
        """What the stage under way is called."""
        return f"{self.settings.name}.{self.state.run}.{self.state.round}"

    def begin(self, members: Iterable[str], now: int) -> list[Instruction]:
        """Begin a run, if none is under way, somebody is there, and the budget covers a round."""
        chosen = self.settings.chosen(members)
        if self.state.stage != REST or len(chosen) < self.settings.quorum:
            return []
        if not private.covers(self.settings, self.state.ledger):
            return []
        self._begin_run()
        return self._ask(SURVEY, chosen, now)

    def consider(self, content: bytes, members: Iterable[str], now: int) -> list[Instruction]:
        """Begin a run that only tries this candidate, as `begin` does; ModelRefused if it cannot be tried."""
        self.check(content)
        chosen = self.settings.chosen(members)
        if self.state.stage != REST or len(chosen) < self.settings.quorum:
            return []
        self._begin_run()
        self.state.base = content
        return self._ask(TRIAL, chosen, now)

    def check(self, content: bytes) -> None:
        """ModelRefused if a candidate cannot be tried."""
        found = scorer.decode(content).dataset
        if found != self.settings.dataset:
            raise ModelRefused("dataset", f"made of {found}, not of {self.settings.dataset}")
        if len(content) >= MAX_GIVEN:
            raise ModelRefused("size", f"{len(content)} bytes, less than {MAX_GIVEN} fit a task")

    def promote(self) -> list[Instruction]:
        """Promote what the last run made, whatever the gate said; nothing if a run goes on, or it made nothing."""
        state = self.state
        if state.stage != REST or not state.candidate or state.verdict is None:
            return []
        state.active = state.candidate
        return [Promote(self.settings.name, state.candidate, state.verdict, sum(state.windows))]

    def _begin_run(self) -> None:
        state = self.state
        state.run, state.round, state.best, state.candidate, state.verdict = state.run + 1, 0, b"", b"", None
        state.spreads, state.windows, state.seen, state.offers, state.ended = [], [], {}, [], ""

    def again(self) -> list[Instruction]:
        """Ask again what was asked: after a restart, since a broker may have forgotten."""
        if self.state.stage == REST:
            return []
        return [self._task(gateway) for gateway, job in self.state.asked.items() if job == self.job]

    def join(self, members: Iterable[str]) -> list[Instruction]:
        """Ask those who have come while a stage goes on."""
        state = self.state
        if state.stage == REST:
            return []
        chosen = self.settings.chosen(members)
        new = [one for one in chosen if one not in state.asked and one not in state.answered]
        free = new[: MAX_ASKED - len(state.asked)]
        state.asked |= dict.fromkeys(free, self.job)
        return [self._task(gateway) for gateway in free]

    def due(self) -> int:
        """When (ns) the stage must end."""
        return self.state.deadline if self.state.stage != REST else NEVER

    def tick(self, members: Iterable[str], now: int) -> list[Instruction]:
        """Let time pass: at a deadline a stage ends with what there is, or begins again."""
        if self.due() > now:
            return []
        self.state.silent = sorted(self.state.asked)
        if self._useful():
            return self._end(members, now)
        told: list[Instruction] = [self._told(now)]
        back = [TakeBack(gateway, job) for gateway, job in self.state.asked.items()]
        self.state.asked = {}
        return [*told, *back, *self._ask(self.state.stage, self.settings.chosen(members), now)]

    def part(self, gateway: str, body: PartBody, members: Iterable[str], now: int) -> list[Instruction]:
        """Take an answer."""
        state = self.state
        number, asked = self._round_of(body.job), state.asked.get(gateway)
        is_asked = body.job == asked
        if number is None or asked is None or (body.job == state.seen.get(gateway) and not is_asked):
            return [TakeBack(gateway, body.job)]
        state.seen[gateway] = body.job
        if is_asked:
            del state.asked[gateway]
        if gateway in state.silent:
            state.silent.remove(gateway)
        state.bytes_up += len(body.content)
        stale = state.round - number
        reason = body.reason or "failed"
        if body.outcome == "done":  # what is asked now holds what was taken back: never both
            reason = self._take(gateway, body, stale) if is_asked else "stale"
        if stale and not reason:
            state.late.append(gateway)
        state.answered[gateway] = reason
        state.refused.pop(gateway, None)
        if reason and body.outcome == "done":
            state.refused[gateway] = reason
        back: list[Instruction] = [TakeBack(gateway, body.job)]
        return [*back, *self._end(members, now)] if self._complete() else back

    def _round_of(self, job: str) -> int | None:
        """Give the round of a job of the run that is under way."""
        begins, _, number = job.rpartition(".")
        state = self.state
        if state.stage == REST or begins != f"{self.settings.name}.{state.run}" or not number.isdecimal():
            return None
        return int(number) if int(number) <= state.round else None

    def _take(self, gateway: str, body: PartBody, stale: int) -> str:
        """Keep what an answer says; say why not."""
        state = self.state
        if stale > (self.settings.staleness if state.stage == ROUND else 0):
            return "stale"
        try:
            if state.stage == SURVEY:
                return self._take_survey(read(body.content, Surveyed))
            trained = read_trained(body.content)
        except (TaskRefused, ModelRefused, FrameRefused) as refused:
            return refused.reason
        if not _is_sound(trained):
            return "scores"
        if not stale:
            state.scores[gateway] = _score(trained)
        if state.stage == ROUND:
            state.offers.append((gateway, trained.windows, trained.payload, stale))
        state.counted[gateway] = body.job
        return ""

    def _take_survey(self, found: Surveyed) -> str:
        own = spread.unpack(decode_state(found.spread))
        if len(own.mean) != len(classifier.names_of(self.settings.dataset)):
            return "features"
        if len(found.windows) != self.settings.classes or not all(0 <= one < MAX_COUNT for one in found.windows):
            return "classes"
        self.state.spreads.append(found.spread)
        before = self.state.windows or [0] * self.settings.classes
        self.state.windows = [one + other for one, other in zip(before, found.windows, strict=True)]
        return ""

    def _useful(self) -> int:
        return sum(not reason for reason in self.state.answered.values())

    def _complete(self) -> bool:
        useful, waiting = self._useful(), self.state.asked.keys() - self.state.silent
        goal = self.settings.goal if self.state.stage == ROUND else 0
        all_there = not waiting and len(self.state.answered) >= self.settings.fewest
        return bool(useful) and (all_there or (goal > 0 and useful >= goal))

    def _end(self, members: Iterable[str], now: int) -> list[Instruction]:
        state = self.state
        told = self._told(now)
        match state.stage:
            case "survey":
                refused = self._begin_model()
            case "round":
                self._weigh()
                refused = self._merge()
            case _:
                self._weigh()
                return [told, *self._close()]
        told = told._replace(refused=told.refused | refused)
        chosen = self.settings.chosen(members)
        last = state.round >= self.settings.rounds
        state.round += 1
        if not last and not private.covers(self.settings, state.ledger):
            last, state.ended = True, BUDGET
        back = self._forget_the_slow()
        return [told, *back, *self._ask(TRIAL if last else ROUND, chosen, now)]

    def _told(self, now: int) -> Ended:
        state = self.state
        verdict = gate.judge(state.scores, gate.Terms())
        return Ended(
            self.settings.name,
            state.run,
            state.round,
            state.stage,
            tuple(gateway for gateway, reason in state.answered.items() if not reason),
            tuple(state.late),
            {gateway: reason for gateway, reason in state.answered.items() if reason},
            verdict.candidate if verdict.gateways else None,
            state.bytes_up,
            (now - state.began) / 1e9,
            now,
        )

    def _begin_model(self) -> dict[str, str]:
        state, dataset = self.state, self.settings.dataset
        size = len(classifier.names_of(dataset))
        merged: Spread = spread.merge_all((spread.unpack(decode_state(one)) for one in sorted(state.spreads)), size)
        rng = default_rng(self.settings.seed)
        begun = classifier.begin(dataset, self.settings.learning, merged, rng)
        if state.active and _same(self.settings, state.active):
            begun = classifier.decode(state.active)
        state.base, state.spreads = classifier.encode(begun), []
        empty = server.nothing(len(begun.vector))
        state.memory = (empty.direction.tobytes(), empty.square.tobytes())
        return {}

    def _weigh(self) -> None:
        """Note what the stage's base is worth, and keep it if it is the best that may be promoted."""
        state = self.state
        settings = self.settings
        terms = gate.Terms(settings.margin, settings.worse_share, settings.worse_by, settings.quorum)
        verdict = gate.judge(state.scores, terms)
        better = state.verdict is None or not state.verdict.promoted or verdict.candidate > state.verdict.candidate
        if verdict.promoted and better:
            state.best, state.candidate, state.verdict = state.base, state.base, verdict
        elif state.verdict is None or not state.verdict.promoted:
            state.candidate, state.verdict = state.base, verdict

    def _merge(self) -> dict[str, str]:
        """Make the next base of the updates; give whose were refused, and why."""
        state, settings = self.state, self.settings
        base = classifier.decode(state.base)
        offers = [Offer(*offer) for offer in sorted(state.offers)]
        if settings.privacy is not None:
            offers = private.once_each(offers)
        admitted, refused = aggregation.admit(offers, len(base.vector), self._limits)
        state.offers = []
        for one in refused:
            state.refused[one.gateway] = f"{one.reason}: {one.detail}"
            if one.reason not in TOO_LONG:  # what is owed in full makes the next one longer still
                state.counted.pop(one.gateway, None)
        combined = self._combined(admitted) if admitted.gateways else None
        if combined is not None:
            direction, square = (np.frombuffer(part, np.float32) for part in state.memory)
            vector, memory = server.step(
                Step("sgd", settings.server_rate, settings.momentum), base.vector, combined, Memory(direction, square)
            )
            state.base = classifier.encode(base.with_vector(vector))
            state.memory = (memory.direction.tobytes(), memory.square.tobytes())
        return {one.gateway: one.reason for one in refused}

    @property
    def _limits(self) -> Limits:
        """What an update may be; with privacy one gateway must not decide whether another one counts."""
        settings = self.settings
        outlier = settings.outlier if settings.privacy is None else math.inf
        return Limits(stale=settings.staleness, outlier=outlier)

    def _combined(self, admitted: Admitted) -> Flat | None:
        """Give what updates come to; None if that would cost more than there is."""
        state, settings = self.state, self.settings
        if settings.privacy is None:
            clipped = aggregation.clip(admitted)
            combined = aggregation.combine(settings.rule, clipped, trim=settings.trim)
            return server.stretched(combined, clipped.norms, clipped.weights, settings.stretch)
        released, state.ledger = private.release(settings, admitted, state.ledger, self._rng)
        return released

    def _close(self) -> list[Instruction]:
        state = self.state
        assert state.verdict is not None
        back = [TakeBack(gateway, job) for gateway, job in state.asked.items()]
        ended: list[Instruction] = [*back, Rest(self.settings.name, state.run, state.verdict, state.ended)]
        if state.verdict.promoted:
            state.active = state.best
            ended.append(Promote(self.settings.name, state.best, state.verdict, sum(state.windows)))
        state.stage, state.asked, state.base, state.best = REST, {}, b"", b""
        return ended

    def _forget_the_slow(self) -> list[Instruction]:
        """Take back what would be too stale if it came."""
        state, oldest = self.state, self.state.round - self.settings.staleness
        slow = {gateway: job for gateway, job in state.asked.items() if int(job.rpartition(".")[2]) < oldest}
        for gateway in slow:
            del state.asked[gateway]
        return [TakeBack(gateway, job) for gateway, job in slow.items()]

    def _ask(self, stage: str, chosen: list[str], now: int) -> list[Instruction]:
        state = self.state
        state.stage, state.began = stage, now
        state.deadline = now + int(self.settings.deadline)
        state.answered, state.scores, state.bytes_up, state.late = {}, {}, 0, []
        free = [gateway for gateway in chosen[:MAX_ASKED] if gateway not in state.asked]
        state.asked |= dict.fromkeys(free, self.job)
        return [self._task(gateway) for gateway in free]

    def _task(self, gateway: str) -> Ask:
        state, settings = self.state, self.settings
        name, params, content = "survey", msgspec.msgpack.encode(Survey(settings.dataset)), b""
        if state.stage != SURVEY:
            how = (state.stage != TRIAL, settings.codec, settings.holdout, settings.seed)
            told = (state.counted.get(gateway, ""), state.refused.get(gateway, ""))
            train = Train(settings.name, state.round, *how, *told)
            name, params = "train", msgspec.msgpack.encode(train)
            fits = len(state.base) + len(state.active) < MAX_GIVEN and _is_comparable(settings, state.active)
            content = msgspec.msgpack.encode(Given(state.base, state.active if fits else b""))
        attempt = 1 + (state.began // 10**9) % (1 << 30)
        named, when = (self.job, attempt, gateway, name, VERSION), (state.began, state.deadline)
        return Ask(Task(*named, params, content, *when, settings.name, lean=True))


def _score(trained: Trained) -> Score:
    said = trained.scores
    base, local, personal = (said.get(name, 0.0) for name in ("base", "local", "personal"))
    return Score(trained.held_out, base, said.get("active"), local, personal)


def _is_sound(trained: Trained) -> bool:
    """Whether an answer's numbers can be; what is behind them is only its word."""
    shares = (0.0 <= score <= 1.0 for score in trained.scores.values())  # what is no number is not
    return all(shares) and 0 <= trained.held_out < MAX_COUNT and 0 <= trained.windows < MAX_COUNT


def _is_comparable(settings: Settings, content: bytes) -> bool:
    """Whether what is in force is made of the same readings as a candidate: it may be of another configuration."""
    return bool(content) and scorer.decode(content).dataset == settings.dataset


def _same(settings: Settings, content: bytes) -> bool:
    """Whether a classifier was made by the same training as is set now."""
    made = scorer.decode(content)
    return isinstance(made, Classifier) and (made.dataset, made.learning) == (settings.dataset, settings.learning)

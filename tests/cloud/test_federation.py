"""A training over a fleet, both ends joined in memory: rounds end, nothing counts twice, the better takes over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud.config.training import Training as Settings
from cloud.federation import Ask, Ended, Federation, Instruction, Promote, Rest, Score, TakeBack, Terms, Training, judge
from gateway.tasks import Answer, Computation
from gateway.trainer import SurveyTask, TrainTask
from gateway.trainer.dataset import gather
from learning import classifier, spread, updates
from protocol.errors import ModelRefused, TaskRefused
from protocol.messages import Cover, PartBody
from protocol.settings import Duration
from protocol.tasks import Task
from protocol.training import Surveyed, Train, Trained, read, read_trained
from tests.gateway.test_trainer import Held, device

S = 10**9
SETTINGS = Settings(
    name="state",
    channels=("x", "y"),
    label="state",
    classes=3,
    samples=16,
    hop=8,
    rounds=3,
    deadline=Duration(60 * S),
    staleness=1,
)
FLEET = [f"barn-{number}" for number in range(5)]

Bend = Callable[[Trained], Trained]


class Fleet:
    """Gateways with a journal of their own, and a cloud that may be restarted between any two events."""

    def __init__(
        self, settings: Settings = SETTINGS, gateways: Iterable[str] = FLEET, rng: np.random.Generator | None = None
    ) -> None:
        self.members = list(gateways)
        self.rng = rng
        self.training = Training(settings, rng=rng)
        self.pasts = {name: Held(device([0, 1, 2] * 6, seed=number)) for number, name in enumerate(self.members)}
        self.runs: dict[str, dict[str, Computation]] = {
            name: {"survey": SurveyTask(), "train": TrainTask()} for name in self.members
        }
        self.tasks: dict[str, Task] = {}  # what each gateway has been asked
        self.kept: dict[str, bytes] = {}
        self.bent: dict[str, Bend] = {}
        self.now = 0
        self.ended: list[Ended] = []
        self.promoted: list[Promote] = []
        self.rested: list[Rest] = []

    def begin(self) -> None:
        self.do(self.training.begin(self.members, self.now))

    def do(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Ask(task):
                    self.tasks[task.gateway] = task
                case TakeBack(gateway, job):
                    if gateway in self.tasks and self.tasks[gateway].job == job:
                        del self.tasks[gateway]
                case Ended():
                    self.ended.append(instruction)
                case Promote():
                    self.promoted.append(instruction)
                case Rest():
                    self.rested.append(instruction)

    def restart(self) -> None:
        """Let the cloud go on from what it kept."""
        self.training = Training.restore(self.training.settings, self.training.snapshot(), self.rng)
        self.do(self.training.again())

    def answer(self, gateway: str) -> PartBody:
        task = self.tasks[gateway]
        about = (Cover(), task.job, task.attempt, task.name, task.version)
        try:
            found: Answer = self.runs[gateway][task.name](task, self.pasts[gateway], self.kept.get(gateway, b""))
        except TaskRefused as refused:
            return PartBody(*about, "refused", refused.reason)
        self.kept[gateway] = found.keep
        content = found.content
        if task.name == "train" and gateway in self.bent:
            trained = read_trained(content)
            content = msgspec.msgpack.encode(self.bent[gateway](trained) if trained.payload else trained)
        return PartBody(*about, "done", "", content)

    def give(self, gateway: str, body: PartBody | None = None) -> None:
        self.do(self.training.part(gateway, body or self.answer(gateway), self.members, self.now))

    def run(self, *, without: Iterable[str] = (), most: int = 100) -> None:
        """Let all who are asked answer in turn, until the run has ended."""
        for _ in range(most):
            waiting = [name for name in sorted(self.tasks) if name not in without]
            if self.rested or not waiting:
                return
            self.now += S
            self.give(waiting[0])

    def right(self, content: bytes) -> float:
        """Give the share of right answers of a model over everybody's windows."""
        model, found = classifier.decode(content), []
        for past in self.pasts.values():
            [own] = gather(SETTINGS.dataset, past)[0].values()
            found.append(model.accuracy(own.x, own.y))
        return float(np.mean(found))


def test_a_fleet_learns_in_rounds_and_what_it_learnt_is_promoted() -> None:
    fleet = Fleet()
    fleet.begin()
    fleet.run()
    assert [(ended.stage, ended.round, len(ended.answered)) for ended in fleet.ended] == [
        *[("survey", 0, 5), ("round", 1, 5), ("round", 2, 5), ("round", 3, 5), ("trial", 4, 5)]
    ]
    [promoted] = fleet.promoted
    assert (promoted.training, promoted.verdict.promoted, promoted.verdict.gateways) == ("state", True, 5)
    assert fleet.right(promoted.content) > 0.9
    assert fleet.tasks == {}
    scores = [ended.score for ended in fleet.ended[1:]]
    assert scores[0] is not None
    assert scores[-1] is not None
    assert scores[-1] > scores[0] + 0.3


def test_a_cloud_that_restarts_between_any_two_events_ends_with_the_same_model() -> None:
    straight, restarted = Fleet(), Fleet()
    for fleet in (straight, restarted):
        fleet.begin()
    while not straight.rested:
        straight.run(most=1)
        restarted.restart()
        restarted.run(most=1)
    assert restarted.promoted == straight.promoted
    assert restarted.ended == straight.ended


def test_an_answer_that_comes_twice_counts_once() -> None:
    plain, fleet = Fleet(), Fleet()
    for one in (plain, fleet):
        one.begin()
    plain.run()
    while not fleet.rested:
        name = min(fleet.tasks)
        body = fleet.answer(name)
        fleet.now += S
        fleet.give(name, body)
        fleet.give(name, body)
        fleet.give(name, body)
    assert fleet.promoted == plain.promoted


def test_a_round_does_not_wait_for_ever_for_one_that_is_silent() -> None:
    fleet = Fleet()
    fleet.begin()
    fleet.run(without=[FLEET[0]])
    assert fleet.training.due() == 60 * S
    assert fleet.training.tick(fleet.members, 59 * S) == []
    fleet.now = 60 * S
    fleet.do(fleet.training.tick(fleet.members, fleet.now))
    assert fleet.ended[-1].stage == "survey"
    assert set(fleet.ended[-1].answered) == set(FLEET[1:])


def test_a_stage_that_nobody_answers_begins_again() -> None:
    fleet = Fleet()
    fleet.begin()
    first = dict(fleet.tasks)
    fleet.now = 60 * S
    fleet.do(fleet.training.tick(fleet.members, fleet.now))
    assert set(fleet.tasks) == set(FLEET)
    assert all(task.attempt > first[name].attempt for name, task in fleet.tasks.items())
    fleet.run()
    assert len(fleet.promoted) == 1


def test_whoever_had_nothing_to_learn_from_is_asked_again_at_the_deadline_and_counts_then() -> None:
    fleet = Fleet()
    pasts, fleet.pasts = fleet.pasts, {name: Held([]) for name in FLEET}
    fleet.begin()
    fleet.run()
    assert set(fleet.training.state.answered.values()) == {"few"}
    fleet.pasts, fleet.now = pasts, 60 * S
    fleet.do(fleet.training.tick(fleet.members, fleet.now))
    fleet.run()
    assert len(fleet.promoted) == 1


def test_what_was_taken_back_does_not_count_beside_the_answer_that_holds_it() -> None:
    fleet = Fleet(msgspec.structs.replace(SETTINGS, goal=3, fewest=2, codec="topk"))
    fleet.begin()
    for name in FLEET:
        fleet.give(name)
    late = fleet.answer(FLEET[0])
    for name in FLEET[1:4]:
        fleet.give(name)
    fleet.now = 120 * S
    fleet.do(fleet.training.tick(fleet.members, fleet.now))  # all were silent: all are asked for round 2
    fleet.give(FLEET[0], late)
    fleet.give(FLEET[0])
    assert [(offer[0], offer[3]) for offer in fleet.training.state.offers] == [(FLEET[0], 0)]


def test_a_gateway_has_one_vote_in_a_round_and_none_where_it_was_not_asked() -> None:
    fleet = Fleet()
    fleet.begin()
    for name in FLEET:
        fleet.give(name)
    first = fleet.answer(FLEET[0])
    for name in FLEET:
        fleet.give(name)
    body = fleet.answer(FLEET[0])
    for again in (body, first, body, first):
        fleet.give(FLEET[0], again)
    fleet.give("nobody", body)
    assert [offer[0] for offer in fleet.training.state.offers] == [FLEET[0]]
    assert set(fleet.training.state.answered) == {FLEET[0]}


def test_an_answer_that_failed_without_a_reason_is_none() -> None:
    fleet = Fleet()
    fleet.begin()
    fleet.give(FLEET[0], msgspec.structs.replace(fleet.answer(FLEET[0]), outcome="", content=b""))
    assert fleet.training.state.answered == {FLEET[0]: "failed"}


def test_a_round_ends_with_its_goal_and_a_late_answer_counts_less_in_the_next() -> None:
    fleet = Fleet(msgspec.structs.replace(SETTINGS, goal=3))
    fleet.begin()
    for name in FLEET:
        fleet.give(name)
    late = fleet.answer(FLEET[0])
    for name in FLEET[1:4]:
        fleet.give(name)
    assert fleet.ended[-1].round == 1
    assert FLEET[0] in fleet.training.state.asked  # it still works on round 1
    fleet.give(FLEET[0], late)
    assert fleet.training.state.offers[0][3] == 1
    assert fleet.training.state.late == [FLEET[0]]


def test_an_answer_that_is_too_late_is_refused_and_taken_back() -> None:
    fleet = Fleet(msgspec.structs.replace(SETTINGS, goal=2, staleness=0))
    fleet.begin()
    for name in FLEET:
        fleet.give(name)
    late = fleet.answer(FLEET[0])
    fleet.give(FLEET[1])
    fleet.give(FLEET[2])
    assert fleet.tasks[FLEET[0]].job == "state.1.2"  # what it worked on was taken back
    fleet.give(FLEET[0], late)
    assert fleet.training.state.answered == {FLEET[0]: "stale"}


@pytest.mark.parametrize("rule", ["trimmed", "median"])
def test_one_of_five_that_lies_does_not_spoil_it(rule: Any) -> None:
    def scaled(trained: Trained) -> Trained:
        size = len(classifier.decode(msgspec.msgpack.decode(fleet.tasks[FLEET[0]].content)["base"]).vector)
        wrong = -5 * updates.decode(trained.payload, size)
        return msgspec.structs.replace(trained, payload=updates.encode("f32", wrong, np.random.default_rng(0)).payload)

    fleet = Fleet(msgspec.structs.replace(SETTINGS, rule=rule))
    fleet.bent[FLEET[0]] = scaled
    fleet.begin()
    fleet.run()
    honest = Fleet()
    honest.begin()
    honest.run()
    assert fleet.right(fleet.promoted[0].content) > honest.right(honest.promoted[0].content) - 0.06


@pytest.mark.parametrize(("times", "reason"), [(50, "outlier"), (1e6, "norm")])
def test_an_update_that_was_scaled_up_is_refused_by_name_and_its_gateway_is_told(times: float, reason: str) -> None:
    def scaled(trained: Trained) -> Trained:
        size = len(classifier.decode(msgspec.msgpack.decode(fleet.tasks[FLEET[0]].content)["base"]).vector)
        shouted = np.float32(times) * updates.decode(trained.payload, size)
        again = updates.encode("f32", shouted, np.random.default_rng(0)).payload
        return msgspec.structs.replace(trained, payload=again)

    fleet = Fleet()
    fleet.bent[FLEET[0]] = scaled
    fleet.begin()
    for name in [*FLEET, *FLEET]:
        fleet.give(name)
    assert fleet.ended[-1].refused == {FLEET[0]: reason}
    assert fleet.training.state.counted == dict.fromkeys(FLEET, "state.1.1")  # it is not owed again
    told = {name: read(task.params, Train).refused.partition(":")[0] for name, task in fleet.tasks.items()}
    assert told == dict.fromkeys(FLEET, "") | {FLEET[0]: reason}


BENT: dict[str, Bend] = {
    "an update that is none": lambda trained: msgspec.structs.replace(trained, payload=b"junk"),
    "an update of another model": lambda trained: msgspec.structs.replace(
        trained, payload=updates.encode("f32", np.zeros(7, np.float32), np.random.default_rng(0)).payload
    ),
    "windows of a thousand million": lambda trained: msgspec.structs.replace(trained, windows=-1),
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT.keys())
def test_an_update_that_cannot_be_used_is_refused_by_name_and_costs_only_itself(bend: Bend) -> None:
    fleet = Fleet()
    fleet.bent[FLEET[2]] = bend
    fleet.begin()
    fleet.run()
    rounds = [ended for ended in fleet.ended if ended.stage == "round"]
    assert all(set(ended.refused) == {FLEET[2]} for ended in rounds)
    assert len(fleet.promoted) == 1


def test_a_gateway_without_readings_says_so_and_the_others_go_on() -> None:
    fleet = Fleet()
    fleet.pasts[FLEET[4]] = Held([(0, 1, 1.0)])
    fleet.begin()
    fleet.run()
    assert fleet.ended[0].refused == {FLEET[4]: "few"}
    assert len(fleet.promoted) == 1


def test_a_second_run_begins_with_what_was_promoted_and_replaces_it_only_by_something_better() -> None:
    fleet = Fleet(msgspec.structs.replace(SETTINGS, margin=0.2))
    fleet.begin()
    fleet.run()
    fleet.rested.clear()
    fleet.begin()
    fleet.run()
    assert [rest.verdict.word for rest in fleet.rested] == ["below"]
    assert len(fleet.promoted) == 1
    assert fleet.training.state.active == fleet.promoted[0].content


def test_nothing_begins_while_a_run_goes_on_or_with_too_few() -> None:
    fleet = Fleet(msgspec.structs.replace(SETTINGS, goal=3))
    assert fleet.training.begin(FLEET[:2], 0) == []
    fleet.begin()
    assert fleet.training.begin(FLEET, 0) == []


def test_answers_of_another_run_or_to_nobody_change_nothing() -> None:
    fleet = Fleet()
    fleet.begin()
    body = fleet.answer(FLEET[0])
    before = fleet.training.snapshot()
    for job in ("state.9.0", "state.1.7", "state.1.x", "other.1.0", "state"):
        given = fleet.training.part(FLEET[0], msgspec.structs.replace(body, job=job), FLEET, 1)
        assert given == [TakeBack(FLEET[0], job)]
    assert fleet.training.snapshot() == before


def shares(**scores: float) -> Bend:
    return lambda trained: msgspec.structs.replace(trained, scores=trained.scores | scores)


SENSELESS: dict[str, Bend] = {
    "more than right": shares(base=1.5),
    "no number": shares(base=float("nan")),
    "less than nothing": lambda trained: msgspec.structs.replace(trained, held_out=-1),
}


@pytest.mark.parametrize("bend", SENSELESS.values(), ids=SENSELESS.keys())
def test_scores_that_cannot_be_are_refused_and_spoil_no_verdict(bend: Bend) -> None:
    fleet = Fleet()
    fleet.bent[FLEET[1]] = bend
    fleet.begin()
    fleet.run()
    rounds = [ended for ended in fleet.ended if ended.stage == "round"]
    assert all(ended.refused == {FLEET[1]: "scores"} for ended in rounds)
    assert fleet.rested[0].verdict.promoted


JUNK = {
    "spread": Surveyed((9, 9, 9), b"junk"),
    "windows": Surveyed((1 << 62, 1, 1), b""),
    "few classes": Surveyed((9,), b""),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_a_survey_that_is_none_is_refused_and_the_others_go_on(junk: Surveyed) -> None:
    fleet = Fleet()
    fleet.begin()
    good = msgspec.msgpack.decode(fleet.answer(FLEET[0]).content, type=Surveyed)
    content = msgspec.msgpack.encode(msgspec.structs.replace(junk, spread=junk.spread or good.spread))
    fleet.give(FLEET[0], msgspec.structs.replace(fleet.answer(FLEET[0]), content=content))
    fleet.run()
    assert FLEET[0] in fleet.ended[0].refused
    assert len(fleet.promoted) == 1


def test_what_is_made_does_not_depend_on_the_order_of_answers() -> None:
    one, other = Fleet(), Fleet()
    one.begin()
    one.run()
    other.begin()
    while not other.rested:
        other.give(max(other.tasks))
    assert other.promoted[0].content == one.promoted[0].content


def test_whoever_comes_while_a_stage_goes_on_is_asked_too_and_few_do_not_end_it() -> None:
    fleet = Fleet(msgspec.structs.replace(SETTINGS, fewest=2))
    fleet.begin()
    fleet.do(fleet.training.join([*FLEET, "barn-9"]))
    assert fleet.training.state.asked == dict.fromkeys([*FLEET, "barn-9"], "state.1.0")
    assert fleet.training.join([*FLEET, "barn-9"]) == []
    alone = Fleet(msgspec.structs.replace(SETTINGS, fewest=2), FLEET[:2])
    alone.begin()
    del alone.training.state.asked[FLEET[1]]  # as if it had been away
    alone.give(FLEET[0])
    assert alone.training.state.stage == "survey"
    alone.do(alone.training.join(FLEET[:2]))
    alone.run()
    assert len(alone.promoted) == 1


def pushed(fleet: Fleet, content: bytes) -> str:
    fleet.rested.clear()
    fleet.do(fleet.training.consider(content, fleet.members, fleet.now))
    fleet.run()
    return fleet.rested[0].verdict.word


def test_a_candidate_from_elsewhere_is_tried_and_only_a_better_one_takes_over() -> None:
    fleet = Fleet()
    fleet.begin()
    fleet.run()
    good = classifier.decode(fleet.promoted[0].content)
    rng = np.random.default_rng(3)
    for vector in (-good.vector, rng.normal(size=len(good.vector)).astype(np.float32), good.vector):
        assert pushed(fleet, classifier.encode(good.with_vector(vector))) in ("below", "worse")
    assert fleet.training.state.active == fleet.promoted[0].content
    fleet.training.state.active = classifier.encode(good.with_vector(-good.vector))
    assert pushed(fleet, classifier.encode(good)) == "promoted"
    assert [ended.stage for ended in fleet.ended[-4:]] == ["trial"] * 4


def test_a_candidate_made_of_something_else_is_refused_before_anybody_is_asked() -> None:
    fleet = Fleet()
    fleet.begin()
    fleet.run()
    good = classifier.decode(fleet.promoted[0].content)
    other = msgspec.structs.replace(good.dataset, samples=32)
    for content in (
        b"junk",
        classifier.encode(classifier.Classifier(other, good.learning, good.standardiser, good.net)),
    ):
        with pytest.raises(ModelRefused):
            fleet.training.consider(content, fleet.members, fleet.now)
    assert fleet.training.state.stage == "rest"


def test_what_the_gate_held_back_can_be_promoted_by_hand() -> None:
    fleet = Fleet()
    assert fleet.training.promote() == []
    fleet.begin()
    assert fleet.training.promote() == []
    fleet.run()
    good = classifier.decode(fleet.promoted[0].content)
    worse = classifier.encode(good.with_vector(-good.vector))
    assert pushed(fleet, worse) != "promoted"
    fleet.do(fleet.training.promote())
    assert fleet.promoted[-1].content == worse
    assert fleet.training.state.active == worse


def test_a_model_of_another_configuration_is_replaced_without_a_comparison() -> None:
    fleet = Fleet()
    good = classifier.begin(
        msgspec.structs.replace(SETTINGS.dataset, samples=32),
        SETTINGS.learning,
        spread.of(np.random.default_rng(1).normal(size=(50, 32))),
        np.random.default_rng(1),
    )
    fleet.training.state.active = classifier.encode(good)
    fleet.begin()
    fleet.run()
    assert (fleet.rested[0].verdict.word, fleet.rested[0].verdict.active) == ("promoted", None)


GOOD, BAD = Score(100, 0.9, 0.8), Score(100, 0.6, 0.8)

VERDICTS: dict[str, tuple[list[Score], Terms, str]] = {
    "nothing in force": ([Score(10, 0.1, None)], Terms(), "promoted"),
    "better everywhere": ([GOOD] * 5, Terms(), "promoted"),
    "no better": ([Score(100, 0.8, 0.8)] * 5, Terms(), "below"),
    "a little better": ([Score(100, 0.804, 0.8)] * 5, Terms(), "below"),
    "one of five worse": ([*[GOOD] * 4, Score(100, 0.7, 0.8)], Terms(), "promoted"),
    "two of five worse": ([*[GOOD] * 3, BAD, BAD], Terms(), "worse"),
    "too few say so": ([GOOD] * 2, Terms(quorum=3), "unproven"),
    "nobody says so": ([], Terms(), "unproven"),
    "of no windows": ([Score(0, 1.0, 0.0)], Terms(), "unproven"),
    "one that boasts": ([*[Score(100, 0.7, 0.8)] * 4, Score(10**9, 1.0, 0.0)], Terms(share=1.0), "promoted"),
    "one that boasts less": ([*[Score(100, 0.7, 0.8)] * 40, Score(10**9, 1.0, 0.8)], Terms(share=1.0), "below"),
}


@pytest.mark.parametrize(("scores", "terms", "word"), VERDICTS.values(), ids=VERDICTS.keys())
def test_the_gate_lets_through_what_is_better_and_hurts_few(scores: list[Score], terms: Terms, word: str) -> None:
    assert judge({str(number): score for number, score in enumerate(scores)}, terms).word == word


# All trainings.


def test_a_run_begins_when_enough_are_there_and_again_after_a_while() -> None:
    settings = msgspec.structs.replace(SETTINGS, goal=2, every=Duration(1000 * S))
    federation = Federation([settings])
    assert federation.tick(FLEET[:1], 0) == []
    assert (federation.due(), federation.tick(FLEET, 9 * S)) == (10 * S, [])
    asked = federation.tick(FLEET, 10 * S)
    assert [one.task.job for one in asked if isinstance(one, Ask)] == ["state.1.0"] * 5
    fleet = Fleet(settings)
    fleet.training = federation.trainings["state"]
    fleet.do(asked)
    while federation.last("state") is None:
        fleet.now += S
        name = min(fleet.tasks)
        fleet.do(federation.part(name, fleet.answer(name), FLEET, fleet.now))
    assert [ended.stage for ended in federation.history("state")] == ["survey", "round", "round", "round", "trial"]
    assert federation.due() == fleet.now + 1000 * S
    again = Federation([settings], federation.snapshot())
    assert (again.snapshot(), again.due()) == (federation.snapshot(), federation.due())
    assert [one.task.job for one in again.start("state", FLEET, fleet.now) if isinstance(one, Ask)] == ["state.2.0"] * 5


def test_an_answer_that_nobody_waits_for_is_taken_back() -> None:
    federation = Federation([SETTINGS])
    body = PartBody(Cover(), "other.1.0", 1, "train", 1, "done")
    assert federation.part("barn-0", body, FLEET, 0) == [TakeBack("barn-0", "other.1.0")]
    odd = msgspec.structs.replace(body, job="state")
    assert federation.part("barn-0", odd, FLEET, 0) == [TakeBack("barn-0", "state")]


def test_an_answer_to_a_job_is_none_of_a_trainings_business() -> None:
    federation = Federation([SETTINGS])
    job = PartBody(Cover(), "moments-7", 1, "moments", 1, "done")
    assert federation.part("barn-0", job, FLEET, 0) == []


def test_a_training_that_is_not_configured_any_more_is_forgotten() -> None:
    federation = Federation([SETTINGS])
    federation.tick(FLEET, 0)
    assert Federation([], federation.snapshot()).trainings == {}


def resting(**changes: Any) -> Federation:
    """A training whose first run has not begun, and does not by itself."""
    return Federation([msgspec.structs.replace(SETTINGS, every=Duration(0), **changes)])


@pytest.mark.parametrize(
    ("share", "drifted", "begins"),
    [(0.3, 1, False), (0.3, 2, True), (0.2, 1, True), (1.0, 4, False), (1.0, 5, True), (0.0, 5, False)],
)
def test_a_run_begins_when_enough_gateways_say_that_their_data_have_drifted(
    share: float, drifted: int, begins: bool
) -> None:
    federation = resting(on_drift=share)
    for name in FLEET[:drifted]:
        federation.note_drift("state", name, 3 * S)
        federation.note_drift("state", name, 4 * S)  # it counts once
    assert federation.drifted("state") == FLEET[:drifted]
    assert bool(federation.tick(FLEET, 5 * S)) is begins
    assert federation.drifted("state") == ([] if begins else FLEET[:drifted])


def test_drift_of_a_gateway_that_is_away_waits_for_it_and_outlives_a_restart() -> None:
    federation = resting()
    for name in FLEET[:2]:
        federation.note_drift("state", name, 3 * S)
    assert federation.tick(FLEET[2:], 4 * S) == []
    again = Federation([federation.trainings["state"].settings], federation.snapshot())
    assert [one.task.job for one in again.tick(FLEET, 5 * S) if isinstance(one, Ask)] == ["state.1.0"] * 5


def test_what_was_said_of_the_model_before_or_of_no_training_does_not_count() -> None:
    federation = resting(on_drift=0.2)
    federation.note_drift("other", FLEET[0], S)
    fleet = Fleet(SETTINGS)
    fleet.training = federation.trainings["state"]
    fleet.do(federation.start("state", FLEET, S))
    federation.note_drift("state", FLEET[0], 2 * S)  # while a run goes on
    while federation.last("state") is None:
        fleet.now += S
        name = min(fleet.tasks)
        fleet.do(federation.part(name, fleet.answer(name), FLEET, fleet.now))
    federation.note_drift("state", FLEET[0], fleet.now)  # as a restart finds it among the reports
    assert (federation.drifted("state"), federation.tick(FLEET, fleet.now)) == ([], [])
    federation.note_drift("state", FLEET[0], fleet.now + 1)
    assert federation.drifted("state") == [FLEET[0]]

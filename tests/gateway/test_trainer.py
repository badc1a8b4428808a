"""Training on a gateway's own journal: raw readings become labelled vectors, and learning from them an update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.pack import Pack
from gateway.records import Readings
from gateway.tasks import Answer
from gateway.tasks.told import Told
from gateway.trainer.dataset import Examples, Gathered, gather, split
from gateway.trainer.heads import MAX_HEADS, Head, heads_in, newest
from gateway.trainer.learn import Owed, SurveyTask, TrainTask
from learning import classifier, spread, updates
from learning.classifier import Classifier
from protocol import frame
from protocol.columns import decode_state
from protocol.errors import TaskRefused
from protocol.manifest import digest_of
from protocol.messages import AnswerBody, Cover, PartBody
from protocol.tasks import Task
from protocol.training import (
    Dataset,
    Given,
    Learning,
    Survey,
    Surveyed,
    Train,
    Trained,
    read_trained,
)

DATASET = Dataset(("x", "y"), "state", 3, samples=16, hop=8)
NAMES = ["pump/x", "pump/y", "pump/state", "mill/x"]


@dataclass
class Held:
    """A `Past` of rows (series, time, value), in batches of ten."""

    rows: list[tuple[int, int, float]]
    names: Sequence[str] = field(default_factory=lambda: list(NAMES))
    shared: Sequence[str] = ()
    reads: int = 0
    answers: Sequence[Told] = ()
    patterns: Sequence[str] = ("*/x", "*/y", "*/state")

    @property
    def position(self) -> int:
        return len(self.rows)

    @property
    def held(self) -> tuple[int, int]:
        times = [time for _, time, _ in self.rows]
        return (min(times), max(times) + 1) if times else (0, 0)

    def told(self, model: str) -> Sequence[Told]:
        assert model == "state"
        return self.answers

    def batches(self, patterns: Sequence[str], start: int = 0, end: int = 0, *, after: int = 0) -> Iterator[Readings]:
        assert (list(patterns), start, end) == (list(self.patterns), 0, 0)
        self.reads += 1
        for at in range(after, len(self.rows), 10):
            series, time, value = zip(*self.rows[at : at + 10], strict=True)
            yield Readings(np.array(series, np.int32), np.array(time, np.int64), np.array(value, np.float64))


def device(states: Sequence[int], each: int = 64, seed: int = 0) -> list[tuple[int, int, float]]:
    """Give readings of a pump that goes through states; how it swings tells them apart."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, float]] = []
    for place, state in enumerate(states):
        for step in range(each):
            time = (place * each + step) * 10
            rows += [(0, time, float(rng.normal() * (1 + 3 * state))), (1, time, state + float(rng.normal()))]
            if step == 0:
                rows.append((2, time, float(state)))
    return rows


def made(rows: list[tuple[int, int, float]]) -> Examples:
    """Give the examples of the pump."""
    return gather(DATASET, Held(rows))[0]["pump"]


def test_windows_are_made_each_hop_and_have_the_label_that_was_newest() -> None:
    found = made(device([0, 2], each=32))
    # 64 samples: windows begin at 0, 8, ... 48; those at 24 see both states
    assert found.at.tolist() == [150, 230, 310, 470, 550, 630]
    assert found.y.tolist() == [0, 0, 0, 2, 2, 2]
    assert found.x.shape == (6, 32)


def without(rows: list[tuple[int, int, float]], series: int, times: range) -> list[tuple[int, int, float]]:
    return [row for row in rows if not (row[0] == series and row[1] in times)]


@pytest.mark.parametrize(
    ("series", "value"), [(0, None), (1, None), (0, np.nan)], ids=["x gone", "y gone", "x not finite"]
)
def test_a_window_lies_within_one_run_of_samples(series: int, value: float | None) -> None:
    rows = without(device([1], each=48), series, range(200, 201))
    if value is not None:
        rows.append((series, 200, value))
    found = made(rows)
    assert found.at.tolist() == [150, 360, 440]  # a run of 20 samples, then one of 27


def test_windows_before_any_label_or_of_no_class_are_left_out() -> None:
    rows = [row for row in device([1, 1], each=32) if row != (2, 0, 1.0)] + [(2, 480, 1.5)]
    assert made(rows).at.tolist() == [470]


def test_readings_come_in_any_order_and_of_repeats_the_first_counts() -> None:
    rows = device([0, 1], each=32)
    mixed = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    straight, _ = gather(DATASET, Held(rows))
    found, readings = gather(DATASET, Held([*mixed, (0, 100, 99.0), (3, 5, 1.0)]))
    assert readings == len(rows) + 2
    assert list(found) == ["pump"]  # the mill has no y and no label
    assert found["pump"].x.tolist() == straight["pump"].x.tolist()


def test_only_the_newest_windows_of_a_device_count() -> None:
    rows = device([0, 1, 2, 0, 1, 2], each=64)
    few = msgspec.structs.replace(DATASET, newest=5)
    found, _ = gather(few, Held(rows))
    assert (len(found["pump"].x), found["pump"].y.tolist()) == (5, [2] * 5)
    assert found["pump"].at.min() > made(rows).at[-7]


def test_what_is_held_out_is_the_newest_and_does_not_overlap_with_what_is_learnt() -> None:
    found = made(device([0, 1, 2], each=64))
    learnt, held = split([found], 0.25, DATASET.samples // DATASET.hop)
    assert len(held.x) == round(len(found.x) * 0.25)
    assert learnt.at.max() <= held.at.min() - DATASET.samples * 10


# The tasks.

ROWS = device([0, 1, 2] * 8)


def base(model: Any = "softmax") -> Classifier:
    return classifier.begin(DATASET, Learning(model, hidden=8), spread.of(made(ROWS).x), np.random.default_rng(1))


def asked(params: msgspec.Struct, content: bytes = b"", job: str = "state-1") -> Task:
    return Task(job, 1, "barn", "train", 1, msgspec.msgpack.encode(params), content)


def train(
    past: Held, kept: bytes = b"", job: str = "state-1", given: Given | None = None, **changes: Any
) -> tuple[Trained, Answer]:
    params = msgspec.structs.replace(Train("state", 1), **changes)
    content = msgspec.msgpack.encode(given or Given(classifier.encode(base())))
    answer = TrainTask()(asked(params, content, job), past, kept)
    return msgspec.msgpack.decode(answer.content, type=Trained), answer


def test_a_survey_says_how_many_windows_there_are_and_how_they_spread() -> None:
    past = Held(ROWS)
    answer = SurveyTask()(asked(Survey(DATASET)), past, b"")
    found = msgspec.msgpack.decode(answer.content, type=Surveyed)
    here = made(ROWS)
    assert found.windows == tuple(np.bincount(here.y).tolist())
    assert spread.unpack(decode_state(found.spread)).mean.tolist() == spread.of(here.x).mean.tolist()
    assert (answer.readings, answer.held) == (len(ROWS), past.held)


@pytest.mark.parametrize("learn", [True, False])
def test_a_gateway_says_why_its_last_update_was_refused_and_learns_as_if_it_had_not(*, learn: bool) -> None:
    plain, told = (train(Held(ROWS), learn=learn, refused=why)[1] for why in ("", "outlier: of norm 9"))
    assert (plain.note, told.note) == ("", "the last update was refused: outlier: of norm 9")
    assert told._replace(note="") == plain


def test_an_update_is_what_learning_changed_and_scores_are_of_what_was_held_out() -> None:
    trained, answer = train(Held(ROWS))
    begun = base()
    delta = updates.decode(trained.payload, len(begun.vector))
    here = made(ROWS)
    assert begun.with_vector(begun.vector + delta).accuracy(here.x, here.y) > begun.accuracy(here.x, here.y) + 0.3
    assert set(trained.scores) == {"base", "local", "personal"}
    assert trained.scores["local"] > trained.scores["base"]
    assert trained.held_out == round(len(here.x) * 0.2)
    assert msgspec.msgpack.decode(answer.keep, type=Owed).residual == b""


def test_the_same_task_on_the_same_readings_gives_the_same_answer() -> None:
    assert train(Held(ROWS))[1] == train(Held(ROWS))[1]
    assert train(Held(ROWS))[1] != train(Held(ROWS), seed=1)[1]


def test_a_promoted_model_is_scored_beside_the_base() -> None:
    content = classifier.encode(base())
    trained, _ = train(Held(ROWS), given=Given(content, content))
    assert trained.scores["active"] == trained.scores["base"]


def test_a_trial_learns_nothing_and_keeps_what_is_owed() -> None:
    owed = Owed("state-0", b"update", b"rest")
    trained, answer = train(Held(ROWS), msgspec.msgpack.encode(owed), learn=False)
    here = made(ROWS)
    held = here.part(slice(-trained.held_out, None))
    scores = {"base": base().accuracy(held.x, held.y), "personal": trained.scores["personal"]}
    assert trained == Trained(b"", 0, len(held.x), scores)
    kept = msgspec.msgpack.decode(answer.keep, type=Owed)
    assert msgspec.structs.replace(kept, heads=()) == owed


def test_a_head_of_its_own_is_kept_for_the_base_and_for_what_was_promoted() -> None:
    given = Given(classifier.encode(base("perceptron")), classifier.encode(base()))
    trained, answer = train(Held(ROWS), given=given)
    of_base, of_active = heads_in(answer.keep)
    assert (of_base.digest, of_active.digest) == (digest_of(given.base), digest_of(given.active))
    assert (of_base.before, of_base.after) == (trained.scores["base"], trained.scores["personal"])
    assert (of_active.before, of_active.windows) == (trained.scores["active"], trained.held_out)
    assert of_base.after > of_base.before
    body = slice(0, base("perceptron").net.layout[0].size)
    begun, own = base("perceptron").vector, np.frombuffer(of_base.vector, np.float32)
    assert (own[body] == begun[body]).all()
    assert (own != begun).any()


def test_so_many_heads_are_kept_the_newest_and_one_of_each_content() -> None:
    heads = [Head(str(number), b"", number, 0.0, 1.0) for number in range(MAX_HEADS + 2)]
    kept: tuple[Head, ...] = ()
    for head in (*heads, heads[-2]):
        kept = newest([head], kept)
    assert [head.digest for head in kept] == ["4", "5", "3", "2"]


@pytest.mark.parametrize("kept", [b"", b"junk", msgspec.msgpack.encode({"job": "j"})], ids=["none", "junk", "older"])
def test_what_holds_no_heads_gives_none(kept: bytes) -> None:
    assert heads_in(kept) == ()


def test_a_memory_that_cannot_be_read_is_none() -> None:
    assert train(Held(ROWS), b"junk")[1] == train(Held(ROWS))[1]


def test_what_a_codec_left_out_is_owed_and_an_update_that_was_not_counted_is_owed_in_full() -> None:
    size = len(base().vector)
    _, first = train(Held(ROWS), codec="topk")
    owed = msgspec.msgpack.decode(first.keep, type=Owed)
    residual, sent = np.frombuffer(owed.residual, np.float32), updates.decode(owed.payload, size)
    _, plain = train(Held(ROWS), codec="f32")
    delta = updates.decode(msgspec.msgpack.decode(plain.content, type=Trained).payload, size)
    for counted, before in (("state-1", residual), ("", residual + sent)):
        trained, _ = train(Held(ROWS), first.keep, "state-2", codec="f32", counted=counted)
        assert np.allclose(updates.decode(trained.payload, size), delta + before, atol=1e-5)


def test_examples_are_made_once_as_long_as_the_journal_has_not_grown() -> None:
    past, trainer = Held(list(ROWS)), TrainTask()
    task = asked(Train("state", 1), msgspec.msgpack.encode(Given(classifier.encode(base()))))
    for _ in range(2):
        trainer(task, past, b"")
    assert past.reads == 1
    past.rows.append((3, 5, 1.0))
    trainer(task, past, b"")
    assert past.reads == 2


REFUSED: dict[str, tuple[Any, str]] = {
    "no parameters": (lambda: TrainTask()(Task("j", 1, "b", "train", 1, b"\xc1"), Held(ROWS), b""), "params"),
    "nothing given": (lambda: TrainTask()(asked(Train("state", 1)), Held(ROWS), b""), "params"),
    "a base that is none": (lambda: train(Held(ROWS), given=Given(b"none")), "content"),
    "all of it held out": (lambda: train(Held(ROWS), holdout=1.0), "params"),
    "too few windows": (lambda: train(Held(device([0, 1], each=32))), "few"),
    "no channels": (lambda: SurveyTask()(asked(Survey(Dataset((), "s", 1, 8, 8))), Held(ROWS), b""), "params"),
    "features we have not": (
        lambda: SurveyTask()(asked(Survey(msgspec.structs.replace(DATASET, features="x/1"))), Held(ROWS), b""),
        "features",
    ),
}


@pytest.mark.parametrize(("what", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_learnt_is_refused_by_reason(what: Any, reason: str) -> None:
    with pytest.raises(TaskRefused) as refused:
        what()
    assert refused.value.reason == reason


@pytest.mark.parametrize("late", [False, True], ids=["in order", "some late"])
def test_reading_on_gives_what_reading_all_at_once_gives(late: bool) -> None:
    rows = device([0, 1, 2] * 5, seed=3)
    if late:
        rows = [*rows[: len(rows) // 2 : 2], *rows[len(rows) // 2 :], *rows[1 : len(rows) // 2 : 2], *rows[:50]]
    grows, gathered = Held([]), Gathered(DATASET)
    for upto in (0, 7, len(rows) // 3, len(rows) // 2, len(rows)):
        grows.rows = rows[:upto]
        assert_same(gathered.take(grows), gather(DATASET, Held(rows[:upto]))[0])


def assert_same(found: dict[str, Examples], expected: dict[str, Examples]) -> None:
    assert found.keys() == expected.keys()
    for name, own in found.items():
        for column, other in zip(own, expected[name], strict=True):
            np.testing.assert_array_equal(column, other)


# On the wire.

PEOPLE = Dataset(("x", "y", "z"), "label", 6, samples=128, hop=64, features="motion/1")
"""That of the people in `tests/bench/learning_fleet`: a perceptron of 7,558 parameters."""


def walks() -> Held:
    """Give 30 windows of six kinds of motion."""
    rng = np.random.default_rng(3)
    time = np.arange(33 * 64) * 20
    rows = [
        (series, int(at), float(value))
        for series in range(3)
        for at, value in zip(time, rng.normal(scale=1 + time // (6 * 64 * 20)), strict=True)
    ]
    names = ["phone/x", "phone/y", "phone/z", "phone/label"]
    labels = [(3, int(at), float(at // (6 * 64 * 20))) for at in time[:: 6 * 64]]
    return Held(rows + labels, names, patterns=("*/x", "*/y", "*/z", "*/label"))


@pytest.mark.parametrize(
    ("codec", "lean", "most"),
    [("i8", True, 7_830), ("i8", False, 8_010), ("topk", True, 350), ("topk", False, 520)],
)
def test_an_update_of_7558_parameters_is_so_long_on_the_wire(codec: Any, lean: bool, most: int) -> None:
    rng = np.random.default_rng(1)
    begun = classifier.begin(PEOPLE, Learning("perceptron"), spread.of(gather(PEOPLE, walks())[0]["phone"].x), rng)
    assert len(begun.vector) == 7_558
    given = Given(classifier.encode(begun), classifier.encode(begun))
    named = ("person-03-i8.12.10", 1_764_000_000 % (1 << 30), "barn", "train", 1)
    params = msgspec.msgpack.encode(Train("person-03-i8", 10, codec=codec))
    task = Task(*named, params, msgspec.msgpack.encode(given), lean=lean)
    found = TrainTask()(task, walks(), b"")
    stamps = (1_764_000_000 * 10**9, 1_764_000_999 * 10**9)
    part = PartBody(Cover(700, 3), *named[:2], *named[3:], "done", "", found.content, stamps[1], 1.25, 6_400)
    part = msgspec.structs.replace(part, held=stamps)
    packed = Pack(1, {}).part(AnswerBody.of(part) if lean else part)
    sent = frame.encode(packed.kind, packed.body, lane=2, seq=40)
    assert most - 60 < len(sent) <= most
    trained = read_trained(found.content)
    assert trained.scores.keys() == {"base", "active", "local", "personal"}
    assert updates.codec_of(trained.payload, 7_558) == codec

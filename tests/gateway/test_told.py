"""What the cloud has said of windows: kept, bounded, and learnt from where a gateway has no label of its own."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from gateway.tasks.told import MAX_TOLD, Kept, Told, by_device, decode, encode
from gateway.trainer.dataset import Examples, Gathered, split
from gateway.trainer.learn import FEWEST, SurveyTask, TrainTask
from learning import classifier
from protocol.cascade import Answer
from protocol.errors import TaskRefused
from protocol.tasks import Task
from protocol.training import Given, Survey, Surveyed, Train, Trained
from tests.gateway.test_trainer import DATASET, NAMES, ROWS, Held, base, made

STEP, SAMPLES = 10, DATASET.samples
UNLABELLED = [row for row in ROWS if NAMES[row[0]] != "pump/state"]


def state(sample: int) -> int:
    """Give the state that the pump of ROWS is in."""
    return sample // 64 % 3


def said(first: int, chosen: int | None = None) -> Told:
    """What was said of the window that begins with a sample."""
    return Told("pump", first * STEP, (first + SAMPLES - 1) * STEP, state(first) if chosen is None else chosen)


def answer(at: int, start: int = 0, chosen: int = 0) -> Answer:
    return Answer("pump", start, start + 5, chosen, 0.9, at, 1)


def test_answers_are_taken_once_and_of_a_window_the_newest_counts() -> None:
    kept = Kept().with_answers([answer(7, 0, 1), answer(8, 10, 2)])
    assert kept == Kept(8, (Told("pump", 0, 5, 1), Told("pump", 10, 15, 2)))
    again = [answer(7, 0, 1), answer(8, 10, 2), answer(9, 0, 3)]
    assert kept.fresh(again) == again[2:]
    assert kept.with_answers(again[2:]) == Kept(9, (Told("pump", 0, 5, 3), Told("pump", 10, 15, 2)))
    assert decode(encode(kept)) == kept


def test_the_newest_are_kept() -> None:
    kept = Kept().with_answers([answer(at, at) for at in range(1, MAX_TOLD + 3)])
    assert (len(kept.told), kept.told[0].start, kept.told[-1].start) == (MAX_TOLD, 3, MAX_TOLD + 2)


@pytest.mark.parametrize(
    "content", [b"", b"\xc1", msgspec.msgpack.encode({"heard": "x"})], ids=["none", "junk", "other"]
)
def test_what_is_no_file_of_ours_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(content)


def test_windows_come_by_device_and_in_the_order_of_time() -> None:
    found = by_device([Told("b", 5, 6, 1), Told("a", 3, 4, 0), Told("b", 1, 2, 2)])
    assert {name: [column.tolist() for column in spans] for name, spans in found.items()} == {
        "b": [[1, 5], [2, 6], [2, 1]],
        "a": [[3], [4], [0]],
    }


def lent(rows: list[tuple[int, int, float]], *answers: Told) -> Examples:
    gathered = Gathered(DATASET)
    gathered.take(Held(rows, answers=answers), "state")
    return gathered.lent["pump"]


def test_a_window_that_was_answered_is_an_example_wherever_it_begins() -> None:
    examples = lent(UNLABELLED, said(8), said(3))
    assert (examples.y.tolist(), examples.at.tolist()) == ([0, 0], [(3 + 15) * STEP, (8 + 15) * STEP])
    assert np.array_equal(examples.x[1], made(ROWS).x[1])  # that which the trainer makes there itself


NOTHING_LENT = {
    "a label of its own is there": (ROWS, said(3)),
    "no sample is where it begins": (UNLABELLED, Told("pump", 5, 155, 0)),
    "it does not end where it did": (UNLABELLED, Told("pump", 0, 140, 0)),
    "it is older than the journal": (UNLABELLED, Told("pump", -200, -50, 0)),
    "it is newer than the journal": (UNLABELLED, Told("pump", 10**9, 10**9 + 150, 0)),
    "a class that the training has not": (UNLABELLED, said(3, chosen=3)),
    "another device": (ROWS, Told("mill", 30, 180, 0)),
}


@pytest.mark.parametrize(("rows", "told"), NOTHING_LENT.values(), ids=NOTHING_LENT.keys())
def test_an_answer_is_left_where(rows: list[tuple[int, int, float]], told: Told) -> None:
    assert len(lent(rows, told, *([said(8)] if rows is UNLABELLED else [])).x) == (rows is UNLABELLED)


def test_answers_that_come_later_are_seen_though_the_journal_has_not_grown() -> None:
    gathered, past = Gathered(DATASET), Held(UNLABELLED, answers=[said(3)])
    gathered.take(past, "state")
    past.answers = [said(3), said(40)]
    gathered.take(past, "state")
    assert gathered.lent["pump"].at.tolist() == [(3 + 15) * STEP, (40 + 15) * STEP]


def test_nothing_is_scored_by_what_is_lent_nor_learnt_that_overlaps_with_what_is_held_out() -> None:
    own = Examples(np.zeros((10, 1), np.float32), np.zeros(10, np.int64), np.arange(10) * 80)
    more = Examples(np.ones((3, 1), np.float32), np.ones(3, np.int64), np.array([70, 480, 481]))
    learnt, held_out = split([own], 0.2, 1, [more])
    assert (learnt.at[learnt.y == 1].tolist(), int(learnt.at[learnt.y == 0].max())) == ([70, 480], 480)
    assert held_out.y.tolist() == [0, 0]


def task(params: msgspec.Struct, content: bytes = b"") -> Task:
    return Task("state.1.1", 1, "barn", "train", 1, msgspec.msgpack.encode(params), content, state="state")


def test_a_gateway_without_labels_takes_part_with_what_the_cloud_has_said() -> None:
    answers = [said(first) for first in range(3, 380, 8) if state(first) == state(first + 15)]
    past = Held(UNLABELLED, answers=answers)
    surveyed = msgspec.msgpack.decode(SurveyTask()(task(Survey(DATASET)), past, b"").content, type=Surveyed)
    assert surveyed.windows == tuple(np.bincount([one.chosen for one in answers]).tolist())
    given = Given(classifier.encode(base()))
    done = TrainTask()(task(Train("state", 1), msgspec.msgpack.encode(given)), past, b"")
    trained = msgspec.msgpack.decode(done.content, type=Trained)
    assert (trained.windows, trained.held_out, trained.scores["local"]) == (len(answers), 0, 0.0)


def test_fewer_than_teach_anything_are_refused() -> None:
    past = Held(UNLABELLED, answers=[said(first) for first in range(FEWEST - 1)])
    with pytest.raises(TaskRefused, match="few: 19 windows"):
        SurveyTask()(task(Survey(DATASET)), past, b"")

"""Classifiers on a gateway: what they say of windows, who is right, and what lasts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.classify import Classify, Said, Word
from gateway.classify import classify as module
from gateway.classify import line as line_module
from gateway.records import ModelRecord
from gateway.trainer.heads import Head
from learning import classifier, features
from learning.classifier import Classifier
from learning.models import Batch, Softmax
from protocol.errors import ModelRefused
from protocol.identity import Signer
from protocol.manifest import Manifest, digest_of, seal
from protocol.training import Dataset
from tests.gateway.test_classify_windows import Row, readings
from tests.gateway.test_trainer import NAMES, ROWS, base, device, made

SIGNER = Signer.from_seed(bytes(32))
MARGIN = 0.02


def learnt() -> Classifier:
    """Give a classifier that knows the states of the pump."""
    here, begun = made(ROWS), base()
    return begun.fitted(Batch(begun.standardise(here.x), here.y), np.random.default_rng(0))


def mistaken() -> Classifier:
    """Give one that takes each state for another."""
    good = learnt()
    assert isinstance(good.net, Softmax)
    parts = good.net.parts
    vector = np.concatenate([np.roll(parts["weights"], 1, axis=1).ravel(), np.roll(parts["bias"], 1)])
    return good.with_vector(vector)


GOOD, BAD = classifier.encode(learnt()), classifier.encode(mistaken())


def record(version: int, content: bytes, name: str = "state", schema: str = classifier.SCHEMA) -> ModelRecord:
    manifest = Manifest(name, version, len(content), digest_of(content), schema, 1)
    return ModelRecord(version, seal(manifest, SIGNER), content)


def using(*records: ModelRecord, names: list[str] = NAMES) -> Classify:
    """Give a gateway's classifiers after models were applied, one after the other."""
    classify = Classify(MARGIN)
    for one in records:
        classify.use({"state": one}, names)
    return classify


def told(classify: Classify, rows: list[Row], most: int = 64) -> tuple[list[Said], list[Word]]:
    """Feed readings, and step until nothing waits."""
    classify.feed(readings(rows))
    said, words = list[Said](), list[Word]()
    while True:
        step = classify.step(most)
        said += step.said.values()
        words += step.words
        if not classify.waiting:
            return said, words


def windows(said: list[Said]) -> Iterator[tuple[str, int, int, int]]:
    for one in said:
        yield from zip(one.device, one.start, one.end, one.chosen, strict=True)


def unlabelled(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row[0] != 2]


def test_each_window_that_ends_is_classified() -> None:
    rows = device([0, 2, 1], seed=5)
    said, words = told(using(record(3, GOOD)), rows)
    model, here = learnt(), made(rows)
    chosen = {end: one for _, _, end, one in windows(said)}
    assert [chosen[end] for end in here.at.tolist()] == model.predict(here.x).argmax(axis=1).tolist()
    first = said[0]
    assert (first.device[0], first.start[0], first.end[0], first.version, first.used) == ("pump", 0, 150, 3, "active")
    assert first.probability[0] == pytest.approx(model.predict(here.x)[0].max())
    assert words == []


def test_a_step_classifies_so_many_and_the_rest_waits() -> None:
    classify = using(record(1, GOOD))
    classify.feed(readings(ROWS))
    waiting = classify.waiting
    [said] = classify.step(1).said.values()
    assert (len(said.device), classify.waiting) == (1, waiting - 1)
    assert sum(classify.lines["state"].counts.values()) == 1


def test_what_waits_is_bounded_and_the_newest_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "MAX_WAITING", 5)
    classify = using(record(1, GOOD))
    classify.feed(readings(ROWS))
    assert (classify.waiting, list(classify.lines["state"].left_out)) == (5, ["busy"])


def test_windows_without_a_label_wait_for_it_and_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "MAX_UNTOLD", 10)
    classify = using(record(1, GOOD))
    told(classify, unlabelled(ROWS))
    line = classify.lines["state"]
    assert line.left_out == {"unlabelled": sum(line.counts.values()) - 10}
    told(classify, [(2, ROWS[-1][1] + 1, 1.0), (2, ROWS[-1][1], 1.0)])
    assert line.trust.live == {}  # their label at the beginning is not known


def test_labels_that_come_later_say_who_was_right() -> None:
    rows = device([0, 1, 2] * 4, seed=9)
    classify = using(record(1, GOOD))
    told(classify, unlabelled(rows))
    assert classify.lines["state"].trust.live == {}
    told(classify, [row for row in rows if row[0] == 2] + [(2, rows[-1][1] + 10, 0.0)])
    tally = classify.lines["state"].trust.live["active"]
    here = made(rows)
    assert tally.windows == len(here.y)
    assert tally.accuracy == pytest.approx(learnt().accuracy(here.x, here.y))


def test_a_worse_version_is_rolled_back_by_itself_and_the_next_one_is_tried() -> None:
    classify = using(record(1, GOOD), record(2, BAD))
    said, words = told(classify, device([0, 1, 2] * 8, seed=9))
    assert words == [
        Word("state", 2, digest_of(BAD), "rolled back", "worse"),
        Word("state", 1, digest_of(GOOD), "applied", "rolled back"),
    ]
    assert classify.used == {"state": "previous"}
    said, _ = told(classify, device([0, 1, 2], seed=3, each=100)[-200:])
    assert {(one.version, one.used) for one in said} <= {(1, "previous")}
    classify.use({"state": record(3, classifier.encode(base()))}, NAMES)
    line = classify.lines["state"]
    assert classify.used == {"state": "active"}
    assert line.previous is not None
    assert line.previous.digest == digest_of(GOOD)  # what was used, not what was in force


def test_a_better_version_stays() -> None:
    classify = using(record(1, BAD), record(2, GOOD))
    assert told(classify, device([0, 1, 2] * 8, seed=9))[1] == []
    assert classify.used == {"state": "active"}


def test_a_candidate_is_compared_in_the_shadow_and_its_word_is_never_said() -> None:
    classify = Classify(MARGIN)
    models = {"state": record(1, BAD), "state.next": record(1, GOOD, "state.next")}
    assert classify.use(models, NAMES) == ["state"]
    said, words = told(classify, device([0, 1, 2] * 8, seed=9))
    live = classify.lines["state"].trust.live
    assert (live["shadow"].accuracy or 0) > 0.8 > (live["active"].accuracy or 1)
    assert {(one.version, one.used) for one in said} == {(1, "active")}
    assert (set(classify.lines), words) == ({"state"}, [])
    classify.use({"state": record(2, GOOD)}, NAMES)
    assert classify.lines["state"].shadow is None


def own_head(before: float = 0.5, after: float = 0.9, content: bytes = BAD) -> Head:
    return Head(digest_of(content), learnt().vector.tobytes(), 100, before, after)


def test_a_head_of_its_own_is_used_where_it_won_and_for_no_other_version() -> None:
    classify = using(record(1, BAD))
    classify.personalise("state", [own_head(content=GOOD)])
    assert classify.used == {"state": "active"}
    classify.personalise("state", [own_head()])
    rows = device([0, 1, 2], seed=2)
    said, _ = told(classify, rows)
    chosen, here = {end: one for _, _, end, one in windows(said)}, made(rows)
    assert [chosen[end] for end in here.at.tolist()] == learnt().predict(here.x).argmax(axis=1).tolist()
    assert {(one.used, one.version) for one in said} == {("personal", 1)}
    classify.use({"state": record(2, GOOD)}, NAMES)
    assert (classify.used, classify.lines["state"].personal) == ({"state": "active"}, None)


def test_a_head_that_did_not_win_is_compared_all_the_same() -> None:
    classify = using(record(1, BAD))
    classify.personalise("state", [own_head(0.9, 0.9)])
    told(classify, device([0, 1, 2] * 4, seed=9))
    live = classify.lines["state"].trust.live
    assert classify.used == {"state": "active"}
    assert (live["personal"].accuracy or 0) > (live["active"].accuracy or 1)


def test_readings_that_change_are_told_as_drift_and_again_ever_more_seldom() -> None:
    classify = using(record(1, GOOD))
    rows = device([0, 1, 2] * 50, seed=9)
    assert told(classify, unlabelled(rows[: len(rows) // 2]))[1] == []
    moved = [(series, time, 3 * value + 2) for series, time, value in rows[len(rows) // 2 :]]
    words = told(classify, unlabelled(moved))[1]
    assert {(word.outcome, word.version) for word in words} == {("drifted", 1)}
    assert sum(classify.lines["state"].drifts.values()) == len(words) == 3


def test_what_lasts_is_found_again_and_what_was_applied_since_replaces_it() -> None:
    classify = using(record(1, GOOD), record(2, BAD))
    told(classify, device([0, 1, 2] * 8, seed=9))
    snapshot = classify.snapshot("state")
    again = Classify(MARGIN)
    again.use({}, NAMES)
    again.restore("state", snapshot)
    assert again.use({"state": record(2, BAD)}, NAMES) == ["state"]
    assert again.used == {"state": "previous"}
    assert again.snapshot("state") == snapshot
    missed = Classify(MARGIN)
    missed.restore("state", snapshot)
    missed.use({"state": record(3, classifier.encode(base()))}, NAMES)
    line = missed.lines["state"]
    assert (missed.used, line.previous and line.previous.digest) == ({"state": "active"}, digest_of(GOOD))


def test_a_snapshot_that_is_none_is_refused() -> None:
    with pytest.raises(ModelRefused):
        Classify(MARGIN).restore("state", b"junk")


UNUSABLE: dict[str, bytes] = {
    "junk": b"junk",
    "windows too short for features": classifier.encode(
        Classifier(msgspec.structs.replace(base().dataset, samples=4), base().learning, base().standardiser, base().net)
    ),
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_cannot_classify_does_not_and_it_is_said_why(content: bytes) -> None:
    classify = using(record(1, content))
    assert (classify.lines, list(classify.unusable)) == ({}, ["state"])
    classify.use({"state": record(2, GOOD)}, NAMES)
    assert (list(classify.lines), classify.unusable) == (["state"], {})


def test_so_many_classify_and_other_schemas_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MODELS", 2)
    models = {name: record(1, GOOD, name) for name in ("a", "b", "c")}
    classify = Classify(MARGIN)
    assert classify.use(models | {"flow": record(1, b"flow", "flow", "baseline/1")}, NAMES) == ["a", "b"]
    assert classify.unusable == {"c": "2 classify already"}


def test_another_dataset_begins_anew_and_has_nothing_to_fall_back_by() -> None:
    other = Dataset(("x",), "state", 3, samples=16, hop=16)
    size = len(features.names(other.features, other.channels))
    begun: Any = base()
    standardiser = type(begun.standardiser)(size)
    net = type(begun.net)(size, 3)
    content = classifier.encode(Classifier(other, begun.learning, standardiser, net))
    classify = using(record(1, GOOD), record(2, content))
    told(classify, device([0, 1, 2] * 8, seed=9))
    assert set(classify.lines["state"].trust.live) == {"active"}

"""An ONNX model at work on a gateway: tried, said, gone back from; what it cannot do is said by name."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.bus import terms
from gateway.classify import Word
from gateway.config import GatewayConfig, Models, Size
from gateway.swap import Apply, Report, Swap
from gateway.trainer import TrainTask
from gateway.trainer.learn import Owed
from learning import features, onnx
from protocol.errors import TaskRefused
from protocol.manifest import Chunk, digest_of, write
from protocol.tasks import Task
from protocol.training import Given, Train, read_trained
from tests.gateway.pump_onnx import RIGHT, WRONG
from tests.gateway.test_classify import BAD, GOOD, SIGNER, record, told, using
from tests.gateway.test_trainer import DATASET, NAMES, ROWS, Held, device
from tests.learning.onnx_files import FLOAT, file, helper, linear, tensor

SIZE = len(features.names(DATASET.features, DATASET.channels))
SCHEMA = onnx.SCHEMA


def test_it_says_what_the_same_classifier_says() -> None:
    rows = device([0, 2, 1], seed=5)
    ours, _ = told(using(record(3, GOOD)), rows)
    theirs, words = told(using(record(3, RIGHT, schema=SCHEMA)), rows)
    assert [one.chosen for one in theirs] == [one.chosen for one in ours]
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-3)
    assert words == []


def test_a_worse_one_is_gone_back_from_and_a_better_one_stays_whichever_kind_is_before_it() -> None:
    for before, after in ((record(1, GOOD), WRONG), (record(1, RIGHT, schema=SCHEMA), WRONG)):
        classify = using(before, record(2, after, schema=SCHEMA))
        _, words = told(classify, device([0, 1, 2] * 8, seed=9))
        assert [(word.version, word.outcome) for word in words] == [(2, "rolled back"), (1, "applied")]
    better = using(record(1, BAD), record(2, RIGHT, schema=SCHEMA))
    _, words = told(better, device([0, 1, 2] * 8, seed=9))
    assert (words, better.used) == ([], {"state": "active"})


def test_it_is_tried_in_the_shadow_of_a_classifier() -> None:
    classify = using(record(1, GOOD))
    classify.use({"state": record(1, GOOD), "state.next": record(1, RIGHT, "state.next", SCHEMA)}, NAMES)
    said, _ = told(classify, device([0, 1, 2] * 4, seed=9))
    live = classify.lines["state"].trust.live
    assert live["shadow"].accuracy == live["active"].accuracy
    assert {one.version for one in said} == {1}


def test_what_it_was_is_kept() -> None:
    classify = using(record(1, GOOD), record(2, RIGHT, schema=SCHEMA))
    again = using()
    again.restore("state", classify.snapshot("state"))
    line = again.lines["state"]
    assert (line.active.content, line.previous and line.previous.content) == (RIGHT, GOOD)


def sick() -> bytes:
    """Give one that says what is no number of a pump that swings much: of a root of 5 less the highest x."""
    most = np.zeros((SIZE, 1))
    most[features.names(DATASET.features, DATASET.channels).index("x.most")] = 1
    nodes = [
        helper.make_node("MatMul", ["x", "most"], ["high"]),
        helper.make_node("Sub", ["five", "high"], ["less"]),
        helper.make_node("Sqrt", ["less"], ["root"]),
        helper.make_node("MatMul", ["x", "none"], ["zeros"]),
        helper.make_node("Add", ["zeros", "root"], ["p"]),
    ]
    tensors = [tensor("most", most), tensor("five", [5]), tensor("none", np.zeros((SIZE, 3)))]
    shapes: dict[str, Any] = {"shape": ("n", SIZE), "outputs": (("p", FLOAT, ["n", 3]),)}
    return onnx.encode(DATASET, file(nodes, tensors, **shapes).SerializeToString())


SICK = sick()
MUCH = device([2] * 6)
WINDOWS = (6 * 64 - DATASET.samples) // DATASET.hop + 1


def test_one_that_fails_at_work_gives_way_to_the_version_before_and_is_told_once() -> None:
    classify = using(record(1, GOOD), record(2, SICK, schema=SCHEMA))
    said, words = told(classify, MUCH, most=16)
    assert words == [
        Word("state", 2, digest_of(SICK), "refused", "output"),
        Word("state", 2, digest_of(SICK), "rolled back", "failed"),
        Word("state", 1, digest_of(GOOD), "applied", "rolled back"),
    ]
    assert {(one.version, one.used) for one in said} == {(1, "previous")}
    assert sum(len(one.chosen) for one in said) == WINDOWS


def test_one_that_fails_with_nobody_before_it_leaves_windows_out() -> None:
    classify = using(record(2, SICK, schema=SCHEMA))
    said, words = told(classify, MUCH, most=16)
    assert words == [Word("state", 2, digest_of(SICK), "refused", "output")]
    assert (said, classify.lines["state"].left_out["failed"]) == ([], WINDOWS)


def test_a_shadow_that_fails_costs_nobody_else_anything() -> None:
    classify = using(record(1, GOOD))
    classify.use({"state": record(1, GOOD), "state.next": record(7, SICK, "state.next", SCHEMA)}, NAMES)
    said, words = told(classify, MUCH, most=16)
    assert words == [Word("state", 7, digest_of(SICK), "refused", "output")]
    assert sum(len(one.chosen) for one in said) == WINDOWS


# What a gateway takes.


def offered(content: bytes, schema: str = SCHEMA) -> list[Any]:
    """Let a gateway hear of a content, and get it."""
    models = Models(public_key=SIGNER.public.hex(), chunk=Size(1 << 20))
    swap = Swap(terms(GatewayConfig(name="barn", data="d", source=(), models=models)))
    swap.connected(0)
    swap.manifest("state", record(1, content, schema=schema).manifest, 0)
    assert swap.awaits(schema)
    found: list[Any] = swap.chunk(write(Chunk(digest_of(content), 0, content)), 0)
    assert not swap.awaits(schema)
    return found


def test_one_that_may_score_is_applied() -> None:
    [applied] = offered(RIGHT)
    assert isinstance(applied, Apply)


TAKEN_OUT = onnx.encode(DATASET, linear(np.zeros((SIZE + 1, 3)), np.zeros(3)))


@pytest.mark.parametrize(("content", "reason"), [(TAKEN_OUT, "shape"), (RIGHT[:-4], "content")])
def test_one_that_may_not_score_is_refused_by_reason(content: bytes, reason: str) -> None:
    assert offered(content) == [Report("state", 1, reason, digest_of(content))]


def test_without_the_runtime_it_is_refused_and_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert offered(RIGHT) == [Report("state", 1, "runtime", digest_of(RIGHT))]
    classify = using(record(1, RIGHT, schema=SCHEMA))
    assert classify.lines == {}
    assert classify.unusable["state"].startswith("runtime: ")


# What a gateway says of it in a training.


def trial(given: Given, *, learn: bool = False) -> Any:
    task = Task("state.1.1", 1, "barn", "train", 1, msgspec.msgpack.encode(Train("state", 1, learn=learn)))
    return TrainTask()(
        msgspec.structs.replace(task, content=msgspec.msgpack.encode(given), state="state"), Held(ROWS), b""
    )


def test_a_trial_scores_it_and_gives_it_no_head() -> None:
    found = trial(Given(RIGHT, GOOD))
    scores = read_trained(found.content).scores
    assert scores.keys() == {"base", "active"}
    assert scores["base"] == scores["active"] > 0.8
    assert [head.digest for head in msgspec.msgpack.decode(found.keep, type=Owed).heads] == [digest_of(GOOD)]


def test_a_round_compares_with_it_and_does_not_learn_from_it() -> None:
    scores = read_trained(trial(Given(GOOD, WRONG), learn=True).content).scores
    assert scores["active"] < 0.5 < scores["base"]
    with pytest.raises(TaskRefused, match="content: an ONNX model does not learn here"):
        trial(Given(RIGHT), learn=True)


def test_without_the_runtime_a_trial_is_refused_by_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TaskRefused) as refused:
        trial(Given(RIGHT))
    assert refused.value.reason == "runtime"

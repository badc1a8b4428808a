"""A classifier carries all that turns readings into a class; whoever has its bytes needs nothing else."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from learning import classifier, features, spread
from learning.classifier import Classifier
from learning.models import Batch, Perceptron
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused
from protocol.training import MAX_HIDDEN, Dataset, Learning

DATASET = Dataset(("x", "y"), "state", 3, 16, 8)
NAMES = features.names("statistics/1", ("x", "y"))


def begun(model: Literal["softmax", "perceptron"] = "perceptron") -> tuple[Classifier, Batch]:
    """Give a classifier before it has learnt, and three heaps of vectors for it to tell apart."""
    rng = np.random.default_rng(7)
    y = np.arange(90) % 3
    x = (rng.normal(size=(90, len(NAMES))) + y[:, None] * 2).astype(np.float32)
    made = classifier.begin(DATASET, Learning(model, hidden=8), spread.of(x), np.random.default_rng(1))
    return made, Batch(made.standardise(x), y)


@pytest.mark.parametrize("model", ["softmax", "perceptron"])
def test_its_bytes_are_all_of_it(model: Literal["softmax", "perceptron"]) -> None:
    made, batch = begun(model)
    learnt = made.fitted(batch, np.random.default_rng(2))
    again = classifier.decode(classifier.encode(learnt))
    x = np.random.default_rng(3).normal(size=(5, len(NAMES)))
    assert (again.dataset, again.learning) == (learnt.dataset, learnt.learning)
    assert again.predict(x).tolist() == learnt.predict(x).tolist()
    assert classifier.encode(again) == classifier.encode(learnt)


def test_learning_makes_another_and_leaves_it_as_it_was() -> None:
    made, batch = begun()
    before = made.vector
    learnt = made.fitted(batch, np.random.default_rng(2))
    assert made.vector.tolist() == before.tolist()
    assert learnt.net.loss(batch) < made.net.loss(batch)


def test_a_head_of_ones_own_leaves_what_is_before_it() -> None:
    made, batch = begun()
    own = made.fitted(batch, np.random.default_rng(2), head=True)
    assert isinstance(own.net, Perceptron)
    assert isinstance(made.net, Perceptron)
    assert own.net.parts["into"].tolist() == made.net.parts["into"].tolist()
    assert own.net.parts["out"].tolist() != made.net.parts["out"].tolist()


def test_no_question_has_no_right_answer() -> None:
    made, _ = begun()
    assert made.accuracy(np.empty((0, len(NAMES))), np.empty(0)) == 0.0


def changed(**changes: Any) -> bytes:
    return encode_state(decode_state(classifier.encode(begun()[0])) | changes)


def packed(value: msgspec.Struct, **changes: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(value, **changes))


REFUSED: dict[str, bytes] = {
    "no bytes": b"",
    "something else": encode_state({"schema": "baseline/1"}),
    "a dataset that is none": changed(dataset=b"\xc1"),
    "a dataset that is text": changed(dataset="all"),
    "a model we have not": changed(learning=msgspec.msgpack.encode({"model": "oracle"})),
    "no channels": changed(dataset=packed(DATASET, channels=())),
    "too many hidden": changed(learning=packed(Learning("perceptron"), hidden=MAX_HIDDEN + 1)),
    "other hidden": changed(learning=packed(Learning("perceptron"), hidden=9)),
    "features we have not": changed(dataset=packed(DATASET, features="statistics/9")),
    "parameters of another model": changed(vector=np.zeros(5, np.float32)),
    "parameters that are no numbers": changed(vector=begun()[0].vector * np.float32(np.nan)),
    "a standard of something else": changed(standard=np.zeros(3, np.float32)),
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_what_may_not_score_is_refused(content: bytes) -> None:
    with pytest.raises(ModelRefused):
        classifier.decode(content)

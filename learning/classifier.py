"""A classifier as it travels and is kept: what it is made from, how features are standardised, and what it has learnt.

Bytes: the State {schema, dataset, learning: msgpack, standard (2 d,), vector (size,)} of `protocol.columns`.
Everything that turns raw readings into a class is in it, so whoever has one needs nothing else.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from learning import features, installed, reading
from learning.models import Batch, Descent, Model, Perceptron, Softmax, Standardiser
from learning.models.perceptron import HEAD
from learning.parameters import Array, Flat
from learning.spread import Spread
from protocol.columns import encode_state
from protocol.errors import ModelRefused, TaskRefused
from protocol.training import MAX_HIDDEN, Dataset, Learning, check_dataset

SCHEMA = "classifier/1"


class Classifier:
    """From features to classes; made by `begin` or `decode`."""

    def __init__(self, dataset: Dataset, learning: Learning, standardiser: Standardiser, net: Model) -> None:
        self.dataset, self.learning = dataset, learning
        self.standardiser, self.net = standardiser, net

    @property
    def vector(self) -> Flat:
        """What was learnt: shape (size,), a copy."""
        return self.net.get()

    def standardise(self, vectors: Array) -> NDArray[np.float32]:
        """Give features in their own deviations, shape (n, d)."""
        return self.standardiser.predict(vectors)

    def predict(self, vectors: Array) -> Array:
        """Give the probability of each class, (n, classes), for features, (n, d)."""
        return self.net.predict(self.standardise(vectors))

    def accuracy(self, vectors: Array, classes: Array) -> float:
        """Give the share of right answers; 0 for no question."""
        if not len(vectors):
            return 0.0
        return float((self.predict(vectors).argmax(axis=1) == classes).mean())

    def fitted(self, batch: Batch, rng: Generator, *, head: bool = False) -> Classifier:
        """Give what it becomes by learning from standardised vectors; `head`: behind the hidden layer only."""
        only = HEAD if head and isinstance(self.net, Perceptron) else ()
        other = self.with_vector(self.vector, only)
        other.net.fit(batch, rng)
        return other

    def with_vector(self, vector: Array, only: tuple[str, ...] = ()) -> Classifier:
        """Give the same with other parameters; ModelRefused("content") if they do not fit."""
        net = _net(self.dataset, self.learning, len(self.standardiser.parts["mean"]), None, only)
        net.set(vector)
        return Classifier(self.dataset, self.learning, self.standardiser, net)


def names_of(dataset: Dataset) -> tuple[str, ...]:
    """Name the features of a dataset; ModelRefused("features") for a set that this version has not."""
    return features.names(dataset.features, dataset.channels)


def begin(dataset: Dataset, learning: Learning, merged: Spread, rng: Generator) -> Classifier:
    """Give a classifier that has learnt nothing but how the features spread."""
    standardiser = Standardiser(len(names_of(dataset)))
    standardiser.learn(merged)
    return Classifier(dataset, learning, standardiser, _net(dataset, learning, len(names_of(dataset)), rng))


def encode(classifier: Classifier) -> bytes:
    """Give a classifier's bytes: the same for the same content."""
    return encode_state(
        {
            "schema": SCHEMA,
            "dataset": msgspec.msgpack.encode(classifier.dataset),
            "learning": msgspec.msgpack.encode(classifier.learning),
            "standard": classifier.standardiser.get(),
            "vector": classifier.vector,
        }
    )


def decode(content: bytes) -> Classifier:
    """Read a classifier's bytes; ModelRefused("content"), ("features") or ("model") for whatever may not score."""
    state = reading.state(content, SCHEMA, "content")
    try:
        dataset = msgspec.msgpack.decode(state["dataset"], type=Dataset)
        learning = msgspec.msgpack.decode(state["learning"], type=Learning)
        check_dataset(dataset)
    except (KeyError, TypeError, msgspec.MsgspecError, TaskRefused) as error:
        raise ModelRefused("content", str(error)) from error
    if not 1 <= learning.hidden <= MAX_HIDDEN:
        raise ModelRefused("content", f"{learning.hidden} hidden, expected 1 to {MAX_HIDDEN}")
    size = len(names_of(dataset))
    standardiser = Standardiser(size)
    standardiser.set(reading.array(state, "standard", np.float32, (2 * size,), "content"))
    net = _net(dataset, learning, size, None)
    net.set(reading.array(state, "vector", np.float32, (-1,), "content"))
    return Classifier(dataset, learning, standardiser, net)


def _net(dataset: Dataset, learning: Learning, size: int, rng: Generator | None, only: tuple[str, ...] = ()) -> Model:
    how = Descent(learning.epochs, learning.rate, learning.rows, only=only)
    if learning.model == "softmax":
        return Softmax(size, dataset.classes, penalty=learning.penalty, how=how)
    rng = rng or default_rng(0)  # for what is replaced at once
    if learning.model != "perceptron":
        return installed.model(learning.model, size, dataset.classes, learning, rng)
    return Perceptron(size, learning.hidden, dataset.classes, rng, penalty=learning.penalty, how=how)

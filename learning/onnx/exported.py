"""An ONNX model with the windows it is for, as it travels and is kept: what scores, and does not learn here.

Bytes: the State {schema, dataset: msgpack, model: the ONNX file} of `protocol.columns`. Whoever reads one looks through
the file at once; onnxruntime is needed, and loaded, when it is asked for a class first.
"""

from __future__ import annotations

from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning import features, reading
from learning.onnx.network import Network
from learning.onnx.walk import Found, examine
from learning.parameters import Array
from protocol.columns import encode_state
from protocol.errors import ModelRefused, TaskRefused
from protocol.training import Dataset, check_dataset

SCHEMA = "onnx/1"

MAX_BYTES = 16 << 20
"""Of a file. What a gateway takes is bounded by its own `models.max_bytes`, 4 MiB as installed."""


class Exported:
    """From features to classes, as `learning.classifier.Classifier`; made by `decode`."""

    def __init__(self, dataset: Dataset, model: bytes, found: Found) -> None:
        self.dataset, self.model, self.found = dataset, model, found

    @cached_property
    def network(self) -> Network:
        """What runs it; ModelRefused says why it cannot."""
        size = len(features.names(self.dataset.features, self.dataset.channels))
        return Network(self.model, size, self.dataset.classes)

    def predict(self, vectors: Array) -> Array:
        """Give the probability of each class, (n, classes), for features, (n, d); ModelRefused if it cannot."""
        return self.network.predict(vectors)

    def standardise(self, vectors: Array) -> NDArray[np.float32]:
        """Give features as they are, (n, d): how they are scaled is the file's own."""
        return vectors.astype(np.float32)

    def accuracy(self, vectors: Array, classes: Array) -> float:
        """Give the share of right answers; 0 for no question."""
        if not len(vectors):
            return 0.0
        return float((self.predict(vectors).argmax(axis=1) == classes).mean())


def encode(dataset: Dataset, model: bytes) -> bytes:
    """Give the bytes of a file and what it is for."""
    return encode_state({"schema": SCHEMA, "dataset": msgspec.msgpack.encode(dataset), "model": model})


def decode(content: bytes) -> Exported:
    """Read what `encode` made; ModelRefused by `walk`'s reasons, or "content" or "features"."""
    state = reading.state(content, SCHEMA, "content")
    try:
        dataset = msgspec.msgpack.decode(state["dataset"], type=Dataset)
        check_dataset(dataset)
    except (KeyError, TypeError, msgspec.MsgspecError, TaskRefused) as error:
        raise ModelRefused("content", str(error)) from error
    model = state.get("model")
    if not isinstance(model, bytes):
        raise ModelRefused("content", "there is no ONNX file in it")
    features.names(dataset.features, dataset.channels)
    return Exported(dataset, model, examine(model, MAX_BYTES))


def proven(content: bytes) -> Exported:
    """Read it, and let it say something of windows of nothing; ModelRefused says what is wrong, and "runtime" too."""
    read = decode(content)
    shape = (1, read.dataset.samples, len(read.dataset.channels))
    read.predict(features.extract(read.dataset.features, np.zeros(shape)))
    return read

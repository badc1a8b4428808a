"""Something large that was learnt elsewhere and only predicts: an installed object, or an ONNX file's bytes.

    predictor("forest", features=96, classes=6)              # entry point `forest` of the group `fieldgate.models`
    predictor(file.read_bytes(), features=96, classes=6)     # an ONNX file; onnxruntime is in the extra `onnx`

Both are tried when they are made. An installed one is called with (features, classes, Learning, Generator), as
`learning.installed` says, and needs `predict` only: it loads what it has learnt by itself.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from learning import installed
from learning.onnx.network import Network
from learning.onnx.walk import examine
from learning.parameters import Array

MAX_BYTES = 1 << 30
"""Of a file: 1 GiB."""


class Predictor(Protocol):
    """What predicts."""

    def predict(self, x: Array) -> Array:
        """Give the probability of each class, (n, classes), for features, (n, d) float32; ModelRefused says why not."""


def predictor(source: str | bytes, features: int, classes: int) -> Predictor:
    """Make what predicts of a name or of an ONNX file; ModelRefused says what is wrong with it."""
    if isinstance(source, bytes):
        examine(source, MAX_BYTES)
        return Network(source, features, classes)
    made = installed.predictor(source, features, classes)
    made.predict(np.zeros((2, features), np.float32))
    return made

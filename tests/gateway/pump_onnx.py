"""What knows the states of the pump, and what takes each for another, as ONNX models."""

from __future__ import annotations

import numpy as np

from learning import onnx
from learning.classifier import Classifier
from learning.models import Softmax
from tests.gateway.test_classify import learnt, mistaken
from tests.gateway.test_trainer import DATASET
from tests.learning.onnx_files import linear


def exported(model: Classifier) -> bytes:
    """Give what a softmax model says as ONNX: what standardises is in the weights."""
    assert isinstance(model.net, Softmax)
    mean, deviation = (model.standardiser.parts[name].astype(np.float64) for name in ("mean", "deviation"))
    weights = model.net.parts["weights"] / np.maximum(deviation, 1e-12)[:, None]
    return onnx.encode(DATASET, linear(weights, model.net.parts["bias"] - mean @ weights))


RIGHT, WRONG = exported(learnt()), exported(mistaken())

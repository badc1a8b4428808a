"""What runs an ONNX model: onnxruntime, on one thread of the CPU, from bytes and as it was saved.

Rules:

1. One input, float32 of (n, features), of which n may be anything. Of its outputs one is float of (n, classes), or the
   one of these whose name says probabilities; others, such as the label of scikit-learn, are not asked for.
2. It is probed when it is made: what it says of PROBES must have that shape and be finite. Rows that add up to 1 are
   probabilities, then and later; else they are taken for scores, and softmax makes probabilities of them.
3. The graph is run as it is: no optimisation, no thread of its own, no memory kept between runs.

| reason | why |
|---|---|
| runtime | onnxruntime is not installed here |
| content | onnxruntime does not read it |
| shape | inputs or outputs that are not those of rule 1 |
| output | numbers that are not finite, or it failed |
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.random import default_rng

from learning.installed import CLOSE, guarded, sound
from learning.models.softmax import probabilities
from learning.parameters import Array
from protocol.errors import ModelRefused

PROBES = 8
SILENT = 4  # onnxruntime's "fatal": what it refuses is said by us
ZIPPED = ": for scikit-learn, convert it with options={'zipmap': False}"
AS_IT_IS = {"session.load_model_format": "ONNX", "session.intra_op.allow_spinning": "0"}


def load_runtime() -> Any:
    """Import onnxruntime, which takes 40 ms and 20 MB; ModelRefused("runtime") if it is not there."""
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise ModelRefused("runtime", "onnxruntime is not installed here: it comes with the extra `onnx`") from error


class Network:
    """A model that is ready to be asked; `model` has been walked through (`learning.onnx.walk`)."""

    def __init__(self, model: bytes, features: int, classes: int) -> None:
        self._classes = classes
        self._session = _session(model)
        self._input = _input(self._session, features)
        probes = default_rng(0).normal(size=(PROBES, features)).astype(np.float32)
        self._output = self._choose(probes)
        said = self._run(probes)
        self._shares = bool((said >= -CLOSE).all() and np.allclose(said.sum(axis=1), 1, atol=CLOSE))

    def predict(self, x: Array) -> Array:
        """Give the probability of each class, (n, classes), for features, (n, d); ModelRefused("output")."""
        if not len(x):
            return np.zeros((0, self._classes))
        said = self._run(np.ascontiguousarray(x, np.float32))
        return said if self._shares else probabilities(said)

    def _run(self, x: Array) -> Array:
        with guarded("output", "the ONNX model"):
            [said] = self._session.run([self._output], {self._input: x})
        return sound(said, len(x), self._classes, "output", f"its output {self._output}").astype(np.float64)

    def _choose(self, probes: Array) -> str:
        """Give the output that says the classes."""
        floats = [one.name for one in self._session.get_outputs() if one.type in ("tensor(float)", "tensor(double)")]
        with guarded("output", "the ONNX model"):
            said = dict(zip(floats, self._session.run(floats, {self._input: probes}), strict=True)) if floats else {}
        fitting = [name for name, one in said.items() if one.shape == (len(probes), self._classes)]
        chosen = fitting if len(fitting) == 1 else [name for name in fitting if "prob" in name.lower()]
        if len(chosen) != 1:
            there = {one.name: one.type for one in self._session.get_outputs()}
            found = there | {name: f"{there[name]} {one.shape}" for name, one in said.items()}
            hint = ZIPPED if any("map(" in one for one in found.values()) else ""
            raise ModelRefused("shape", f"outputs {found}, expected one of float (n, {self._classes}){hint}")
        name: str = chosen[0]
        return name


def _session(model: bytes) -> Any:
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = SILENT
    for key, value in AS_IT_IS.items():
        options.add_session_config_entry(key, value)
    with guarded("content", "onnxruntime"):
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _input(session: Any, features: int) -> str:
    inputs: list[Any] = session.get_inputs()
    found = {one.name: (one.type, one.shape) for one in inputs}
    rows, columns = inputs[0].shape if len(inputs) == 1 and len(inputs[0].shape) == 2 else (0, 0)
    if isinstance(rows, int) or (isinstance(columns, int) and columns != features):
        raise ModelRefused("shape", f"inputs {found}, expected one of float ('n', {features})")
    if inputs[0].type != "tensor(float)":
        raise ModelRefused("shape", f"inputs {found}, expected float32")
    name: str = inputs[0].name
    return name

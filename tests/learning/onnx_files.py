"""ONNX files for tests, made with the package `onnx`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from learning.parameters import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed: it comes with the extra `dev`")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: it comes with the extras `onnx` and `dev`")

helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, DOUBLE, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64

Outputs = tuple[tuple[str, int, list[Any] | None], ...]


def tensor(name: str, value: Array | list[float], *, external: bool = False) -> Any:
    """Give a tensor; an external one says that its data lie in the file `weights`."""
    made = numpy_helper.from_array(np.asarray(value, np.float32), name)
    if external:
        onnx.external_data_helper.set_external_data(made, "weights")
        made.ClearField("raw_data")
    return made


def file(
    nodes: Iterable[Any],
    tensors: Iterable[Any] = (),
    *,
    shape: tuple[Any, ...] = ("n", 3),
    outputs: Outputs = (("p", FLOAT, ["n", 2]),),
    kind: int = FLOAT,
    domains: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
    **more: Any,
) -> Any:
    """Give a model with the input x."""
    said = [helper.make_tensor_value_info(*output) for output in outputs]
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info("x", kind, list(shape))], said, list(tensors)
    )
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in ("", *domains)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)
    helper.set_model_props(made, metadata or {})
    return made


def linear(weights: Array, bias: Array, *, soft: bool = True, **how: Any) -> bytes:
    """Give a file of softmax regression, or its scores alone: weights (d, k), bias (k,)."""
    size, classes = np.shape(weights)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "b"], ["s" if soft else "p"])]
    nodes += [helper.make_node("Softmax", ["s"], ["p"], axis=1)] if soft else []
    about: dict[str, Any] = {"shape": ("n", size), "outputs": (("p", FLOAT, ["n", classes]),)}
    made: bytes = file(nodes, [tensor("w", weights), tensor("b", bias)], **(about | how)).SerializeToString()
    return made

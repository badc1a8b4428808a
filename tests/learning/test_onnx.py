"""An ONNX file is looked through before anything reads it, runs as it was saved, and says probabilities."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning import features, onnx
from learning.models.softmax import probabilities
from learning.onnx.walk import MAX_DEPTH
from learning.parameters import Array
from learning.predictor import predictor
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused
from protocol.training import Dataset
from tests.learning.onnx_files import DOUBLE, FLOAT, INT64, file, helper, linear, tensor
from tests.learning.onnx_files import onnx as package

WEIGHTS = np.random.default_rng(1).normal(size=(3, 2))
BIAS = np.array([0.5, -0.25])
X = np.random.default_rng(2).normal(size=(7, 3)).astype(np.float32)
LINEAR = linear(WEIGHTS, BIAS)
MOST = 1 << 20
node = helper.make_node


def refusal(model: bytes | Any) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        onnx.examine(model if isinstance(model, bytes) else model.SerializeToString(), MOST)
    return refused.value


def graph(*nodes: Any, tensors: tuple[Any, ...] = (), output: str = "y") -> Any:
    return helper.make_graph(nodes, "inner", [], [helper.make_tensor_value_info(output, FLOAT, None)], list(tensors))


# What a file holds.


def test_what_a_file_says_of_itself_and_calls_is_found() -> None:
    found = onnx.examine(linear(WEIGHTS, BIAS, metadata={"fieldgate.samples": "50"}), MOST)
    assert (found.metadata, found.graphs) == ({"fieldgate.samples": "50"}, 1)
    assert found.called == {("", "MatMul"), ("", "Add"), ("", "Softmax")}


ELSEWHERE = tensor("w", WEIGHTS, external=True)
UNSAID = tensor("w", WEIGHTS, external=True)
UNSAID.ClearField("data_location")
UNNAMED = tensor("w", WEIGHTS, external=True)
UNNAMED.ClearField("external_data")
CONSTANT = node("Constant", [], ["y"], value=ELSEWHERE)


def with_function(*nodes: Any, domain: str = "mine", name: str = "Twice") -> Any:
    made = helper.make_function(domain, name, ["a"], ["b"], list(nodes), [helper.make_opsetid("", 17)])
    return file([node(name, ["x"], ["p"], domain=domain)], domains=(domain,), functions=[made])


EXTERNAL = {
    "an initializer": file([node("Identity", ["w"], ["p"])], [ELSEWHERE]),
    "one that names a file and does not say so": file([], [UNSAID]),
    "one that says so and names none": file([], [UNNAMED]),
    "a constant": file([CONSTANT]),
    "one of an attribute's many": file([node("Some", [], ["p"], values=[tensor("a", [1]), ELSEWHERE])]),
    "in a branch": file([node("If", ["x"], ["p"], then_branch=graph(CONSTANT), else_branch=graph(CONSTANT))]),
    "in a branch's own": file([node("If", ["x"], ["p"], then_branch=graph(tensors=(ELSEWHERE,)))]),
    "in a branch of a branch": file([node("If", ["x"], ["p"], b=graph(node("If", ["x"], ["y"], b=graph(CONSTANT))))]),
    "one of many branches": file([node("Some", [], ["p"], branches=[graph(), graph(CONSTANT)])]),
    "in a function": with_function(node("Constant", [], ["b"], value=ELSEWHERE)),
}
SPARSE = file([])
SPARSE.graph.sparse_initializer.add().values.CopyFrom(ELSEWHERE)
INDICES = file([node("Some", [], ["p"], value=package.SparseTensorProto(indices=ELSEWHERE))])
DEFAULT = with_function(node("Identity", ["a"], ["b"]))
DEFAULT.functions[0].attribute_proto.add(name="value", t=ELSEWHERE)
EXTERNAL |= {"a sparse one's values": SPARSE, "a sparse one's indices": INDICES, "a function's default": DEFAULT}


@pytest.mark.parametrize("model", EXTERNAL.values(), ids=EXTERNAL.keys())
def test_data_that_lie_elsewhere_are_refused_wherever_they_are_named(model: Any) -> None:
    assert refusal(model).reason == "external"


OPERATORS = {
    "of a runtime": file([node("FusedMatMul", ["x", "x"], ["p"], domain="com.microsoft")], domains=("com.microsoft",)),
    "of nobody": file([node("Mine", ["x"], ["p"], domain="mine")], domains=("mine",)),
    "in a branch": file([node("If", ["x"], ["p"], b=graph(node("Mine", [], ["y"], domain="mine")))]),
    "that repeat others": file([node("Loop", ["n", "", "x"], ["p"], body=graph(node("Identity", ["x"], ["y"])))]),
    "that repeat others, in a function": with_function(node("Scan", ["a"], ["b"])),
    "in a function": with_function(node("Mine", ["a"], ["b"], domain="yours")),
    "a function that passes for a runtime's": with_function(node("Identity", ["a"], ["b"]), domain="com.microsoft"),
    "a function that passes for ONNX's": with_function(node("Identity", ["a"], ["b"]), domain="ai.onnx"),
}


@pytest.mark.parametrize("model", OPERATORS.values(), ids=OPERATORS.keys())
def test_operators_that_are_not_onnxs_or_that_repeat_others_are_refused(model: Any) -> None:
    assert refusal(model).reason == "operators"


def test_functions_that_a_file_brings_are_its_own() -> None:
    model = with_function(node("Add", ["a", "a"], ["b"])).SerializeToString()
    assert onnx.examine(model, MOST).functions == {("mine", "Twice")}
    np.testing.assert_allclose(predictor(_two_columns(), 3, 2).predict(X), probabilities(2 * X[:, :2]), rtol=1e-6)


def _two_columns() -> bytes:
    """Double the first two of three features, by a function of its own."""
    made = with_function(node("Add", ["a", "a"], ["b"]))
    made.graph.node[0].output[0] = "d"
    made.graph.node.append(node("MatMul", ["d", "w"], ["p"]))
    made.graph.initializer.append(tensor("w", np.eye(3)[:, :2]))
    return bytes(made.SerializeToString())


def deep(levels: int) -> bytes:
    inner = graph()
    for _ in range(levels):
        inner = graph(node("If", ["x"], ["y"], b=inner))
    return bytes(file([node("If", ["x"], ["p"], b=inner)]).SerializeToString())


CONTENT = {
    "nothing": b"",
    "something else": b"PK\x03\x04",
    "no graph": package.ModelProto(ir_version=8).SerializeToString(),
    "a field of tomorrow": LINEAR + b"\xfa\x01\x00",
    "a graph that is a number": LINEAR + b"\x38\x01",
    "an end that is too early": LINEAR[:-1],
    "a group": LINEAR + b"\x0b\x0c",
    "a number without end": b"\x08" + b"\xff" * 20,
    "one in one in one": deep(MAX_DEPTH // 3),
}


@pytest.mark.parametrize("content", CONTENT.values(), ids=CONTENT.keys())
def test_what_is_no_onnx_is_refused(content: bytes) -> None:
    assert refusal(content).reason == "content"


def test_a_file_that_is_too_large_is_not_read() -> None:
    with pytest.raises(ModelRefused, match=rf"size: an ONNX file of {len(LINEAR)} bytes, 10 at most"):
        onnx.examine(LINEAR, 10)


@given(at=st.integers(0, len(LINEAR) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_whatever_is_damaged_is_read_or_refused(at: int, byte: int, cut: bool) -> None:
    damaged = LINEAR[:at] if cut else LINEAR[:at] + bytes([byte]) + LINEAR[at + 1 :]
    try:
        onnx.examine(damaged, MOST)
    except ModelRefused as refused:
        assert refused.reason in ("content", "operators", "external")  # noqa: PT017 - or it is read


def test_a_forest_is_walked_through_in_one_stride() -> None:
    """Its numbers are a field each; what comes after them is looked at all the same."""
    many = node("Some", [], ["p"], floats=[0.5] * 1000, ints=[7, 1 << 40] * 1000, strings=["LEAF"] * 9, t=ELSEWHERE)
    assert refusal(file([many])).reason == "external"


# What runs one.

EXPECTED = probabilities(X.astype(np.float64) @ WEIGHTS + BIAS)
LABELLED = [
    node("MatMul", ["x", "w"], ["a"]),
    node("Softmax", ["a"], ["probabilities"], axis=1),
    node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
]
SAID = {
    "probabilities": (LINEAR, EXPECTED),
    "scores, of which softmax makes some": (linear(WEIGHTS, BIAS, soft=False), EXPECTED),
    "rows and columns without names": (linear(WEIGHTS, BIAS, shape=(None, None)), EXPECTED),
    "a label beside them, as of scikit-learn": (
        file(
            LABELLED,
            [tensor("w", WEIGHTS)],
            outputs=(("label", INT64, ["n"]), ("probabilities", FLOAT, ["n", 2])),
        ).SerializeToString(),
        probabilities(X.astype(np.float64) @ WEIGHTS),
    ),
    "scores beside them": (
        file(
            LABELLED, [tensor("w", WEIGHTS)], outputs=(("a", FLOAT, ["n", 2]), ("probabilities", FLOAT, ["n", 2]))
        ).SerializeToString(),
        probabilities(X.astype(np.float64) @ WEIGHTS),
    ),
}


@pytest.mark.parametrize(("model", "expected"), SAID.values(), ids=SAID.keys())
def test_it_says_the_probability_of_each_class(model: bytes, expected: Array) -> None:
    made = predictor(model, 3, 2)
    before = X.tobytes()
    np.testing.assert_allclose(made.predict(X), expected, atol=1e-6)
    np.testing.assert_allclose(made.predict(X[:1].astype(np.float64)), expected[:1], atol=1e-6)
    assert made.predict(X[:0]).shape == (0, 2)
    assert X.tobytes() == before


ZIPPED = file(
    [*LABELLED[:2], node("ZipMap", ["probabilities"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])],
    [tensor("w", WEIGHTS)],
    outputs=(),
    domains=("ai.onnx.ml",),
)
ZIPPED.graph.output.append(
    helper.make_value_info(
        "z",
        helper.make_sequence_type_proto(helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))),
    )
)
WRONG: dict[str, tuple[bytes, str]] = {
    "other features": (linear(np.ones((4, 2)), BIAS), r"shape: inputs .*, expected one of float \('n', 3\)"),
    "a number of rows": (linear(WEIGHTS, BIAS, shape=(1, 3)), r"shape: inputs"),
    "windows of three dimensions": (
        file([node("Identity", ["x"], ["p"])], shape=("n", 3, 2)).SerializeToString(),
        "shape",
    ),
    "float64": (
        file([node("Identity", ["x"], ["p"])], kind=DOUBLE, outputs=(("p", DOUBLE, ["n", 3]),)).SerializeToString(),
        "expected float32",
    ),
    "other classes": (
        linear(np.ones((3, 5)), np.ones(5)),
        r"shape: outputs .*\(8, 5\).*expected one of float \(n, 2\)",
    ),
    "two that may be meant": (
        file(LABELLED[:2], [tensor("w", WEIGHTS)], outputs=(("a", FLOAT, None), ("probabilities", FLOAT, None)))
        .SerializeToString()
        .replace(b"probabilities", b"otherwise_any"),
        r"shape: outputs",
    ),
    "a list of maps": (ZIPPED.SerializeToString(), r"convert it with options=\{'zipmap': False\}"),
    "numbers that are none": (linear(WEIGHTS * np.inf, BIAS), "output: its output p gave numbers that are not finite"),
    "an operator that is none": (file([node("Mine", ["x"], ["p"])]).SerializeToString(), "content: onnxruntime: "),
    "a mistake at work": (
        file(
            [node("Reshape", ["x", "s"], ["p"])], [package.numpy_helper.from_array(np.array([5, 2]), "s")]
        ).SerializeToString(),
        "output: the ONNX model: ",
    ),
}


@pytest.mark.parametrize(("model", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused_before_it_is_used(model: bytes, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        predictor(model, 3, 2)


def test_numbers_that_are_not_finite_are_refused_at_work_too() -> None:
    made = predictor(LINEAR, 3, 2)
    with pytest.raises(ModelRefused, match="output: its output p gave numbers that are not finite"):
        made.predict(np.full((1, 3), np.nan, np.float32))


def test_what_never_uses_one_never_loads_the_runtime() -> None:
    loads = "import sys, gateway.pipeline, gateway.trainer, cloud.app, learning.predictor"
    code = f"{loads}; assert not {{'onnx', 'onnxruntime'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# As it travels.

DATASET = Dataset(("x", "y"), "state", 3, 16, 8, "course/1")
SIZE = len(features.names("course/1", ("x", "y")))
FILE = linear(np.random.default_rng(3).normal(size=(SIZE, 3)), np.zeros(3))


def test_its_bytes_are_all_of_it() -> None:
    content = onnx.encode(DATASET, FILE)
    read = onnx.proven(content)
    assert (read.dataset, read.model, onnx.encode(read.dataset, read.model)) == (DATASET, FILE, content)
    vectors = np.random.default_rng(0).normal(size=(5, SIZE))
    said = read.predict(vectors)
    assert said.tolist() == onnx.decode(content).predict(vectors).tolist()
    assert read.accuracy(vectors, said.argmax(axis=1)) == 1.0
    assert read.accuracy(vectors[:0], np.empty(0)) == 0.0
    assert read.standardise(vectors).tolist() == vectors.astype(np.float32).tolist()


def changed(**changes: Any) -> bytes:
    return encode_state(decode_state(onnx.encode(DATASET, FILE)) | changes)


def packed(**changes: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(DATASET, **changes))


CONTENTS = {
    "no bytes": (b"", "content"),
    "another schema": (changed(schema="classifier/1"), "content"),
    "a dataset that is none": (changed(dataset=b"\xc1"), "content"),
    "a dataset that cannot be": (changed(dataset=packed(channels=())), "content"),
    "features that are not here": (changed(dataset=packed(features="course/9")), "features"),
    "no file": (changed(model="x"), "content"),
    "a file of something else": (changed(model=b"PK"), "content"),
    "a file whose data lie elsewhere": (changed(model=file([CONSTANT]).SerializeToString()), "external"),
}


@pytest.mark.parametrize(("content", "reason"), CONTENTS.values(), ids=CONTENTS.keys())
def test_what_may_not_score_is_refused_when_it_is_read(content: bytes, reason: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        onnx.decode(content)
    assert refused.value.reason == reason


def test_a_file_for_other_features_is_refused_when_it_is_tried() -> None:
    with pytest.raises(ModelRefused, match="shape: inputs"):
        onnx.proven(onnx.encode(msgspec.structs.replace(DATASET, features="statistics/1"), FILE))


def test_without_the_runtime_it_is_read_and_refused_where_it_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    content = onnx.encode(DATASET, FILE)
    assert onnx.decode(content).dataset == DATASET
    with pytest.raises(ModelRefused, match="runtime: onnxruntime is not installed here"):
        onnx.proven(content)

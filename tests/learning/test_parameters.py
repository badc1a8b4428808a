"""Parameters come back bit for bit; whatever is none is refused, with what and where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import parameters
from learning.parameters import MAX_SIZE, SCHEMA, Array, Parameters, Tensor
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused

LAYOUT = (Tensor("weights", (3, 2)), Tensor("bias", (2,), "float64"))
VECTOR = np.arange(8, dtype=np.float32)
GOLDEN = "9de39dd45ec76a58d6313cf4a948867a512505b17058ba20678b8c14c254588b"
"""Digest of the bytes of format 1: a change of it is a change of the wire."""


def content(**other: object) -> bytes:
    """The bytes of LAYOUT and VECTOR, some of it replaced."""
    tensors = [["weights", [3, 2], "float32"], ["bias", [2], "float64"]]
    return encode_state({"schema": SCHEMA, "tensors": tensors, "vector": VECTOR} | other)


def test_tensors_are_put_together_in_their_order_and_taken_apart_again() -> None:
    parts = parameters.unflatten(LAYOUT, VECTOR)
    assert parts["weights"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (parts["bias"].tolist(), parts["bias"].dtype.name) == ([6, 7], "float64")
    np.testing.assert_array_equal(parameters.flatten(LAYOUT, parts), VECTOR)


def test_what_is_written_to_a_tensor_of_float32_is_written_to_the_vector() -> None:
    vector = VECTOR.copy()
    parameters.unflatten(LAYOUT, vector)["weights"][1] = 9
    assert vector.tolist() == [0, 1, 9, 9, 4, 5, 6, 7]


def test_a_vector_that_was_checked_is_of_its_own() -> None:
    given_ = VECTOR.copy()
    got = parameters.checked(LAYOUT, given_)
    given_[:] = 9
    assert got.tolist() == VECTOR.tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-(2.0**49), 2.0**49, width=32), min_size=8, max_size=8))
def test_bytes_come_back_and_are_the_same_for_the_same_content(numbers: list[float]) -> None:
    given_ = Parameters(LAYOUT, np.array(numbers, np.float32))
    data = parameters.encode(given_)
    read = parameters.decode(data)
    assert (read.layout, read.vector.tobytes()) == (LAYOUT, given_.vector.tobytes())
    assert parameters.encode(read) == data


def test_the_bytes_are_those_of_format_1() -> None:
    assert parameters.encode(Parameters(LAYOUT, VECTOR)) == content()
    assert parameters.digest(Parameters(LAYOUT, VECTOR)) == GOLDEN


@pytest.mark.parametrize(("names", "which"), [((), [True] * 8), (("bias",), [False] * 6 + [True] * 2)])
def test_named_tensors_are_found_in_the_vector(names: tuple[str, ...], which: list[bool]) -> None:
    assert parameters.where(LAYOUT, names).tolist() == which


REFUSED = {
    "no state": (b"\xc1", ""),
    "another schema": (content(schema="parameters/2"), "parameters/2"),
    "no tensors": (content(tensors=[]), "1 to 64 tensors"),
    "too many tensors": (content(tensors=[["a", [1], "float32"]] * 65), "1 to 64 tensors"),
    "a tensor twice": (content(tensors=[["a", [4], "float32"]] * 2), "two tensors of one name"),
    "a tensor without a name": (content(tensors=[["", [8], "float32"]]), "none"),
    "a dtype that runs": (content(tensors=[["a", [8], "object"]]), "object"),
    "a size that is text": (content(tensors=[["a", ["8"], "float32"]]), "none"),
    "a size that is a flag": (content(tensors=[["a", [True], "float32"]]), "none"),
    "a negative size": (content(tensors=[["a", [-8], "float32"]]), "none"),
    "a size beyond the bound": (content(tensors=[["a", [MAX_SIZE, 2], "float32"]]), f"at most {MAX_SIZE}"),
    "too many dimensions": (content(tensors=[["a", [8, 1, 1, 1, 1], "float32"]]), "none"),
    "a vector too short": (content(vector=VECTOR[:7]), "shape (7,), expected (8,)"),
    "a vector of two dimensions": (content(vector=VECTOR.reshape(2, 4)), "1 dimensions"),
    "a vector of float64": (content(vector=VECTOR.astype(np.float64)), "float32"),
    "no vector": (content(vector=None), "vector"),
    "a number that is none": (content(vector=np.where(VECTOR == 3, np.nan, VECTOR).astype(np.float32)), "vector[3]"),
    "a number too far": (
        content(vector=np.where(VECTOR == 7, -2e15, VECTOR).astype(np.float32)),
        "bias[1] is -19999999",
    ),
}


@pytest.mark.parametrize(("data", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_model_is_refused_with_what_and_where(data: bytes, says: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        parameters.decode(data)
    assert refused.value.reason == "content"
    assert says in refused.value.detail


WRONG = {
    "missing": ({"weights": np.zeros((3, 2))}, "bias is of shape None"),
    "turned": ({"weights": np.zeros((2, 3)), "bias": np.zeros(2)}, "weights is of shape (2, 3)"),
    "infinite": ({"weights": np.zeros((3, 2)), "bias": np.array([0, np.inf])}, "bias[1] is inf"),
}


@pytest.mark.parametrize(("parts", "says"), WRONG.values(), ids=WRONG.keys())
def test_tensors_that_do_not_fit_are_refused(parts: dict[str, Array], says: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        parameters.flatten(LAYOUT, parts)
    assert says in refused.value.detail


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 200), st.integers(1, 255))
def test_no_changed_byte_does_more_than_be_refused(at: int, flip: int) -> None:
    data = bytearray(content())
    data[at % len(data)] ^= flip
    try:
        read = parameters.decode(bytes(data))
    except ModelRefused:
        return
    assert decode_state(bytes(data))
    assert len(read.vector) == parameters.size_of(read.layout)
    assert np.isfinite(read.vector).all()

"""What a model has learnt: one flat float32 vector, and the ordered list of tensors that it is made of.

All that is sent, merged, clipped and signed is the vector; names and shapes are for the model alone. Bytes: the State
{schema, tensors: [[name, [shape], dtype]], vector (size,) float32} of `protocol.columns`. Nothing is ever unpickled.

Rules:

1. The vector holds the tensors in their order, each in C order, and nothing else.
2. A tensor's dtype is what the model computes in; it travels as float32 whatever that is.
3. Names differ; sizes are bounded before anything is allocated; every number is finite, and no further than FURTHEST
   from 0, so that sums and squares stay finite too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learning import reading
from protocol.columns import encode_state
from protocol.errors import ModelRefused
from protocol.manifest import digest_of

Flat = NDArray[np.float32]
Array = NDArray[Any]

SCHEMA = "parameters/1"
MAX_TENSORS = 64
MAX_NAME = 64
MAX_DIMENSIONS = 4
MAX_SIZE = 1 << 20
"""Numbers in one vector: 4 MiB, what a gateway takes over the bus."""

FURTHEST = 1e15
"""How far a parameter may be from 0: the sum of MAX_SIZE squares of it is far from overflowing in float64."""

DTYPES = ("float32", "float64")


class Tensor(NamedTuple):
    """One named part of the vector."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """How many numbers it is."""
        return math.prod(self.shape)


Layout = tuple[Tensor, ...]


class Parameters(NamedTuple):
    """A vector, shape (size,), and what it is made of."""

    layout: Layout
    vector: Flat


def size_of(layout: Layout) -> int:
    """Give how many numbers the vector of a layout has."""
    return sum(tensor.size for tensor in layout)


def checked(layout: Layout, vector: Array) -> Flat:
    """Give a vector of its own as float32; ModelRefused("content") says which tensor has a number that is none."""
    if vector.shape != (size_of(layout),) or vector.dtype.kind != "f":
        raise ModelRefused("content", f"{vector.dtype} of shape {vector.shape}, expected ({size_of(layout)},) numbers")
    if not np.abs(vector).max(initial=0) <= FURTHEST:
        _refuse(layout, vector)
    return vector.astype(np.float32)


def flatten(layout: Layout, parts: Mapping[str, Array]) -> Flat:
    """Put tensors together; ModelRefused("content") for one that is missing, or of another shape, or not finite."""
    for tensor in layout:
        found = parts[tensor.name].shape if tensor.name in parts else None
        if found != tensor.shape:
            raise ModelRefused("content", f"{tensor.name} is of shape {found}, expected {tensor.shape}")
    pieces = [np.asarray(parts[tensor.name], np.float64).ravel() for tensor in layout]
    return checked(layout, np.concatenate(pieces))


def unflatten(layout: Layout, vector: Array) -> dict[str, Array]:
    """Give the tensors: views into the vector for those of its own dtype, which a write reaches; else copies."""
    parts: dict[str, Array] = {}
    at = 0
    for tensor in layout:
        piece = vector[at : at + tensor.size].reshape(tensor.shape)
        parts[tensor.name] = piece if tensor.dtype == "float32" else piece.astype(tensor.dtype)
        at += tensor.size
    return parts


def where(layout: Layout, names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Give, for each number of the vector, whether its tensor is named; all of them without a name."""
    flags = [np.full(tensor.size, not names or tensor.name in names) for tensor in layout]
    return np.concatenate(flags)


def encode(parameters: Parameters) -> bytes:
    """Give the bytes: the same for the same content. ModelRefused("content") for what `decode` would not read."""
    layout = _layout([[tensor.name, list(tensor.shape), tensor.dtype] for tensor in parameters.layout])
    tensors = [[tensor.name, list(tensor.shape), tensor.dtype] for tensor in layout]
    return encode_state({"schema": SCHEMA, "tensors": tensors, "vector": checked(layout, parameters.vector)})


def decode(data: bytes) -> Parameters:
    """Read what `encode` made; ModelRefused("content") says what is wrong and where."""
    state = reading.state(data, SCHEMA, "content")
    layout = _layout(state.get("tensors"))
    return Parameters(layout, checked(layout, reading.array(state, "vector", np.float32, (-1,), "content")))


def digest(parameters: Parameters) -> str:
    """Give SHA-256 of the bytes, hexadecimal, as manifests have it."""
    return digest_of(encode(parameters))


def _refuse(layout: Layout, vector: Array) -> None:
    at = int(np.argmin(np.abs(vector) <= FURTHEST))
    for tensor in layout:
        if at < tensor.size:
            place = ", ".join(str(int(index)) for index in np.unravel_index(at, tensor.shape))
            found = float(vector[at])
            raise ModelRefused("content", f"{tensor.name}[{place}] is {found!r}, expected within +-{FURTHEST:g}")
        at, vector = at - tensor.size, vector[tensor.size :]


def _layout(tensors: object) -> Layout:
    if not isinstance(tensors, list) or not 0 < len(tensors) <= MAX_TENSORS:
        raise ModelRefused("content", f"no list of 1 to {MAX_TENSORS} tensors")
    layout = tuple(map(_tensor, tensors))
    if len({tensor.name for tensor in layout}) < len(layout):
        raise ModelRefused("content", "two tensors of one name")
    if size_of(layout) > MAX_SIZE:
        raise ModelRefused("content", f"{size_of(layout)} numbers, at most {MAX_SIZE}")
    return layout


def _tensor(said: object) -> Tensor:
    match said:
        case [str(name), list(shape), str(dtype)] if name and len(name) <= MAX_NAME and dtype in DTYPES:
            if len(shape) <= MAX_DIMENSIONS and all(type(size) is int and 0 < size <= MAX_SIZE for size in shape):
                return Tensor(name, tuple(shape), dtype)
    raise ModelRefused("content", f"a tensor that is none: {said!r:.120}")

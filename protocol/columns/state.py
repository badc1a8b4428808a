"""A stage's snapshot as bytes, bit for bit: msgpack, with arrays as extension type 1.

    array    dtype u8 (index in numbers.DTYPES) | dimensions u8, at most 8 | each u32 | elements, C order, little endian
    integer  extension type 2, for those beyond 64 bits (generators have them): signed, little endian

Tuples come back as lists, numpy scalars as Python's own. Nothing else than State names is taken: TypeError, when
encoding, is the stage's fault; FrameRefused("state"), when decoding, the disk's.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no types
import msgspec
import numpy as np

from protocol.columns.numbers import CODES, DTYPES, Array
from protocol.errors import FrameRefused

ARRAY = 1
INTEGER = 2
MAX_DIMENSIONS = 8

EXT_32 = 0xC9
"""msgpack's mark of an extension with a length of 32 bits, which packb takes for more than 64 KiB as well."""
BIN_32 = 0xC6
LARGE = 1 << 18
"""Bytes of an array, or of bytes, that are worth their own part."""

_HEADERS = msgpack.Packer()
_SMALL = range(-(1 << 63), 1 << 64)


def encode_state(state: dict[str, Any]) -> bytes:
    """Give a State as bytes; not compressed, the frame does that."""
    packed: bytes = msgpack.packb(state, default=_extend)
    return packed


def state_parts(state: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """Give encode_state's bytes in parts; large ones are not copied, so that a checkpoint is not held twice."""
    if not _is_large(state):
        yield encode_state(state)
        return
    yield _HEADERS.pack_map_header(len(state))
    for key, value in state.items():
        yield _HEADERS.pack(key)
        yield from _parts(value)


def _parts(value: object) -> Iterator[bytes | memoryview]:
    match value:
        case _ if not _is_large(value):
            yield msgpack.packb(value, default=_extend)
        case dict():
            yield from state_parts(value)
        case list():
            yield _HEADERS.pack_array_header(len(value))
            for item in value:
                yield from _parts(item)
        case np.ndarray():
            head = _array_head(value)
            yield struct.pack(">BIB", EXT_32, len(head) + value.nbytes, ARRAY) + head
            yield np.ascontiguousarray(value).data.cast("B")
        case bytes():
            yield struct.pack(">BI", BIN_32, len(value))
            yield value


def _is_large(value: object) -> bool:
    match value:
        case dict():
            return any(map(_is_large, value.values()))
        case list():
            return any(map(_is_large, value))
        case np.ndarray():
            return value.nbytes > LARGE
        case bytes():
            return len(value) > LARGE
        case _:
            return False


def decode_state(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Read what encode_state made."""
    try:
        state: dict[str, Any] = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise FrameRefused("state", str(error)) from error
    return state


def _extend(value: object) -> object:
    match value:
        case np.ndarray():
            return msgpack.ExtType(ARRAY, _pack_array(value))
        case np.generic():
            return value.item()
        case int() if value not in _SMALL:
            return msgpack.ExtType(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
        case _:
            raise TypeError(f"no {type(value).__name__} in a state")


def _pack_array(array: Array) -> bytes:
    return _array_head(array) + array.tobytes()


def _array_head(array: Array) -> bytes:
    code = CODES.get(array.dtype)
    if code is None or array.ndim > MAX_DIMENSIONS:
        raise TypeError(f"no array of dtype {array.dtype} and {array.ndim} dimensions in a state")
    return struct.pack(f"<BB{array.ndim}I", code, array.ndim, *array.shape)


def _unpack(code: int, data: memoryview) -> object:
    if code == INTEGER:
        return int.from_bytes(data, "little", signed=True)
    if code != ARRAY or len(data) < 2 or data[0] >= len(DTYPES) or data[1] > MAX_DIMENSIONS:
        raise FrameRefused("state", f"extension type {code} of {len(data)} bytes")
    dtype, dimensions = DTYPES[data[0]], data[1]
    start = 2 + 4 * dimensions
    if len(data) < start:
        raise FrameRefused("state", "an array that is cut off")
    shape = struct.unpack_from(f"<{dimensions}I", data, 2)
    if math.prod(max(size, 1) for size in shape) >> 56 or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise FrameRefused("state", f"an array of shape {shape} in {len(data) - start} bytes")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).copy()


_DECODER = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=_unpack)

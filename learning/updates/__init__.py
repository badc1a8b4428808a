"""Updates as they travel: what a vector changed by, made small. Changes, never the parameters themselves.

    f32    as it is                                                      4 bytes a number
    i8     blocks of 256, each int8 with one scale; rounded by chance    1.02 bytes; the default, as good as f32
    topk   the largest 1 %, as int8; the rest is owed                    0.03 bytes; about twice the rounds
    sign   one bit each and the mean size; the rest is owed              0.13 bytes

What topk and sign leave out, and what int8 rounded there, is the residual: a value the caller keeps, on its disk, and
gives to the next `encode` (error feedback: Seide et al., 2014; Stich et al., 2018; Karimireddy et al., 2019). Without
it topk needs more than three times the rounds. An update that nobody received is `put_back`, and so is owed in full.

Layout, little endian: format u8 = 1 | codec u8, index in CODECS | numbers u32 | then as `dense` or `sparse` has it.

Rules:

1. Whatever the bytes are, `decode` gives `numbers` finite float32 numbers or ModelRefused("update").
2. Nothing is allocated before the number of numbers is the one the receiver expects.
3. decode(encode(delta + residual)) + new residual = delta + residual, to float32 rounding, for topk and sign.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.random import Generator

from learning import reading
from learning.parameters import FURTHEST, MAX_SIZE, Flat
from learning.updates import dense, sparse
from protocol.errors import ModelRefused

Codec = Literal["f32", "i8", "topk", "sign"]

CODECS: tuple[Codec, ...] = get_args(Codec)
OWING: frozenset[Codec] = frozenset({"topk", "sign"})
"""Codecs that leave something out on purpose."""

FORMAT = 1
SHARE = 0.01
"""How much of the numbers topk sends."""

_HEAD = struct.Struct("<BBI")


class Encoded(NamedTuple):
    """What goes out, and what is still owed after it: shape (size,), None for a codec that owes nothing."""

    payload: bytes
    residual: Flat | None


def encode(codec: Codec, delta: Flat, rng: Generator, residual: Flat | None = None, *, share: float = SHARE) -> Encoded:
    """Make an update of delta, shape (size,), and of what is owed; ModelRefused("update") if it is not finite."""
    total = _sound(delta if residual is None else delta + residual)
    match codec:
        case "f32":
            body = dense.pack_floats(total)
        case "i8":
            body = dense.pack_bytes(total, rng)
        case "topk":
            body = sparse.pack_largest(total, share)
        case "sign":
            body = sparse.pack_signs(total)
    payload = _HEAD.pack(FORMAT, CODECS.index(codec), len(total)) + body
    return Encoded(payload, total - decode(payload, len(total)) if codec in OWING else None)


def decode(payload: bytes, size: int) -> Flat:
    """Read an update of `size` numbers; ModelRefused("update") for whatever is none."""
    codec, body = codec_of(payload, size), memoryview(payload)[_HEAD.size :]
    match codec:
        case "f32":
            vector = dense.unpack_floats(body, size)
        case "i8":
            vector = dense.unpack_bytes(body, size)
        case "topk":
            vector = sparse.unpack_largest(body, size)
        case "sign":
            vector = sparse.unpack_signs(body, size)
    return _sound(vector)


def codec_of(payload: bytes, size: int) -> Codec:
    """Give the codec of an update that says it has `size` numbers; ModelRefused("update") if it says otherwise."""
    if len(payload) < _HEAD.size:
        raise ModelRefused("update", f"{len(payload)} bytes, the head has {_HEAD.size}")
    version, code, numbers = _HEAD.unpack_from(payload)
    if version != FORMAT or code >= len(CODECS):
        raise ModelRefused("update", f"format {version}, codec {code}: this reads {FORMAT}, below {len(CODECS)}")
    if numbers != size or not 0 < size <= MAX_SIZE:
        raise ModelRefused("update", f"{numbers} numbers, expected {size}, from 1 to {MAX_SIZE}")
    codec: Codec = CODECS[code]
    return codec


def put_back(payload: bytes, residual: Flat | None, size: int) -> Flat | None:
    """Give the residual as if an update that nobody received had not been sent; the same where a codec owes nothing."""
    if codec_of(payload, size) not in OWING:
        return residual
    sent = decode(payload, size)
    return sent if residual is None else sent + residual


def _sound(vector: Flat) -> Flat:
    reading.finite("update", vector, "update")
    if np.abs(vector).max(initial=0) > FURTHEST:
        raise ModelRefused("update", f"a number beyond {FURTHEST:g}")
    return vector

"""Every number of an update: as float32, or as int8 in blocks with a scale each.

    f32    float32 each, little endian
    i8     scales f32, one for each BLOCK numbers | int8 each;  number = int8 * scale,  scale = largest of block / 127

Rounding by chance, floor(x / scale + u) with u even in [0, 1), is right in the mean: the errors of many gateways and
rounds cancel (QSGD: Alistarh et al., 2017). No number is further off than one scale.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from learning.parameters import Flat
from protocol.errors import ModelRefused

BLOCK = 256
LEVELS = 127


def pack_floats(vector: Flat) -> bytes:
    """Give float32 numbers as they are."""
    return vector.astype("<f4").tobytes()


def unpack_floats(body: memoryview, size: int) -> Flat:
    """Read `size` float32 numbers; ModelRefused("update")."""
    expect(body, 4 * size)
    return np.frombuffer(body, "<f4").astype(np.float32)


def pack_bytes(vector: Flat, rng: Generator | None) -> bytes:
    """Give int8 numbers with their scales: rounded by chance, or to the nearest without a generator."""
    blocks = in_blocks(vector)
    scales = (np.abs(blocks).max(axis=1) / LEVELS).astype("<f4")
    ratio = np.divide(blocks, scales[:, None], out=np.zeros(blocks.shape), where=scales[:, None] > 0)
    whole = np.rint(ratio) if rng is None else np.floor(ratio + rng.random(blocks.shape))
    numbers = np.clip(whole, -LEVELS, LEVELS).astype(np.int8).ravel()[: len(vector)]
    return bytes(scales) + bytes(numbers)


def unpack_bytes(body: memoryview, size: int) -> Flat:
    """Read `size` int8 numbers with their scales; ModelRefused("update")."""
    count = -(-size // BLOCK)
    expect(body, 4 * count + size)
    scales = np.frombuffer(body[: 4 * count], "<f4")
    if not (np.isfinite(scales) & (scales >= 0)).all():
        raise ModelRefused("update", "a scale that is none")
    numbers = in_blocks(np.frombuffer(body[4 * count :], np.int8))
    wide = numbers * scales[:, None].astype(np.float64)
    return within(wide.ravel()[:size])


def in_blocks(numbers: NDArray[np.generic]) -> NDArray[np.float64]:
    """Give numbers, shape (n,), as float64 in rows of BLOCK, the last one filled with 0."""
    count = -(-len(numbers) // BLOCK)
    blocks = np.zeros(count * BLOCK)
    blocks[: len(numbers)] = numbers
    return blocks.reshape(count, BLOCK)


def within(wide: NDArray[np.float64]) -> Flat:
    """Give float64 numbers as float32; what float32 cannot hold stays for the check that follows, as infinite."""
    with np.errstate(over="ignore"):
        return wide.astype(np.float32)


def expect(body: memoryview, size: int) -> None:
    """Refuse a body that is not of this size: ModelRefused("update")."""
    if len(body) != size:
        raise ModelRefused("update", f"{len(body)} bytes behind the head, expected {size}")

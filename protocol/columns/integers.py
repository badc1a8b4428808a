"""64-bit integers as a few bytes, or a few bits, each.

What is packed is always an offset from the smallest, divided by a power of ten that divides all of them, so it is
unsigned and takes as many bytes or bits as the largest needs. Two packings of n offsets:

    BYTES   `width` bytes each: all lowest bytes, then all second bytes, ..          (width <= 8)
    PLANES  `width` bits each: all lowest bits, padded with 0 to whole bytes, then ..  (width <= 64)

BYTES leave regularities of whole bytes to lz4; PLANES make noise cost log2(range) bits, and constant planes nothing
after lz4. All arithmetic is modulo 2^64: there is no overflow, and what wraps on the way in wraps back on the way out.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.errors import FrameRefused

Integers = NDArray[np.int64]
Offsets = NDArray[np.uint64]

BYTES: Final = 0
PLANES: Final = 1

MASK = (1 << 64) - 1
TENS = tuple(10**power for power in range(16))
_TRIED = (9, 6, 3)  # s, ms and us in stamps of ns; each try costs a division per value
_SAMPLE = 8
_CONTAINERS = ("<u1", "<u1", "<u2", "<u4", "<u4", "<u8", "<u8", "<u8", "<u8")
_PLACES = np.arange(8, dtype=np.uint8)[:, None]
_BITS = np.uint8(1) << _PLACES


class Spread(NamedTuple):
    """Where integers lie: the smallest, and how far above it the largest is."""

    base: int
    range: int


def spread(values: Integers) -> Spread:
    """Measure at least one integer."""
    low = int(np.minimum.reduce(values))
    return Spread(low, int(np.maximum.reduce(values)) - low)


def offsets(values: Integers, base: int) -> Offsets:
    """Give each integer's distance above `base`."""
    unsigned = values.view(np.uint64)
    return unsigned - np.uint64(base & MASK) if base else unsigned


def divisor(values: Offsets) -> int:
    """Give the power of ten (9, 6, 3 or 0) that divides all."""
    common = math.gcd(*values[:: max(1, len(values) // _SAMPLE)].tolist())
    for power in _TRIED:
        if common % TENS[power] == 0 and not np.count_nonzero(values % np.uint64(TENS[power])):
            return power
    return 0


def length(rows: int, packing: int, width: int) -> int:
    """Give how many bytes `pack` makes."""
    return rows * width if packing == BYTES else (rows + 7) // 8 * width


def pack(values: Offsets, packing: int, width: int) -> bytes:
    """Pack offsets that all fit into `width`."""
    if not width:
        return b""
    size = (width + 7) // 8 if packing == PLANES else width
    narrow = values.astype(_CONTAINERS[size])
    octets = narrow.view(np.uint8).reshape(len(values), -1).T
    if packing == BYTES:
        return octets[:width].tobytes()
    bits = np.ascontiguousarray(octets)[:, None, :] & _BITS  # shape (bytes, 8, rows): not 0 where the bit is set
    return np.packbits(bits.reshape(-1, len(values))[:width], axis=1, bitorder="little").tobytes()


def unpack(data: memoryview, rows: int, packing: int, width: int) -> Offsets:
    """Unpack `length(rows, packing, width)` bytes; FrameRefused when padding is not 0."""
    if not width or not rows:
        return np.zeros(rows, np.uint64)
    octets = np.frombuffer(data, np.uint8).reshape(width, -1)
    if packing == PLANES:
        octets = _from_planes(octets, rows, width)
    if len(octets) == 1:
        single: Offsets = octets[0].astype(np.uint64)
        return single
    wide = np.zeros((rows, 8), np.uint8)
    for place, column in enumerate(octets):
        wide[:, place] = column
    values: Offsets = wide.view("<u8").ravel()
    return values


def _from_planes(planes: NDArray[np.uint8], rows: int, width: int) -> NDArray[np.uint8]:
    """Give shape (bytes, rows) from shape (width, rows / 8 rounded up)."""
    if rows % 8 and (planes[:, -1] >> (rows % 8)).any():
        raise FrameRefused("columns", "padding that is not 0")
    bits = np.zeros(((width + 7) // 8 * 8, rows), np.uint8)
    bits[:width] = np.unpackbits(planes, axis=1, bitorder="little", count=rows)
    octets = bits.reshape(-1, 8, rows)
    octets <<= _PLACES
    merged: NDArray[np.uint8] = np.bitwise_or.reduce(octets, axis=1)
    return merged

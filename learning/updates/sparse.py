"""A little of every number, or all of a few: the rest is owed.

    topk   kept u32 | their values as i8 lays them out, to the nearest | their places: the first, then each one's
           distance from the one before less 1, seven bits a byte, lowest first, bit 7 set where another byte follows
    sign   scale f32 | one bit each, 1 for at least 0, the first lowest;  number = +-scale,  scale = mean of all sizes

Top-k: Aji and Heafield, 2017; Lin et al., "Deep gradient compression", 2018. Scaled signs: Karimireddy et al., "Error
feedback fixes signSGD", 2019.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from learning.parameters import FURTHEST, Flat
from learning.updates import dense
from protocol.errors import ModelRefused

Places = NDArray[np.int64]

_KEPT = struct.Struct("<I")
_SCALE = struct.Struct("<f")
LONGEST = 3
"""Bytes of one place: 21 bits, and MAX_SIZE has 20."""


def pack_largest(vector: Flat, share: float) -> bytes:
    """Give the largest share of the numbers, at least one, rounded to the nearest of int8, and where they are."""
    kept = min(max(round(share * len(vector)), 1), len(vector))
    places = np.sort(np.argpartition(np.abs(vector), len(vector) - kept)[len(vector) - kept :])
    return _KEPT.pack(kept) + dense.pack_bytes(vector[places], None) + _gaps(places)


def unpack_largest(body: memoryview, size: int) -> Flat:
    """Read `size` numbers of which a few are not 0; ModelRefused("update")."""
    kept = _KEPT.unpack_from(body)[0] if len(body) >= _KEPT.size else 0
    if not 0 < kept <= size:
        raise ModelRefused("update", f"{kept} of {size} numbers")
    end = _KEPT.size + 4 * -(-kept // dense.BLOCK) + kept
    values = dense.unpack_bytes(body[_KEPT.size : end], kept)
    vector = np.zeros(size, np.float32)
    vector[_places(body[end:], kept, size)] = values
    return vector


def pack_signs(vector: Flat) -> bytes:
    """Give one bit for each number, and the mean of their sizes."""
    return (
        _SCALE.pack(float(np.abs(vector).mean(dtype=np.float64)))
        + np.packbits(vector >= 0, bitorder="little").tobytes()
    )


def unpack_signs(body: memoryview, size: int) -> Flat:
    """Read `size` numbers of one size; ModelRefused("update")."""
    dense.expect(body, _SCALE.size + -(-size // 8))
    (scale,) = _SCALE.unpack_from(body)
    if not 0 <= scale <= FURTHEST:
        raise ModelRefused("update", f"a scale of {scale!r}")
    signs = np.unpackbits(np.frombuffer(body[_SCALE.size :], np.uint8), count=size, bitorder="little")
    return np.where(signs, np.float32(scale), np.float32(-scale))


def _gaps(places: Places) -> bytes:
    """Give ascending places as distances of one to LONGEST bytes."""
    gaps = np.diff(places, prepend=-1) - 1
    shifts = 7 * np.arange(LONGEST)
    bits = (gaps[:, None] >> shifts) & 0x7F
    more = (gaps[:, None] >> (shifts + 7)) > 0
    needed = np.concatenate([np.ones((len(gaps), 1), bool), more[:, :-1]], axis=1)
    return bytes((bits | more << 7)[needed].astype(np.uint8))


def _places(body: memoryview, kept: int, size: int) -> Places:
    data = np.frombuffer(body, np.uint8).astype(np.int64)
    ends = np.flatnonzero(data < 0x80)
    lengths = np.diff(ends, prepend=-1)
    if len(ends) != kept or len(data) != ends[-1] + 1 or lengths.max() > LONGEST:
        raise ModelRefused("update", f"places of {len(ends)} numbers, expected {kept}")
    starts = ends + 1 - lengths
    shifts = 7 * (np.arange(len(data)) - np.repeat(starts, lengths))
    gaps = np.add.reduceat((data & 0x7F) << shifts, starts)
    places: Places = np.cumsum(gaps + 1) - 1
    if places[-1] >= size:
        raise ModelRefused("update", f"place {places[-1]} of {size}")
    return places

"""Values of any dtype as 64-bit integers, and back bit for bit.

    BITS     the value's own bits (an integer is itself)
    DECIMAL  value * 10^scale, rounded; back by one division, which is correctly rounded
    SUM      value * count * 10^scale, rounded: a mean of decimals is a whole number of them over its count

DECIMAL and SUM are taken only after the way back was gone and compared. Values whose bits did not come back (-0.0, NaN,
infinities, longer decimals) are kept beside as they are, when they are few; when they are many, the column is BITS.
All of it is IEEE 754 double arithmetic of single operations, the same on every machine.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Integers = NDArray[np.int64]

BITS: Final = 0
DECIMAL: Final = 1
SUM: Final = 2

DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(name) for name in ("?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f4", "<f8")
)
"""Every dtype that is stored; its index is its code."""
CODES: dict[np.dtype[Any], int] = {dtype: code for code, dtype in enumerate(DTYPES)}

SCALES = 10
FEW = 64
"""One odd value in so many is kept beside without looking for a larger scale."""
MANY = 8
"""With one odd value in so many or more there is no decimal form: each costs 12 bytes, the others save 5 to 7."""
EXACT = 2.0**53
"""Doubles hold every whole number up to here."""

_TENS = tuple(10.0**scale for scale in range(SCALES))
_SAMPLE = 8


class Whole(NamedTuple):
    """A column as whole numbers; `odd` are the rows whose values do not come back from them, None if all do."""

    scale: int
    integers: Integers
    odd: NDArray[np.intp] | None = None


def bits(values: Array) -> Integers:
    """Give the bits of values as integers; those of 8 bytes are not copied."""
    if values.dtype.kind == "f":
        values = values.view(f"<i{values.itemsize}")
    return values.view(np.int64) if values.itemsize == 8 else values.astype(np.int64)


def from_bits(integers: Integers, dtype: np.dtype[Any]) -> Array:
    """Undo `bits`; integers that do not fit into the dtype are taken modulo."""
    if dtype.kind == "f":
        return integers.astype(f"<i{dtype.itemsize}", copy=False).view(dtype)
    return integers.view(dtype) if dtype.itemsize == 8 else integers.astype(dtype)


def decimal(values: Array, counts: Array | None = None) -> Whole | None:
    """Give the DECIMAL form of floats, or with counts the SUM form; None if too many values have none."""
    best: Whole | None = None
    trial, weights, scale = values, counts, -1
    while (scale := _scale(trial, weights, scale + 1)) >= 0:
        whole = _at(values, counts, scale)
        if whole.odd is None or len(whole.odd) * FEW <= len(values):
            return whole
        if best is None and len(whole.odd) * MANY <= len(values):
            best = whole
        rest = whole.odd[values[whole.odd] != 0.0]  # perhaps they are longer decimals; no scale helps -0.0
        trial, weights = values[rest], None if counts is None else counts[rest]
    return best


def from_decimal(integers: Integers, dtype: np.dtype[Any], scale: int, counts: Array | None = None) -> Array:
    """Undo `decimal`, but for the odd rows."""
    if counts is None:
        return (integers / _TENS[scale]).astype(dtype, copy=False)
    with np.errstate(all="ignore"):  # a count of 0 gives NaN
        return (integers / (counts * _TENS[scale])).astype(dtype, copy=False)


def foretell(reference: Array, scale: int) -> Integers:
    """Give the integers of DECIMAL that a reference column leads one to expect; 0 where it has none."""
    with np.errstate(all="ignore"):
        expected = np.rint(reference.astype(np.float64, copy=False) * _TENS[scale])
        expected[~(np.abs(expected) <= EXACT)] = 0.0
    return expected.astype(np.int64)


def _scale(values: Array, counts: Array | None, least: int) -> int:
    """Give a scale of at least `least` that suits a sample, but for one value in eight; -1 if none does."""
    step = max(1, len(values) // _SAMPLE)
    sample = values[::step].tolist()
    weights = repeat(1) if counts is None else counts[::step].tolist()
    slack = 0.0 if values.itemsize == 8 else 2.0**-24
    scale, misfits = least, 0
    for value, weight in zip(sample, weights, strict=False):
        if (needed := _shortest(value, weight or 1, scale, slack)) < SCALES:
            scale = needed
        elif (misfits := misfits + 1) * 8 > len(sample):
            return -1
    return scale if sample else -1


def _shortest(value: float, weight: int, least: int, slack: float) -> int:
    """Give the smallest scale from `least` on at which a value comes back; SCALES if none."""
    if not abs(value) < EXACT:
        return SCALES
    for scale in range(least, SCALES):
        by = weight * _TENS[scale]
        if abs(round(value * by) / by - value) <= slack * abs(value):
            return scale
    return SCALES


def _at(values: Array, counts: Array | None, scale: int) -> Whole:
    by = _TENS[scale] if counts is None else counts * _TENS[scale]
    with np.errstate(all="ignore"):  # what overflows, or is no number, does not come back and so is found
        integers = np.rint(values.astype(np.float64, copy=False) * by).astype(np.int64)
    back = from_decimal(integers, values.dtype, scale, counts)
    form = f"<i{values.itemsize}"
    changed = back.view(form) != values.view(form)
    if not np.count_nonzero(changed):
        return Whole(scale, integers)
    odd = np.flatnonzero(changed)
    integers[odd] = integers[changed.argmin()]  # any that came back: it widens nothing
    return Whole(scale, integers, odd)

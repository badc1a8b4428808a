"""Values of any dtype as 64-bit integers, and back bit for bit.

    BITS     the value's own bits (an integer is itself)
    DECIMAL  value * 10^scale, rounded; back by one division, which is correctly rounded
    SUM      value * count * 10^scale, rounded: a mean of decimals is a whole number of them over its count

DECIMAL and SUM are taken only when the way back gives every bit of every value, so -0.0, NaN and infinities, and any
value that is not the double nearest to a short decimal, send the whole column to BITS. All of it is IEEE 754 double
arithmetic of single operations, the same on every machine.
"""

from __future__ import annotations

from typing import Any, Final

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
POWERS = np.array([10.0**scale for scale in range(SCALES)])
EXACT = 2.0**53
"""Doubles hold every whole number up to here."""
_TENS = [float(power) for power in POWERS]
_COLUMN = POWERS[:, None]
_SAMPLE = 16


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


def decimal(values: Array, counts: Array | None = None) -> tuple[int, Integers] | None:
    """Give the scale and the integers of DECIMAL, or with counts of SUM; None if some bit would not come back."""
    with np.errstate(all="ignore"):  # the check below finds what overflowed or was never a number
        weighted = values.astype(np.float64, copy=False)
        if counts is not None:
            weighted = weighted * counts
        pending, scale = values, -1
        while (scale := _scale(pending, weighted if pending is values else None, counts, scale + 1)) >= 0:
            rounded = np.rint(weighted * _TENS[scale])
            if not np.maximum.reduce(np.abs(rounded)) <= EXACT:
                return None
            integers = rounded.astype(np.int64)
            wrong = _differ(from_decimal(integers, values.dtype, scale, counts), values)
            if not wrong.any():
                return scale, integers
            if counts is not None:
                return None
            pending = values[wrong]
    return None


def from_decimal(integers: Integers, dtype: np.dtype[Any], scale: int, counts: Array | None = None) -> Array:
    """Undo `decimal`."""
    with np.errstate(all="ignore"):  # a count of 0 is the sender's nonsense, and gives NaN
        if counts is not None:
            return (integers / (counts * _TENS[scale])).astype(dtype, copy=False)
        return (integers / _TENS[scale]).astype(dtype, copy=False)


def foretell(reference: Array, scale: int) -> Integers:
    """Give the integers of DECIMAL that a reference column leads one to expect; 0 where it has none."""
    with np.errstate(all="ignore"):
        expected = np.rint(reference.astype(np.float64, copy=False) * _TENS[scale])
        expected[~(np.abs(expected) <= EXACT)] = 0.0
    return expected.astype(np.int64)


def _scale(values: Array, weighted: Array | None, counts: Array | None, least: int) -> int:
    """Give the smallest scale from `least` on at which a sample comes back; -1 if none does."""
    step = max(1, len(values) // _SAMPLE)
    sample = values[::step]
    spread = (weighted if weighted is not None else values.astype(np.float64, copy=False))[::step]
    powers = _COLUMN[least:]
    per = powers if counts is None else powers * counts[::step]
    back = (np.rint(spread * powers) / per).astype(values.dtype, copy=False)
    fits = np.logical_and.reduce(back == sample, axis=1)
    found = int(fits.argmax()) if len(fits) else 0
    return least + found if len(fits) and fits[found] else -1


def _differ(these: Array, those: Array) -> NDArray[np.bool_]:
    form = f"<i{those.itemsize}"
    return these.view(form) != those.view(form)

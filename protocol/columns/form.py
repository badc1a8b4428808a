"""How one column is stated, and the bytes that say so.

Layout, little endian:

    name       u8 length, UTF-8
    dtype      u8  index in numbers.DTYPES
    form       u8  bits 0-1 source (BITS, DECIMAL, SUM), bits 2-3 prediction (NONE, DELTA, AGAINST),
                   bit 4 packing (BYTES, PLANES), bit 5 whether there are odd rows
    tens       u8  bits 0-3 the source's power of ten, bits 4-7 the divisor's
    width      u8  bytes or bits of each packed offset; 0 when all are 0, so that a constant column has no payload
    reference  u8  an earlier column (SUM: the counts; AGAINST: what foretells the values), absent otherwise
    sizes      u8  bits 0-3 bytes of base, bits 4-7 bytes of first
    base       signed; the smallest difference from the prediction
    first      signed; with DELTA the first integer, absent otherwise
    payload    integers.length(n, packing, width) bytes; n is the rows, with DELTA one fewer
    odd        u32 how many, their rows as u32 ascending, their values as they are; absent without odd rows

    integer = prediction + base + offset * 10^divisor, modulo 2^64
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.columns import integers, numbers
from protocol.columns.integers import BYTES, PLANES, TENS
from protocol.columns.numbers import BITS, DECIMAL, SUM, Array
from protocol.errors import FrameRefused

NONE: Final = 0
DELTA: Final = 1
AGAINST: Final = 2

_FIXED = struct.Struct("<BBBB")
_COUNT = struct.Struct("<I")


class Form(NamedTuple):
    """The fields of the layout above; `reference` is -1 when absent."""

    source: int = BITS
    scale: int = 0
    prediction: int = NONE
    reference: int = -1
    base: int = 0
    first: int = 0
    packing: int = BYTES
    divisor: int = 0
    width: int = 0


class Odd(NamedTuple):
    """Values that their column's form does not give, each array of shape (n,)."""

    rows: NDArray[np.uint32]
    values: Array

    @property
    def size(self) -> int:
        """Bytes it takes."""
        return _COUNT.size + self.rows.nbytes + self.values.nbytes


def write(name: str, dtype: np.dtype[Any], form: Form, payload: bytes, odd: Odd | None) -> bytes:
    """Give one column's bytes."""
    text = name.encode()
    base, first = _signed(form.base), _signed(form.first)
    kind = form.source | form.prediction << 2 | form.packing << 4 | (odd is not None) << 5
    fixed = _FIXED.pack(numbers.CODES[dtype], kind, form.scale | form.divisor << 4, form.width)
    reference = bytes((form.reference,)) if form.reference >= 0 else b""
    head = (bytes((len(text),)), text, fixed, reference, bytes((len(base) | len(first) << 4,)), base, first)
    tail = () if odd is None else (_COUNT.pack(len(odd.rows)), odd.rows.tobytes(), odd.values.tobytes())
    return b"".join((*head, payload, *tail))


class Reader:
    """A place in bytes that are never read past their end."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0
        self._end = len(data)

    def take(self, size: int) -> memoryview:
        """Give the next bytes."""
        start = self.at
        self.at = end = start + size
        if end > self._end:
            raise self._cut_off()
        return self.data[start:end]

    def _pass(self, size: int) -> int:
        start = self.at
        self.at = start + size
        if self.at > self._end:
            raise self._cut_off()
        return start

    def _cut_off(self) -> FrameRefused:
        return FrameRefused("columns", f"cut off at {self._end} of {self.at} bytes")

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """Read one layout."""
        return layout.unpack_from(self.data, self._pass(layout.size))

    def byte(self) -> int:
        """Read a number of one byte."""
        at = self.at
        self.at = at + 1
        if at >= self._end:
            raise self._cut_off()
        return self.data[at]

    def text(self) -> str:
        """Read a text with its length before it; what is not UTF-8 becomes a name that nobody has."""
        return str(self.take(self.byte()), "utf-8", "replace")

    def signed(self, size: int) -> int:
        """Read a signed number of `size` bytes."""
        return int.from_bytes(self.take(size), "little", signed=True) if size else 0


def read(reader: Reader, dtype: np.dtype[Any], rows: int, before: list[Array]) -> Array:
    """Read one column after its name; `before` are the columns already read, which it may refer to."""
    form, is_odd = _read_form(reader, dtype, len(before))
    if form.source == SUM and before[form.reference].dtype.kind not in "iu":
        raise FrameRefused("columns", "counts that are no integers")
    count = max(rows - 1, 0) if form.prediction == DELTA else rows
    payload = reader.take(integers.length(count, form.packing, form.width))
    column = _restore(form, payload, rows, dtype, before)
    if is_odd:
        odd = _read_odd(reader, dtype, rows)
        column[odd.rows] = odd.values
    return column


def _restore(form: Form, payload: memoryview, rows: int, dtype: np.dtype[Any], before: list[Array]) -> Array:
    if not rows:
        return np.empty(0, dtype)
    count = rows - 1 if form.prediction == DELTA else rows
    differences = integers.unpack(payload, count, form.packing, form.width)
    if form.divisor:
        differences *= np.uint64(TENS[form.divisor])
    if form.base:
        differences += np.uint64(form.base & integers.MASK)
    values = _predicted(form, differences.view(np.int64), before)
    if form.source == BITS:
        return numbers.from_bits(values, dtype)
    return numbers.from_decimal(values, dtype, form.scale, before[form.reference] if form.source == SUM else None)


def _predicted(form: Form, differences: NDArray[np.int64], before: list[Array]) -> NDArray[np.int64]:
    if form.prediction == DELTA:
        values = np.empty(len(differences) + 1, np.int64)
        values[0] = form.first
        values[1:] = differences
        return np.add.accumulate(values, out=values)
    if form.prediction == AGAINST:
        differences += numbers.foretell(before[form.reference], form.scale)
    return differences


def _read_form(reader: Reader, dtype: np.dtype[Any], before: int) -> tuple[Form, bool]:
    code, kind, tens, width = reader.unpack(_FIXED)
    source, prediction, packing = kind & 3, kind >> 2 & 3, kind >> 4 & 1
    reference = reader.byte() if source == SUM or prediction == AGAINST else -1
    sizes = reader.byte()
    if max(sizes & 15, sizes >> 4) > 8 or kind >> 6:
        raise FrameRefused("columns", f"no such form: {kind:#x} with numbers of {sizes:#x} bytes")
    base, first = reader.signed(sizes & 15), reader.signed(sizes >> 4)
    form = Form(source, tens & 15, prediction, reference, base, first, packing, tens >> 4, width)
    if code != numbers.CODES.get(dtype):
        raise FrameRefused("columns", f"dtype {code} where {dtype} is expected")
    if not _sound(form, dtype, before):
        raise FrameRefused("columns", f"no such form: {form}")
    return form, bool(kind >> 5)


def _sound(form: Form, dtype: np.dtype[Any], before: int) -> bool:
    if form.source == BITS:
        source = form.scale == 0
    else:
        source = form.source <= SUM and dtype.kind == "f" and form.scale < numbers.SCALES
    against = form.prediction != AGAINST or form.source == DECIMAL
    prediction = form.prediction <= AGAINST and against and (form.prediction == DELTA or not form.first)
    return source and prediction and form.reference < before and form.width <= (64 if form.packing == PLANES else 8)


def _read_odd(reader: Reader, dtype: np.dtype[Any], rows: int) -> Odd:
    (count,) = reader.unpack(_COUNT)
    at = np.frombuffer(reader.take(4 * count), "<u4")
    values = np.frombuffer(reader.take(dtype.itemsize * count), dtype)
    if not count or at[-1] >= rows or (at[1:] <= at[:-1]).any():
        raise FrameRefused("columns", "odd rows that are out of order or out of the table")
    return Odd(at, values)


def _signed(value: int) -> bytes:
    magnitude = ~value if value < 0 else value
    return value.to_bytes(magnitude.bit_length() // 8 + 1, "little", signed=True) if value else b""

"""A table: named columns of one length.

Layout, little endian:

    format   u8   1
    columns  u8
    rows     u32
    then each column:
        name       u8 length, UTF-8
        dtype      u8  index in numbers.DTYPES
        form       u8  bits 0-1 source (BITS, DECIMAL, SUM), bits 2-3 prediction (NONE, DELTA, AGAINST), bit 4 packing
        scale      u8  bits 0-3 the source's power of ten, bits 4-7 the divisor's
        width      u8  bytes or bits of each packed offset; 0 when all are 0, so that a constant column has no payload
        reference  u8  an earlier column (SUM: the counts; AGAINST: what foretells the values), absent otherwise
        sizes      u8  bits 0-3 bytes of base, bits 4-7 bytes of first
        base       signed; the smallest difference from the prediction
        first      signed; with DELTA the first integer, absent otherwise
        payload    integers.length(n, packing, width) bytes; n is rows, with DELTA rows - 1

    integer = prediction + base + offset * 10^divisor, modulo 2^64

Invariants: the columns are exactly those asked for, each once, each of the dtype asked for, with nothing after them;
nothing larger than `max_rows` rows is allocated; arrays that come out can be written to and share no memory.

Effort `speed` chooses by range alone; `size` tries every form and keeps what is smallest after lz4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import lz4.block
import numpy as np
from numpy.typing import DTypeLike, NDArray

from protocol.columns import integers, numbers
from protocol.columns.integers import BYTES, DIVISORS, PLANES
from protocol.columns.numbers import BITS, DECIMAL, SUM, Array, Integers
from protocol.errors import FrameRefused

Effort = Literal["speed", "size"]

FORMAT = 1
NONE: Final = 0
DELTA: Final = 1
AGAINST: Final = 2

_HEAD = struct.Struct("<BBI")
_FORM = struct.Struct("<BBBB")


class Hint(NamedTuple):
    """What is known of a column: `sum_of` names the counts whose mean it is, `near` the column that foretells it."""

    sum_of: str = ""
    near: str = ""


class _Form(NamedTuple):
    """How one column is stated; the fields of the layout above."""

    source: int = BITS
    scale: int = 0
    prediction: int = NONE
    reference: int = -1
    base: int = 0
    first: int = 0
    packing: int = BYTES
    divisor: int = 0
    width: int = 0


class _Stated(NamedTuple):
    """A form, and what is left to pack; `range` is the largest offset."""

    form: _Form
    offsets: NDArray[np.uint64]
    range: int


def encode(arrays: Mapping[str, Array], *, effort: Effort = "speed", hints: Mapping[str, Hint] | None = None) -> bytes:
    """Pack arrays of shape (n,) and one length, with dtypes of numbers.DTYPES; ValueError for others. Not compressed."""
    names = list(arrays)
    columns = [np.ascontiguousarray(array) for array in arrays.values()]
    rows = len(columns[0]) if columns else 0
    if len(columns) > 255 or any(column.shape != (rows,) for column in columns):
        raise ValueError(f"columns of one length: {[(name, array.shape) for name, array in arrays.items()]}")
    parts = [_HEAD.pack(FORMAT, len(columns), rows)]
    for name, column in zip(names, columns, strict=True):
        code = numbers.CODES.get(column.dtype)
        if code is None:
            raise ValueError(f"{name}: no dtype {column.dtype} in a table")
        if not rows:
            parts += _write(name, code, _Form(), b"")
        elif effort == "speed":
            parts += _write(name, code, *_pack(_fast(column)))
        else:
            hint = (hints or {}).get(name, Hint())
            candidates = _candidates(column, hint, names, columns)
            parts += _write(name, code, *_smallest(candidates))
    return b"".join(parts)


def decode(
    data: bytes | bytearray | memoryview, dtypes: Mapping[str, DTypeLike], *, max_rows: int
) -> dict[str, NDArray[Any]]:
    """Unpack exactly the columns that `dtypes` names; FrameRefused("columns") for anything else."""
    wanted = {name: np.dtype(dtype) for name, dtype in dtypes.items()}
    reader = _Reader(memoryview(data))
    form, count, rows = reader.unpack(_HEAD)
    if form != FORMAT or count != len(wanted):
        raise FrameRefused("columns", f"format {form} with {count} columns, expected {FORMAT} with {len(wanted)}")
    if rows > max_rows:
        raise FrameRefused("columns", f"{rows} rows, at most {max_rows}")
    columns: dict[str, Array] = {}
    for _ in range(count):
        name = reader.text()
        if name in columns or name not in wanted:
            raise FrameRefused("columns", f"unexpected column {name!r}")
        columns[name] = _read(reader, wanted[name], rows, list(columns.values()))
    if reader.at != len(reader.data):
        raise FrameRefused("columns", f"{len(reader.data) - reader.at} bytes too many")
    return columns


def _fast(column: Array) -> _Stated:
    form, values = _Form(), None
    if column.dtype.kind == "f" and (found := numbers.decimal(column)) is not None:
        form, values = _Form(DECIMAL, found[0]), found[1]
    plain = _plain(form, numbers.bits(column) if values is None else values)
    if values is not None and plain.range >> (8 * column.itemsize):
        return _fast_bits(column)
    return plain


def _fast_bits(column: Array) -> _Stated:
    return _plain(_Form(), numbers.bits(column))


def _plain(form: _Form, values: Integers) -> _Stated:
    base, most = integers.spread(values)
    if most and len(values) > 2:
        steps = values[1:] - values[:-1]
        step_base, step_most = integers.spread(steps)
        if step_most * 4 <= most * 5:
            form = form._replace(prediction=DELTA, base=step_base, first=int(values[0]))
            return _Stated(form, integers.offsets(steps, step_base), step_most)
    return _Stated(form._replace(base=base), integers.offsets(values, base), most)


def _candidates(column: Array, hint: Hint, names: list[str], columns: list[Array]) -> Iterator[_Stated]:
    for form, values in _sources(column, hint, names, columns):
        yield _offset(form, values)
        if len(values) > 1:
            first = int(values[0])
            yield _offset(form._replace(prediction=DELTA, first=first), values[1:] - values[:-1])
        if form.source == DECIMAL and hint.near:
            reference = names.index(hint.near)
            expected = numbers.foretell(columns[reference], form.scale)
            yield _offset(form._replace(prediction=AGAINST, reference=reference), values - expected)


def _sources(
    column: Array, hint: Hint, names: list[str], columns: list[Array]
) -> Iterator[tuple[_Form, Integers]]:
    if column.dtype.kind == "f":
        if (found := numbers.decimal(column)) is not None:
            yield _Form(DECIMAL, found[0]), found[1]
        if hint.sum_of:
            reference = names.index(hint.sum_of)
            if (found := numbers.decimal(column, columns[reference])) is not None:
                yield _Form(SUM, found[0], reference=reference), found[1]
    yield _Form(), numbers.bits(column)


def _offset(form: _Form, values: Integers) -> _Stated:
    base, most = integers.spread(values)
    return _Stated(form._replace(base=base), integers.offsets(values, base), most)


def _pack(stated: _Stated, packing: int = BYTES) -> tuple[_Form, bytes]:
    form, offsets, most = stated
    if power := integers.divisor(offsets, most):
        offsets, most = offsets // np.uint64(DIVISORS[power]), most // DIVISORS[power]
    width = most.bit_length() if packing == PLANES else (most.bit_length() + 7) // 8
    payload = integers.pack(offsets, packing, width)
    return form._replace(packing=packing, divisor=power, width=width), payload


def _smallest(candidates: Iterator[_Stated]) -> tuple[_Form, bytes]:
    best: tuple[_Form, bytes] | None = None
    least = 0
    for stated in candidates:
        for packing in (PLANES, BYTES):
            form, payload = _pack(stated, packing)
            if not payload:
                return form, payload
            size = len(lz4.block.compress(payload, store_size=False))
            if best is None or size < least:
                best, least = (form, payload), size
    assert best is not None  # there is always one: the bits themselves
    return best


def _write(name: str, code: int, form: _Form, payload: bytes) -> tuple[bytes, ...]:
    text = name.encode()
    base, first = _signed(form.base), _signed(form.first)
    kind = form.source | form.prediction << 2 | form.packing << 4
    return (
        bytes((len(text),)),
        text,
        _FORM.pack(code, kind, form.scale | form.divisor << 4, form.width),
        bytes((form.reference,)) if form.reference >= 0 else b"",
        bytes((len(base) | len(first) << 4,)),
        base,
        first,
        payload,
    )


def _signed(value: int) -> bytes:
    magnitude = ~value if value < 0 else value
    return value.to_bytes(magnitude.bit_length() // 8 + 1, "little", signed=True) if value else b""


class _Reader:
    """A place in bytes that are never read past their end."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> memoryview:
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise FrameRefused("columns", f"cut off at {len(self.data)} of {self.at} bytes")
        return self.data[start : self.at]

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))

    def byte(self) -> int:
        return self.take(1)[0]

    def text(self) -> str:
        return str(self.take(self.byte()), "utf-8", "replace")

    def signed(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little", signed=True)


def _read(reader: _Reader, dtype: np.dtype[Any], rows: int, before: list[Array]) -> Array:
    form = _read_form(reader, dtype, len(before))
    count = rows - 1 if form.prediction == DELTA else rows
    payload = reader.take(integers.length(max(count, 0), form.packing, form.width))
    if not rows:
        return np.empty(0, dtype)
    differences = integers.unpack(payload, count, form.packing, form.width)
    if form.divisor:
        differences *= np.uint64(DIVISORS[form.divisor])
    if form.base:
        differences += np.uint64(form.base & integers.MASK)
    values = _predicted(form, differences.view(np.int64), before)
    if form.source == BITS:
        return numbers.from_bits(values, dtype)
    counts = before[form.reference] if form.source == SUM else None
    return numbers.from_decimal(values, dtype, form.scale, counts)


def _predicted(form: _Form, differences: Integers, before: list[Array]) -> Integers:
    if form.prediction == DELTA:
        values = np.empty(len(differences) + 1, np.int64)
        values[0] = form.first
        values[1:] = differences
        return np.add.accumulate(values, out=values)
    if form.prediction == AGAINST:
        differences += numbers.foretell(before[form.reference], form.scale)
    return differences


def _read_form(reader: _Reader, dtype: np.dtype[Any], before: int) -> _Form:
    code, kind, scales, width = reader.unpack(_FORM)
    source, prediction, packing = kind & 3, kind >> 2 & 3, kind >> 4
    refers = source == SUM or prediction == AGAINST
    reference = reader.byte() if refers else -1
    sizes = reader.byte()
    base, first = reader.signed(sizes & 15), reader.signed(sizes >> 4)
    form = _Form(source, scales & 15, prediction, reference, base, first, packing, scales >> 4, width)
    if code != numbers.CODES.get(dtype):
        raise FrameRefused("columns", f"dtype {code} where {dtype} is expected")
    if not _sound(form, dtype) or reference >= before or max(sizes & 15, sizes >> 4) > 8:
        raise FrameRefused("columns", f"no such form: {form}")
    return form


def _sound(form: _Form, dtype: np.dtype[Any]) -> bool:
    if form.source == BITS:
        source = form.scale == 0
    else:
        source = form.source <= SUM and dtype.kind == "f" and form.scale < numbers.SCALES
    against = form.prediction != AGAINST or form.source == DECIMAL
    prediction = form.prediction <= AGAINST and against and (form.prediction == DELTA or not form.first)
    packing = form.packing <= PLANES and form.width <= (64 if form.packing == PLANES else 8)
    return source and prediction and packing and form.divisor < len(DIVISORS)

"""A table: named columns of one length, packed.

Layout, little endian: format u8 = 1 | columns u8 | rows u32 | then each column as `form` lays it out.

Invariants: the columns are exactly those asked for, each once, each of the dtype asked for, with nothing after them;
no more than `max_rows` rows are ever allocated; arrays that come out share no memory and can be written to.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from protocol.columns import choose, numbers
from protocol.columns import form as forms
from protocol.columns.choose import Chosen, Known
from protocol.columns.form import Form, Reader
from protocol.columns.numbers import Array
from protocol.errors import FrameRefused

Effort = Literal["speed", "size"]

FORMAT = 1

_HEAD = struct.Struct("<BBI")


class Hint(NamedTuple):
    """What is known of a column: `sum_of` names the counts whose mean it is, `near` the column that foretells it.

    Either must come earlier in the table.
    """

    sum_of: str = ""
    near: str = ""


def encode(arrays: Mapping[str, Array], *, effort: Effort = "speed", hints: Mapping[str, Hint] | None = None) -> bytes:
    """Pack arrays of shape (n,), n the same, dtypes among numbers.DTYPES (else ValueError); the frame adds lz4.

    Effort `speed` is for the hot path, and asks for one array at a time; `size` is for what travels, helped by `hints`.
    """
    columns: dict[str, Array] = {}
    parts: list[bytes] = []
    rows = 0
    for name, array in arrays.items():
        column = np.ascontiguousarray(array)
        if not parts:
            rows = len(column)
            parts.append(_HEAD.pack(FORMAT, len(arrays), rows))
        if effort == "size":
            columns[name] = column
        if column.shape != (rows,) or column.dtype not in numbers.CODES:
            raise ValueError(f"{name}: shape {column.shape} and dtype {column.dtype} in a table of {rows} rows")
        if not rows:
            chosen = Chosen(Form(), b"")
        elif effort == "speed":
            chosen = choose.quick(column)
        else:
            chosen = choose.smallest(column, _known((hints or {}).get(name, Hint()), columns))
        parts.append(forms.write(name, column.dtype, *chosen))
    return b"".join(parts) or _HEAD.pack(FORMAT, 0, 0)


def decode(
    data: bytes | bytearray | memoryview, dtypes: Mapping[str, DTypeLike], *, max_rows: int
) -> dict[str, NDArray[Any]]:
    """Unpack exactly the columns that `dtypes` names; FrameRefused("columns") for anything else."""
    wanted = {name: np.dtype(dtype) for name, dtype in dtypes.items()}
    reader = Reader(memoryview(data))
    version, count, rows = reader.unpack(_HEAD)
    if version != FORMAT or count != len(wanted):
        raise FrameRefused("columns", f"format {version} with {count} columns, expected {FORMAT} with {len(wanted)}")
    if rows > max_rows:
        raise FrameRefused("columns", f"{rows} rows, at most {max_rows}")
    columns: dict[str, Array] = {}
    for _ in range(count):
        name = reader.text()
        if name in columns or name not in wanted:
            raise FrameRefused("columns", f"unexpected column {name!r}")
        columns[name] = forms.read(reader, wanted[name], rows, list(columns.values()))
    if reader.at != len(reader.data):
        raise FrameRefused("columns", f"{len(reader.data) - reader.at} bytes too many")
    return columns


def _known(hint: Hint, columns: Mapping[str, Array]) -> Known:
    names = list(columns)
    counts = (names.index(hint.sum_of), columns[hint.sum_of]) if hint.sum_of else None
    near = (names.index(hint.near), columns[hint.near]) if hint.near else None
    return Known(counts, near)

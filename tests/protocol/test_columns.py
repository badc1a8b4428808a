"""Columns and state: every bit comes back, few bytes are spent, and bytes of another making are refused."""

from __future__ import annotations

import itertools
import math
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no types
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol import columns, frame
from protocol.columns import Effort, integers, numbers, table
from protocol.columns.form import Form
from protocol.columns.state import LARGE
from protocol.columns.table import Hint
from protocol.errors import FrameRefused
from protocol.messages import WINDOW_DTYPES, Cover, Kind, WindowRows, WindowsBody

Array = NDArray[Any]

EFFORTS: list[Effort] = ["speed", "size"]
DTYPES = st.sampled_from(numbers.DTYPES)
START = 1_764_000_000 * 10**9


def arrays(dtype: np.dtype[Any], most: int = 40) -> st.SearchStrategy[Array]:
    """Any bits at all: NaN payloads, subnormals, -0.0, infinities are among them, and so are plain decimals."""
    if dtype.kind == "b":
        return st.lists(st.booleans(), max_size=most).map(lambda items: np.array(items, dtype))
    size = dtype.itemsize
    any_bits = st.lists(st.binary(min_size=size, max_size=size), max_size=most).map(
        lambda items: np.frombuffer(b"".join(items), dtype)
    )
    if dtype.kind != "f":
        return any_bits
    some = st.floats(width=64 if size == 8 else 32) | st.integers(-9999, 9999).map(lambda n: n / 100)
    decimals = st.lists(st.integers(-99_999, 99_999), max_size=most).map(lambda items: np.array(items, dtype) / 100)
    mixed = st.lists(some, max_size=most).map(lambda items: np.array(items, dtype))
    return any_bits | mixed | decimals.map(lambda array: array.astype(dtype))


def cost(call: Callable[[], object]) -> int:
    """Give the bytes that a call allocates at its peak; the least of three, since others allocate meanwhile."""
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return min(peaks)


def same(these: Array, those: Array) -> bool:
    return these.dtype == those.dtype and these.shape == those.shape and these.tobytes() == those.tobytes()


def through(array: Array, effort: Effort) -> Array:
    data = columns.encode({"x": array}, effort=effort)
    decoded = columns.decode(data, {"x": array.dtype}, max_rows=len(array))["x"]
    assert decoded.flags.writeable
    return decoded


@pytest.mark.parametrize("effort", EFFORTS)
@settings(deadline=None, max_examples=100)
@given(array=DTYPES.flatmap(arrays))
def test_any_bits_of_any_dtype_come_back(array: Array, effort: Effort) -> None:
    assert same(through(array, effort), array)


NAN_WITH_PAYLOAD = struct.unpack("<d", struct.pack("<Q", 0xFFF4_0000_DEAD_BEEF))[0]
NOTABLE: dict[str, Array] = {
    "empty": np.empty(0),
    "one": np.array([21.5]),
    "two": np.array([21.5, 21.25]),
    "minus zero": np.array([-0.0]),
    "zeros of both signs": np.array([0.0, -0.0] * 20),
    "one minus zero": np.r_[-0.0, np.arange(99) / 100],
    "nan payload": np.array([NAN_WITH_PAYLOAD, 1.0]),
    "infinities among decimals": np.r_[np.inf, -np.inf, np.arange(200) / 10],
    "subnormals": np.array([5e-324, -5e-324, 2.2e-308]),
    "extremes": np.array([1.7976931348623157e308, -1.7976931348623157e308]),
    "long decimals among short": np.r_[np.arange(100) / 10, 0.123456789, 0.12345],
    "every tenth longer": np.round(np.arange(200) / 7, 1) + (np.arange(200) % 10 == 0) / 1000,
    "beyond exact integers": np.array([2.0**53, 2.0**53 + 2, -(2.0**60)]),
    "float32 decimals": (np.arange(100) / 1000).astype(np.float32),
    "float32 noise": np.random.default_rng(1).normal(size=100).astype(np.float32),
    "int64 extremes": np.array([-(1 << 63), (1 << 63) - 1, 0, -1]),
    "uint64 extremes": np.array([0, (1 << 64) - 1], np.uint64),
    "int8 extremes": np.array([-128, 127], np.int8),
    "booleans": np.array([True, False, True]),
    "millisecond stamps": START + np.arange(50) * 10**6 + np.arange(50) % 3 * 10**6,
    "not contiguous": (np.arange(20) / 10)[::2],
    "read only": np.frombuffer(np.arange(5.0).tobytes()),
}


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("array", NOTABLE.values(), ids=NOTABLE.keys())
def test_notable_columns_come_back(array: Array, effort: Effort) -> None:
    assert same(through(array, effort), array)


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    rows=st.integers(0, 30),
    counts=st.sampled_from([np.int8, np.int64, np.uint64]),
    floats=st.sampled_from([np.float32, np.float64]),
)
def test_hints_that_are_wrong_cost_bytes_and_never_bits(
    data: st.DataObject, rows: int, counts: type[np.generic], floats: type[np.generic]
) -> None:
    dtypes = {"count": counts, "mean": floats, "near": np.float64}
    given_arrays = {name: np.resize(data.draw(arrays(np.dtype(dtype), rows)), rows) for name, dtype in dtypes.items()}
    hints = {"mean": Hint(sum_of="count"), "near": Hint(near="mean")}
    packed = table.encode(given_arrays, effort="size", hints=hints)
    decoded = columns.decode(packed, dtypes, max_rows=rows)
    assert all(same(decoded[name], array) for name, array in given_arrays.items())


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-300, 300), min_size=1, max_size=40),
    packing=st.sampled_from([integers.BYTES, integers.PLANES]),
)
def test_integers_come_back_from_bytes_and_from_planes(values: list[int], packing: int) -> None:
    array = np.array(values, np.int64)
    base, most = integers.spread(array)
    width = most.bit_length() if packing == integers.PLANES else (most.bit_length() + 7) // 8
    offsets = integers.offsets(array, base)
    data = integers.pack(offsets, packing, width)
    assert len(data) == integers.length(len(values), packing, width)
    assert same(integers.unpack(memoryview(data), len(values), packing, width), offsets)


def windows(rows: int, readings: int, decimals: int = 2) -> WindowRows:
    """One window each of `rows` series at levels 0 to 100, of readings with noise of sigma 1."""
    rng = np.random.default_rng(7)
    values = np.round(rng.uniform(0, 100, rows)[:, None] + rng.normal(0, 1, (rows, readings)), decimals)
    return WindowRows(
        np.arange(rows, dtype=np.int32),
        np.zeros(rows, np.int32),
        np.full(rows, START),
        np.zeros(rows, np.int32),
        np.full(rows, readings),
        values.mean(axis=1).astype(np.float32),
        values.std(axis=1).astype(np.float32),
        values.min(axis=1),
        values.max(axis=1),
        values[:, 0].copy(),
        values[:, -1].copy(),
    )


@pytest.mark.parametrize(
    ("rows", "readings", "decimals", "most"),
    [
        (1000, 10, 2, 10.5),
        (1000, 7, 2, 10.5),
        (1000, 60, 2, 10.5),
        (100, 10, 2, 12.5),
        (1000, 10, 3, 12.5),
        (1000, 10, 15, 35),
    ],
    ids=str,
)
def test_a_window_costs_few_bytes_with_everything_counted(rows: int, readings: int, decimals: int, most: float) -> None:
    stated = windows(rows, readings, decimals)
    body = WindowsBody(Cover(100, 1), rows, columns.encode_windows(stated), "", START)
    data = frame.message(Kind.WINDOWS, body, lane=3, seq=1000, chain_before=7)
    decoded = columns.decode_windows(frame.load(Kind.WINDOWS, frame.decode(data).body).columns)
    assert all(itertools.starmap(same, zip(decoded, stated, strict=True)))
    assert len(data) <= most * rows


@pytest.mark.parametrize(
    ("column", "most"),
    [
        (np.full(1000, 21.5), 40),
        (np.full(1000, np.nan), 40),
        (np.arange(1000, dtype=np.int32), 40),
        (START + np.arange(1000) * 10**9, 40),
        (20 + np.round(np.sin(np.arange(1000) / 50), 2), 500),
        (np.r_[-0.0, np.round(20 + np.arange(999) % 90 / 100, 2)], 1100),
    ],
    ids=["constant", "always NaN", "ramp", "regular stamps", "smooth decimals", "one minus zero among decimals"],
)
@pytest.mark.parametrize("effort", EFFORTS)
def test_a_regular_column_costs_next_to_nothing(column: Array, most: int, effort: Effort) -> None:
    data = columns.encode({"x": column}, effort=effort)
    assert len(frame.encode(Kind.READINGS, data)) - frame.HEADER_SIZE <= most


@settings(deadline=None, max_examples=40)
@given(data=st.data(), rows=st.integers(0, 20))
def test_any_windows_come_back(data: st.DataObject, rows: int) -> None:
    stated = WindowRows(
        *(np.resize(data.draw(arrays(np.dtype(dtype), rows)), rows) for dtype in WINDOW_DTYPES.values())
    )
    decoded = columns.decode_windows(columns.encode_windows(stated))
    assert all(itertools.starmap(same, zip(decoded, stated, strict=True)))


def test_no_windows_come_back_as_none() -> None:
    empty = WindowRows(*(np.empty(0, dtype) for dtype in WINDOW_DTYPES.values()))
    assert all(itertools.starmap(same, zip(columns.decode_windows(columns.encode_windows(empty)), empty, strict=True)))


A_TABLE = {"n": np.arange(9, dtype=np.int32), "v": np.r_[-0.0, np.arange(8) / 10]}
ITS_DTYPES: dict[str, type[np.generic]] = {"n": np.int32, "v": np.float64}


@pytest.mark.parametrize(
    ("dtypes", "max_rows", "detail"),
    [
        ({"n": np.int32}, 9, "2 columns"),
        ({**ITS_DTYPES, "w": np.float64}, 9, "2 columns"),
        ({"n": np.int32, "w": np.float64}, 9, "unexpected column 'v'"),
        ({"n": np.int64, "v": np.float64}, 9, "dtype"),
        ({"n": np.int32, "v": np.float32}, 9, "dtype"),
        ({"n": "datetime64[ns]", "v": np.float64}, 9, "dtype"),
        (ITS_DTYPES, 8, "9 rows"),
    ],
    ids=["one not wanted", "one missing", "another name", "wider", "narrower", "no dtype of ours", "too many rows"],
)
def test_a_table_of_another_shape_is_refused(dtypes: dict[str, Any], max_rows: int, detail: str) -> None:
    with pytest.raises(FrameRefused, match=detail) as refused:
        columns.decode(columns.encode(A_TABLE), dtypes, max_rows=max_rows)
    assert refused.value.reason == "columns"


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_table_cut_off_at_any_byte_or_with_one_more_is_refused(effort: Effort) -> None:
    data = columns.encode(A_TABLE, effort=effort)
    for part in [*(data[:end] for end in range(len(data))), data + b"\x00"]:
        with pytest.raises(FrameRefused, match="columns"):
            columns.decode(part, ITS_DTYPES, max_rows=9)


@pytest.mark.parametrize(
    "make",
    [lambda: columns.encode(A_TABLE), lambda: columns.encode_windows(windows(20, 10))],
    ids=["speed", "windows"],
)
@settings(deadline=None, max_examples=100)
@given(damage=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_table_is_read_within_bounds_or_refused(
    make: Callable[[], bytes], damage: list[tuple[int, int]]
) -> None:
    data = bytearray(make())
    dtypes: dict[str, Any] = ITS_DTYPES if b"\x01n" in data else WINDOW_DTYPES
    for at, value in damage:
        data[at % len(data)] = value
    try:
        decoded = columns.decode(data, dtypes, max_rows=20)
    except FrameRefused:
        return
    assert {name: array.dtype for name, array in decoded.items()} == {n: np.dtype(d) for n, d in dtypes.items()}
    assert len({array.shape for array in decoded.values()}) == 1
    assert len(next(iter(decoded.values()))) <= 20


PLAIN = Form()


def column(
    form: Form = PLAIN, *, dtype: int = 9, kind: int | None = None, sizes: int = 0, payload: bytes = b"", rows: int = 3
) -> bytes:
    """Write a table of one float64 column `x` as a hostile sender may."""
    kind = form.source | form.prediction << 2 | form.packing << 4 if kind is None else kind
    reference = bytes([form.reference & 255]) if form.reference >= 0 else b""
    fixed = bytes([dtype + 1, kind, form.scale | form.divisor << 4, form.width])
    return struct.pack("<BBI", 1, 1, rows) + b"\x01x" + fixed + reference + bytes([sizes]) + payload


@pytest.mark.parametrize(
    "data",
    [
        column(Form(source=3)),
        column(Form(scale=2)),
        column(Form(source=numbers.DECIMAL, scale=10)),
        column(Form(prediction=3)),
        column(Form(source=numbers.SUM, reference=0)),
        column(Form(source=numbers.DECIMAL, prediction=2, reference=0)),
        column(Form(width=9), payload=bytes(27)),
        column(Form(packing=1, width=65), payload=bytes(65)),
        column(Form(packing=1, width=1), payload=b"\x08"),
        column(kind=1 << 6),
        column(sizes=9, payload=bytes(9)),
        column(sizes=0x10, payload=b"\x01"),
        column(kind=1 << 5, payload=struct.pack("<I", 0)),
        column(kind=1 << 5, payload=struct.pack("<IId", 1, 3, 1.0)),
        column(kind=1 << 5, payload=struct.pack("<IIIdd", 2, 1, 1, 1.0, 1.0)),
        column(kind=1 << 5, payload=struct.pack("<I", 0xFFFFFFFF)),
        column(dtype=99),
        column(rows=4),
        b"",
        b"\x02\x01" + bytes(4),
    ],
    ids=[
        "no such source",
        "bits with a scale",
        "scale too large",
        "no such prediction",
        "counts that do not come before",
        "foretold by itself",
        "nine bytes",
        "65 bits",
        "padding",
        "a form bit of a later version",
        "base too long",
        "first without steps",
        "no odd rows",
        "odd row outside",
        "odd rows repeated",
        "four billion odd rows",
        "no such dtype",
        "more rows than allowed",
        "nothing",
        "a later format",
    ],
)
def test_a_form_that_no_sender_of_ours_makes_is_refused(data: bytes) -> None:
    with pytest.raises(FrameRefused, match="columns"):
        columns.decode(data, {"x": np.float64}, max_rows=3)


def test_a_constant_column_of_four_billion_rows_is_refused_at_no_cost() -> None:
    assert columns.decode(column(), {"x": np.float64}, max_rows=3)["x"].tolist() == [0.0] * 3

    def decode() -> None:
        with pytest.raises(FrameRefused, match="4294967295 rows"):
            columns.decode(column(rows=0xFFFFFFFF), {"x": np.float64}, max_rows=65_536)

    assert cost(decode) < 64 << 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"a": np.arange(3), "b": np.arange(4)},
        {"a": np.zeros((2, 2))},
        {"a": np.array(["text"])},
        {"a": np.array([1 + 2j])},
        {"a": np.array([None])},
    ],
    ids=["lengths", "dimensions", "text", "complex", "objects"],
)
def test_what_is_no_table_is_the_callers_mistake(wrong: dict[str, Array]) -> None:
    with pytest.raises(ValueError, match="in a table"):
        columns.encode(wrong)


def equal(these: Any, those: Any) -> bool:
    """Compare states bit for bit."""
    match these:
        case np.ndarray():
            return isinstance(those, np.ndarray) and same(these, those)
        case dict():
            return list(these) == list(those) and all(equal(these[key], those[key]) for key in these)
        case list():
            return len(these) == len(those) and all(itertools.starmap(equal, zip(these, those, strict=True)))
        case float():
            return isinstance(those, float) and struct.pack("<d", these) == struct.pack("<d", those)
        case _:
            return type(these) is type(those) and bool(these == those)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 130), 1 << 130)
    | st.integers(-300, 300)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=20)
    | DTYPES.flatmap(lambda dtype: arrays(dtype, 8))
)
STATES = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner), max_leaves=9
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(STATES)
def test_a_state_comes_back_bit_for_bit(state: dict[str, Any]) -> None:
    assert equal(columns.decode_state(columns.encode_state(state)), state)


def test_arrays_in_a_state_keep_shape_and_bits_and_can_be_written_to() -> None:
    state = {
        "matrix": np.arange(24, dtype=np.int16).reshape(2, 3, 4)[:, ::-1],
        "point": np.array(-0.0),
        "none": np.empty((3, 0, 2), np.float32),
    }
    decoded = columns.decode_state(columns.encode_state(state))
    assert equal(decoded, {name: array.copy() for name, array in state.items()})
    assert all(array.flags.writeable and array.flags.aligned for array in decoded.values())


@pytest.mark.parametrize("rows", [LARGE // 8, LARGE // 8 + 1], ids=["small", "large"])
def test_a_state_in_parts_is_the_same_bytes(rows: int) -> None:
    matrix = np.arange(2 * rows)[::2].reshape(1, rows)
    state = {
        "deep": {"list": [1, {"matrix": matrix}, "text"], "none": None, "bytes": bytes(8 * rows)},
        "flag": True,
        "empty": np.empty(0),
    }
    parts = list(columns.state_parts(state))
    assert b"".join(parts) == columns.encode_state(state)
    assert (len(parts) > 1) == (matrix.nbytes > LARGE)


def test_tuples_come_back_as_lists_and_numpy_scalars_as_pythons_own() -> None:
    state = {"pair": (1, (2.5,)), "scalars": [np.int64(7), np.float32(0.5), np.float64(-0.0), np.bool_(True)]}
    decoded = columns.decode_state(columns.encode_state(state))
    assert equal(decoded, {"pair": [1, [2.5]], "scalars": [7, 0.5, -0.0, True]})


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), 1j, np.array(["text"]), np.array([1j]), np.array([None]), np.zeros((1,) * 9)],
    ids=["set", "object", "complex", "text array", "complex array", "object array", "nine dimensions"],
)
def test_what_a_state_cannot_hold_is_the_stages_mistake(value: object) -> None:
    with pytest.raises(TypeError, match="in a state"):
        columns.encode_state({"x": value})


def extension(code: int, data: bytes) -> bytes:
    packed: bytes = msgpack.packb({"x": msgpack.ExtType(code, data)})
    return packed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\x80\x00",
        b"\x81\xa1x",
        b"\x81\xa1x\xa2\xff\xfe",
        b"\x81\x90\x00",
        b"\x81\xa1x" + b"\x91" * 100_000,
        b"\x81\xa1x" + b"\xdc\xff\xff" * 20_000,
        b"\x81\xa1x\xdd\xff\xff\xff\xff",
        extension(3, b""),
        extension(1, b""),
        extension(1, bytes([99, 0])),
        extension(1, bytes([4, 9]) + bytes(36)),
        extension(1, bytes([4, 1])),
        extension(1, struct.pack("<BBI", 4, 1, 2) + bytes(8)),
        extension(1, struct.pack("<BBI", 4, 1, 0xFFFFFFFF) + bytes(8)),
        extension(1, struct.pack("<BB8I", 4, 8, *(0xFFFFFFFF,) * 7, 0)),
    ],
    ids=[
        "nothing",
        "no map",
        "bytes left over",
        "cut off",
        "no text",
        "a list as key",
        "nested 100,000 deep",
        "nested headers of 65,535",
        "four billion items",
        "unknown extension",
        "array without head",
        "no such dtype",
        "nine dimensions",
        "cut off in its shape",
        "fewer elements than stated",
        "32 GiB of elements",
        "a shape that numpy cannot have",
    ],
)
def test_bytes_that_are_no_state_are_refused_at_no_cost(data: bytes) -> None:
    def decode() -> None:
        with pytest.raises(FrameRefused) as refused:
            columns.decode_state(data)
        assert refused.value.reason == "state"

    # What nesting costs is bounded by how deep the interpreter lets C code go: 0.2 MB on Python 3.11, 1.8 MB on 3.13.
    assert cost(decode) < 4 << 20


@settings(deadline=None, max_examples=100)
@given(damage=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_state_is_read_or_refused(damage: list[tuple[int, int]]) -> None:
    data = bytearray(columns.encode_state({"a": [1, 2.5, "text"], "b": np.arange(4), "c": {"d": 1 << 70}}))
    for at, value in damage:
        data[at % len(data)] = value
    try:
        decoded = columns.decode_state(data)
    except FrameRefused as refused:
        decoded = {"reason": refused.reason}
    assert decoded.get("reason", "state") == "state"


def test_a_scale_is_found_although_a_few_values_have_none() -> None:
    values = np.round(np.arange(1000) / 7, 2)
    values[[3, 500]] = np.nan, math.pi
    whole = numbers.decimal(values)
    assert whole is not None
    assert whole.scale == 2
    assert whole.odd is not None
    assert whole.odd.tolist() == [3, 500]
    assert numbers.decimal(np.random.default_rng(1).normal(size=100)) is None

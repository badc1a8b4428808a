"""Frames: what goes in comes out, and whatever else the bytes are, the answer is FrameRefused with one known word."""

from __future__ import annotations

import itertools
import json
import math
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.block
import msgpack  # type: ignore[import-untyped]  # it ships no types
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import columns, frame
from protocol.errors import FrameRefused
from protocol.messages import (
    BODIES,
    JOURNAL_LANE,
    WINDOW_DTYPES,
    Alert,
    AlertsBody,
    AnswerBody,
    Cover,
    DefinitionsBody,
    Hello,
    Kind,
    LaneHead,
    Loss,
    LossesBody,
    Mark,
    Moments,
    PartBody,
    QuestionsBody,
    Receipt,
    Refusal,
    ReportBody,
    SeriesDefinition,
    StatisticsBody,
    Welcome,
    WindowDefinition,
    WindowsBody,
)

LANES = st.sampled_from([0, 1, 2, 3, JOURNAL_LANE])
GOLDEN = sorted((Path(__file__).resolve().parents[1] / "golden" / "v1").glob("*.frame"))
GROWN = {"alerts-2", "definitions-2", "losses-2", "hello-2"}
READING_DTYPES = {"series": np.int32, "time": np.int64, "value": np.float64}
MESSAGES: dict[Kind, Any] = {
    Kind.DEFINITIONS: DefinitionsBody(
        Cover(1, 0), [SeriesDefinition(0, "Süd/a")], [WindowDefinition(0, "9f", 10**10, 10**9)]
    ),
    Kind.WINDOWS: WindowsBody(Cover(1, 2), 3, b"\x00\xff columns", "boot", 5),
    Kind.ALERTS: AlertsBody(Cover(2, 1), [Alert([1, 2], 5, 0, 6, 0.5, "rule")], ""),
    Kind.LOSSES: LossesBody(Cover(3, 0), [Loss("telemetry", 1, 2, "spool_full")], {"recorded": 1 << 40}),
    Kind.STATISTICS: StatisticsBody(Cover(3, 1), "m", 5, [Moments(["Öl"], 3, [0.5], [1e-300])], 1, 2, 3),
    Kind.REPORT: ReportBody(Cover(3, 2), "m", 4, "refused", "expired", "ab" * 32, 6),
    Kind.PART: PartBody(Cover(3, 3), "m-1", 2, "train", 1, "done", "", b"\xff", 6, 0.5, 7, (1, 1 << 62), (2, 3)),
    Kind.ANSWER: AnswerBody(Cover(3, 3), "m-1", 2, "train", 1, 0, b"\xff", 6, 500, 7, (2, 3), (1, 1 << 62), "few"),
    Kind.QUESTIONS: QuestionsBody(
        *(Cover(3, 4), "m", 2, b"\xab" * 32, ["Öl", "a"], [5, 1 << 62], [0, 7], b"\xff\x00" * 6, 8, 1 << 62)
    ),
    Kind.HELLO: Hello("gw", 1 << 62, {"alerts": LaneHead(1, 2, 3)}),
    Kind.WELCOME: Welcome({"alerts": Mark(5, [(7, 9)], 0xFFFFFFFF)}, -1, "fork"),
    Kind.RECEIPT: Receipt({"telemetry": Mark(5)}),
    Kind.REFUSAL: Refusal("token", 1.5),
}


def a_frame(body: bytes = b"a body that is short") -> bytes:
    return frame.encode(Kind.WINDOWS, body, lane=3, seq=7, chain_before=11)


def sealed(data: bytes, **fields: Any) -> bytes:
    """Change header fields and make the digests right again: what a hostile or newer sender can do."""
    values = list(struct.unpack_from("<2sBBBBHQIIII", data))
    names = ["magic", "version", "kind", "flags", "lane", "reserved", "seq", "raw_len", "body_len", "chain", "crc"]
    for name, value in fields.items():
        values[names.index(name)] = value
    head = struct.pack("<2sBBBBHQII", *values[:9])
    content = zlib.crc32(data[32:], zlib.crc32(head))
    chain = struct.pack("<I", zlib.crc32(struct.pack("<I", content), 11))
    return head + chain + struct.pack("<I", zlib.crc32(chain, content)) + data[32:]


def cost(call: Callable[[], object]) -> int:
    """Give the bytes that a call allocates at its peak; the least of three, since others allocate meanwhile."""
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return min(peaks)


def refusal(data: bytes) -> str:
    with pytest.raises(FrameRefused) as refused:
        frame.decode(data)
    assert refused.value.reason in frame.REASONS
    return refused.value.reason


@settings(deadline=None)
@given(
    kind=st.sampled_from([kind for kind in Kind if kind < Kind.HELLO]),
    body=st.binary(max_size=300) | st.builds(lambda part, times: part * times, st.binary(max_size=30), st.just(90)),
    lane=LANES,
    numbers=st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1)),
    around=st.tuples(st.binary(max_size=9), st.binary(max_size=9)),
)
def test_a_frame_comes_back_from_anywhere_in_a_buffer(
    kind: Kind, body: bytes, lane: int, numbers: tuple[int, int], around: tuple[bytes, bytes]
) -> None:
    seq, before = numbers
    data = frame.encode(kind, body, lane=lane, seq=seq, chain_before=before)
    head = frame.header(data)
    decoded = frame.decode(around[0] + data + around[1], len(around[0]))
    assert decoded == (kind, lane, seq, head.chain, body)
    assert head.size == len(data)
    assert len(data) <= 32 + len(body)
    assert frame.verify_chain(head, frame.content_of(data, head), before)
    assert frame.decode(memoryview(bytearray(data))) == decoded


def test_the_layout_is_the_one_in_the_docstring() -> None:
    data = frame.encode(Kind.TICK, b"xyz", lane=JOURNAL_LANE, seq=0x0102, chain_before=9)
    content = zlib.crc32(data[:24] + b"xyz")
    chain = zlib.crc32(struct.pack("<I", content), 9)
    crc = zlib.crc32(struct.pack("<I", chain), content)
    assert data == b"FG\x01\x02\x00\xff\x00\x00" + struct.pack("<QIIII", 0x0102, 3, 3, chain, crc) + b"xyz"


def test_a_body_is_compressed_only_when_that_pays() -> None:
    assert frame.header(a_frame(b"a" * 1000)).flags == frame.COMPRESSED
    assert frame.header(a_frame(np.random.default_rng(1).bytes(1000))).flags == 0
    assert frame.header(a_frame(b"a" * 63)).flags == 0


@pytest.mark.parametrize("body", [b"", b"short", b"compressible " * 20], ids=["empty", "plain", "lz4"])
def test_a_frame_cut_off_at_any_byte_is_short(body: bytes) -> None:
    data = a_frame(body)
    assert {refusal(data[:end]) for end in range(len(data))} == {"short"}
    for end in range(1, len(data)):
        with pytest.raises(FrameRefused, match="short"):
            frame.split(data + data[:end])


@pytest.mark.parametrize("body", [b"", b"short", b"compressible " * 20], ids=["empty", "plain", "lz4"])
def test_a_frame_with_any_one_bit_flipped_is_refused(body: bytes) -> None:
    data = a_frame(body)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        refusal(bytes(flipped))


@settings(deadline=None, max_examples=100)
@given(
    body=st.binary(max_size=200),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=2, max_size=8),
)
def test_damage_is_refused_or_undone(body: bytes, damage: list[tuple[int, int]]) -> None:
    data = a_frame(body)
    damaged = bytearray(data)
    for at, mask in damage:
        damaged[at % len(data)] ^= mask
    if damaged == data:
        assert frame.decode(damaged).body == body
    else:
        refusal(bytes(damaged))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=100) | st.binary(max_size=100).map(lambda tail: b"FG\x01" + tail))
def test_noise_is_refused(data: bytes) -> None:
    refusal(data)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"magic": b"GF"}, "magic"),
        ({"version": 2}, "version"),
        ({"flags": 2}, "flags"),
        ({"reserved": 1}, "flags"),
        ({"lane": 4}, "lane"),
        ({"seq": 1 << 63}, "seq"),
        ({"kind": 63}, "kind"),
        ({"raw_len": 21}, "size"),
        ({"raw_len": 19}, "size"),
        ({"raw_len": frame.MAX_RAW + 1, "body_len": frame.MAX_RAW + 1}, "size"),
        ({"flags": 1, "raw_len": 20}, "size"),
        ({"flags": 1, "raw_len": 0xFFFFFFFF}, "size"),
        ({"flags": 1, "raw_len": 255 * 20 + (64 << 10) + 1}, "size"),
        ({"flags": 1, "raw_len": 255 * 20 + (64 << 10)}, "lz4"),
        ({"body_len": 21, "raw_len": 21}, "short"),
    ],
    ids=str,
)
def test_a_header_that_is_not_ours_is_refused_by_reason_although_its_digests_are_right(
    fields: dict[str, Any], reason: str
) -> None:
    assert refusal(sealed(a_frame(), **fields)) == reason


@pytest.mark.parametrize(("stated", "reason"), [(999, "lz4"), (1001, "lz4"), (4000, "lz4")])
def test_a_block_that_holds_more_or_less_than_stated_is_refused(stated: int, reason: str) -> None:
    assert refusal(sealed(a_frame(b"a" * 1000), raw_len=stated)) == reason


def test_a_block_in_a_block_is_opened_once() -> None:
    inner = lz4.block.compress(bytes(1 << 20), store_size=False)
    assert frame.decode(a_frame(inner)).body == inner


def test_a_claim_of_gibibytes_allocates_nothing() -> None:
    claims = [sealed(a_frame(), flags=1, raw_len=raw, body_len=body) for raw in (0xFFFFFFFF,) for body in (20, 1 << 31)]
    claims += [sealed(a_frame(), raw_len=frame.MAX_RAW, body_len=frame.MAX_RAW)]
    assert cost(lambda: [refusal(claim) for claim in claims]) < 64 << 10


def test_the_largest_body_fits_and_one_byte_more_does_not() -> None:
    assert frame.decode(a_frame(bytes(frame.MAX_RAW))).body == bytes(frame.MAX_RAW)
    with pytest.raises(FrameRefused, match="size"):
        a_frame(bytes(frame.MAX_RAW + 1))
    with pytest.raises(FrameRefused, match="size"):
        frame.encode(Kind.RECEIPT, bytes(frame.MAX_CONTROL + 1))


def test_frames_in_one_message_come_apart_in_order() -> None:
    frames = [a_frame(b"x" * n) for n in (0, 5, 500)]
    parted = frame.split(b"".join(frames))
    assert [bytes(whole) for _, whole in parted] == frames
    assert [head for head, _ in parted] == [frame.header(data) for data in frames]
    assert frame.split(b"") == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (a_frame() + b"x", "short"),
        (a_frame() + bytes(32), "magic"),
        (a_frame() * 3, "frames"),
        (a_frame()[:-1] + b"?" + a_frame(), "crc"),
    ],
    ids=["bytes left over", "no frame behind", "too many", "one damaged"],
)
def test_a_message_is_taken_whole_or_not_at_all(message: bytes, reason: str) -> None:
    with pytest.raises(FrameRefused, match=reason):
        frame.split(message, max_frames=2)


def test_a_kind_of_a_later_version_can_be_parted_and_quarantined() -> None:
    later = sealed(a_frame(), kind=60)
    [(head, whole), _] = frame.split(later + a_frame())
    assert (head.kind, head.lane, head.seq) == (60, 3, 7)
    assert refusal(bytes(whole)) == "kind"
    with pytest.raises(FrameRefused, match="kind"):
        frame.load(60, b"")


def test_a_chain_names_all_that_came_before() -> None:
    def last_chain(*bodies: bytes) -> int:
        chain = 0
        for body in bodies:
            chain = frame.decode(frame.encode(Kind.TICK, body, chain_before=chain)).chain
        return chain

    assert last_chain(b"a", b"b") == last_chain(b"a", b"b")
    assert len({last_chain(*bodies) for bodies in ((b"a", b"b"), (b"b", b"a"), (b"b",), (b"a",), (b"x", b"b"))}) == 5


@pytest.mark.parametrize("size", [0, 1, frame.PIECE, frame.PIECE + 1, 2 * frame.PIECE + 7])
def test_a_body_of_any_length_comes_back_from_its_parts(size: int) -> None:
    body = bytes(size)
    data = frame.encode_long(Kind.CHECKPOINT, [body], lane=JOURNAL_LANE)
    assert frame.decode_long(data, max_bytes=size) == (Kind.CHECKPOINT, body)
    if size:
        with pytest.raises(FrameRefused, match="size"):
            frame.decode_long(data, max_bytes=size - 1)


def test_how_a_long_body_is_cut_into_parts_shows_nowhere() -> None:
    body = bytes(range(256)) * (frame.PIECE // 100)
    cuts = [0, 1, 1, frame.PIECE - 1, 2 * frame.PIECE + 3, len(body)]
    parts = [memoryview(body)[start:end] for start, end in itertools.pairwise(cuts)]
    assert frame.encode_long(Kind.CHECKPOINT, parts) == frame.encode_long(Kind.CHECKPOINT, [body])


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ([0, 1], "chain"),
        ([1, 2], "chain"),
        ([0, 2], "chain"),
        ([1, 0, 2], "chain"),
        ([0, 1, 2, 2], "chain"),
        ([], "short"),
    ],
    ids=["last missing", "first missing", "middle missing", "exchanged", "repeated", "none"],
)
def test_parts_that_are_missing_or_out_of_order_are_noticed(order: list[int], reason: str) -> None:
    data = frame.encode_long(Kind.CHECKPOINT, [bytes(2 * frame.PIECE + 7)])
    parts = [bytes(part) for _, part in frame.split(data)]
    with pytest.raises(FrameRefused, match=reason):
        frame.decode_long(b"".join(parts[number] for number in order), max_bytes=1 << 30)


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.name)
def test_every_message_comes_back_and_both_codecs_write_the_same_bytes(kind: Kind) -> None:
    body = MESSAGES[kind]
    packed = frame.dump(body)
    assert frame.load(kind, packed) == body
    assert frame.load(kind, frame.decode(frame.message(kind, body)).body) == body
    assert msgspec.msgpack.encode(body) == packed
    assert msgpack.unpackb(packed) == msgspec.msgpack.decode(packed)


def test_fields_of_a_later_version_are_ignored_and_those_not_sent_have_defaults() -> None:
    later = msgpack.packb({"reason": "token", "later": [{"x": None}], "retry_after_s": 2})
    assert frame.load(Kind.REFUSAL, later) == Refusal("token", 2.0)
    assert frame.load(Kind.HELLO, msgpack.packb({"gateway": "g", "epoch": 1, "lanes": {}})) == Hello("g", 1, {})


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (Kind.REFUSAL, b"", "body"),
        (Kind.REFUSAL, b"\x80", "body"),
        (Kind.REFUSAL, msgpack.packb({"reason": 5}), "body"),
        (Kind.REFUSAL, msgpack.packb({"reason": "x"}) + b"\x00", "body"),
        (Kind.REFUSAL, b"\x81\xa6reason\xa2\xff\xfe", "body"),
        (Kind.RECEIPT, msgpack.packb({"marks": {"alerts": [1, [[1, 2, 3]], 0]}}), "body"),
        (Kind.RECEIPT, b"\x81\xa5marks\x81\xa1a\x93\x01\xdd\xff\xff\xff\xff", "body"),
        (Kind.DEFINITIONS, b"\xdf\xff\xff\xff\xff", "body"),
        (Kind.DEFINITIONS, b"\x81\xa1z" + b"\x91" * 60_000, "body"),
        (Kind.DEFINITIONS, b"\x81\xa1z" + b"\xdc\xff\xff" * 20_000, "body"),
        (Kind.DEFINITIONS, b"\x81\xa6series" + b"\xdc\xff\xff" * 20_000, "body"),
        (Kind.RECEIPT, bytes(frame.MAX_CONTROL + 1), "size"),
        (Kind.READINGS, b"\x80", "kind"),
    ],
    ids=[
        "nothing",
        "field missing",
        "wrong type",
        "bytes left over",
        "no text",
        "tuple too long",
        "four billion ranges",
        "four billion fields",
        "nested 60,000 deep in a field nobody reads",
        "headers of 65,535 nested in a field nobody reads",
        "headers of 65,535 nested",
        "large control message",
        "kind without message",
    ],
)
def test_a_body_that_is_none_is_refused_at_no_cost(kind: Kind, body: bytes, reason: str) -> None:
    def load() -> None:
        with pytest.raises(FrameRefused) as refused:
            frame.load(kind, body)
        assert refused.value.reason == reason

    assert cost(load) < 1 << 20


@settings(deadline=None, max_examples=100)
@given(kind=st.sampled_from(list(BODIES)), damage=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4))
def test_a_damaged_body_is_read_or_refused(kind: Kind, damage: list[tuple[int, int]]) -> None:
    packed = bytearray(frame.dump(MESSAGES[kind]))
    for at, value in damage:
        packed[at % len(packed)] = value
    try:
        loaded = frame.load(kind, packed)
    except FrameRefused as refused:
        loaded = refused
    assert isinstance(loaded, BODIES[kind]) or loaded.reason == "body"


def plain(value: Any) -> Any:
    match value:
        case np.ndarray():
            values = " ".join(str(item) for item in value.ravel().tolist())
            return {"dtype": str(value.dtype), "shape": list(value.shape), "values": values}
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case bytes():
            return value.hex()
        case float():
            return repr(value)
        case _:
            return value


def said(decoded: frame.Frame) -> dict[str, Any]:
    """Give what a frame's body says, its columns spelt out."""
    if decoded.kind in BODIES:
        body: dict[str, Any] = msgspec.to_builtins(frame.load(decoded.kind, decoded.body), builtin_types=(bytes,))
    else:
        body = columns.decode_state(decoded.body)
    if decoded.kind in (Kind.WINDOWS, Kind.READINGS):
        dtypes = WINDOW_DTYPES if decoded.kind == Kind.WINDOWS else READING_DTYPES
        body["columns"] = columns.decode(body["columns"], dtypes, max_rows=100)
    return body


def without_later(read: Any, meant: Any) -> Any:
    """Leave out fields that came after these bytes were made: each must say that nothing was said."""
    match read, meant:
        case dict(), dict():
            assert all(read[key] in (0, "", "0.0", [], {}) for key in read.keys() - meant.keys())
            return {key: without_later(read[key], meant[key]) for key in read.keys() & meant.keys()}
        case list(), list() if len(read) == len(meant):
            return [without_later(*pair) for pair in zip(read, meant, strict=True)]
        case _:
            return read


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_frames_of_version_1_are_read_as_they_were_meant(path: Path) -> None:
    data = path.read_bytes()
    head = frame.header(data)
    decoded = frame.decode(data)
    assert head.size == len(data)
    assert frame.verify_chain(head, frame.check(data, head), 7)
    assert decoded.kind.name.lower() == path.stem.removesuffix("-2")
    assert decoded.seq == 9
    meant = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert without_later(plain(said(decoded)), meant) == meant


def test_every_kind_has_a_golden_frame() -> None:
    assert {path.stem for path in GOLDEN} == {*(kind.name.lower() for kind in Kind), *GROWN}


def test_the_ratio_bound_is_one_that_lz4_cannot_reach() -> None:
    for size in (64, 1000, 65_536, frame.MAX_RAW):
        packed = lz4.block.compress(bytes(size), store_size=False)
        assert size <= 255 * len(packed) + (64 << 10)
        assert math.ceil(size / 255) <= len(packed) + 257

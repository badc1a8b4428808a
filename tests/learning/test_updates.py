"""Updates are small, come back as near as their codec says, and owe what they leave out."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import updates
from learning.parameters import FURTHEST, Flat
from learning.reading import norm
from learning.updates import CODECS, OWING, Codec, dense
from protocol.errors import ModelRefused

PERCEPTRON = 7_558
every_codec = pytest.mark.parametrize("codec", CODECS)
every_owing = pytest.mark.parametrize("codec", sorted(OWING))


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def delta(size: int = PERCEPTRON) -> Flat:
    return (0.01 * rng().normal(size=size)).astype(np.float32)


@st.composite
def vectors(draw: st.DrawFn) -> Flat:
    """Numbers of very different sizes, some of them 0."""
    size = draw(st.integers(1, 700))
    spread = 10.0 ** draw(st.integers(-30, 12))
    numbers = np.random.default_rng(draw(st.integers(0, 1 << 20))).normal(0, 1, size) ** 3 * spread
    numbers[:: draw(st.integers(1, 5))] = 0
    return numbers.astype(np.float32)


SIZES = [("f32", 30_238), ("i8", 8_000), ("topk", 500), ("sign", 1_000)]


@pytest.mark.parametrize(("codec", "most"), SIZES, ids=[codec for codec, _ in SIZES])
def test_an_update_of_a_perceptron_is_small(codec: Codec, most: int) -> None:
    assert len(updates.encode(codec, delta(), rng()).payload) <= most


@settings(max_examples=60, deadline=None)
@given(vectors())
def test_floats_come_back_bit_for_bit(vector: Flat) -> None:
    encoded = updates.encode("f32", vector, rng())
    assert updates.decode(encoded.payload, len(vector)).tobytes() == vector.tobytes()
    assert encoded.residual is None


@settings(max_examples=60, deadline=None)
@given(vectors())
def test_bytes_are_off_by_one_step_of_their_block_at_most(vector: Flat) -> None:
    got = updates.decode(updates.encode("i8", vector, rng()).payload, len(vector))
    steps = np.abs(dense.in_blocks(vector)).max(axis=1) / dense.LEVELS
    off = np.abs(dense.in_blocks(got) - dense.in_blocks(vector)).max(axis=1)
    assert (off <= steps * (1 + 1e-5) + 1e-40).all()


def test_bytes_are_right_in_the_mean_and_one_percent_off_each() -> None:
    vector, chance = delta(), rng()
    many = [updates.decode(updates.encode("i8", vector, chance).payload, PERCEPTRON) for _ in range(200)]
    assert norm(many[0] - vector) / norm(vector) < 0.012
    assert norm(np.mean(many, axis=0) - vector) / norm(vector) < 0.0012  # chance leaves 0.01 / sqrt(200)


@settings(max_examples=60, deadline=None)
@given(vectors(), vectors(), st.sampled_from(sorted(OWING)))
def test_what_is_sent_and_what_is_owed_are_the_whole(vector: Flat, owed: Flat, codec: Codec) -> None:
    owed = np.resize(owed, len(vector))
    total = vector + owed
    encoded = updates.encode(codec, vector, rng(), owed)
    assert encoded.residual is not None
    sent = updates.decode(encoded.payload, len(vector))
    np.testing.assert_allclose(sent + encoded.residual, total, rtol=1e-6, atol=1e-6 * float(np.abs(total).max()))


@every_owing
def test_an_update_that_nobody_received_is_owed_in_full(codec: Codec) -> None:
    first, second = delta(), delta()[::-1]
    encoded = updates.encode(codec, first, rng())
    back = updates.put_back(encoded.payload, encoded.residual, PERCEPTRON)
    assert back is not None
    np.testing.assert_allclose(back, first, atol=1e-8)
    again = updates.encode(codec, second, rng(), back)
    assert again.residual is not None
    sent = updates.decode(again.payload, PERCEPTRON)
    np.testing.assert_allclose(sent + again.residual, first + second, atol=1e-8)


@pytest.mark.parametrize("codec", ["f32", "i8"])
def test_a_codec_that_owes_nothing_leaves_the_residual_as_it_is(codec: Codec) -> None:
    payload = updates.encode(codec, delta(), rng()).payload
    assert updates.put_back(payload, None, PERCEPTRON) is None
    kept = delta()
    assert updates.put_back(payload, kept, PERCEPTRON) is kept


@every_owing
def test_with_error_feedback_all_that_was_learnt_arrives_in_the_end(codec: Codec) -> None:
    vector, owed, arrived = delta(500), None, np.zeros(500)
    for _ in range(300):
        payload, owed = updates.encode(codec, vector, rng(), owed)
        arrived += updates.decode(payload, 500)
    assert norm(arrived / 300 - vector) / norm(vector) < 0.2


def test_the_largest_are_kept_and_where_they_are() -> None:
    vector = np.zeros(100_000, np.float32)
    places = [0, 1, 130, 20_000, 99_999]
    vector[places] = [5, -4, 3, -2, 127]
    payload, owed = updates.encode("topk", vector, rng(), share=5 / 100_000)
    got = updates.decode(payload, 100_000)
    assert np.flatnonzero(got).tolist() == places
    assert got[places].tolist() == [5, -4, 3, -2, 127]
    assert owed is not None
    assert not owed.any()


@every_codec
def test_inputs_are_untouched_and_the_same_chance_gives_the_same_bytes(codec: Codec) -> None:
    vector, owed = delta(), delta()
    one = updates.encode(codec, vector, rng(), owed)
    assert one.payload == updates.encode(codec, vector, rng(), owed).payload
    assert (vector.tobytes(), owed.tobytes()) == (delta().tobytes(), delta().tobytes())


@every_codec
@pytest.mark.parametrize("size", [1, 255, 256, 257])
def test_nothing_is_a_whole_update_too(codec: Codec, size: int) -> None:
    payload = updates.encode(codec, np.zeros(size, np.float32), rng()).payload
    assert not updates.decode(payload, size).any()


GOLDEN = {
    "f32": "01 00 04000000 0000803f 000000c0 00000000 0000003f",
    "i8": "01 01 04000000 0402813c 40 81 00 1f",
    "topk": "01 02 04000000 01000000 0402813c 81 01",
    "sign": "01 03 04000000 0000603f 0d",
}


READ = {
    "f32": [1, -2, 0, 0.5],
    "i8": [128 / 127, -2, 0, 62 / 127],
    "topk": [0, -2, 0, 0],
    "sign": [0.875, -0.875, 0.875, 0.875],
}


@every_codec
def test_the_bytes_are_those_of_format_1(codec: Codec) -> None:
    payload = bytes.fromhex(GOLDEN[codec])
    assert updates.decode(payload, 4).tolist() == pytest.approx(READ[codec])
    if codec != "i8":  # which rounds by chance
        assert updates.encode(codec, np.array([1, -2, 0, 0.5], np.float32), rng()).payload == payload


def head(code: int, numbers: int = 4, version: int = 1) -> bytes:
    return struct.pack("<BBI", version, code, numbers)


REFUSED = {
    "nothing": b"",
    "half a head": head(0)[:5],
    "another format": head(0, version=2) + bytes(16),
    "an unknown codec": head(4) + bytes(16),
    "another number of numbers": head(0, 5) + bytes(20),
    "more numbers than there are bytes": head(0, 0xFFFFFFFF),
    "floats cut off": head(0) + bytes(15),
    "floats with a tail": head(0) + bytes(17),
    "a float that is none": head(0) + np.array([0, np.nan, 0, 0], "<f4").tobytes(),
    "a float too far": head(0) + np.array([0, 2 * FURTHEST, 0, 0], "<f4").tobytes(),
    "bytes cut off": head(1) + bytes(7),
    "an infinite scale": head(1) + np.float32(np.inf).tobytes() + bytes(4),
    "a negative scale": head(1) + np.float32(-1).tobytes() + bytes(4),
    "a scale that leaves float32": head(1) + np.float32(3e38).tobytes() + bytes([127] * 4),
    "none kept": head(2) + struct.pack("<I", 0),
    "more kept than there are": head(2) + struct.pack("<I", 5) + bytes(14),
    "values cut off": head(2) + struct.pack("<I", 2) + bytes(5),
    "places cut off": head(2) + struct.pack("<If", 2, 1.0) + bytes([1, 1, 0]),
    "a place too many": head(2) + struct.pack("<If", 1, 1.0) + bytes([1, 0, 0]),
    "a place that never ends": head(2) + struct.pack("<If", 1, 1.0) + bytes([1, 0x80]),
    "a place too long": head(2) + struct.pack("<If", 1, 1.0) + bytes([1, 0x80, 0x80, 0x80, 0]),
    "a place beyond the end": head(2) + struct.pack("<If", 2, 1.0) + bytes([1, 1, 1, 2]),
    "signs cut off": head(3) + bytes(4),
    "signs of no size": head(3) + struct.pack("<f", float("nan")) + bytes(1),
    "signs too far": head(3) + struct.pack("<f", 1e16) + bytes(1),
}


@pytest.mark.parametrize("payload", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_update_is_refused(payload: bytes) -> None:
    with pytest.raises(ModelRefused) as refused:
        updates.decode(payload, 4)
    assert refused.value.reason == "update"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e16], ids=str)
@every_codec
def test_a_delta_that_went_wrong_is_not_sent(codec: Codec, bad: float) -> None:
    with pytest.raises(ModelRefused, match="update"):
        updates.encode(codec, np.array([0, bad], np.float32), rng())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CODECS), st.binary(max_size=40), st.integers(0, 60), st.integers(1, 255))
def test_whatever_the_bytes_are_numbers_come_out_or_a_refusal(codec: Codec, tail: bytes, at: int, flip: int) -> None:
    for payload in (head(CODECS.index(codec), 9) + tail, updates.encode(codec, delta(9), rng()).payload):
        changed = bytearray(payload)
        changed[at % len(changed)] ^= flip
        try:
            vector = updates.decode(bytes(changed), 9)
        except ModelRefused:
            continue
        assert vector.shape == (9,)
        assert np.isfinite(vector).all()

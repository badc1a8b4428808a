"""What announces a model: read only if the pinned key signed it, and only if all of it makes sense."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import manifest
from protocol.errors import ModelRefused
from protocol.identity import SIGNATURE_SIZE, Signer
from protocol.manifest import CONTEXT, MAX_CHUNK, MAX_MANIFEST, MAX_VERSION, MAX_WANT, Chunk, Manifest, Want

SIGNER = Signer.from_seed(bytes(range(32)))
STRANGER = Signer.from_seed(bytes(32))
CONTENT = b"what the model is"
DIGEST = manifest.digest_of(CONTENT)
PUMPS = Manifest("pumps", 4, len(CONTENT), DIGEST, "baseline/1", 1_764_000_000 * 10**9, 0, "barn")

NESTED = b"\x91" * 10_000 + b"\x00"
"""An array in an array in an array, and so on."""


def signed(body: bytes, context: bytes = CONTEXT) -> bytes:
    """Seal any bytes, as only the holder of the key can."""
    return SIGNER.sign(context + body) + body


def packed(**changes: Any) -> bytes:
    """Give a manifest's bytes with some fields changed, or gone where the change is None."""
    fields = msgspec.to_builtins(PUMPS) | changes
    return msgspec.msgpack.encode({key: value for key, value in fields.items() if value is not None})


def refusal(sealed: bytes, gateway: str = "barn", public: bytes = SIGNER.public) -> str:
    with pytest.raises(ModelRefused) as refused:
        manifest.unseal(sealed, public, gateway=gateway)
    return refused.value.reason


def test_a_manifest_is_read_by_the_gateway_it_is_for() -> None:
    assert manifest.unseal(manifest.seal(PUMPS, SIGNER), SIGNER.public, gateway="barn") == PUMPS
    anybody = msgspec.structs.replace(PUMPS, gateway="")
    assert manifest.unseal(manifest.seal(anybody, SIGNER), SIGNER.public, gateway="mill") == anybody


def test_a_manifest_from_the_journal_is_read_without_a_key() -> None:
    assert manifest.read_sealed(manifest.seal(PUMPS, SIGNER)) == PUMPS


def test_fields_of_a_later_version_are_ignored() -> None:
    assert manifest.unseal(signed(packed(licence="none", parts=[1, {}])), SIGNER.public, gateway="barn") == PUMPS


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "signature"),
    "a signature of nothing": (SIGNER.sign(CONTEXT), "signature"),
    "another key": (manifest.seal(PUMPS, STRANGER), "signature"),
    "signed for another purpose": (signed(packed(), b""), "signature"),
    "too long": (signed(packed(schema="x" * MAX_MANIFEST)), "signature"),
    "not msgpack": (signed(b"\xc1"), "manifest"),
    "bytes behind the end": (signed(packed() + b"\x00"), "manifest"),
    "cut off": (signed(packed()[:-1]), "manifest"),
    "not a map": (signed(b"\x93\x01\x02\x03"), "manifest"),
    "nested without end": (signed(b"\x81\xa1x" + NESTED), "manifest"),
    "text that is none": (signed(packed().replace(b"pumps", b"pump\xff")), "manifest"),
    "no name": (signed(packed(name=None)), "manifest"),
    "a name that is a path": (signed(packed(name="../../etc")), "manifest"),
    "version 0": (signed(packed(version=0)), "manifest"),
    "a version beyond all": (signed(packed(version=MAX_VERSION + 1)), "manifest"),
    "a version that is text": (signed(packed(version="4")), "manifest"),
    "a version that is true": (signed(packed(version=True)), "manifest"),
    "no bytes": (signed(packed(size=0)), "manifest"),
    "less than none": (signed(packed(size=-1)), "manifest"),
    "a digest in capitals": (signed(packed(digest=DIGEST.upper())), "manifest"),
    "a digest with a line's end": (signed(packed(digest=DIGEST + "\n")), "manifest"),
    "no digest": (signed(packed(digest="")), "manifest"),
    "expired before time began": (signed(packed(expires=-1)), "manifest"),
    "for another gateway": (signed(packed(gateway="mill")), "gateway"),
}


@pytest.mark.parametrize(("sealed", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_manifest_is_refused_by_reason(sealed: bytes, reason: str) -> None:
    assert refusal(sealed) == reason


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), STRANGER.public], ids=["none", "short", "zeros", "else"])
def test_no_other_key_will_do(public: bytes) -> None:
    assert refusal(manifest.seal(PUMPS, SIGNER), public=public) == "signature"


def test_every_bit_of_a_sealed_manifest_counts() -> None:
    sealed = manifest.seal(PUMPS, SIGNER)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        assert refusal(bytes(changed)) == "signature"


def test_the_bytes_of_version_1_are_read_as_they_were_meant() -> None:
    assert msgspec.msgpack.decode(packed()) == msgspec.to_builtins(PUMPS)
    assert manifest.read_want(bytes.fromhex("93d940" + DIGEST.encode().hex() + "cd8000cd4000")) == Want(
        DIGEST, 32_768, 16_384
    )
    assert manifest.read_chunk(bytes.fromhex("93d940" + DIGEST.encode().hex() + "05c4026162")) == Chunk(
        DIGEST, 5, b"ab"
    )


def test_wants_and_chunks_are_read_as_they_were_written() -> None:
    want, chunk = Want(DIGEST, MAX_VERSION, 1), Chunk(DIGEST, 0, bytes(MAX_CHUNK))
    assert manifest.read_want(manifest.write(want)) == want
    assert manifest.read_chunk(manifest.write(chunk)) == chunk


def array(*items: object) -> bytes:
    return msgspec.msgpack.encode(items)


WANTS = {
    "nothing": b"",
    "not a digest": array("../" + DIGEST[3:], 0, 1),
    "before the beginning": array(DIGEST, -1, 1),
    "beyond all": array(DIGEST, MAX_VERSION + 1, 1),
    "no bytes": array(DIGEST, 0, 0),
    "too long": array(DIGEST, 0, 1, bytes(MAX_WANT)),
    "a map": msgspec.msgpack.encode({"digest": DIGEST, "offset": 0, "size": 1}),
}
CHUNKS = {
    "nothing": b"",
    "not a digest": array(DIGEST[1:], 0, b""),
    "before the beginning": array(DIGEST, -1, b""),
    "text for bytes": array(DIGEST, 0, "text"),
    "one byte too many": array(DIGEST, 0, bytes(MAX_CHUNK + 1)),
    "far too long": bytes(MAX_CHUNK + MAX_WANT + 1),
    "nested without end": array(DIGEST, 0, b"")[:-2].replace(b"\x93", b"\x94", 1) + b"\xc4\x00" + NESTED,
}


@pytest.mark.parametrize("data", WANTS.values(), ids=WANTS.keys())
def test_a_want_that_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"^want"):
        manifest.read_want(data)


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS.keys())
def test_a_chunk_that_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"^chunk"):
        manifest.read_chunk(data)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (manifest.read_want, manifest.read_chunk, lambda body: manifest.read_sealed(bytes(64) + body)):
        with suppress(ModelRefused):
            read(data)


def test_mutated_messages_are_read_or_refused() -> None:
    chance = Random(3)
    for whole, read in [
        (manifest.write(Want(DIGEST, 7, 9)), manifest.read_want),
        (manifest.write(Chunk(DIGEST, 7, CONTENT)), manifest.read_chunk),
        (manifest.seal(PUMPS, SIGNER), manifest.read_sealed),
    ]:
        for _ in range(1_000):
            changed = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            with suppress(ModelRefused):
                read(bytes(changed))


def test_a_sealed_manifest_is_its_signature_and_then_its_bytes() -> None:
    assert manifest.seal(PUMPS, SIGNER)[SIGNATURE_SIZE:] == packed()

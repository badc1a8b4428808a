"""What announces a model, and the parts it comes in: signed, so that nothing else is parsed. Pure.

Rules:

1. A sealed manifest is 64 bytes of Ed25519 signature, then a msgpack map. What is signed is CONTEXT and that map, so
   that nothing else the key ever signs passes for a manifest. The signature is checked before anything is parsed, with
   the key that the gateway's configuration pins.
2. The content is named by its SHA-256, which the manifest holds: a part may come in any order and from anywhere.
3. The gateway asks for parts (Want), as many bytes at a time as it likes; the cloud answers each with a Chunk.
4. Nothing is unpickled or evaluated; what is malformed is ModelRefused, by reason. Lengths are looked at before
   anything is read: MAX_MANIFEST, MAX_WANT, and MAX_CHUNK of content.

| reason | why |
|---|---|
| signature | not signed by the pinned key, or changed since |
| manifest | signed, and yet not a manifest we understand |
| gateway | made for another gateway |
| want, chunk | not what it should be |
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from protocol.errors import ModelRefused
from protocol.identity import SIGNATURE_SIZE, Signer, verify
from protocol.settings import NAME

MAX_MANIFEST = 16 << 10
"""Bytes of a sealed manifest."""

MAX_CHUNK = 256 << 10
"""Bytes of content in one Chunk."""

MAX_WANT = 256
"""Bytes of a Want, and of a Chunk around its content."""

MAX_VERSION = (1 << 53) - 1
"""Of a model: the largest integer that every JSON reader keeps. No size and no offset is larger."""

CONTEXT = b"fieldgate/v1/manifest\0"

DIGEST = re.compile(r"[0-9a-f]{64}")

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Manifest(msgspec.Struct, frozen=True):
    """One version of one model. Versions of a model only grow; a rollback is a new version with old content."""

    name: str
    version: int
    size: int  # bytes of content
    digest: str  # SHA-256 of content, hexadecimal
    schema: str  # what the content is: "baseline/1"
    created: int  # ns
    expires: int = 0  # ns; 0 is never
    gateway: str = ""  # "" is for any


class Want(msgspec.Struct, frozen=True, array_like=True):
    """Asks for content[offset : offset + size] of a digest."""

    digest: str
    offset: int
    size: int


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Answers a Want: `data` is shorter than asked for at the end, and empty when the digest is unknown here."""

    digest: str
    offset: int
    data: bytes


_MANIFEST = msgspec.msgpack.Decoder(Manifest)
_WANT = msgspec.msgpack.Decoder(Want)
_CHUNK = msgspec.msgpack.Decoder(Chunk)
_ENCODE = msgspec.msgpack.Encoder().encode


def digest_of(content: bytes) -> str:
    """Name a content."""
    return hashlib.sha256(content).hexdigest()


def seal(manifest: Manifest, signer: Signer) -> bytes:
    """Sign a manifest."""
    body = _ENCODE(manifest)
    return signer.sign(CONTEXT + body) + body


def unseal(sealed: bytes, public: bytes, *, gateway: str = "") -> Manifest:
    """Verify, then read; `gateway` is who asks. ModelRefused says why not."""
    if not SIGNATURE_SIZE < len(sealed) <= MAX_MANIFEST:
        raise ModelRefused("signature", f"{len(sealed)} bytes")
    signature, body = sealed[:SIGNATURE_SIZE], sealed[SIGNATURE_SIZE:]
    if not verify(public, CONTEXT + body, signature):
        raise ModelRefused("signature", "not signed by the pinned key")
    manifest = read_sealed(sealed)
    if manifest.gateway not in ("", gateway):
        raise ModelRefused("gateway", f"made for {manifest.gateway}")
    return manifest


def read_sealed(sealed: bytes) -> Manifest:
    """Read a manifest that was verified when it came in: one from our own journal. ModelRefused("manifest")."""
    try:
        manifest = _MANIFEST.decode(sealed[SIGNATURE_SIZE:])
    except _UNREADABLE as error:
        raise ModelRefused("manifest", str(error)) from error
    sound = NAME.fullmatch(manifest.name) and DIGEST.fullmatch(manifest.digest) and manifest.expires >= 0
    if not sound or not 1 <= manifest.version <= MAX_VERSION or not 1 <= manifest.size <= MAX_VERSION:
        raise ModelRefused("manifest", f"{manifest.name[:64]!r} version {manifest.version} of {manifest.size} bytes")
    return manifest


def write(message: Want | Chunk) -> bytes:
    """Give a message's bytes."""
    return _ENCODE(message)


def read_want(data: bytes) -> Want:
    """Read what a gateway asks for; ModelRefused("want")."""
    if len(data) > MAX_WANT:
        raise ModelRefused("want", f"{len(data)} bytes")
    try:
        want = _WANT.decode(data)
    except _UNREADABLE as error:
        raise ModelRefused("want", str(error)) from error
    if not DIGEST.fullmatch(want.digest) or not 0 <= want.offset <= MAX_VERSION or want.size < 1:
        raise ModelRefused("want", f"{want.size} bytes at {want.offset}")
    return want


def read_chunk(data: bytes) -> Chunk:
    """Read a part; ModelRefused("chunk")."""
    if len(data) > MAX_CHUNK + MAX_WANT:
        raise ModelRefused("chunk", f"{len(data)} bytes")
    try:
        chunk = _CHUNK.decode(data)
    except _UNREADABLE as error:
        raise ModelRefused("chunk", str(error)) from error
    if not DIGEST.fullmatch(chunk.digest) or chunk.offset < 0 or len(chunk.data) > MAX_CHUNK:
        raise ModelRefused("chunk", f"{len(chunk.data)} bytes at {chunk.offset}")
    return chunk

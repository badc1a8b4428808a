"""A frame: the bytes of one record, the same on disk and on the wire.

Layout, little endian, 32 bytes and then the body:

    offset  0  magic     2s   b"FG"
            2  version   u8   1
            3  kind      u8   messages.Kind
            4  flags     u8   bit 0: the body is one lz4 block; the others are 0
            5  lane      u8   index in messages.LANES, or JOURNAL_LANE
            6  reserved  u16  0
            8  seq       u64  below 2^63
           16  raw_len   u32  bytes of the body once decompressed
           20  body_len  u32  bytes of the body as it stands here
           24  chain     u32  digest of this frame and all before it in its lane
           28  crc       u32  digest of this frame

    content = crc32(bytes 0..23, then the body)
    chain   = crc32(content as u32, starting from the chain of the frame before)
    crc     = crc32(chain as u32, starting from content)

So a frame can be checked alone (crc), and two ends that compare one number (chain) know they hold the same history.

Invariants:

1. Nothing is allocated on a header's word: raw_len is at most MAX_RAW, and at most 255 * body_len + 64 KiB.
2. raw_len == body_len without lz4, and raw_len > body_len with it; a block must give exactly raw_len bytes.
3. Whatever the bytes are, the answer is a value or FrameRefused, whose `reason` is one of REASONS.
4. `split` vouches for header and crc only. A frame it returns that `decode` or `load` then refuses was sent that way:
   it is well framed, and is the receiver's to quarantine.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lz4.block
import msgpack  # type: ignore[import-untyped]  # it ships no types
import msgspec

from protocol.errors import FrameRefused
from protocol.messages import BODIES, JOURNAL_LANE, LANES, Kind

Buffer = bytes | bytearray | memoryview

MAGIC = b"FG"
VERSION = 1
COMPRESSED = 1
HEADER_SIZE = 32
MAX_RAW = 8 << 20
PIECE = 1 << 20
"""Bytes of a long body in one frame."""
MAX_CONTROL = 64 << 10
"""Bound on bodies of frames that belong to a connection only: they hold marks of four lanes, about 5 KiB at most."""
MAX_FRAMES = 4096
"""Bound on frames in one message."""
WORTH_TRYING = 64
"""Below this many bytes an lz4 block saves nothing."""

REASONS = ("short", "magic", "version", "flags", "lane", "seq", "size", "crc", "chain", "kind", "lz4", "frames", "body")

_HEADER = struct.Struct("<2sBBBBHQIIII")
_HASHED = 24
_WORD = struct.Struct("<I")
_KINDS: dict[int, Kind] = {int(kind): kind for kind in Kind}
_LANES = frozenset((*range(len(LANES)), JOURNAL_LANE))
_DECODERS: dict[Kind, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(body) for kind, body in BODIES.items()
}


class Header(NamedTuple):
    """The first 32 bytes, checked for form. `kind` is a Kind where this version knows it, else the plain number."""

    kind: int
    flags: int
    lane: int
    seq: int
    raw_len: int
    body_len: int
    chain: int
    crc: int

    @property
    def size(self) -> int:
        """Bytes of the whole frame."""
        return HEADER_SIZE + self.body_len


class Frame(NamedTuple):
    """A frame that was checked; `body` is decompressed."""

    kind: Kind
    lane: int
    seq: int
    chain: int
    body: bytes


def encode(kind: Kind, body: bytes, *, lane: int = 0, seq: int = 0, chain_before: int = 0) -> bytes:
    """Make a frame; the body is compressed when that pays. FrameRefused("size") when it is over the bound."""
    if len(body) > _most(kind):
        raise FrameRefused("size", f"a body of {len(body)} bytes, at most {_most(kind)}")
    packed = _compress(body)
    flags = COMPRESSED if packed is not body else 0
    head = _HEADER.pack(MAGIC, VERSION, kind, flags, lane, 0, seq, len(body), len(packed), 0, 0)[:_HASHED]
    content = zlib.crc32(packed, zlib.crc32(head))
    chain = chain_after(content, chain_before)
    return b"".join((head, _WORD.pack(chain), _WORD.pack(zlib.crc32(_WORD.pack(chain), content)), packed))


def header(data: Buffer, at: int = 0) -> Header:
    """Read the header at `at`, checking its form but not the crc, nor whether the body is there."""
    if len(data) - at < HEADER_SIZE:
        raise FrameRefused("short", f"{len(data) - at} bytes, a header has {HEADER_SIZE}")
    magic, version, kind, flags, lane, reserved, seq, raw_len, body_len, chain, crc = _HEADER.unpack_from(data, at)
    if magic != MAGIC:
        raise FrameRefused("magic", f"{magic!r}")
    if version != VERSION:
        raise FrameRefused("version", f"{version}, this reads {VERSION}")
    if flags & ~COMPRESSED or reserved:
        raise FrameRefused("flags", f"{flags:#x}, reserved {reserved:#x}")
    if lane not in _LANES:
        raise FrameRefused("lane", f"{lane}")
    if seq >> 63:
        raise FrameRefused("seq", f"{seq}")
    _check_sizes(kind, flags, raw_len, body_len)
    return Header(_KINDS.get(kind, kind), flags, lane, seq, raw_len, body_len, chain, crc)


def decode(data: Buffer, at: int = 0) -> Frame:
    """Read the frame at `at`: check everything and decompress. What follows the frame is not looked at."""
    head = header(data, at)
    check(data, head, at)
    return opened(data, head, at)


def opened(data: Buffer, head: Header, at: int = 0) -> Frame:
    """Read the frame at `at`, whose header was read and checked already."""
    if head.kind not in _KINDS:
        raise FrameRefused("kind", f"{head.kind}")
    body = memoryview(data)[at + HEADER_SIZE : at + head.size]
    raw = _decompress(body, head.raw_len) if head.flags & COMPRESSED else bytes(body)
    return Frame(_KINDS[head.kind], head.lane, head.seq, head.chain, raw)


def check(data: Buffer, head: Header, at: int = 0) -> int:
    """Give the content digest of the frame at `at`; FrameRefused when the body is cut off or the crc is wrong."""
    if len(data) - at < head.size:
        raise FrameRefused("short", f"{len(data) - at} bytes of {head.size}")
    content = content_of(data, head, at)
    if zlib.crc32(_WORD.pack(head.chain), content) != head.crc:
        raise FrameRefused("crc", f"of kind {int(head.kind)}, sequence {head.seq}")
    return content


def split(data: Buffer, *, max_frames: int = MAX_FRAMES) -> list[tuple[Header, memoryview]]:
    """Part a message of concatenated frames: each header with its whole frame. All of the message or FrameRefused."""
    view = memoryview(data)
    frames: list[tuple[Header, memoryview]] = []
    at = 0
    while at < len(view):
        if len(frames) == max_frames:
            raise FrameRefused("frames", f"more than {max_frames} in one message")
        head = header(view, at)
        check(view, head, at)
        frames.append((head, view[at : at + head.size]))
        at += head.size
    return frames


def content_of(data: Buffer, head: Header, at: int = 0) -> int:
    """Give the digest of hashed header and body, without checking anything."""
    view = memoryview(data)
    return zlib.crc32(view[at + HEADER_SIZE : at + head.size], zlib.crc32(view[at : at + _HASHED]))


def chain_after(content: int, before: int) -> int:
    """Give the chain of a frame with this content that follows a frame with chain `before`."""
    return zlib.crc32(_WORD.pack(content), before)


def verify_chain(head: Header, content: int, before: int) -> bool:
    """Whether this frame follows the one whose chain is `before`."""
    return head.chain == chain_after(content, before)


def dump(body: msgspec.Struct) -> bytes:
    """Give a body as msgpack."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(body, builtin_types=(bytes,)))
    return packed


def load(kind: int, body: Buffer) -> Any:
    """Read a body as the struct that messages.BODIES names for this kind; FrameRefused("body") or ("kind")."""
    known = _KINDS.get(kind)
    decoder = _DECODERS.get(known) if known is not None else None
    if decoder is None:
        raise FrameRefused("kind", f"{int(kind)} has no message")
    if len(body) > _most(kind):
        raise FrameRefused("size", f"a body of {len(body)} bytes, at most {_most(kind)}")
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameRefused("body", str(error)) from error


def message(kind: Kind, body: msgspec.Struct, *, lane: int = 0, seq: int = 0, chain_before: int = 0) -> bytes:
    """Make the frame of a message."""
    return encode(kind, dump(body), lane=lane, seq=seq, chain_before=chain_before)


def encode_long(kind: Kind, parts: Sequence[bytes | memoryview], *, lane: int = 0) -> bytes:
    """Make the frames of a body of any length: chained, sequences counting down to 1 so that none can be cut off.

    The body comes in parts, and is never copied whole.
    """
    size = sum(map(len, parts))
    frames: list[bytes] = []
    chain = 0
    for number, piece in zip(range(max(-(-size // PIECE), 1), 0, -1), _pieces(parts), strict=True):
        frames.append(encode(kind, piece, lane=lane, seq=number, chain_before=chain))
        chain = header(frames[-1]).chain
    return b"".join(frames)


def _pieces(parts: Sequence[bytes | memoryview]) -> Iterator[bytes]:
    """Give the same bytes in pieces of PIECE, the last one shorter; one empty piece for none."""
    piece = bytearray()
    given = False
    for part in parts:
        rest = memoryview(part)
        while rest:
            taken, rest = rest[: PIECE - len(piece)], rest[PIECE - len(piece) :]
            piece += taken
            if len(piece) == PIECE:
                yield bytes(piece)
                piece, given = bytearray(), True
    if piece or not given:
        yield bytes(piece)


def decode_long(data: Buffer, *, max_bytes: int) -> tuple[Kind, bytes]:
    """Read what encode_long made, nothing after it, in at most `max_bytes` of body."""
    frames = split(data)
    if not frames:
        raise FrameRefused("short", "no frame")
    _check_series([head for head, _ in frames], [content_of(frame, head) for head, frame in frames])
    if sum(head.raw_len for head, _ in frames) > max_bytes:
        raise FrameRefused("size", f"more than {max_bytes} bytes")
    parts = [decode(frame) for _, frame in frames]
    return parts[0].kind, b"".join(part.body for part in parts)


def _most(kind: int) -> int:
    return MAX_CONTROL if kind >= Kind.HELLO else MAX_RAW


def _check_sizes(kind: int, flags: int, raw_len: int, body_len: int) -> None:
    fits = body_len < raw_len <= 255 * body_len + (64 << 10) if flags & COMPRESSED else body_len == raw_len
    if not fits or raw_len > _most(kind):
        raise FrameRefused("size", f"{body_len} bytes said to hold {raw_len}, at most {_most(kind)}")


def _check_series(heads: list[Header], contents: list[int]) -> None:
    chain = 0
    for left, head, content in zip(range(len(heads), 0, -1), heads, contents, strict=True):
        if head.seq != left or head.kind != heads[0].kind or not verify_chain(head, content, chain):
            raise FrameRefused("chain", f"part {head.seq} where {left} belongs")
        chain = head.chain


def _compress(body: bytes) -> bytes:
    if len(body) < WORTH_TRYING:
        return body
    packed: bytes = lz4.block.compress(body, store_size=False)
    return packed if len(packed) <= len(body) - (len(body) >> 6) else body


def _decompress(body: memoryview, raw_len: int) -> bytes:
    try:
        raw: bytes = lz4.block.decompress(body, uncompressed_size=raw_len)
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise FrameRefused("lz4", str(error)) from error
    if len(raw) != raw_len:
        raise FrameRefused("lz4", f"{len(raw)} bytes where {raw_len} were stated")
    return raw

"""A message of concatenated frames into what they hold. Pure.

Rules:

1. Bytes that are no frames are refused whole: FrameRefused, and the connection ends.
2. A frame that is well framed and holds nothing we understand is `Undecodable`, with its cause; the line goes on.
3. What is unpacked at once is bounded, whatever the bytes claim: a message comes out in slices of about SLICE bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from cloud.store import Arrived, Holds, Undecodable, Windows
from protocol.columns import decode_windows
from protocol.errors import FrameRefused
from protocol.frame import Header, check, decode, load, split
from protocol.messages import LANES, DefinitionsBody, Kind, LossesBody, WindowsBody

SLICE = 4 << 20
MAX_ROWS = 65_536
"""Window rows in one frame."""
MAX_SEQ = 1 << 62
MAX_KEPT = 16 << 10
"""Bytes kept of what cannot be decoded."""
MAX_DOMAIN = 128
ROW_BYTES = 72
"""What one window row occupies in memory."""
BELONGS = {
    "definitions": Kind.DEFINITIONS,
    "alerts": Kind.ALERTS,
    "results": Kind.LOSSES,
    "telemetry": Kind.WINDOWS,
}


def unpack(message: bytes) -> Iterator[tuple[list[Arrived], int]]:
    """Give a message's frames in slices, each with about the bytes it occupies; FrameRefused before the first."""
    frames = split(message)
    for head, _ in frames:
        if head.lane >= len(LANES):
            raise FrameRefused("lane", str(head.lane))
        if not 0 < head.seq < MAX_SEQ:
            raise FrameRefused("seq", str(head.seq))
    return _slices(frames)


def _slices(frames: list[tuple[Header, memoryview]]) -> Iterator[tuple[list[Arrived], int]]:
    gathered: list[Arrived] = []
    size = 0
    for head, data in frames:
        if gathered and size + head.raw_len > SLICE:
            yield gathered, size
            gathered, size = [], 0
        arrived = _arrived(head, data)
        gathered.append(arrived)
        size += head.raw_len + (arrived.holds.rows.rows * ROW_BYTES if isinstance(arrived.holds, Windows) else 0)
    if gathered:
        yield gathered, size


def _arrived(head: Header, data: memoryview) -> Arrived:
    lane = LANES[head.lane]
    return Arrived(lane, head.seq, head.chain, check(data, head), head.size, _holds(lane, head, data))


def _holds(lane: str, head: Header, data: memoryview) -> Holds:
    raw = b""
    try:
        if head.kind != BELONGS[lane]:
            raise FrameRefused("kind", f"{int(head.kind)} in lane {lane}")  # noqa: TRY301 - one way out for all causes
        raw = decode(data).body
        return _checked(load(head.kind, raw))
    except FrameRefused as refused:
        return Undecodable(refused.reason, refused.detail, raw[:MAX_KEPT] or bytes(data[:MAX_KEPT]))


def _checked(body: DefinitionsBody | WindowsBody | LossesBody | Holds) -> Holds:
    if isinstance(body, WindowsBody):
        return _windows(body)
    if isinstance(body, LossesBody):
        for loss in body.losses:
            if loss.lane not in LANES or not 1 <= loss.first <= loss.last < MAX_SEQ:
                raise FrameRefused("loss", f"{loss.lane} {loss.first} to {loss.last}")
    return body


def _windows(body: WindowsBody) -> Windows:
    if len(body.domain) > MAX_DOMAIN:
        raise FrameRefused("domain", f"{len(body.domain)} characters")
    rows = decode_windows(body.columns, max_rows=MAX_ROWS)
    if rows.rows != body.rows:
        raise FrameRefused("rows", f"{rows.rows} where {body.rows} were stated")
    return Windows(rows, body.domain)

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
from protocol.messages import LANES, AlertsBody, DefinitionsBody, Kind, LossesBody, WindowsBody

SLICE = 4 << 20
MAX_ROWS = 65_536
"""Window rows in one frame."""
MAX_SEQ = 1 << 62
MAX_KEPT = 16 << 10
"""Bytes kept of what cannot be decoded."""
MAX_DOMAIN = 128
MAX_COUNT = 1 << 40
"""Readings in one window, so that the sum over a batch fits too."""
INTEGERS = range(-(1 << 63), 1 << 63)
"""What can be stored; the wire allows unsigned ones beyond it."""
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


def _checked(body: DefinitionsBody | WindowsBody | AlertsBody | LossesBody | Holds) -> Holds:
    if isinstance(body, WindowsBody):
        return _windows(body)
    if isinstance(body, AlertsBody):
        for alert in body.alerts:
            _storable(alert.start, alert.revision, alert.stamp, alert.version, max(alert.series, default=0))
    if isinstance(body, LossesBody):
        _storable(*body.counts.values())
        for loss in body.losses:
            _storable(loss.oldest, loss.newest)
            if loss.lane not in LANES or not 1 <= loss.first <= loss.last < MAX_SEQ:
                raise FrameRefused("loss", f"{loss.lane} {loss.first} to {loss.last}")
    return body


def _storable(*numbers: int) -> None:
    for number in numbers:
        if number not in INTEGERS:
            raise FrameRefused("range", str(number))


def _windows(body: WindowsBody) -> Windows:
    if len(body.domain) > MAX_DOMAIN:
        raise FrameRefused("domain", f"{len(body.domain)} characters")
    rows = decode_windows(body.columns, max_rows=MAX_ROWS)
    if rows.rows != body.rows:
        raise FrameRefused("rows", f"{rows.rows} where {body.rows} were stated")
    if rows.rows and not 0 <= rows.count.min() <= rows.count.max() < MAX_COUNT:
        raise FrameRefused("range", f"a count of {rows.count.min()} or {rows.count.max()}")
    return Windows(rows, body.domain)

"""A message of concatenated frames into what they hold. Pure.

Rules:

1. Bytes that are no frames are refused whole: FrameRefused, and the connection ends.
2. A frame that is well framed and holds nothing we understand is `Undecodable`, with its cause; the line goes on.
3. What is unpacked at once is bounded, whatever the bytes claim: a message comes out in slices of about SLICE bytes.
4. Statistics that can be nobody's are `Undecodable` too, so that what is stored can always be merged and scored with.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cloud.store import Arrived, Holds, Undecodable, Windows
from learning.baseline import MAX_ENTRIES, MAX_NAME
from learning.statistics import Vector
from learning.statistics import unpack as unpack_moments
from protocol.cascade import ASK, check_questions
from protocol.columns import decode_windows
from protocol.errors import FrameRefused, ModelRefused
from protocol.frame import Header, check, decode, dump, load, split
from protocol.manifest import DIGEST, MAX_VERSION
from protocol.messages import (
    ENDS,
    LANES,
    Alert,
    AlertsBody,
    AnswerBody,
    ClockDefinition,
    DefinitionsBody,
    Kind,
    LossesBody,
    Moments,
    PartBody,
    QuestionsBody,
    ReportBody,
    StatisticsBody,
    WindowsBody,
)
from protocol.settings import NAME
from protocol.tasks import WORD

SLICE = 4 << 20
MAX_ROWS = 65_536
"""Window rows in one frame."""
MAX_SEQ = 1 << 62
MAX_KEPT = 16 << 10
"""Bytes kept of what cannot be decoded."""
MAX_DOMAIN = 128
MAX_SHIFT = 1 << 61
"""In ns, 73 years: no clock of ours is more wrong, and sums of it and a time are still times."""
MAX_COUNT = 1 << 40
"""Readings in one window, so that the sum over a batch fits too."""
INTEGERS = range(-(1 << 63), 1 << 63)
"""What can be stored; the wire allows unsigned ones beyond it."""
ROW_BYTES = 72
"""What one window row occupies in memory."""
MAX_STATISTICS = 1 << 20
"""Bytes of one gateway's statistics for one model: some thirty groups of 64 features, or thousands of one."""
MAX_WINDOWS = 1 << 40
"""Windows in one statistic, so that a fleet's sum is a weight that `learning.baseline` takes."""
MAX_MEAN, MAX_SCATTER = 1e100, 1e200
"""Magnitudes, so that whatever is merged stays finite."""
NEGATIVE = 1e-6
"""How far rounding may bring a scatter's least eigenvalue below 0, relative to its trace."""
MAX_REASON = 256
OUTCOMES = ("applied", "refused", "rolled back", "drifted")
MAX_SECONDS = 1e9
BELONGS = {
    "definitions": {Kind.DEFINITIONS},
    "alerts": {Kind.ALERTS},
    "results": {Kind.LOSSES, Kind.STATISTICS, Kind.REPORT, Kind.PART, Kind.ANSWER, Kind.QUESTIONS},
    "telemetry": {Kind.WINDOWS},
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
        if head.kind not in BELONGS[lane]:
            raise FrameRefused("kind", f"{int(head.kind)} in lane {lane}")  # noqa: TRY301 - one way out for all causes
        raw = decode(data).body
        if head.kind == Kind.STATISTICS and len(raw) > MAX_STATISTICS:
            raise FrameRefused("statistics", f"{len(raw)} bytes")  # noqa: TRY301 - the same
        return _held(load(head.kind, raw))
    except (FrameRefused, ModelRefused) as refused:
        return Undecodable(refused.reason, refused.detail, raw[:MAX_KEPT] or bytes(data[:MAX_KEPT]))


def _held(body: WindowsBody | AnswerBody | QuestionsBody | Holds) -> Holds:
    """Give what the store takes."""
    match body:
        case WindowsBody():
            return _windows(body)
        case AnswerBody():
            return _checked(body.part())
        case QuestionsBody():
            return _questions(body)
        case _:
            return _checked(body)


def _checked(body: Holds) -> Holds:
    match body:
        case AlertsBody():
            for alert in body.alerts:
                _check_alert(alert)
        case LossesBody():
            _check_losses(body)
        case StatisticsBody():
            _check_statistics(body)
        case ReportBody():
            _check_report(body)
        case PartBody():
            _check_part(body)
        case DefinitionsBody():
            _storable(body.stamp)  # the store compares the rest with what was said before
            for clock in body.clocks:
                _check_clock(clock)
        case _:
            pass
    return body


def _questions(body: QuestionsBody) -> PartBody:
    """Give questions as the store keeps them: among answers to tasks, each until it is handled."""
    _storable(body.stamp, body.version, body.heard, *body.start, *body.span)
    check_questions(body)
    return PartBody(body.cover, ASK, body.stamp, ASK, body.version, "done", content=dump(body), stamp=body.stamp)


def _check_clock(clock: ClockDefinition) -> None:
    if not 0 < len(clock.domain) <= MAX_DOMAIN or abs(clock.shift) > MAX_SHIFT:
        raise FrameRefused("clock", f"{clock.domain[:MAX_DOMAIN]!r}, {clock.shift}")


def _check_alert(alert: Alert) -> None:
    _storable(alert.start, alert.revision, alert.stamp, alert.version)
    _storable(max(alert.series, default=0), max(alert.missing, default=0))


def _check_losses(body: LossesBody) -> None:
    _storable(body.stamp, *body.counts.values())
    for loss in body.losses:
        _storable(loss.oldest, loss.newest)
        if loss.lane not in LANES or not 1 <= loss.first <= loss.last < MAX_SEQ:
            raise FrameRefused("loss", f"{loss.lane} {loss.first} to {loss.last}")


def _check_part(body: PartBody) -> None:
    _storable(body.attempt, body.version, body.stamp, body.readings, *body.asked, *body.held)
    if not NAME.fullmatch(body.job) or not WORD.fullmatch(body.name) or body.outcome not in ENDS:
        raise FrameRefused("part", f"{body.job[:64]!r}: {body.name[:32]!r} {body.outcome[:16]!r}")
    if len(body.reason) > MAX_REASON or not 0 <= body.seconds < MAX_SECONDS:
        raise FrameRefused("part", f"a reason of {len(body.reason)} characters, or {body.seconds!r} seconds")


def _check_statistics(body: StatisticsBody) -> None:
    _check_model(body.model, body.version, body.stamp)
    _storable(body.alerts, body.shadow)
    if len(body.entries) > MAX_ENTRIES:
        raise ModelRefused("statistics", f"{len(body.entries)} entries")
    for entry in body.entries:
        _check_moments(entry)


def _check_moments(entry: Moments) -> None:
    if any(not 0 < len(name) <= MAX_NAME for name in entry.features) or entry.count >= MAX_WINDOWS:
        raise ModelRefused("statistics", f"{entry.count} windows, or a feature's name that is none")
    _, mean, scatter = unpack_moments(entry)
    if np.abs(mean).max() > MAX_MEAN or np.abs(scatter).max() > MAX_SCATTER:
        raise ModelRefused("statistics", "a number that no sensor measures")
    if len(mean) > 1 and not _is_scatter(scatter):
        raise ModelRefused("statistics", "a scatter that no vectors have")


def _is_scatter(scatter: Vector) -> bool:
    """Whether it is positive semidefinite, to rounding: then so is every sum of such."""
    try:
        return bool(np.linalg.eigvalsh(scatter)[0] >= -NEGATIVE * np.trace(scatter))
    except np.linalg.LinAlgError:  # it does not converge
        return False


def _check_report(body: ReportBody) -> None:
    _check_model(body.model, body.version, body.stamp)
    if body.outcome not in OUTCOMES or len(body.reason) > MAX_REASON:
        raise FrameRefused("report", f"{body.outcome[:MAX_REASON]!r}, {len(body.reason)} characters of reason")
    if body.digest and not DIGEST.fullmatch(body.digest):
        raise FrameRefused("report", "a digest that is none")


def _check_model(name: str, version: int, stamp: int) -> None:
    _storable(stamp)
    if not NAME.fullmatch(name) or not 0 <= version <= MAX_VERSION:
        raise FrameRefused("model", f"{name[:64]!r}, version {version}")


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
    _storable(body.stamp)
    return Windows(rows, body.domain, body.stamp)

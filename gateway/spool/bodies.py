"""What the bodies of frames say to a spool: their cover, their stamp, and how they read in another epoch."""

from __future__ import annotations

from collections import Counter

import msgspec

from gateway.records import State
from gateway.segment import Log
from protocol import frame
from protocol.errors import FrameRefused
from protocol.messages import Cover, Kind, Loss, LossesBody, lost_counts, stamp_of


def about(cover: Cover) -> State:
    """Say in a file's header what the lane covered before the file's first frame."""
    return {"cover": [cover.record, cover.ordinal]}


def restated(held: frame.Frame) -> bytes:
    """Give a frame's body as it reads in another epoch: a lost sequence is another frame's there, so it is a count."""
    if held.kind != Kind.LOSSES:
        return held.body
    try:
        body: LossesBody = frame.load(held.kind, held.body)
    except FrameRefused:
        return held.body
    counts = Counter(body.counts)
    counts.update(lost_counts(body.losses))
    return frame.dump(msgspec.structs.replace(body, losses=[], counts=dict(counts)))


def last_cover(log: Log) -> Cover:
    """Give the cover of the newest frame, if the newest file has one, else what that file's header says.

    Where frames are missing from that file, give the cover before them: a power cut may have torn a commit, and the
    journal still knows what was in it. What stands behind them is then spooled twice, which harms nobody.
    """
    for seq in range(log.unbroken, log.newest_first - 1, -1):
        data = log.read(seq)
        if data is not None and (cover := _cover_of(data)) is not None:
            return cover
    record, ordinal = log.newest_about().get("cover", (0, -1))
    return Cover(record, ordinal)


def _cover_of(data: bytes) -> Cover | None:
    cover: Cover | None = getattr(body_of(data), "cover", None)
    return cover


def body_of(data: bytes) -> object:
    """Give what a frame holds; None if that cannot be read."""
    try:
        held = frame.decode(data)
        return frame.load(held.kind, held.body)
    except FrameRefused:
        return None


def losses_in(log: Log, first: int, last: int) -> list[Loss]:
    """Give the losses that these frames declare, those that touch joined; a frame that cannot be read declares none."""
    bodies = [body_of(data) for seq in range(first, last + 1) if (data := log.read(seq))]
    return joined([loss for body in bodies if isinstance(body, LossesBody) for loss in body.losses])


def joined(losses: list[Loss]) -> list[Loss]:
    """Join losses of one lane and cause that touch: said again and again, they stay few."""
    found: list[Loss] = []
    for loss in sorted(losses, key=lambda loss: (loss.lane, loss.cause, loss.first)):
        last = found[-1] if found else loss
        if (last.lane, last.cause) == (loss.lane, loss.cause) and last.first <= loss.first <= last.last + 1:
            oldest = min((stamp for stamp in (last.oldest, loss.oldest) if stamp), default=0)
            ends = max(last.last, loss.last), loss.cause, oldest, max(last.newest, loss.newest)
            found[-1:] = [Loss(loss.lane, last.first, *ends)]
        else:
            found.append(loss)
    return found


def stamp_in(data: bytes | None) -> int:
    """Give the stamp (ns) of what a frame holds; 0 if there is none, or it cannot be read."""
    return stamp_of(body_of(data)) if data else 0

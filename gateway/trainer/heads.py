"""Heads of this gateway's own: what a classifier becomes by fine-tuning behind its body, and what that is worth. Pure.

A head is of one content: for another it is nothing. Where it is used is `gateway.classify`'s decision.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.trainer.dataset import Split
from learning.classifier import Classifier
from protocol.manifest import digest_of

MAX_HEADS = 4
"""Newest first. A run promotes the best of its rounds, mostly one of the last."""


class Head(msgspec.Struct, frozen=True):
    """All parameters with a head of its own, float32; right answers on the hold-out without it, and with it."""

    digest: str  # of the content that it is for
    vector: bytes
    windows: int  # held out
    before: float
    after: float


class _Kept(msgspec.Struct, frozen=True):
    """Of `gateway.trainer.learn.Owed`, what is of use elsewhere."""

    heads: tuple[Head, ...] = ()


def head_of(content: bytes, before: Classifier, after: Classifier, parts: Split) -> Head:
    """Say what fine-tuning here makes of a content."""
    x, y = parts.held_out.x, parts.held_out.y
    return Head(digest_of(content), after.vector.tobytes(), len(x), before.accuracy(x, y), after.accuracy(x, y))


def heads_in(kept: bytes) -> tuple[Head, ...]:
    """Give the heads among what the task `train` keeps; none if that cannot be read."""
    try:
        return msgspec.msgpack.decode(kept, type=_Kept).heads if kept else ()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ()


def newest(heads: Iterable[Head], before: Iterable[Head]) -> tuple[Head, ...]:
    """Give the newest heads, one of each content."""
    by_content: dict[str, Head] = {}
    for head in (*heads, *before):
        by_content.setdefault(head.digest, head)
    return tuple(by_content.values())[:MAX_HEADS]

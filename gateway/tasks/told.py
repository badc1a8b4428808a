"""What the cloud has said of this gateway's windows, kept as labels for training: the newest MAX_TOLD of a model. Pure.

A label of the gateway's own goes before them, and nothing is scored by them: they are a model's word, not the truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol.cascade import Answer

MAX_TOLD = 4_096


class Told(msgspec.Struct, frozen=True, array_like=True):
    """One window: event times (ns) of its first sample and its last, and its class."""

    device: str
    start: int
    end: int
    chosen: int


class Kept(msgspec.Struct, frozen=True):
    """All that is kept of one model; `heard` is the `at` of the newest answer in it."""

    heard: int = 0
    told: tuple[Told, ...] = ()

    def fresh(self, answers: Iterable[Answer]) -> list[Answer]:
        """Give those answers that have not been taken."""
        return [one for one in answers if one.at > self.heard]

    def with_answers(self, fresh: list[Answer]) -> Kept:
        """Take answers that `fresh` gave, at least one; of a window's the newest counts."""
        rows = {(one.device, one.start, one.end): one for one in self.told}
        rows |= {(one.device, one.start, one.end): Told(one.device, one.start, one.end, one.chosen) for one in fresh}
        return Kept(fresh[-1].at, tuple(rows.values())[-MAX_TOLD:])


class Spans(NamedTuple):
    """What was said of one device's windows, by start; shape (n,)."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    chosen: NDArray[np.int64]


def encode(kept: Kept) -> bytes:
    """Give the bytes of the file."""
    return msgspec.msgpack.encode(kept)


def decode(content: bytes) -> Kept:
    """Read what `encode` wrote; ValueError for what is none."""
    try:
        return msgspec.msgpack.decode(content, type=Kept)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def by_device(told: Iterable[Told]) -> dict[str, Spans]:
    """Give rows as columns."""
    rows: dict[str, list[tuple[int, int, int]]] = {}
    for one in told:
        rows.setdefault(one.device, []).append((one.start, one.end, one.chosen))
    return {device: Spans(*np.array(sorted(own), np.int64).T) for device, own in rows.items()}

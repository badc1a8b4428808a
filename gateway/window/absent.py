"""Definitions that have left the configuration: should they come back, nothing of them is said again by a lower number.

Rules:

1. A definition that leaves has stated all it had, as far as it was. No reading reaches it while it is away.
2. One that comes back goes on where it was, its marks moved along with its devices' event time: what had not ended is
   open again and becomes the next revision, what may be revised is revised, and all before that is late.
3. What may not be revised any more leaves memory before a snapshot; that it is gone the marks say. So nothing grows
   while it is away, and when is of no matter.
4. At most MOST are away. Of more, the one that left first is forgotten; it begins anew if it comes back.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gateway.config import Duration, Window
from gateway.records import State
from gateway.window.panes import Panes
from gateway.window.watermark import Watermark

MOST = 16


class Absent:
    """Windows of definitions that are away, by digest; the one that left first comes first."""

    def __init__(self) -> None:
        self._panes: dict[str, Panes] = {}

    def __iter__(self) -> Iterator[Panes]:
        """Go through all."""
        return iter(self._panes.values())

    def keep(self, digest: str, panes: Panes) -> None:
        """Take one that leaves and has stated what it had."""
        self._panes.pop(digest, None)
        self._panes[digest] = panes
        if len(self._panes) > MOST:
            del self._panes[next(iter(self._panes))]

    def back(self, digest: str, window: Window, watermark: Watermark) -> Panes | None:
        """Give the one that comes back, to go on; None if it is not known."""
        panes = self._panes.pop(digest, None)
        if panes is not None:
            panes.advance(watermark.everyone, watermark.event)
            panes.resume(window, watermark.device)
        return panes

    def release(self, watermark: Watermark, leaving: NDArray[np.bool_], *, utc: bool) -> None:
        """Forget what these devices have stated, shape (devices,); see `Panes.release`."""
        for panes in self:
            panes.advance(watermark.everyone, watermark.event)
            panes.release(0, watermark.device, leaving, utc=utc)

    def snapshot(self, watermark: Watermark) -> State:
        """Give all state."""
        for panes in self:
            panes.advance(watermark.everyone, watermark.event)
            panes.trim(watermark.device)
        return {
            "order": list(self._panes),
            "panes": {
                digest: {
                    "window": [panes.size, panes.hop, int(panes.window.lateness), panes.revise_for],
                    **panes.snapshot(watermark.device),
                }
                for digest, panes in self._panes.items()
            },
        }

    def restore(self, state: State, devices: int, limit: int) -> None:
        """Continue from a snapshot; so many devices are known."""
        for digest in state["order"]:
            part = state["panes"][digest]
            size, hop, lateness, revise_for = map(Duration, part["window"])
            panes = Panes(Window(size=size, hop=hop, lateness=lateness, revise_for=revise_for), limit)
            panes.define(devices)
            panes.restore(part)
            self._panes[digest] = panes

"""Which QoS 1 messages were recorded lately, so that a redelivery is recognised. Pure.

A redelivery has DUP set and is the same message: packet id, topic and payload. The memory holds the newest `size`
messages, `size` being the Receive Maximum: no more of them can be unacknowledged. It is looked into only for DUP.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.records import Recent

_NOTHING = (1 << 64) - 1


class Memory:
    """A ring of packet id and fingerprint, both in one integer."""

    def __init__(self, recent: Recent, size: int) -> None:
        self._ring = np.full(max(size, 1), _NOTHING, np.uint64)
        self._next = 0
        self.add(recent)

    def add(self, recent: Recent) -> None:
        """Remember these messages, and forget as many of the oldest."""
        keys = _keys(recent)[-len(self._ring) :]
        room = len(self._ring) - self._next
        self._ring[self._next : self._next + len(keys)] = keys[:room]
        if len(keys) > room:
            self._ring[: len(keys) - room] = keys[room:]
        self._next = (self._next + len(keys)) % len(self._ring)

    def holds(self, recent: Recent) -> NDArray[np.bool_]:
        """Tell which of these messages are remembered, shape (n,)."""
        return np.isin(_keys(recent), self._ring)


def _keys(recent: Recent) -> NDArray[np.uint64]:
    return recent.packet_ids.astype(np.uint64) << np.uint64(32) | recent.hashes

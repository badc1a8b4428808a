"""What tells one QoS 1 message from another: 32 bits over its topic and what was read from its payload. Pure.

Over what was read, because that is in columns already: a checksum of each payload would be a call per message, a tenth
of the gateway's work. Two messages of one topic with the same times and values are the same readings.

The mixing is the finalizer of MurmurHash3 (Austin Appleby, public domain).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.decode.payloads import Fields

_FIRST, _SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_HALF = np.uint64(33)
_ABSENT = np.uint64(0x9E3779B97F4A7C15)


def fingerprint(topics: NDArray[np.uint32], fields: Fields) -> NDArray[np.uint32]:
    """Mix a checksum of each topic with times and values; all of shape (n,)."""
    state = topics.astype(np.uint64)
    state = _mixed(state + fields.times.view(np.uint64))
    for values, present in zip(fields.values, fields.present, strict=True):
        bits = values.view(np.uint64)
        state = _mixed(state + (bits if present is None else np.where(present, bits, _ABSENT)))
    return (state >> np.uint64(32)).astype(np.uint32)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state ^= state >> _HALF
    state *= _FIRST
    state ^= state >> _HALF
    state *= _SECOND
    state ^= state >> _HALF
    return state

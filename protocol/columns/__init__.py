"""Columns and state as bytes: arrays packed small, and every bit of them back.

    integers   64-bit integers as a few bytes each, or a few bits
    numbers    values of any dtype as 64-bit integers, and back bit for bit
    table      named columns of one length; the byte layout
    windows    WindowRows as a table, each column stated against the one that foretells it
    state      nested snapshots with arrays in them

Bytes that are not of this making raise FrameRefused("columns") or ("state").
"""

from __future__ import annotations

from protocol.columns.state import decode_state, encode_state, state_parts
from protocol.columns.table import Effort, decode, encode
from protocol.columns.windows import decode_windows, encode_windows

__all__ = [
    "Effort",
    "decode",
    "decode_state",
    "decode_windows",
    "encode",
    "encode_state",
    "encode_windows",
    "state_parts",
]

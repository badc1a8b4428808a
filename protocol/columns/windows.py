"""WindowRows as a table, small: what most frames up are made of.

Of a window of n readings with two decimals, the mean is a whole number of hundredths over n, and minimum, maximum,
first and last lie near it; so each costs about log2 of its own spread in bits, whatever the level.
"""

from __future__ import annotations

from protocol.columns import table
from protocol.columns.table import Hint
from protocol.messages import WINDOW_DTYPES, WindowRows

MAX_ROWS = 65_536

_HINTS = {
    "mean": Hint(sum_of="count"),
    "minimum": Hint(near="mean"),
    "maximum": Hint(near="mean"),
    "first": Hint(near="mean"),
    "last": Hint(near="mean"),
}


def encode_windows(rows: WindowRows) -> bytes:
    """Pack windows; not compressed, the frame does that."""
    return table.encode(rows._asdict(), effort="size", hints=_HINTS)


def decode_windows(data: bytes | bytearray | memoryview, max_rows: int = MAX_ROWS) -> WindowRows:
    """Unpack windows; FrameRefused("columns") for bytes that are none."""
    return WindowRows(**table.decode(data, WINDOW_DTYPES, max_rows=max_rows))

"""Event times as devices write them, into int64 nanoseconds. Pure.

Rules:

1. A number's unit is the configured one, or told by its magnitude: below 1e11 seconds, below 1e14 milliseconds, below
   1e17 microseconds, else nanoseconds. For times from 1973 to 5138 these ranges do not overlap.
2. Whole numbers are exact. Fractions are rounded to the microsecond: near now, a float64 of seconds resolves 0.24 us.
3. Text is RFC 3339 with its nanoseconds kept; without an offset it is UTC.
4. Times before 1970 or after 2200 are unreadable; the rest leaves 62 years of int64 for arithmetic on them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["auto", "s", "ms", "us", "ns", "rfc3339"]

ABSENT = -1
"""Stands where a message has no event time."""

UNREADABLE = -2
"""Stands where an event time cannot be read."""

LATEST = 7_258_118_400 * 10**9
"""2200-01-01 in ns."""

_UNITS = ("s", "ms", "us", "ns")
_STEPS = (10**11, 10**14, 10**17)
_NANOSECONDS = np.array([10**9, 10**6, 10**3, 1])
_MICROSECONDS = np.array([1e6, 1e3, 1.0, 1.0])
_PER_MICROSECOND = np.array([1.0, 1.0, 1.0, 1e3])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)

Times = NDArray[np.int64]


def read_times(times: Sequence[Any], unit: Unit) -> Times:
    """Give the times as int64 ns, shape (n,); ABSENT for None, UNREADABLE for what is no time."""
    kinds = set(map(type, times))
    if len(kinds) == 1:
        return _column(kinds.pop(), times, unit)
    result = np.empty(len(times), np.int64)
    for kind in kinds:
        rows = [row for row, time in enumerate(times) if type(time) is kind]
        result[rows] = _column(kind, [times[row] for row in rows], unit)
    return result


def _column(kind: type, times: Sequence[Any], unit: Unit) -> Times:
    if kind is NoneType:
        return np.full(len(times), ABSENT)
    if kind is str and unit in ("auto", "rfc3339"):
        return np.fromiter(map(_text, times), np.int64, len(times))
    if kind is int and unit != "rfc3339":
        return _whole(times, unit)
    if kind is float and unit != "rfc3339":
        return _fractions(np.array(times, np.float64), unit)
    return np.full(len(times), UNREADABLE)


def _scale(times: NDArray[Any], low: float, high: float, unit: Unit) -> Any:
    """Index into the tables of units: one for all rows where it can be, else shape (n,)."""
    if unit != "auto":
        return _UNITS.index(unit)
    first, last = bisect_right(_STEPS, low), bisect_right(_STEPS, high)
    return first if first == last else np.searchsorted(_STEPS, times, side="right")


def _whole(times: Sequence[int], unit: Unit) -> Times:
    try:
        column = np.array(times, np.int64)
    except OverflowError:
        column = np.array([time if 0 <= time <= LATEST else -1 for time in times], np.int64)
    low, high = int(column.min()), int(column.max())
    scale = _scale(column, low, high, unit)
    factor = _NANOSECONDS[scale]
    if low >= 0 and isinstance(scale, int) and high <= LATEST // factor:
        scaled: Times = column * factor
        return scaled
    fits = (column >= 0) & (column <= LATEST // factor)
    return np.where(fits, column * factor, UNREADABLE)  # the product wraps where it does not fit


def _fractions(column: NDArray[np.float64], unit: Unit) -> Times:
    column[~np.isfinite(column)] = -1.0
    scale = _scale(column, float(column.min()), float(column.max()), unit)
    fits = (column >= 0) & (column <= LATEST / _NANOSECONDS[scale])
    column[~fits] = 0.0
    microseconds = np.rint(column * _MICROSECONDS[scale] / _PER_MICROSECOND[scale])
    return np.where(fits, microseconds.astype(np.int64) * 1000, UNREADABLE)


def _text(text: str) -> int:
    match = _TEXT.fullmatch(text)
    if match is None:
        return UNREADABLE
    whole, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(whole + (zone or "Z").upper())
    except ValueError:  # the thirteenth month
        return UNREADABLE
    since = moment - _EPOCH
    time = (since.days * 86_400 + since.seconds) * 10**9 + int((fraction or "").ljust(9, "0"))
    return time if 0 <= time <= LATEST else UNREADABLE

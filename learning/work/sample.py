"""`sample`: raw readings, drawn evenly. A gateway refuses it unless every series that it is asked about is shared.

Each reading has a number that looks random and depends on nothing but its series, time and value (splitmix64, Steele
and others, OOPSLA 2014); those with the `limit` smallest numbers are the sample. So the sample of the whole follows
from the samples of its parts, exactly, and what was recorded twice is drawn once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning import reading
from learning.work.contract import Batch
from learning.work.groups import MAX_GROUPS, read_names
from protocol import columns
from protocol.columns import encode_state
from protocol.errors import FrameRefused, ModelRefused, TaskRefused

SCHEMA = "sample/1"
MAX_LIMIT = 200_000
"""Readings: with room to spare an answer of 6 MB holds so many."""

DTYPES = {"series": np.int32, "time": np.int64, "value": np.float64}
_STEP, _MIX_1, _MIX_2 = (np.uint64(one) for one in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many readings at most: what the Question says."""

    limit: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be answered."""
        if not 0 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"`limit` must be from 1 to {MAX_LIMIT} readings")


class Drawn(NamedTuple):
    """Readings in the order of their numbers, each once; arrays of shape (n,). Series are indices into `names`."""

    names: list[str]
    number: NDArray[np.uint64]
    series: NDArray[np.int32]
    time: NDArray[np.int64]
    value: NDArray[np.float64]


class Sample:
    """See `learning.work.contract`."""

    name = "sample"
    version = 1
    params = Params
    raw = True

    def map(self, batches: Iterable[Batch], params: Params) -> bytes:
        """Draw."""
        if not params.limit:
            raise TaskRefused("params", "sample: `limit` says how many readings at most")
        hashes, names, held = np.zeros(0, np.uint64), list[str](), _no_readings()
        for batch in batches:
            if len(batch.names) > len(hashes):
                more = [_hash_of(name) for name in batch.names[len(hashes) :]]
                hashes, names = np.concatenate([hashes, np.array(more, np.uint64)]), list(batch.names)
            number = _numbers(hashes[batch.series], batch.time, batch.value)
            fresh = Drawn(names, number, batch.series, batch.time, batch.value)
            held = _smallest([held._replace(names=names), fresh], params.limit)
        return _encode(held)

    def merge(self, parts: Sequence[bytes], params: Params) -> bytes:
        """Draw from what was drawn."""
        read = [_decode(part) for part in parts]
        names = sorted(set().union(*(part.names for part in read)))
        at = {name: place for place, name in enumerate(names)}
        placed = [
            part._replace(names=names, series=np.array([at[name] for name in part.names], np.int32)[part.series])
            for part in read
        ]
        return _encode(_smallest([_no_readings()._replace(names=names), *placed], params.limit or MAX_LIMIT))

    def result(self, part: bytes, params: Params) -> dict[str, Any]:  # noqa: ARG002 - the part says all
        """Give the readings of each series, by time (ns)."""
        drawn = _decode(part)
        order = np.lexsort((drawn.time, drawn.series))
        ends = np.searchsorted(drawn.series[order], np.arange(1, len(drawn.names) + 1)).tolist()
        time, value = drawn.time[order].tolist(), [_plain(each) for each in drawn.value[order].tolist()]
        return {
            "readings": len(order),
            "series": {
                name: {"time": time[begin:end], "value": value[begin:end]}
                for name, (begin, end) in zip(drawn.names, pairwise([0, *ends]), strict=True)
            },
        }


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no other


def _hash_of(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def _numbers(names: NDArray[np.uint64], time: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.uint64]:
    mixed = _mix(names ^ _mix(time.view(np.uint64)))
    return _mix(mixed ^ _mix(value.view(np.uint64)))


def _mix(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    word = word + _STEP
    word = (word ^ (word >> np.uint64(30))) * _MIX_1
    word = (word ^ (word >> np.uint64(27))) * _MIX_2
    return word ^ (word >> np.uint64(31))


def _no_readings() -> Drawn:
    return Drawn([], np.zeros(0, np.uint64), *(np.zeros(0, dtype) for dtype in DTYPES.values()))


def _smallest(parts: Sequence[Drawn], limit: int) -> Drawn:
    joined = [np.concatenate([part[column] for part in parts]) for column in range(1, 5)]
    _, first = np.unique(joined[0], return_index=True)
    return Drawn(parts[-1].names, *(column[first[:limit]] for column in joined))


def _encode(drawn: Drawn) -> bytes:
    used = sorted(np.unique(drawn.series).tolist(), key=drawn.names.__getitem__)
    place = np.zeros(len(drawn.names), np.int32)
    place[used] = np.arange(len(used))
    names = [drawn.names[series] for series in used]
    series = place[drawn.series] if used else drawn.series
    table: dict[str, NDArray[Any]] = {"series": series, "time": drawn.time, "value": drawn.value}
    return encode_state({"schema": SCHEMA, "names": names, "readings": columns.encode(table)})


def _decode(part: bytes) -> Drawn:
    state = reading.state(part, SCHEMA, "part")
    names, packed = read_names(state), state.get("readings")
    if not isinstance(packed, bytes):
        raise ModelRefused("part", "no readings")
    try:
        table = columns.decode(packed, DTYPES, max_rows=MAX_LIMIT)
    except FrameRefused as error:
        raise ModelRefused("part", str(error)) from error
    series = table["series"]
    if not np.array_equal(np.unique(series), np.arange(len(names))) or len(names) > MAX_GROUPS:
        raise ModelRefused("part", "readings of a series without a name, or a name without readings")
    hashes = np.array([_hash_of(name) for name in names], np.uint64)
    number = _numbers(hashes[series], table["time"], table["value"]) if len(series) else np.zeros(0, np.uint64)
    if (number[1:] <= number[:-1]).any():
        raise ModelRefused("part", "readings out of order")
    return Drawn(names, number, series, table["time"], table["value"])


sample = Sample()

"""Payloads that name their measurements themselves, into readings by name: each number is one. Pure.

Rules:

1. Every number of a payload is a reading; its measurement is the path to it, levels joined by dots, behind what the
   topic says of it. True and false are 1 and 0; texts, lists and null are none. What the dialect skips is left out.
2. Where `values` is given, only the paths it names are taken, skipped ones too, under the names it gives.
3. A message without any number is decoded, into nothing: a button has been pressed. So is text where the topic names
   the measurement (`relay/0` says "on"); elsewhere what is no JSON object is dead.
4. A time before EARLIEST is of a clock that has not been set: arrival time stands in. One that cannot be read is dead.
5. Bounds: MAX_LEAVES numbers and MAX_DEPTH levels; a payload with more is dead as a whole (`leaves`, `depth`). A name
   that is empty or longer than MAX_NAME costs its reading, refused as `name`.
6. It is a loop over messages and numbers, unlike the other formats: what is in a payload is known by looking only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.config import Source
from gateway.decode.dialects import SPEECH
from gateway.decode.payloads import Dead
from gateway.decode.routes import MAX_NAME
from gateway.decode.stamps import ABSENT, UNREADABLE, Times, read_times

MAX_LEAVES = 256
"""Numbers in one payload; the most talkative three-phase meters have about fifty."""

MAX_DEPTH = 8
"""Levels of a payload."""

EARLIEST = 1_451_606_400 * 10**9
"""2016-01-01 in ns: earlier than that a device only believes it to be after a start without network time."""

_decode = msgspec.json.Decoder().decode


class Discovered(NamedTuple):
    """What n messages hold: readings by name, message by message, and the messages' times and numbers of readings."""

    names: list[str]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]  # of readings, per message
    times: Times  # per message
    unnamed: int  # readings whose name cannot be one


class _Refused(Exception):
    """A payload is dead, for this cause."""


class Discover:
    """Reads one source's payloads."""

    def __init__(self, source: Source) -> None:
        self._open, self._skips = SPEECH[source.format].open, SPEECH[source.format].skips
        self._wanted = {path: name for name, path in source.values.items()}

    def read(self, places: Sequence[str], payloads: Sequence[bytes], dead: Dead) -> Discovered:
        """Give what all payloads hold; `places` are `{device}/{what the topic says}`. Refused rows go into `dead`."""
        names: list[str] = []
        values: list[float] = []
        counts = np.zeros(len(payloads), np.int64)
        times: list[Any] = [None] * len(payloads)
        unnamed = 0
        for row, (place, payload) in enumerate(zip(places, payloads, strict=True)):
            try:
                found, times[row] = self._message(place.rpartition("/"), payload) if row not in dead else ({}, None)
            except (_Refused, msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
                dead[row] = _cause(error)
                continue
            good = [name for name in found if _is_name(name)]
            names += good
            values += [found[name] for name in good]
            counts[row] = len(good)
            unnamed += len(found) - len(good)
        return _timed(Discovered(names, np.array(values, np.float64), counts, read_times(times, "auto"), unnamed), dead)

    def _message(self, place: tuple[str, str, str], payload: bytes) -> tuple[dict[str, float], Any]:
        """Give a message's readings by series name, and its time as it was written."""
        device, _, said = place
        tree = _tree(payload) if said else _decode(payload)
        if not isinstance(tree, dict):
            if not said:
                raise _Refused("type")
            return self._named(device, _leaves(tree, said, frozenset(), 1)), None
        opened, time = self._open(tree)
        return self._named(device, _leaves(opened, said, frozenset() if self._wanted else self._skips, 1)), time

    def _named(self, device: str, leaves: Iterator[tuple[str, float]]) -> dict[str, float]:
        found: dict[str, float] = {}
        for path, value in leaves:
            measurement = self._wanted.get(path) if self._wanted else path.replace("/", ".")
            if measurement is not None:
                found.setdefault(f"{device}/{measurement}", value)
                if len(found) > MAX_LEAVES:
                    raise _Refused("leaves")
        return found


def _tree(payload: bytes) -> Any:
    """Read JSON, or give None for a text that is not meant to be JSON."""
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if payload.lstrip()[:1] in (b"{", b"["):
            raise
        return None


def _leaves(node: Any, path: str, skips: frozenset[str], depth: int) -> Iterator[tuple[str, float]]:
    """Give path and value of every number, in the payload's order; whatever is skipped may be as deep as it likes."""
    if isinstance(node, dict):
        if depth > MAX_DEPTH:
            raise _Refused("depth")
        for key, below in node.items():
            if key not in skips:
                yield from _leaves(below, f"{path}.{key}" if path else key, skips, depth + 1)
    elif isinstance(node, int | float):
        yield path, float(node)


def _is_name(name: str) -> bool:
    return not name.endswith("/") and len(name.encode()) <= MAX_NAME


def _cause(error: Exception) -> str:
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, RecursionError):
        return "depth"
    return "type" if isinstance(error, msgspec.ValidationError | OverflowError) else "json"


def _timed(found: Discovered, dead: Dead) -> Discovered:
    """Take clocks that were never set for none, and the messages whose time cannot be read for dead."""
    times = found.times
    times[(times >= 0) & (times < EARLIEST)] = ABSENT
    unreadable = times == UNREADABLE
    if not unreadable.any():
        return found
    for row in np.flatnonzero(unreadable).tolist():
        dead.setdefault(row, "time")
    kept = np.repeat(~unreadable, found.counts)
    names = [name for name, keep in zip(found.names, kept.tolist(), strict=True) if keep]
    return found._replace(names=names, values=found.values[kept], counts=np.where(unreadable, 0, found.counts))

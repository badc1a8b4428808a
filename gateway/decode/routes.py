"""Topics to sources and series, once per topic. Pure.

Rules:

1. The first source in configuration order whose template matches a topic has it. `+`, `{device}` and `{measurement}`
   match one level, `#` the rest and the parent; none of them matches a first level that begins with `$`.
2. A topic has one slot per measurement of its source, one after the other; a topic that no source has, or whose series
   would have an empty or too long name, has one slot with source UNMATCHED. A name that stands on several levels of the
   template is made of all of them, joined by dots.
3. A dialect's topic has one slot, named `{device}/` and what the topic says of the measurement: the levels that
   `{measurement}` and `#` stand for, but for those that are no part of a name. A topic of it that holds no measurement
   has source IGNORED.
4. What is known of topics is a cache: when it holds MAX_SLOTS slots or MAX_CHARACTERS, it is forgotten before the next
   batch, counted in `forgotten`, and learnt again. Series keep their numbers: those are in the SeriesTable.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.config import Source
from gateway.decode.dialects import SPEECH, Dialect
from gateway.records import SeriesTable

UNMATCHED = -1
"""The source of a topic that nobody wants."""

IGNORED = -3
"""The source of a topic that a dialect knows to hold no measurement."""

UNKNOWN = -2
"""The series of a slot that has had no reading yet."""

MAX_NAME = 256
"""Bytes in a series' name."""

MAX_SLOTS = 1 << 18
MAX_CHARACTERS = 32 << 20

Pairs = list[tuple[str, str]]
"""Levels: what the template wants, and what the topic has."""

_WILD = ("+", "{device}", "{measurement}")


class Template:
    """One source's topic, and the names it gives to what arrives there."""

    def __init__(self, source: Source) -> None:
        levels = source.topic.split("/")
        if levels[0] == "$share":
            del levels[:2]
        self._rest = levels[-1] == "#"
        self._levels = levels[:-1] if self._rest else levels
        self._source = source
        self._dialect = SPEECH.get(source.format)

    def match(self, topic: str) -> list[str] | None:
        """Give the series' names of a topic, one per measurement, or None if the template does not match.

        A dialect's topic has one, the beginning of its series' names; or none, if it holds no measurement.
        """
        levels = topic.split("/")
        if len(levels) < len(self._levels) or (len(levels) > len(self._levels) and not self._rest):
            return None
        if topic.startswith("$") and (not self._levels or self._levels[0] in _WILD):
            return None
        pairs = list(zip(self._levels, levels, strict=False))
        if any(want not in _WILD and want != have for want, have in pairs):
            return None
        if self._dialect is not None:
            return self._place(self._dialect, pairs, levels[len(self._levels) :])
        return self._names(pairs)

    def _names(self, pairs: Pairs) -> list[str]:
        device = _joined("{device}", pairs, self._source.device)
        measurement = _joined("{measurement}", pairs, self._source.measurement)
        if not self._source.values:
            return [_name(device, measurement)]
        before = f"{measurement}." if measurement else ""
        return [_name(device, before + key) for key in self._source.values]

    def _place(self, dialect: Dialect, pairs: Pairs, rest: list[str]) -> list[str]:
        said = [_joined("{measurement}", pairs, self._source.measurement), *rest]
        wild = [have for want, have in pairs if want in _WILD] + rest
        devices = [have for want, have in pairs if want == "{device}"][:1]
        if not dialect.ignored.isdisjoint(wild) or not dialect.nobody.isdisjoint(devices):
            return []
        if not self._source.values and not dialect.skips.isdisjoint(said):
            return []
        device = _joined("{device}", pairs, self._source.device)
        place = f"{device}/{'.'.join(level for level in said if level and level not in dialect.unnamed)}"
        return [place if device and len(place.encode()) <= MAX_NAME else ""]


def _joined(name: str, pairs: Pairs, fixed: str) -> str:
    """Give what the topic has where the template has this name, else what is configured; "" if a level is empty."""
    parts = [have for want, have in pairs if want == name]
    return (".".join(parts) if all(parts) else "") if parts else fixed


def _name(device: str, measurement: str) -> str:
    name = f"{device}/{measurement}"
    return name if device and measurement and len(name.encode()) <= MAX_NAME else ""


class _Known(dict[str, int]):
    """Topic to its first slot; a topic that is asked for the first time is learnt."""

    def __init__(self, routes: Routes) -> None:
        super().__init__()
        self._routes = routes

    def __missing__(self, topic: str) -> int:
        slot = self[topic] = self._routes.learn(topic)
        return slot


class Routes:
    """What is known of topics: columns over slots (`source`, `series`, `crc` of the topic), and the slots' `names`."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._templates = [Template(source) for source in sources]
        self.forgotten = 0
        self._forget()

    def _forget(self) -> None:
        self._known = _Known(self)
        self.names: list[str] = []
        self._characters = 0
        self.source = np.empty(256, np.int32)
        self.series = np.empty(256, np.int32)
        self.crc = np.empty(256, np.uint32)

    def slots(self, topics: Sequence[str]) -> NDArray[np.int64]:
        """Give each topic's first slot, shape (n,); valid until the next call."""
        if len(self.names) >= MAX_SLOTS or self._characters >= MAX_CHARACTERS:
            self._forget()
            self.forgotten += 1
        return np.fromiter(map(self._known.__getitem__, topics), np.int64, len(topics))

    def learn(self, topic: str) -> int:
        """Make the slots of a topic that is not known; return the first."""
        source, names = self._find(topic)
        first = len(self.names)
        self.names += names
        self._characters += len(topic) + sum(map(len, names))
        end = len(self.names)
        if end > len(self.source):
            self._grow()
        self.source[first:end] = source
        self.series[first:end] = UNKNOWN
        self.crc[first:end] = zlib.crc32(topic.encode())
        return first

    def _find(self, topic: str) -> tuple[int, list[str]]:
        for number, template in enumerate(self._templates):
            if (names := template.match(topic)) is not None:
                if not names:
                    return IGNORED, [""]
                return (number, names) if all(names) else (UNMATCHED, [""])
        return UNMATCHED, [""]

    def _grow(self) -> None:
        size = max(len(self.names), 2 * len(self.source))
        self.source, self.series = np.resize(self.source, size), np.resize(self.series, size)
        self.crc = np.resize(self.crc, size)

    def name(self, slots: NDArray[np.int64], table: SeriesTable) -> NDArray[np.int32]:
        """Give the slots' series, shape (n,), making those that are new; -1 where the table is full."""
        for slot in np.unique(slots[self.series[slots] == UNKNOWN]).tolist():
            self.series[slot] = table.add(self.names[slot])
        return self.series[slots]

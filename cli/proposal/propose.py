"""The proposal: sources that have been tried on what was heard, a window of their pace, and what was left out. Pure.

Rules:

1. More literal templates come first, because the first source that matches has the topic.
2. Every kept message is read by the gateway's own decode with the proposed sources. A source that gives no series is
   dropped; a topic that gives none is left out with the reason.
3. Where two topics would be one series it is said, in the file and in the summary.
4. A window holds about READINGS readings of the median topic, rounded up to a size that people use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from cli.proposal.ear import Ear, Heard
from cli.proposal.families import Family, Sorted, sort
from gateway.config import Source
from gateway.decode import Decode
from gateway.decode.routes import Template
from gateway.records import Arrivals, SeriesTable, no_recent

READINGS = 10
"""In one window: enough for a mean and a deviation, few enough to see what happens."""

SIZES_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)

MAX_SOURCES = 50
"""More of them are no configuration that anybody reads."""

REASONS = {
    "topic": "their names cannot name a series",
    "time": "their time cannot be read",
    "type": "they hold something else where their like have a number",
    "missing": "they lack the fields that their like have",
    "": "no number in it",
}
"""By cause of the gateway's decode."""

UNREAD = f"nothing in it, too large, or beyond {MAX_SOURCES} sources"


class Proposed(NamedTuple):
    """One source, and what it would give."""

    source: Source
    topics: list[str]
    series: list[str]
    interval: int  # ns between messages of a topic, the median
    remarks: tuple[str, ...] = ()


class Proposal(NamedTuple):
    """What the configuration should say, and what was left out: reason to topics."""

    sources: list[Proposed]
    left_out: dict[str, list[str]]
    window_s: int


def propose(ear: Ear, listened: int) -> Proposal:
    """Propose a configuration for what an ear has heard in `listened` ns."""
    done = sort(ear.topics)
    largest = sorted(done.families, key=lambda family: -len(family.topics))[:MAX_SOURCES]
    families = sorted(largest, key=_generality)
    tried = _try([family.source for family in families], ear)
    given = [one for number, family in enumerate(families) if (one := _proposed(number, family, tried, ear, listened))]
    kept = _warned(given)
    intervals = [_interval(ear.topics[name], listened) for one in kept for name in one.topics]
    return Proposal(kept, _left_out(done, tried, ear), window_size(median(intervals)) if intervals else 10)


def _generality(family: Family) -> tuple[int, int, int, str]:
    levels = family.source.filter.split("/")
    return levels.count("#"), levels.count("+"), -len(family.topics), family.source.topic


class _Tried(NamedTuple):
    """What came of a topic's messages."""

    source: int
    series: list[str]
    cause: str  # of what was refused, "" if nothing was


def _try(sources: Sequence[Source], ear: Ear) -> dict[str, _Tried]:
    """Read every topic that has a source with the first that matches it, as the gateway will."""
    templates = [Template(source) for source in sources]
    decodes = [Decode([source], SeriesTable(limit=1 << 20), no_recent(), 1) for source in sources]
    tried = {}
    for name, heard in ear.topics.items():
        number = next((at for at, template in enumerate(templates) if template.match(name) is not None), None)
        if number is not None and heard.samples:
            tried[name] = _Tried(number, *_read(decodes[number], name, heard))
    return tried


def _read(decode: Decode, name: str, heard: Heard) -> tuple[list[str], str]:
    """Give a topic's series, and the cause of what was refused."""
    payloads = [sample.payload for sample in heard.samples]
    decoded = decode.feed(Arrivals([name] * len(payloads), payloads, [], range(0), None, 1), heard.samples[-1].now)
    return decoded.names, next(iter(decoded.tally.dead), "")


def _proposed(number: int, family: Family, tried: dict[str, _Tried], ear: Ear, listened: int) -> Proposed | None:
    names = [name for name, one in tried.items() if one.source == number and one.series]
    if not names:
        return None
    series = [series for name in names for series in tried[name].series]
    pace = median(_interval(ear.topics[name], listened) for name in names)
    return Proposed(family.source, names, series, round(pace), family.remarks)


def _warned(given: list[Proposed]) -> list[Proposed]:
    """Say of a source which of its series others have too: their readings would mix."""
    owners = Counter(series for one in given for series in one.series)
    mixed = [[series for series in one.series if owners[series] > 1] for one in given]
    return [
        one._replace(remarks=(*one.remarks, f"MIXED with other topics' readings: {', '.join(names[:3])}"))
        if names
        else one
        for one, names in zip(given, mixed, strict=True)
    ]


def _left_out(done: Sorted, tried: dict[str, _Tried], ear: Ear) -> dict[str, list[str]]:
    """Give the topics that give no series, by reason."""
    found: dict[str, list[str]] = {}
    for name in ear.topics:
        one = tried.get(name)
        if one is None or not one.series:
            reason = done.aside.get(name) or (REASONS.get(one.cause, one.cause) if one else UNREAD)
            found.setdefault(reason, []).append(name)
    return found


def _interval(heard: Heard, listened: int) -> int:
    """Say how long a topic is silent between messages; one that came once may come as seldom as we listened."""
    return heard.interval or listened


def window_size(interval: float) -> int:
    """Give a window's size (s) for messages that come every `interval` ns."""
    wanted = READINGS * interval / 1e9
    return next((size for size in SIZES_S if size >= wanted * 0.95), SIZES_S[-1])

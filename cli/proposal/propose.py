"""The proposal: sources that have been tried on what was heard, a window of their pace, and what was left out. Pure.

Rules:

1. More literal templates come first, because the first source that matches has the topic.
2. Every kept message is read by the gateway's own decode with the proposed sources. A source that gives no series is
   dropped; a topic that gives none is left out with the reason.
3. A window holds about READINGS readings of the median topic, rounded up to a size that people use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from cli.proposal.ear import Ear, Heard
from cli.proposal.families import Sorted, sort
from gateway.config import Source
from gateway.decode import Decode
from gateway.records import Arrivals, SeriesTable, no_recent

READINGS = 10
"""In one window: enough for a mean and a deviation, few enough to see what happens."""

SIZES_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)

MAX_SOURCES = 50
"""More of them are no configuration that anybody reads."""

REASONS = {
    "topic": "their names cannot name a series",
    "time": "their time cannot be read",
    "type": "they hold no number where their like have one",
    "missing": "they have no such field as their like",
    "": "no number in it",
}


@dataclass(slots=True)
class Proposed:
    """One source, and what it would give."""

    source: Source
    topics: list[str]
    series: list[str]
    interval: int  # ns between messages of a topic, the median
    remarks: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Proposal:
    """What the configuration should say, and what was left out: reason to topics."""

    sources: list[Proposed]
    left_out: dict[str, list[str]]
    window_s: int


def propose(ear: Ear, listened: int) -> Proposal:
    """Propose a configuration for what an ear has heard in `listened` ns."""
    done = sort(ear.topics)
    ordered = sorted(done.sources, key=_generality)
    tried = _try([source for source, _ in ordered], ear)
    good = [one for one in _proposed(ordered, tried, ear, listened, done) if one.series]
    kept = [one for one in good if one in sorted(good, key=lambda one: -len(one.topics))[:MAX_SOURCES]]
    intervals = [_interval(ear.topics[name], listened) for one in kept for name in one.topics]
    return Proposal(kept, _left_out(done, tried, kept), window_size(median(intervals)) if intervals else 10)


def _generality(item: tuple[Source, list[str]]) -> tuple[int, int, int, str]:
    levels = item[0].filter.split("/")
    return levels.count("#"), sum(level == "+" for level in levels), -len(item[1]), item[0].topic


@dataclass(slots=True)
class _Tried:
    source: int  # which source has the topic; -1: none
    series: list[str]
    cause: str  # of what was refused, "" if nothing was


def _try(sources: Sequence[Source], ear: Ear) -> dict[str, _Tried]:
    """Read what was heard, each topic with the first source that matches it."""
    tried: dict[str, _Tried] = {}
    for number, source in enumerate(sources):
        decode = Decode([source], SeriesTable(limit=1 << 20), no_recent(), 1)
        for name in (name for name in ear.topics if name not in tried):
            if (found := _read(decode, name, ear.topics[name])) is not None:
                tried[name] = _Tried(number, *found)
    return tried


def _read(decode: Decode, name: str, heard: Heard) -> tuple[list[str], str] | None:
    """Give a topic's series, and the cause of what was refused; None if the source does not match."""
    payloads = [sample.payload for sample in heard.samples]
    now = heard.samples[-1].now if heard.samples else 0
    decoded = decode.feed(Arrivals([name] * len(payloads), payloads, [], range(0), None, 1), now)
    causes = list(decoded.tally.dead)
    return None if causes == ["topic"] else (decoded.names, causes[0] if causes else "")


def _proposed(
    ordered: list[tuple[Source, list[str]]], tried: dict[str, _Tried], ear: Ear, listened: int, done: Sorted
) -> Iterable[Proposed]:
    by_source: dict[int, list[str]] = {}
    for name, one in tried.items():
        if one.series:
            by_source.setdefault(one.source, []).append(name)
    for number, (source, _) in enumerate(ordered):
        names = by_source.get(number, [])
        series = [series for name in names for series in tried[name].series]
        pace = [_interval(ear.topics[name], listened) for name in names]
        yield Proposed(source, names, series, round(median(pace)) if pace else 0, done.remarks.get(source.topic, []))


def _left_out(done: Sorted, tried: dict[str, _Tried], kept: list[Proposed]) -> dict[str, list[str]]:
    taken = {name for one in kept for name in one.topics}
    reasons = {name: reason for name, reason in done.aside.items() if name not in taken}
    for _, names in done.sources:
        for name in names:
            if name not in taken:
                one = tried.get(name)
                full = one is not None and one.series
                reasons[name] = "more than 50 sources" if full else REASONS.get(one.cause if one else "topic", "")
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        found.setdefault(reason or REASONS["type"], []).append(name)
    return found


def _interval(heard: Heard, listened: int) -> int:
    """Say how long a topic is silent between messages; one that came once may come as seldom as we listened."""
    return heard.interval or listened


def window_size(interval: float) -> int:
    """Give a window's size (s) for messages that come every `interval` ns."""
    wanted = READINGS * interval / 1e9
    return next((size for size in SIZES_S if size >= wanted * 0.95), SIZES_S[-1])

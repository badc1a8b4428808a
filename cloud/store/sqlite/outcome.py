"""What a batch comes to while it is being applied, and what is said of it when it is done. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cloud.ledger import Lane
from cloud.store import MAX_RAISED, Applied, News, Stored


@dataclass(slots=True)
class Page:
    """The ledger of one lane in this transaction, and what this batch adds to its counts."""

    ledger: Lane
    received: int = 0
    duplicate: int = 0
    quarantined: int = 0
    dropped: int = 0
    bytes: int = 0
    next: int = 1
    since: int = 0  # the stamp (ns) of frame `upto`: what still waits is not older


@dataclass(slots=True)
class Outcome:
    """What a batch comes to while it is being applied."""

    pages: dict[str, Page] = field(default_factory=dict)
    fork: str = ""
    stored: list[Stored] = field(default_factory=list)
    deferred: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    windows: int = 0
    readings: int = 0
    new_series: int = 0
    news: News = field(default_factory=News)

    def applied(self) -> Applied:
        """Say what it came to; when it was committed is still to be said."""
        pages = self.pages.values()
        return Applied(
            marks={lane: page.ledger.mark for lane, page in self.pages.items()},
            fork=self.fork,
            stored=self.stored,
            accepted=sum(page.received for page in pages),
            duplicate=sum(page.duplicate for page in pages),
            deferred=self.deferred,
            quarantined=self.quarantined,
            windows=self.windows,
            readings=self.readings,
            bytes=sum(page.bytes for page in pages),
            new_series=self.new_series,
            news=self.news,
            committed=0,
        )


def joined(parts: list[Applied]) -> Applied:
    """Say what frames applied one after the other come to together."""
    quarantined: Counter[str] = Counter()
    for part in parts:
        quarantined.update(part.quarantined)
    return Applied(
        marks={lane: mark for part in parts for lane, mark in part.marks.items()},
        fork=parts[-1].fork,
        stored=[stored for part in parts for stored in part.stored],
        accepted=sum(part.accepted for part in parts),
        duplicate=sum(part.duplicate for part in parts),
        deferred=sum(part.deferred for part in parts),
        quarantined=dict(quarantined),
        windows=sum(part.windows for part in parts),
        readings=sum(part.readings for part in parts),
        bytes=sum(part.bytes for part in parts),
        new_series=sum(part.new_series for part in parts),
        news=_joined_news([part.news for part in parts]),
        committed=0,
    )


def _joined_news(parts: list[News]) -> News:
    news = News()
    for part in parts:
        news.alerts += part.alerts
        news.raised = (news.raised + part.raised)[-MAX_RAISED:]
        news.shadow += part.shadow
        news.running |= part.running
        news.learnt |= part.learnt
        news.reports += part.reports
        news.counts |= part.counts
    return news

"""Whether what was acknowledged to a device is accounted for in the cloud. Pure.

Every device numbers its readings 1, 2, 3 ... and sends the number along as a series of its own, so that a window of
that series states which of them it holds: `count` numbers between `minimum` and `maximum`.

Rules:

1. A pair (device, counter) is acknowledged when the broker has said so to the device.
2. A window accounts for as many of the acknowledged pairs between its minimum and maximum as its count says, no more:
   of two revisions the higher one speaks, and windows that overlap speak together.
3. An acknowledged pair that no window accounts for is missing. What a gateway declares to have dropped, with a reason,
   explains as many missing pairs; the rest is lost.
4. A pair whose acknowledgement never came may be in a window too, and then hides one missing pair of that window:
   devices end by waiting for all acknowledgements, and `Account.unacknowledged` says when that did not succeed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


class Ranges:
    """A set of integers as sorted, disjoint, inclusive ranges; adding the next number costs next to nothing."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add first..last; adding what is there already changes nothing."""
        last = first if last is None else last
        begin = bisect_left(self._lasts, first - 1)
        end = bisect_left(self._firsts, last + 2, begin)
        if begin < end:
            first, last = min(first, self._firsts[begin]), max(last, self._lasts[end - 1])
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]

    def within(self, first: int, last: int) -> int:
        """How many numbers of first..last are in the set."""
        total = 0
        for at in range(bisect_left(self._lasts, first), len(self._firsts)):
            if self._firsts[at] > last:
                break
            total += min(last, self._lasts[at]) - max(first, self._firsts[at]) + 1
        return total

    def __len__(self) -> int:
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)


@dataclass(frozen=True, slots=True)
class Stated:
    """One window of a device's counters, as the cloud has it."""

    start: int
    revision: int
    count: int
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Account:
    """The balance: acknowledged = accounted + missing; lost is what of the missing nobody has declared."""

    published: int
    acknowledged: int
    accounted: int
    declared: int
    lost: int
    by_device: dict[str, int]  # missing pairs of the devices that miss any

    @property
    def missing(self) -> int:
        """Acknowledged pairs that are in no window."""
        return self.acknowledged - self.accounted

    @property
    def unacknowledged(self) -> int:
        """Published, and never acknowledged: the device still has them."""
        return self.published - self.acknowledged

    @property
    def closed(self) -> bool:
        """Whether every acknowledged pair is explained."""
        return self.lost == 0


def account(
    acknowledged: Mapping[str, Ranges],
    windows: Mapping[str, Iterable[Stated]],
    *,
    published: int | None = None,
    declared: int = 0,
) -> Account:
    """Draw the balance over all devices; `declared` is how many pairs the gateways say they dropped."""
    total = sum(len(pairs) for pairs in acknowledged.values())
    accounted = {device: _accounted(pairs, windows.get(device, ())) for device, pairs in acknowledged.items()}
    missing = {device: len(pairs) - accounted[device] for device, pairs in acknowledged.items()}
    return Account(
        published=total if published is None else published,
        acknowledged=total,
        accounted=sum(accounted.values()),
        declared=declared,
        lost=max(0, sum(missing.values()) - declared),
        by_device={device: number for device, number in missing.items() if number},
    )


def _accounted(pairs: Ranges, windows: Iterable[Stated]) -> int:
    return sum(min(span.count, pairs.within(span.minimum, span.maximum)) for span in _spans(windows))


def _spans(windows: Iterable[Stated]) -> list[Stated]:
    """Give the newest revision of every window, those that overlap joined, by counter."""
    newest: dict[int, Stated] = {}
    for window in windows:
        if window.count and (window.start not in newest or newest[window.start].revision < window.revision):
            newest[window.start] = window
    spans: list[Stated] = []
    for window in sorted(newest.values(), key=lambda window: window.minimum):
        if spans and window.minimum <= spans[-1].maximum:
            before = spans[-1]
            joined = before.count + window.count, before.minimum, max(before.maximum, window.maximum)
            spans[-1] = Stated(before.start, before.revision, *joined)
        else:
            spans.append(window)
    return spans


NOT_A_LOSS = frozenset({"duplicate"})
"""Reasons of `fieldgate_readings_dropped_total` that remove a reading which is there already."""


def dropped_readings(dropped: Mapping[str, float]) -> int:
    """Add up a gateway's dropped readings over the reasons that cost one."""
    return int(sum(number for reason, number in dropped.items() if reason not in NOT_A_LOSS))


def declared_pairs(dropped: Mapping[str, float]) -> int:
    """Turn a gateway's dropped readings by reason into pairs: each has two readings, its value and its counter."""
    return dropped_readings(dropped) // 2

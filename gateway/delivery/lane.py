"""One lane on one connection: what of it must still be sent.

Rules:

1. To be sent are [back, split), the backlog, and [live, next), but for what is receipted or in flight. What lies in
   [split, live) was sent on this connection, or is not in the spool any more.
2. back <= split <= live <= next, and every frame in flight is below `live` and not receipted.
3. A deferred frame goes back into the backlog: split moves up to `live`, back down to the frame.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from protocol.messages import LaneHead, Mark


class Flight(NamedTuple):
    """A frame that was sent and not receipted."""

    size: int
    order: int  # of sending, over all lanes
    at: int  # ns


@dataclass(slots=True)
class Lane:
    """Cursors over a lane's sequences, the cloud's mark, and what is in flight."""

    mark: Mark = field(default_factory=Mark)
    oldest: int = 1
    back: int = 1
    split: int = 1
    live: int = 1
    next: int = 1
    held_until: int = 0  # ns: a frame was deferred, and the backlog waits
    flights: dict[int, Flight] = field(default_factory=dict)

    def open(self, mark: Mark, head: LaneHead) -> None:
        """Begin a connection: everything that is not receipted is backlog."""
        self.mark, self.oldest = tidy(mark), head.oldest
        self.split = self.live = self.next = head.next
        self.back = min(max(mark.upto + 1, head.oldest), self.split)
        self.held_until = 0
        self.flights.clear()

    def backlog(self) -> int:
        """Give the backlog's next sequence, 0 if there is none."""
        self.back = self._skip(self.back, self.split)
        return self.back if self.back < self.split else 0

    def fresh(self) -> int:
        """Give the next sequence of what was appended since the connection opened, 0 if there is none."""
        self.live = self._skip(self.live, self.next)
        return self.live if self.live < self.next else 0

    def ready(self, now: int) -> int:
        """Give the next sequence in order, 0 if there is none or it waits."""
        if self.backlog():
            return self.back if self.held_until <= now else 0
        return self.fresh()

    def _skip(self, seq: int, end: int) -> int:
        while seq < end:
            if past := self.receipted_to(seq):
                seq = past + 1
            elif seq in self.flights:
                seq += 1
            else:
                return seq
        return end

    def receipted_to(self, seq: int) -> int:
        """Give the last sequence of the receipted range that `seq` lies in, 0 if it lies in none."""
        if seq <= self.mark.upto:
            return self.mark.upto
        at = bisect_right(self.mark.ranges, seq, key=lambda item: item[0]) - 1
        return self.mark.ranges[at][1] if at >= 0 and seq <= self.mark.ranges[at][1] else 0

    def pass_by(self, seq: int) -> None:
        """Move the cursor that stands on `seq` past it."""
        if seq == self.back < self.split:
            self.back += 1
        elif seq == self.live:
            self.live += 1

    def absent(self, seq: int, head: LaneHead) -> None:
        """Note that `seq` is not in the spool: dropped, damaged, or (from `head.next` on) not there yet."""
        self.oldest = head.oldest
        if seq >= head.next:
            self.next = head.next
            self.live = min(self.live, self.next)
            self.split = min(self.split, self.live)
            self.back = min(self.back, self.split)
            return
        self.pass_by(seq)
        self.back = min(max(self.back, head.oldest), self.split)
        self.live = min(max(self.live, head.oldest), self.next)

    def receipt(self, mark: Mark) -> list[Flight]:
        """Take the cloud's word, unless an older one was better; give what is no longer in flight."""
        if mark.upto < self.mark.upto:
            return []
        self.mark = tidy(mark)
        return [self.flights.pop(seq) for seq in list(self.flights) if self.receipted_to(seq)]

    def defer(self, before: int, until: int) -> list[Flight]:
        """Let frames that were sent before that order be sent again."""
        late = [seq for seq, flight in self.flights.items() if flight.order < before]
        if late:
            self.split, self.back, self.held_until = self.live, min(self.back, *late), until
        return [self.flights.pop(seq) for seq in late]

    def gone(self) -> Iterator[tuple[int, int]]:
        """Give the inclusive ranges that the cloud misses and the spool does not hold any more."""
        first = self.mark.upto + 1
        for begin, end in [*self.mark.ranges, (self.oldest, self.oldest)]:
            if first < min(begin, self.oldest):
                yield first, min(begin, self.oldest) - 1
            first = max(first, end + 1)

    def check(self) -> None:
        """Assert rule 2, and that the mark is in order."""
        assert 1 <= self.back <= self.split <= self.live <= self.next
        assert all(seq < self.live and not self.receipted_to(seq) for seq in self.flights)
        ends = [self.mark.upto, *(end for item in self.mark.ranges for end in item)]
        assert ends == sorted(ends)


def newest(mark: Mark) -> int:
    """Give the highest sequence that the cloud says it has."""
    return max([mark.upto, *(last for _, last in mark.ranges)])


def tidy(mark: Mark) -> Mark:
    """Give the mark with its ranges in order and above `upto`; nonsense among them is left out."""
    ranges: list[tuple[int, int]] = []
    end = mark.upto
    for first, last in sorted(mark.ranges):
        if end < first <= last:
            ranges.append((first, last))
            end = last
    return Mark(mark.upto, ranges, mark.chain)

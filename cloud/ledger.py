"""The ledger of one lane of one gateway's epoch: which frames are here, which never will be, which are still to come.

Rules:

1. `upto` says that 1..upto are here or were declared dropped; ranges above it are disjoint, in order and do not touch.
2. A frame inside 1..upto or a range is a duplicate. Nothing else is ever refused for its sequence.
3. A hole is "not here yet" until the gateway declares it dropped.
4. There are at most MAX_RANGES ranges. A frame that would open one more is deferred: not taken, sent again later.
5. Chains link each frame to the one before it. Where both are known and do not link, the gateway's history forked: a
   cloned card, or a tail lost to damage. Nothing of a fork is taken; the gateway begins a new epoch.
   A chain of 0 above sequence 0 is unknown: the frame there was dropped.
"""

from __future__ import annotations

import bisect
from enum import Enum

import msgspec

from protocol.frame import chain_after
from protocol.messages import COPIED, MAX_RANGES, LaneHead, Mark


class Verdict(Enum):
    """What becomes of a frame."""

    ACCEPT = "accept"
    DUPLICATE = "duplicate"
    DEFER = "defer"
    FORK = "fork"


class Range(msgspec.Struct, array_like=True):
    """Sequences [first, last] that are here; content and chain of the first frame, chain of the last; 0 is unknown."""

    first: int
    last: int
    content: int = 0
    first_chain: int = 0
    last_chain: int = 0


class Lane(msgspec.Struct):
    """What is here of one lane. Mutable: the caller keeps it within one transaction."""

    upto: int = 0
    chain: int = 0  # of frame upto
    ranges: list[Range] = []

    @property
    def mark(self) -> Mark:
        """What a receipt says of it."""
        return Mark(self.upto, [(item.first, item.last) for item in self.ranges], self.chain)

    @property
    def newest(self) -> int:
        """The highest sequence that is here."""
        return self.ranges[-1].last if self.ranges else self.upto

    @property
    def holes(self) -> list[tuple[int, int]]:
        """Inclusive ranges below `newest` that are not here yet."""
        ends = [self.upto, *(item.last for item in self.ranges)]
        return [(end + 1, item.first - 1) for end, item in zip(ends, self.ranges, strict=False)]

    def feed(self, seq: int, chain: int, content: int) -> Verdict:
        """Judge one frame, and count it as here if it is accepted."""
        if seq <= self.upto:
            return Verdict.FORK if seq == self.upto and self._differs(chain, self.chain) else Verdict.DUPLICATE
        at = self._position(seq)
        before = self.ranges[at - 1] if at else None
        after = self.ranges[at] if at < len(self.ranges) else None
        if before is not None and seq <= before.last:
            return _again(before, seq, chain)
        if not self._links(seq, chain, content, before, after):
            return Verdict.FORK
        return Verdict.ACCEPT if self._place(Range(seq, seq, content, chain, chain)) else Verdict.DEFER

    def drop(self, first: int, last: int) -> list[tuple[int, int]] | None:
        """Close the holes in [first, last]; return those closed, or None (and nothing done) when ranges are full."""
        missing = self._missing(first, last)
        trial = msgspec.structs.replace(self, ranges=[msgspec.structs.replace(item) for item in self.ranges])
        if not all(trial._place(Range(*hole)) for hole in missing):  # noqa: SLF001 - its own class
            return None
        self.upto, self.chain, self.ranges = trial.upto, trial.chain, trial.ranges
        return missing

    def contradicts(self, head: LaneHead) -> str:
        """Say why what the gateway holds cannot be the history that is here; "" when it can."""
        if self.newest >= head.next:
            return f"frame {self.newest} is here, the gateway's next is {head.next}: {COPIED}"
        if self.upto and self.upto == head.next - 1 and self._differs(head.chain, self.chain):
            return f"frame {self.upto} is another here: {COPIED}"
        return ""

    def _differs(self, chain: int, known: int) -> bool:
        return known != 0 and chain not in (0, known)

    def _position(self, seq: int) -> int:
        return bisect.bisect_right(self.ranges, seq, key=lambda item: item.first)

    def _links(self, seq: int, chain: int, content: int, before: Range | None, after: Range | None) -> bool:
        known = self.chain if before is None else before.last_chain
        end = self.upto if before is None else before.last
        if seq == end + 1 and (known or not end) and chain_after(content, known) != chain:
            return False
        return not (after is not None and after.first == seq + 1 and after.first_chain) or (
            chain_after(after.content, chain) == after.first_chain
        )

    def _place(self, new: Range) -> bool:
        """Put in a range that overlaps none, joining what touches; False if that would be one range too many."""
        at = self._position(new.first)
        touches = new.first == (self.ranges[at - 1].last if at else self.upto) + 1
        meets = at < len(self.ranges) and self.ranges[at].first == new.last + 1
        if not touches and not meets and len(self.ranges) >= MAX_RANGES:
            return False
        if meets:
            following = self.ranges.pop(at)
            new.last, new.last_chain = following.last, following.last_chain
        if not touches:
            self.ranges.insert(at, new)
        elif at:
            self.ranges[at - 1].last, self.ranges[at - 1].last_chain = new.last, new.last_chain
        else:
            self.upto, self.chain = new.last, new.last_chain
        return True

    def _missing(self, first: int, last: int) -> list[tuple[int, int]]:
        missing = []
        at = max(first, self.upto + 1)
        for item in self.ranges:
            if at < item.first and at <= last:
                missing.append((at, min(last, item.first - 1)))
            at = max(at, item.last + 1)
        if at <= last:
            missing.append((at, last))
        return missing


def _again(item: Range, seq: int, chain: int) -> Verdict:
    known = item.first_chain if seq == item.first else item.last_chain if seq == item.last else 0
    return Verdict.FORK if known and known != chain else Verdict.DUPLICATE

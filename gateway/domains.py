"""Clock domains: in which time our stamps are, from one clock record to the next. Pure.

Rules:

1. While stamps are UTC the domain is "". While they are not, it is named for the boot, and for the record's monotonic
   time where that name has been used. Within it stamps run on by elapsed time: one number makes UTC of all of them.
2. A record ends the domain in force, unless both say of the same boot that its clock is not believed: that is another
   process that goes on.
3. What makes UTC of a domain is stated when it is known, once: as it begins, if the clock is believed and `now` only
   runs ahead of it; else as it ends, if that is in the same boot. Of a boot that ended before, nobody will ever know.
4. It is odd, and hops are not: what is brought to UTC begins where no other window does, so no row meets another.
5. Long leaps of our stamps are remembered, since they make nothing old.

| may fill | bound | answer when full |
|---|---|---|
| domains that are known, to be announced again | MAX_CLOCKS | the oldest is forgotten |
| leaps | MAX_LEAPS | the oldest is forgotten: what is older may be dropped by age |
"""

from __future__ import annotations

from dataclasses import asdict

from gateway.records import ClockRecord, State
from protocol.messages import ClockDefinition

MAX_CLOCKS = 64
MAX_LEAPS = 32
LONG = 3600 * 10**9
"""In ns: a leap that may matter to retention by age."""


class Domains:
    """See the rules above."""

    def __init__(self) -> None:
        self.domain = ""
        self.last: ClockRecord | None = None
        self.known: dict[str, int] = {}  # what makes UTC of domains
        self.leaps: list[tuple[int, int]] = []  # stamps, and how far stamps leapt after each

    @property
    def offset(self) -> int | None:
        """What makes UTC of stamps; None: nobody knows. Before the first record they are UTC."""
        if self.last is None:
            return 0 if not self.domain else None
        return self.last.offset if self.last.synchronised else None

    def leap(self, stamp: int, leap: int) -> None:
        """Note that stamps leapt so far, to this one."""
        if leap > LONG:
            self.leaps = [*self.leaps, (stamp - leap, leap)][-MAX_LEAPS:]

    def ends(self, record: ClockRecord) -> bool:
        """Whether this record ends the domain in force."""
        last = self.last
        return record.synchronised or last is None or last.synchronised or last.boot != record.boot

    def feed(self, record: ClockRecord) -> list[ClockDefinition]:
        """Take a record; give what is now known of the domain that ends, and of the one that begins."""
        last, self.last = self.last, record
        told = []
        if last is not None and last.boot == record.boot and record.synchronised:
            told += self._know(record.shift)
        self.domain = self._name(record)
        if record.synchronised:
            told += self._know(record.offset)
        return told

    def _name(self, record: ClockRecord) -> str:
        if record.synchronised and not record.offset:
            return ""
        fresh = record.boot and record.boot != self.domain and record.boot not in self.known
        return record.boot if fresh else f"{record.boot}.{record.monotonic}"

    def _know(self, shift: int | None) -> list[ClockDefinition]:
        if not self.domain or shift is None or self.domain in self.known:
            return []
        self.known[self.domain] = shift | 1
        while len(self.known) > MAX_CLOCKS:
            del self.known[next(iter(self.known))]
        return [ClockDefinition(self.domain, shift | 1)]

    def definitions(self) -> list[ClockDefinition]:
        """Give all that is known."""
        return [ClockDefinition(domain, shift) for domain, shift in self.known.items()]

    def snapshot(self) -> State:
        """Give all state but the domain's name."""
        last = asdict(self.last) if self.last is not None else {}
        return {"last": last, "known": dict(self.known), "leaps": [list(leap) for leap in self.leaps]}

    @classmethod
    def restore(cls, domain: str, state: State) -> Domains:
        """Continue from a snapshot; a checkpoint of an earlier version has the domain alone."""
        domains = cls()
        domains.domain = domain
        if state.get("last"):
            domains.last = ClockRecord(**state["last"])
        domains.known = dict(state.get("known", {}))
        domains.leaps = [(stamp, leap) for stamp, leap in state.get("leaps", [])]
        return domains

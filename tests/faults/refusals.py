"""Every call on the disk fails once, with EIO and with ENOSPC: for the 1st, the 2nd ... n-th until none fires any more.

A witness goes through a fixed scenario that uses everything; whatever is refused is tried again, as the gateway does.
Then the power is cut, and it is held to what was promised. Reads are treated apart: a disk that cannot read costs what
it cannot give, but only as long as it cannot.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from protocol.errors import JournalUnusable
from tests.faults.power import CHANGING
from tests.faults.whole import GatewayWitness
from tests.faults.witness import LogWitness, Witness
from tests.faults.witness_journal import JournalWitness
from tests.faults.witness_spool import SpoolWitness

CODES = (errno.ENOSPC, errno.EIO)
METHODS = (*CHANGING, "reopen", "lock", "names", "size")
KINDS: list[type[Witness]] = [LogWitness, JournalWitness, SpoolWitness, GatewayWitness]

SCENARIOS: dict[type[Witness], str] = {
    LogWitness: "append append commit append commit roll append give_up commit append append commit drop skip append "
    "reopen append commit drop",
    JournalWitness: "append append checkpoint append append append checkpoint append commit append checkpoint "
    "make_room append commit reopen append commit checkpoint",
    SpoolWitness: "append append commit append commit release enforce append append commit make_room begin_epoch "
    "append commit release reopen append commit enforce begin_epoch append commit",
    GatewayWitness: "arrive arrive commit arrive tick spool checkpoint arrive configure commit arrive tick pack arrive "
    "spool checkpoint arrive arrive commit",
}


@dataclass
class Found:
    """What a run came to."""

    injected: Counter[str] = field(default_factory=Counter)  # faults that fired, by method
    failures: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "injected": sum(self.injected.values()),
            "lost": len(self.failures),
            "by": dict(sorted(self.injected.items())),
            "failures": self.failures[:20],
        }


def run(seed: int, kinds: list[type[Witness]] = KINDS, every: int = 1) -> Found:
    """Go through all of them, or `every` so many calls only."""
    found = Found()
    for kind in kinds:
        for method in METHODS:
            for code in CODES:
                _sweep(kind, method, code, seed, every, found)
        for number in _numbers(every):
            if not _unreadable(kind, number, seed, found):
                break
    return found


def _sweep(  # noqa: PLR0917 - a scenario and how it fails
    kind: type[Witness], method: str, code: int, seed: int, every: int, found: Found
) -> None:
    for number in _numbers(every):
        where = f"{kind.__name__}, call {number} of {method} fails with {errno.errorcode[code]}"
        try:
            fired = _through(kind, method, number, code, seed)
        except AssertionError as error:
            found.failures.append(f"{where}: {error}")
            return
        if not fired:
            return
        found.injected[method] += 1


def _numbers(every: int) -> Iterator[int]:
    yield from range(1, 10_000, every)


def _through(kind: type[Witness], method: str, number: int, code: int, seed: int) -> int:
    """Go through the scenario with one fault; give how often it fired."""
    witness = kind(Random(seed))
    witness.disk.faults = {(method, witness.disk.calls[method] + number): code}
    fired = witness.disk.fired
    for at, step in enumerate(SCENARIOS[kind].split()):
        try:
            getattr(witness, step)(at * 37 + 5)
        except JournalUnusable:
            witness.refused += 1
        witness.check()
    witness.end(power=True)
    witness.check()
    return witness.disk.fired - fired


def _unreadable(kind: type[Witness], number: int, seed: int, found: Found) -> bool:
    """Let one read fail while it opens; the next time it opens, all is there."""
    witness = kind(Random(seed))
    for at, step in enumerate(SCENARIOS[kind].split()):
        getattr(witness, step)(at * 37 + 5)
    witness.disk.kill()
    witness.disk.faults = {("read", witness.disk.calls["read"] + number): errno.EIO}
    fired = witness.disk.fired
    witness.look()
    if witness.disk.fired == fired:
        return False
    found.injected["read"] += 1
    try:
        witness.end(power=True)
        witness.check()
    except AssertionError as error:
        found.failures.append(f"{kind.__name__}, read {number} fails: {error}")
    return True

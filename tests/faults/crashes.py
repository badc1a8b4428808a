"""Crash points by the thousand: witnesses live, die in the middle of something, and are held to what was promised.

A life is LIFE ends of one witness on one disk. Its seed is the run's and its number, so any failure replays alone:
`python -m tests.faults power --seed S --only NUMBER`.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from tests.faults.power import CHANGING
from tests.faults.whole import GatewayWitness
from tests.faults.witness import Fault, LogWitness, Witness
from tests.faults.witness_journal import JournalWitness
from tests.faults.witness_spool import SpoolWitness

LIFE = 6
STEPS = 8
"""At most so many steps before the process is doomed."""
REACH = 14
"""At most so many changes of the disk after that."""

WITNESSES: list[type[Witness]] = [
    *(LogWitness for _ in range(7)),
    *(SpoolWitness for _ in range(6)),
    *(JournalWitness for _ in range(4)),
    *(GatewayWitness for _ in range(3)),
]
MAY_FAIL = [*CHANGING, "reopen", "lock", "size"]


@dataclass
class Found:
    """What a run came to."""

    ends: Counter[str] = field(default_factory=Counter)  # by witness
    opened: int = 0
    refused: int = 0  # steps that the disk refused
    failures: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Give it as JSON has it; `lost` counts lives in which a promise was broken."""
        return {
            "crash_points": sum(self.ends.values()),
            "opened": self.opened,
            "lost": len(self.failures),
            "by": dict(sorted(self.ends.items())),
            "refused": self.refused,
            "failures": self.failures[:20],
        }


def run(points: int, seed: int, only: int | None = None) -> Found:
    """Live until there have been so many ends."""
    found = Found()
    lives = range(-(-points // LIFE)) if only is None else [only]
    for number in lives:
        live(number, seed, found)
    return found


def live(number: int, seed: int, found: Found) -> None:
    """One life; a broken promise ends it, and is noted."""
    chance = Random(f"{seed} {number}")
    kind = WITNESSES[number % len(WITNESSES)]
    witness = kind(Random(chance.random()))
    try:
        for _ in range(LIFE):
            before_the_end(witness, chance)
            found.ends[kind.__name__] += 1
            witness.end(
                power=chance.random() < 0.75, within=[chance.randrange(8) for _ in range(chance.choice([0, 0, 1, 2]))]
            )
            witness.check()
            found.opened += 1
    except AssertionError as error:
        found.failures.append(f"life {number} of seed {seed}, {kind.__name__}: {error}")
    found.refused += witness.refused


def before_the_end(witness: Witness, chance: Random) -> None:
    """Take some steps, of which the disk refuses some; then go on until the process dies."""
    for _ in range(chance.randrange(STEPS)):
        witness.do(*step(witness, chance), faults(chance))
        witness.check()
    witness.doom(chance.randrange(REACH))
    for _ in range(10 * STEPS):
        if not witness.do(*step(witness, chance)):
            return


def step(witness: Witness, chance: Random) -> tuple[str, int]:
    """Choose a step and its number."""
    names = list(witness.steps)
    return chance.choices(names, list(witness.steps.values()))[0], chance.randrange(1 << 16)


def faults(chance: Random) -> list[Fault]:
    """Choose what fails meanwhile: mostly nothing."""
    number = chance.choice([0, 0, 0, 0, 1, 1, 2, 3])
    codes = (errno.EIO, errno.ENOSPC)
    return [(chance.choice(MAY_FAIL), chance.randrange(1, 6), chance.choice(codes)) for _ in range(number)]

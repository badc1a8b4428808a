"""What a computation is given, and what it gives: the contract of everything that runs for the cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from gateway.records import Readings
from gateway.tasks.told import Told
from protocol.tasks import Task


class Past(Protocol):
    """Raw readings that the journal still has: those of a series by arrival, repeats and late ones among them."""

    @property
    def shared(self) -> Sequence[str]:
        """Patterns of series whose raw readings may leave this gateway."""

    @property
    def names(self) -> Sequence[str]:
        """Names of series; a reading's integer is an index into them. It grows while `batches` runs."""

    @property
    def position(self) -> int:
        """The last record of the journal that can be read: as long as it is the same, so is everything here."""

    @property
    def held(self) -> tuple[int, int]:
        """The event times (ns) of the earliest and the latest reading given so far, [from, to)."""

    def batches(self, patterns: Sequence[str], start: int = 0, end: int = 0, *, after: int = 0) -> Iterator[Readings]:
        """Give readings of the series that match one of the patterns, event times in [start, end); 0: without bound.

        `after` is an earlier `position`: what was recorded up to it is left out.
        """

    def told(self, model: str) -> Sequence[Told]:
        """Give what the cloud has said of windows that it was asked about, oldest first."""


class Answer(NamedTuple):
    """What a computation gives: its part, how much went into it, and what it wants to find again next time."""

    content: bytes
    readings: int = 0
    asked: tuple[int, int] = (0, 0)  # event times (ns), [from, to)
    held: tuple[int, int] = (0, 0)
    keep: bytes = b""  # given back as `kept` to the next task of the same `state`
    note: str = ""  # for the log of this gateway


class Computation(Protocol):
    """Pure: the same task on the same readings gives the same answer. TaskRefused for what it cannot use."""

    version: int

    def __call__(self, task: Task, past: Past, kept: bytes) -> Answer:
        """Compute; `kept` is what the task before it wanted to find again, b"" if there was none."""

"""Witnesses: each drives a log, a journal or a spool on a failing disk, and remembers what was promised.

`check` asserts the promises: it opens; what a commit has vouched for is there, once, in order, bit for bit; a sequence
that was told of never has other content. Steps take a number and do something with it, so that hypothesis and a random
generator can both choose. A step may be refused by the disk (JournalUnusable); then it has promised nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from gateway.segment import Log
from protocol import frame
from protocol.errors import JournalUnusable
from protocol.messages import Kind
from tests.faults.power import Died, Disk

LANE, EPOCH = 3, 77
Fault = tuple[str, int, int]
TRIES = 50
"""Openings that may be refused one after the other: more than any test injects faults."""


class Witness:
    """What they share: steps, ends of the process and of the power, and opening again."""

    steps: ClassVar[dict[str, int]]  # by name, with how often it is chosen

    def __init__(self, chance: Random) -> None:
        self.disk = Disk(chance)
        self.refused = 0
        self.begin()
        self.open()

    def begin(self) -> None:
        """Promise nothing yet."""

    def open(self) -> None:
        """Open, and hold what is there against what was promised."""
        raise NotImplementedError

    def check(self) -> None:
        """Assert all promises."""
        raise NotImplementedError

    def look(self) -> None:
        """Open and close, whatever is there."""
        raise NotImplementedError

    def doom(self, within: int) -> None:
        """Let the process die after so many changes of the disk, whatever it then does."""
        self.disk.end_after = within

    def do(self, step: str, number: int, faults: Iterable[Fault] = ()) -> bool:
        """Do one step and tell whether the process lives.

        Faults (method, how many calls from now, errno) are injected meanwhile.
        """
        self.disk.faults = {(method, self.disk.calls[method] + ahead): number for method, ahead, number in faults}
        try:
            getattr(self, step)(number)
        except JournalUnusable:
            self.refused += 1
        except Died:
            return False
        self.disk.faults = {}
        return True

    def end(self, *, power: bool, within: Iterable[int] = ()) -> None:
        """End the process, or the machine, and open again; while it opens it dies once for each of `within`."""
        end = self.disk.cut if power else self.disk.kill
        end()
        self.disk.faults = {}
        for changes in within:
            self.disk.end_after = changes
            with suppress(Died):
                self.open()
            end()
        self.open()

    def patiently(self, what: Callable[[], Any]) -> Any:
        """Try until the disk no longer refuses."""
        for _ in range(TRIES):
            try:
                return what()
            except JournalUnusable:
                self.refused += 1
                assert self.disk.held == 0, "a refused opening keeps descriptors"
        raise AssertionError("it does not open")


class LogWitness(Witness):
    """Of one log."""

    steps: ClassVar[dict[str, int]] = {
        "append": 6,
        "commit": 4,
        "drop": 1,
        "give_up": 1,
        "roll": 1,
        "skip": 1,
        "reopen": 1,
    }
    directory = Path("/data/log")

    def begin(self) -> None:
        """Promise nothing yet."""
        self.bodies: dict[int, list[bytes]] = {}  # what was appended under a sequence and may be on the disk
        self.waiting: set[int] = set()  # of them, what waits for a commit
        self.vouched: dict[int, bytes] = {}  # what is durable
        self.told = 0  # the highest sequence that somebody may have heard of
        self.given_up = 0  # the highest sequence that is known to be lost, once a commit has ended well

    def open(self) -> None:
        """Open, and take what is there for promised."""
        self.log = self._opened()
        held = self.contents()
        assert held.items() >= self.vouched.items(), "what was vouched for is gone"
        assert all(body in self.bodies[seq] for seq, body in held.items()), "made up"
        assert list(held) == sorted(held)
        assert self.log.next > self.told, "a sequence would be given twice"
        self.vouched = held
        self.told = max(self.told, *held, 0)
        self.waiting.clear()
        self.given_up = 0

    def _opened(self) -> Log:
        opened: Log = self.patiently(
            lambda: Log.open(
                self.disk, self.directory, lane=LANE, epoch=EPOCH, segment_bytes=1500, about=lambda: {"told": self.told}
            )
        )
        return opened

    def look(self) -> None:
        """Open and close."""
        self._opened().close()

    def contents(self) -> dict[int, bytes]:
        """Give all durable records."""
        return {held.seq: held.body for held in self.log.frames(self.log.oldest)}

    def _vouch(self) -> None:
        done = {seq for seq in self.waiting if seq <= self.log.durable}
        self.waiting -= done
        self.vouched |= {seq: self.bodies[seq][-1] for seq in sorted(done)}
        self.told = max(self.told, *done, 0)

    def append(self, number: int) -> None:
        """Append a record, small or large."""
        body = Random(number).randbytes((0, 1, 60, 200, 700, 3000, 9000)[number % 7])
        seq = self.log.append(Kind.WINDOWS, body, stamp=number)
        assert seq > self.told
        self.bodies.setdefault(seq, []).append(body)
        self.waiting.add(seq)

    def commit(self, _number: int) -> None:
        """Commit."""
        try:
            self.log.commit()
            assert not self.log.pending_bytes
            self.told = max(self.told, self.given_up)
        finally:
            self._vouch()

    def give_up(self, _number: int) -> None:
        """Give up what waits."""
        if gone := self.log.forget_waiting():
            self.given_up = gone[1]
            self.waiting.clear()

    def drop(self, number: int) -> None:
        """Drop what lies before some sequence."""
        upto, vouched = self.log.oldest + number % 20, self.vouched
        self.vouched = {seq: body for seq, body in vouched.items() if seq >= upto}  # should it die meanwhile
        self.log.drop_before(upto)
        self.vouched = {seq: body for seq, body in vouched.items() if seq >= self.log.oldest}

    def roll(self, number: int) -> None:
        """Begin a file that says something and holds nothing."""
        if self.log.newest_first == self.log.next or self.log.gave_up:
            return
        try:
            self.log.roll(number)
        finally:
            self._vouch()

    def skip(self, number: int) -> None:
        """Leave sequences out."""
        if not self.log.pending_bytes:
            self.log.skip_to(self.log.next + number % 5)

    def reopen(self, _number: int) -> None:
        """Close and open."""
        self.log.close()
        assert self.disk.held == 0
        self.open()

    def check(self) -> None:
        """What is vouched for is there, however it is read, and its files are all there is."""
        assert self.contents() == self.vouched
        whole = {seq: self.log.read(seq) for seq in self.vouched}
        assert {seq: frame.decode(data).body for seq, data in whole.items() if data} == self.vouched
        assert list(self.vouched) == sorted(self.vouched)
        if not self.refused and not self.disk.faults:  # a file that could not be removed is not counted
            names = [name for name in self.disk.names(self.directory) if name.endswith(".seg")]
            assert self.log.bytes == sum(self.disk.size(self.directory / name) for name in names)

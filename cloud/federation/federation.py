"""All trainings by name: when a run begins, whose answer it is, and what was. Pure.

Rules:

1. A training that rests begins a run as soon as enough gateways are there, and again `every` after the last one ended;
   without `every` only when somebody asks for it, or for drift.
2. An answer is handed to the training that its job names; one that nobody waits for is taken back.
3. It begins one, too, when of the gateways that are there the share `on_drift` has said since the last run ended that
   what the model sees has drifted. What is said while a run goes on is of the model before it, and does not count.
4. `snapshot` holds everything; a training that is no longer configured is forgotten, but for what it has spent of a
   privacy budget: a name that comes back goes on from there.

| may fill | bound | answer when full |
|---|---|---|
| what forgotten trainings have spent | MAX_SPENT names | the one that spent least is forgotten |
| what was, of one training | MAX_HISTORY stages | the oldest is forgotten |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from numpy.random import Generator

from cloud.config.training import Training as Settings
from cloud.federation import private
from cloud.federation.private import Spent
from cloud.federation.state import NEVER, REST, Ended, Instruction, Rest, State, TakeBack
from cloud.federation.training import Training
from protocol.messages import PartBody
from protocol.training import read

TASKS = ("survey", "train")
MAX_HISTORY = 200
MAX_SPENT = 1_000
RETRY_NS = 10 * 10**9
"""So often it is looked whether enough gateways are there to begin."""


@dataclass(slots=True)
class _Line:
    training: Training
    begins: int = 0  # ns: not before
    history: list[Ended] = field(default_factory=list)  # newest last
    last: Rest | None = None
    drifted: dict[str, int] = field(default_factory=dict)  # when (ns) a gateway said so
    rests: int = 0  # ns: since then


class _Kept(msgspec.Struct):
    """One training in a snapshot."""

    state: State
    begins: int
    history: list[Ended]
    last: Rest | None
    drifted: dict[str, int] = {}
    rests: int = 0


class Federation:
    """See the rules above."""

    def __init__(self, settings: Iterable[Settings], snapshot: bytes = b"", rng: Generator | None = None) -> None:
        kept = read(snapshot, dict[str, _Kept]) if snapshot else {}
        self._lines: dict[str, _Line] = {}
        for one in settings:
            found = kept.pop(one.name, None)
            line = _Line(Training(one, found.state if found else None, rng))
            if found:
                line.begins, line.history, line.last = found.begins, found.history, found.last
                line.drifted, line.rests = found.drifted, found.rests
            if not one.every:
                line.begins = NEVER
            elif line.begins == NEVER:
                line.begins = 0
            self._lines[one.name] = line
        spent = sorted(((kept[name].state.ledger, name) for name in kept), reverse=True)[:MAX_SPENT]
        self._forgotten = {name: ledger for ledger, name in spent if ledger.releases}

    def snapshot(self) -> bytes:
        """Give everything."""
        kept = {
            name: _Kept(line.training.state, line.begins, line.history, line.last, line.drifted, line.rests)
            for name, line in self._lines.items()
        }
        kept |= {name: _Kept(State(ledger=ledger), 0, [], None) for name, ledger in self._forgotten.items()}
        return msgspec.msgpack.encode(kept)

    @property
    def trainings(self) -> dict[str, Training]:
        """All of them."""
        return {name: line.training for name, line in self._lines.items()}

    def history(self, name: str) -> list[Ended]:
        """Give the stages that have ended, newest last."""
        return list(self._lines[name].history)

    def last(self, name: str) -> Rest | None:
        """Give how the last run ended."""
        return self._lines[name].last

    def drifted(self, name: str) -> list[str]:
        """Give the gateways that have said so, and for which no run has begun yet."""
        return sorted(self._lines[name].drifted)

    def note_drift(self, model: str, gateway: str, at: int) -> None:
        """Note that a gateway has said (at, ns) that what a model sees has drifted; `tick` begins a run for it."""
        line = self._lines.get(model)
        if line is not None and line.training.state.stage == REST and at > line.rests:
            line.drifted[gateway] = at

    def start(self, name: str, members: Iterable[str], now: int) -> list[Instruction]:
        """Begin a run now, whatever the time; nothing if one goes on, or too few are there."""
        return self._begin(self._lines[name], members, now)

    def consider(self, name: str, content: bytes, members: Iterable[str], now: int) -> list[Instruction]:
        """Try a candidate from elsewhere, as `start` begins a run; ModelRefused if it is not made for this training."""
        line = self._lines[name]
        return self._note(line, line.training.consider(content, members, now), now)

    def promote(self, name: str) -> list[Instruction]:
        """Promote what the last run made, whatever the gate said of it."""
        return self._lines[name].training.promote()

    def put(self, name: str, content: bytes) -> None:
        """Note that something else has been put in force, by hand."""
        if name in self._lines:
            self._lines[name].training.state.active = content

    def lacking(self, name: str, members: Iterable[str]) -> str:
        """Say why no run can begin now; "" if one can."""
        training = self._lines[name].training
        if training.state.stage != REST:
            return f"run {training.state.run} goes on"
        there, quorum = len(training.settings.chosen(members)), training.settings.quorum
        if there < quorum:
            return f"{there} of its gateways are there, it takes {quorum}"
        return private.lacking(training.settings, training.state.ledger)

    def spent(self, name: str) -> Spent | None:
        """Say how a training's privacy budget stands; None if it has none."""
        training = self._lines[name].training
        return private.spent(training.settings, training.state.ledger)

    def again(self) -> list[Instruction]:
        """Ask again what was asked."""
        return [one for line in self._lines.values() for one in line.training.again()]

    def part(self, gateway: str, body: PartBody, members: Iterable[str], now: int) -> list[Instruction]:
        """Take an answer."""
        line = self._lines.get(body.job.rpartition(".")[0].rpartition(".")[0])
        if line is None:  # of a training that is not configured any more, or of something that is none
            return [TakeBack(gateway, body.job)] if body.name in TASKS else []
        return self._note(line, line.training.part(gateway, body, members, now), now)

    def join(self, members: Iterable[str]) -> list[Instruction]:
        """Ask those who have come while a stage goes on."""
        there = list(members)
        return [one for line in self._lines.values() for one in line.training.join(there)]

    @property
    def resting(self) -> bool:
        """Whether no run goes on."""
        return all(line.training.state.stage == REST for line in self._lines.values())

    def due(self) -> int:
        """When (ns) something must be done."""
        return min((_due(line) for line in self._lines.values()), default=NEVER)

    def tick(self, members: Iterable[str], now: int) -> list[Instruction]:
        """Let time pass."""
        given: list[Instruction] = []
        there = list(members)
        for line in self._lines.values():
            if _due(line) > now and not _has_drifted(line, there):
                continue
            if line.training.state.stage == REST:
                if line.begins <= now:
                    line.begins = now + RETRY_NS
                given += self._begin(line, there, now)
            else:
                given += self._note(line, line.training.tick(there, now), now)
        return given

    def _begin(self, line: _Line, members: Iterable[str], now: int) -> list[Instruction]:
        given = self._note(line, line.training.begin(members, now), now)
        if given:
            line.drifted = {}
        return given

    def _note(self, line: _Line, given: list[Instruction], now: int) -> list[Instruction]:
        for one in given:
            match one:
                case Ended():
                    line.history = [*line.history, one][-MAX_HISTORY:]
                case Rest():
                    every = int(line.training.settings.every)
                    line.last, line.begins, line.rests = one, now + every if every else NEVER, now
        return given


def _due(line: _Line) -> int:
    return line.begins if line.training.state.stage == REST else line.training.due()


def _has_drifted(line: _Line, members: Iterable[str]) -> bool:
    settings = line.training.settings
    there = settings.chosen(members)
    said = len(line.drifted.keys() & set(there))
    return line.training.state.stage == REST and 0 < settings.on_drift * len(there) <= said

"""All trainings by name: when a run begins, whose answer it is, and what was. Pure.

Rules:

1. A training that rests begins a run as soon as enough gateways are there, and again `every` after the last one ended;
   without `every` only when somebody asks for it.
2. An answer is handed to the training that its job names; one that nobody waits for is taken back.
3. `snapshot` holds everything; a training that is no longer configured is forgotten.

| may fill | bound | answer when full |
|---|---|---|
| what was, of one training | MAX_HISTORY stages | the oldest is forgotten |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from cloud.config.training import Training as Settings
from cloud.federation.state import NEVER, REST, Ended, Instruction, Rest, State, TakeBack
from cloud.federation.training import Training
from protocol.messages import PartBody
from protocol.training import read

MAX_HISTORY = 200
RETRY_NS = 10 * 10**9
"""So often it is looked whether enough gateways are there to begin."""


@dataclass(slots=True)
class _Line:
    training: Training
    begins: int = 0  # ns: not before
    history: list[Ended] = field(default_factory=list)  # newest last
    last: Rest | None = None


class _Kept(msgspec.Struct):
    """One training in a snapshot."""

    state: State
    begins: int
    history: list[Ended]
    last: Rest | None


class Federation:
    """See the rules above."""

    def __init__(self, settings: Iterable[Settings], snapshot: bytes = b"") -> None:
        kept = read(snapshot, dict[str, _Kept]) if snapshot else {}
        self._lines: dict[str, _Line] = {}
        for one in settings:
            found = kept.get(one.name)
            line = _Line(Training(one, found.state if found else None))
            if found:
                line.begins, line.history, line.last = found.begins, found.history, found.last
            if not one.every:
                line.begins = NEVER
            elif line.begins == NEVER:
                line.begins = 0
            self._lines[one.name] = line

    def snapshot(self) -> bytes:
        """Give everything."""
        kept = {
            name: _Kept(line.training.state, line.begins, line.history, line.last) for name, line in self._lines.items()
        }
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

    def start(self, name: str, members: Iterable[str], now: int) -> list[Instruction]:
        """Begin a run now, whatever the time; nothing if one goes on, or too few are there."""
        return self._note(self._lines[name], self._lines[name].training.begin(members, now), now)

    def again(self) -> list[Instruction]:
        """Ask again what was asked."""
        return [one for line in self._lines.values() for one in line.training.again()]

    def part(self, gateway: str, body: PartBody, members: Iterable[str], now: int) -> list[Instruction]:
        """Take an answer."""
        line = self._lines.get(body.job.rpartition(".")[0].rpartition(".")[0])
        if line is None:
            return [TakeBack(gateway, body.job)]
        return self._note(line, line.training.part(gateway, body, members, now), now)

    def due(self) -> int:
        """When (ns) something must be done."""
        return min((_due(line) for line in self._lines.values()), default=NEVER)

    def tick(self, members: Iterable[str], now: int) -> list[Instruction]:
        """Let time pass."""
        given: list[Instruction] = []
        there = list(members)
        for line in self._lines.values():
            if _due(line) > now:
                continue
            if line.training.state.stage == REST:
                line.begins = now + RETRY_NS
                given += line.training.begin(there, now)
            else:
                given += self._note(line, line.training.tick(there, now), now)
        return given

    def _note(self, line: _Line, given: list[Instruction], now: int) -> list[Instruction]:
        for one in given:
            match one:
                case Ended():
                    line.history = [*line.history, one][-MAX_HISTORY:]
                case Rest():
                    every = int(line.training.settings.every)
                    line.last, line.begins = one, now + every if every else NEVER
        return given


def _due(line: _Line) -> int:
    return line.begins if line.training.state.stage == REST else line.training.due()

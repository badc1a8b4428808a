"""A step at which a process kills itself with -9, chosen while it runs: a file says `point when hit`.

`when` is before, half or after; `hit` counts from when the file first said so. Without the file nothing happens.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

Call = Callable[..., Awaitable[Any]]


class Step(NamedTuple):
    """Where whom is killed: at the hit-th passing of a point from now on."""

    who: str  # "gateway" or "cloud"
    point: str
    when: str
    hit: int = 1

    def __str__(self) -> str:
        """Name it, however often it is passed before."""
        return " ".join(word for word in (self.who, self.when, self.point) if word)


def kill_self() -> None:
    """End at once, as by kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


class Trap:
    """What the file says, and how often that point was passed since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said, self._passed = "", 0

    def set(self, step: Step) -> None:
        """Choose a step."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{step.point} {step.when} {step.hit}")
        new.replace(self._path)

    def open(self) -> None:
        """Choose none."""
        self._path.unlink(missing_ok=True)

    def passes(self, point: str) -> str:
        """Count that a point is passed; give when to die there, "" to live on."""
        said = self._read()
        if said != self._said:
            self._said, self._passed = said, 0
        chosen, when, hit = said.split() if said else ("", "", "0")
        self._passed += point == chosen
        return when if point == chosen and self._passed == int(hit) else ""

    def _read(self) -> str:
        try:
            return self._path.read_text()
        except FileNotFoundError:
            return ""

    def around(self, call: Call, point: Callable[[tuple[Any, ...]], str]) -> Call:
        """Let a call kill us; `point` names it by its arguments, "" is none."""

        async def called(*arguments: Any, **options: Any) -> Any:
            name = point(arguments)
            when = self.passes(name) if name else ""
            if when == "before":
                kill_self()
            try:
                return await call(*arguments, **options)
            finally:
                if when:
                    kill_self()

        return called

"""A cloud that kills itself with -9 at a step of a round: `python -m tests.faults.cloud_victim CONFIG POINT WHEN HIT`.

Points: `apply` (a commit that brings answers), `keep` (what was decided is kept), `publish` (a version is kept) and
`say` (a message to the bus). The process dies before or after the HIT-th time; POINT "none" never does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cli.terminal import log_to_stderr
from cloud import app
from cloud.config import parse
from cloud.store import Batch
from cloud.store.sqlite import SqliteStore
from protocol.messages import PartBody
from protocol.mqtt import MqttBus
from tests.faults.victim import kill_self

Call = Callable[..., Awaitable[Any]]


def brings_answers(batch: Batch) -> bool:
    """Whether a commit matters here."""
    return any(isinstance(frame.holds, PartBody) for frame in batch.frames)


def mortal(call: Call, when: str, hit: int, counts: Callable[[tuple[Any, ...]], bool]) -> Call:
    """Let a call kill us, the so-manieth time that it counts."""
    passed = 0

    async def called(*arguments: Any, **options: Any) -> Any:
        nonlocal passed
        passed += counts(arguments)
        dies = passed == hit and counts(arguments)
        if dies and when == "before":
            kill_self()
        answer = await call(*arguments, **options)
        if dies:
            kill_self()
        return answer

    return called


POINTS: dict[str, tuple[type, str, Callable[[tuple[Any, ...]], bool]]] = {
    "apply": (SqliteStore, "apply", lambda arguments: brings_answers(arguments[1])),
    "keep": (SqliteStore, "keep", lambda arguments: arguments[1] == "trainings"),
    "publish": (SqliteStore, "publish", lambda _arguments: True),
    "say": (MqttBus, "publish", lambda arguments: "/tasks/" in arguments[1]),
}


def main() -> None:
    """Run a cloud until it dies, or is told to end."""
    config, point, when, hit = sys.argv[1:]
    if point in POINTS:
        kind, name, counts = POINTS[point]
        setattr(kind, name, mortal(getattr(kind, name), when, int(hit), counts))
    log_to_stderr()
    asyncio.run(app.run(parse(Path(config).read_text())))


if __name__ == "__main__":
    main()

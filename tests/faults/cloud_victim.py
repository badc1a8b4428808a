"""A cloud that kills itself with -9 at a step of a round or a job: its nursery is given CONFIG and the TRAP's file.

| point | step |
|---|---|
| `apply` | a commit that brings answers |
| `keep.trainings`, `keep.jobs` | what was decided is kept: leases, answers that count, results |
| `say` | a task is published, or taken back |
| `merge` | parts become a result |
| `publish` | a version of a model is kept |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.terminal import log_to_stderr
from cloud import app
from cloud.config import parse
from cloud.merging import Merging
from cloud.store import Batch
from cloud.store.sqlite import SqliteStore
from protocol.messages import PartBody
from protocol.mqtt import MqttBus
from tests.faults.trap import Trap

Named = Callable[[tuple[Any, ...]], str]


def brings_answers(batch: Batch) -> bool:
    """Whether a commit matters here."""
    return any(isinstance(frame.holds, PartBody) for frame in batch.frames)


CALLS: tuple[tuple[type, str, Named], ...] = (
    (SqliteStore, "apply", lambda arguments: "apply" if brings_answers(arguments[1]) else ""),
    (SqliteStore, "keep", lambda arguments: f"keep.{arguments[1]}"),
    (SqliteStore, "publish", lambda _arguments: "publish"),
    (MqttBus, "publish", lambda arguments: "say" if "/tasks/" in arguments[1] else ""),
    (Merging, "merge", lambda _arguments: "merge"),
)


def main(arguments: list[str]) -> None:
    """Run a cloud until it dies, or is told to end."""
    config, file = map(Path, arguments)
    trap = Trap(file)
    for kind, name, named in CALLS:
        setattr(kind, name, trap.around(getattr(kind, name), named))
    log_to_stderr()
    asyncio.run(app.run(parse(config.read_text())))

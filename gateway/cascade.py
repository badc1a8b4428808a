"""The gateway's end of the cascade: windows that classifiers here are unsure of go up, and what they are comes back.

    classes ▶ `classify.ask` ▶ questions, in the lane `results` ══▶ cloud
    bus ▶ answers, signed ▶ fieldgate/v1/{gateway}/classes, with `by` "cloud"
                        └─▶ cascade/{model}.fg of the data directory ▶ labels for the trainer

Rules:

1. Questions wait for each other, `wait` at most, or until there are BATCH of them: each frame costs FRAME bytes more,
   which count too. While the cloud is away they wait in the spool like all else.
2. Answers are verified before they are parsed, said, then kept. A kill in between says them again, which is harmless.
3. What has been kept says which answers are new; so does the cloud, which is told with the next questions.

| may fill | bound | answer when full |
|---|---|---|
| questions that wait for each other | BATCH a model | they go |
| answers kept as labels | `told.MAX_TOLD` a model | the oldest are forgotten |
| models | MAX_MODELS | answers for further ones are refused: `models` |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.alarm import Alarm
from gateway.classify import Said
from gateway.classify.ask import MAX_MODELS, Ask
from gateway.classify.line import Version
from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.past import read_told, told_models, told_path
from gateway.records import NEVER, count
from gateway.segment import Files, make_directory, write_atomically
from gateway.tasks import told
from gateway.tasks.told import Kept
from protocol import topics
from protocol.bus import Bus, Subscription
from protocol.cascade import Answer, pack_features, unseal
from protocol.errors import TaskRefused
from protocol.messages import Cover, QuestionsBody

log = logging.getLogger("fieldgate.cascade")

BATCH = 16
AROUND = 16
"""Bytes that a question takes beside its features and its device's name."""
FRAME = 128
"""Bytes that a frame of questions takes beside them."""


class Standing(NamedTuple):
    """How it stands, for metrics."""

    asked: dict[str, int]  # windows, by model
    answered: dict[str, int]
    kept: dict[str, int]  # labels
    left_out: dict[str, int]  # windows or messages, by reason


class _Waiting:
    """Questions about one version of a model that wait for each other."""

    def __init__(self, version: Version, since: int) -> None:
        self.version, self.since = version, since
        self.devices: list[str] = []
        self.start: list[int] = []
        self.span: list[int] = []
        self.seen: list[NDArray[Any]] = []

    def add(self, said: Said, place: int) -> None:
        """Add a window."""
        self.devices.append(said.device[place])
        self.start.append(said.start[place])
        self.span.append(said.end[place] - said.start[place])
        self.seen.append(said.seen[place])


class Cascade:
    """See the rules above; `ask` takes what goes up, `publish` says it near the gateway."""

    def __init__(
        self,
        config: GatewayConfig,
        files: Files,
        clock: Clock,
        *,
        ask: Callable[[QuestionsBody], None],
        publish: Callable[[bytes], None],
    ) -> None:
        self.bus: Bus | None = None
        self._gateway, self._data = config.name, Path(config.data)
        self._files, self._clock = files, clock
        self._send, self._publish = ask, publish
        self._alarm = Alarm(clock)
        self._ask = Ask(config.cascade.per_hour, int(config.cascade.bytes_per_hour))
        self._waiting: dict[str, _Waiting] = {}
        self._kept: dict[str, Kept] = {}
        self._asked: dict[str, int] = {}
        self._answered: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._stamp = 0  # of the newest questions: it names them, so it grows
        self.configure(config)

    def configure(self, config: GatewayConfig) -> None:
        """Take another budget and another key, from here on."""
        self._public = bytes.fromhex(config.models.public_key)
        self._per_hour, self._wait = config.cascade.per_hour, int(config.cascade.wait)
        self._ask.configure(self._per_hour, int(config.cascade.bytes_per_hour))

    # Up.

    def consider(self, model: str, version: Version, said: Said) -> None:
        """Take windows that were said, and the version in force; ask about those that are worth it."""
        if not self._per_hour:
            return
        now = self._clock.now()
        each = said.seen.shape[1] * said.seen.dtype.itemsize + AROUND
        cost = np.array([each + len(device) for device in said.device], np.float64)
        for place in self._ask.feed(model, said.margin, cost, now).tolist():
            self._put(model, version, said, place, now)

    def _put(self, model: str, version: Version, said: Said, place: int, now: int) -> None:
        waiting = self._waiting.get(model)
        if waiting is not None and waiting.version.digest != version.digest:
            self._go(model)
            waiting = None
        if waiting is None:
            self._waiting[model] = waiting = _Waiting(version, now)
            self._alarm.ring()
        waiting.add(said, place)
        if len(waiting.start) >= BATCH:
            self._go(model)

    def _go(self, model: str) -> None:
        waiting = self._waiting.pop(model)
        self._stamp = max(self._clock.now(), self._stamp + 1)
        version, heard = waiting.version, self._kept.get(model, Kept()).heard
        about = (Cover(), model, version.number, bytes.fromhex(version.digest))
        rows = (waiting.devices, waiting.start, waiting.span, pack_features(np.stack(waiting.seen)))
        self._send(QuestionsBody(*about, *rows, self._stamp, heard))
        self._ask.spend(FRAME)
        count(self._asked, {model: len(waiting.start)})

    def tick(self, now: int) -> None:
        """Let go up what has waited long enough."""
        for model, waiting in list(self._waiting.items()):
            if waiting.since + self._wait <= now:
                self._go(model)

    def due(self) -> int:
        """When (ns) something has."""
        return min((waiting.since + self._wait for waiting in self._waiting.values()), default=NEVER)

    # Down.

    async def run(self) -> None:
        """Ask and hear until cancelled."""
        assert self.bus is not None
        await self._read()
        topic = topics.topic(self._gateway, "answers")
        async with self.bus.subscribe(f"{topic}/+") as heard, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(heard), name="cascade hear")
            tasks.create_task(self._go_for_ever(), name="cascade ask")

    async def _go_for_ever(self) -> None:
        while await self._alarm.wait(self.due):
            self.tick(self._clock.now())

    async def _read(self) -> None:
        for model in await asyncio.to_thread(told_models, self._files, self._data):
            if model not in self._kept:
                self._kept[model] = await asyncio.to_thread(read_told, self._files, self._data, model)

    async def _hear(self, heard: Subscription) -> None:
        async for message in heard:
            model = message.topic.rpartition("/")[2]
            if not message.payload:
                continue
            try:
                answers = unseal(message.payload, self._public, gateway=self._gateway, model=model)
                if model not in self._kept and len(self._kept) >= MAX_MODELS:
                    raise TaskRefused("models", f"{MAX_MODELS} have been answered already")  # noqa: TRY301 - one way out
            except TaskRefused as refused:
                log.warning("cascade: what was answered about %s is refused: %s", model, refused)
                count(self._refused, {refused.reason: 1})
            else:
                await self._take(model, answers)

    async def _take(self, model: str, answers: list[Answer]) -> None:
        kept = self._kept.get(model, Kept())
        fresh = kept.fresh(answers)
        if not fresh:
            return
        for payload in payloads(model, fresh):
            self._publish(payload)
        count(self._answered, {model: len(fresh)})
        self._kept[model] = kept = kept.with_answers(fresh)
        path = told_path(self._data, model)
        try:
            await asyncio.to_thread(self._write, path, told.encode(kept))
        except OSError as error:
            log.warning("cascade: %s: %s", path, error.strerror)

    def _write(self, path: Path, content: bytes) -> None:
        make_directory(self._files, path.parent)
        write_atomically(self._files, path, content)

    def standing(self) -> Standing:
        """Give all counts."""
        left_out = dict(self._ask.left_out)
        count(left_out, self._refused)
        kept = {model: len(one.told) for model, one in self._kept.items()}
        return Standing(dict(self._asked), dict(self._answered), kept, left_out)


def payloads(model: str, answers: list[Answer]) -> Iterator[bytes]:
    """Give what the cloud says of each window as JSON, as `gateway.classes.payloads`; `by` is "cloud"."""
    for one in answers:
        about = {"device": one.device, "start": one.start, "end": one.end, "class": one.chosen}
        said = {"probability": round(one.probability, 4), "model": model, "version": one.version, "by": "cloud"}
        yield msgspec.json.encode(about | said)

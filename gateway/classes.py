"""Classifiers at work: readings of committed records come in, what their windows are goes out, and what lasts is kept.

    commit ▶ feed ▶ `classify`, some windows at a time ▶ fieldgate/v1/{gateway}/classes, on the devices' broker
                                                      └▶ reports up: rolled back, drifted

Rules:

1. It runs after the commit, when acknowledgements and spool have had their turn: nobody waits for a class as for an
   alert, all records of a commit cost one pass, and what is said stands on readings that are durable.
2. At most AT_ONCE windows of a model are classified in one go, then whatever else waits has its turn.
3. What a version was, and that it was rolled back, is in `classes/{model}.fg` of the data directory; heads of this
   gateway's own are in what the task `train` keeps.

| may fill | bound | answer when full |
|---|---|---|
| readings that wait | MAX_READINGS | the newest are left out: `busy` |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway import recovery
from gateway.classify import Classify, Said, Word
from gateway.classify.line import Version
from gateway.compute import read_kept
from gateway.records import Readings, count, join_readings
from gateway.segment import Files, make_directory, write_atomically
from gateway.trainer.heads import heads_in
from learning import onnx
from protocol.errors import ModelRefused
from protocol.manifest import read_sealed

log = logging.getLogger("fieldgate.classify")

AT_ONCE = 16
"""Windows of a model: with 128 samples of 3 channels each takes 70 us for `statistics/1` and 130 for `motion/1`, so an
alert waits 2 ms for them at most."""
AT_ONCE_READINGS = 8_192
MAX_READINGS = 500_000
SUFFIX = ".fg"


class Standing(NamedTuple):
    """How it stands, for metrics."""

    classified: dict[tuple[str, str], int]  # windows, by model and class
    left_out: dict[str, int]  # windows or readings, by reason
    used: dict[tuple[str, str], int]  # 1 for whose word is said, 0 for others, by model
    live: dict[tuple[str, str], float]  # share of right answers where labels came, by model and whose
    drifts: dict[tuple[str, str], int]  # by model, and what drifted


class Classes:
    """See the rules above. `publish` says it near the gateway, `report` tells the cloud."""

    def __init__(
        self,
        at: recovery.Replayed,
        files: Files,
        data: Path,
        margin: float,
        *,
        publish: Callable[[bytes], None],
        report: Callable[[Word], None],
    ) -> None:
        self.classify = Classify(margin)
        self.on_change: Callable[[], None] = lambda: None  # told that another word may be said
        self.on_said: Callable[[str, Version, Said], None] = lambda *_: None  # told what, and which version is in force
        self._at, self._files, self._data = at, files, data
        self._publish, self._report = publish, report
        self._waiting: list[Readings] = []
        self._rows = 0
        self._left_out: dict[str, int] = {}
        self._trained: set[str] = set()  # models whose heads may be others
        self._wanted = asyncio.Event()

    def uses(self) -> Mapping[str, str]:
        """Say whose word is said, by model."""
        return self.classify.used

    def configure(self, margin: float) -> None:
        """Take another margin."""
        self.classify.configure(margin)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to classify with."""
        return bool(self._at.derive.models)

    def feed(self, parts: Iterable[Readings]) -> None:
        """Take the readings of a commit; it is looked at them later."""
        for readings in parts:
            if self._rows + readings.rows > MAX_READINGS:
                count(self._left_out, {"busy": readings.rows})
            elif readings.rows:
                self._waiting.append(readings)
                self._rows += readings.rows
        self._wanted.set()

    def trained(self, model: str) -> None:
        """Look again for heads: a task of this name has ended."""
        self._trained.add(model)
        self._wanted.set()

    async def run(self) -> None:
        """Classify until cancelled."""
        await self._begin()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._use()
            waiting, self._waiting, self._rows = join_readings(self._waiting), [], 0
            for at in range(0, waiting.rows, AT_ONCE_READINGS):
                part = Readings._make(column[at : at + AT_ONCE_READINGS] for column in waiting)
                self.classify.feed(part)
                await self._classify()

    async def _begin(self) -> None:
        """Go on with what each model was before we ended."""
        kept = await asyncio.to_thread(lambda: list(self._read()))
        if any(read_sealed(record.manifest).schema == onnx.SCHEMA for record in self._at.derive.models.values()):
            with suppress(ModelRefused):  # whoever reads the content says so
                await asyncio.to_thread(onnx.load_runtime)
        self._define()
        for model, snapshot in kept:
            if model not in self._at.derive.models:
                continue
            try:
                self.classify.restore(model, snapshot)
            except ModelRefused as refused:
                log.warning("classify: what %s was cannot be read: %s", model, refused)
            else:
                self._trained.add(model)
        self._wanted.set()

    def _define(self) -> None:
        self.classify.use({}, self._at.derive.names)

    def _read(self) -> Iterator[tuple[str, bytes]]:
        directory = self._data / "classes"
        try:
            for name in self._files.names(directory):
                if name.endswith(SUFFIX):
                    yield name.removesuffix(SUFFIX), self._files.read(directory / name)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("classify: %s: %s", directory, error.strerror)

    async def _use(self) -> None:
        """Take models that were applied, and heads that were trained."""
        changed = self.classify.use(self._at.derive.models, self._at.derive.names)
        for model in changed:
            log.info("classify: %s version %d", model, self.classify.lines[model].active.number)
            await self._keep(model)
        for model in {*changed, *self._trained} & set(self.classify.lines):
            before = self.classify.used[model]
            heads = heads_in(await asyncio.to_thread(read_kept, self._files, self._data, model))
            self.classify.personalise(model, heads)
            if (used := self.classify.used[model]) != before:
                log.info("classify: %s: the word of %s is said", model, used)
        if changed or self._trained:
            self.on_change()
        self._trained.clear()

    async def _classify(self) -> None:
        while True:
            said, words = self.classify.step(AT_ONCE)
            for model, of_windows in said.items():
                for payload in payloads(model, of_windows):
                    self._publish(payload)
                self.on_said(model, self.classify.lines[model].active, of_windows)
            for word in words:
                await self._tell(word)
            if not self.classify.waiting:
                return
            await asyncio.sleep(0)

    async def _tell(self, word: Word) -> None:
        log.warning("classify: %s version %d: %s: %s", word.model, word.version, word.outcome, word.reason)
        if word.outcome != "drifted":
            await self._keep(word.model)
            self.on_change()
        if word.outcome != "lost":
            self._report(word)

    async def _keep(self, model: str) -> None:
        """Keep what lasts; without it the version before is forgotten when we end."""
        path = self._data / "classes" / f"{model}{SUFFIX}"
        try:
            await asyncio.to_thread(self._write, path, self.classify.snapshot(model))
        except OSError as error:
            log.warning("classify: %s: %s", path, error.strerror)

    def _write(self, path: Path, snapshot: bytes) -> None:
        make_directory(self._files, path.parent)
        write_atomically(self._files, path, snapshot)

    def standing(self) -> Standing:
        """Give all counts."""
        left_out = dict(self._left_out)
        standing = Standing({}, left_out, {}, {}, {})
        for model, line in self.classify.lines.items():
            standing.classified.update({(model, str(one)): number for one, number in sorted(line.counts.items())})
            standing.used.update(
                {(model, one): int(one == line.trust.used) for one in ("active", "personal", "previous")}
            )
            found = {which: tally.accuracy for which, tally in line.trust.live.items()}
            standing.live.update({(model, which): share for which, share in found.items() if share is not None})
            standing.drifts.update({(model, reason): number for reason, number in line.drifts.items()})
            count(left_out, line.left_out)
            count(left_out, line.windows.left_out)
        return standing


def payloads(model: str, said: Said) -> Iterator[bytes]:
    """Give what is said of each window as JSON: device, start, end, class, probability, model, version, by.

    Times are event times in ns, of the first sample and the last; `by` is "active", "personal" or "previous".
    """
    for device, start, end, chosen, share in zip(*said[:5], strict=True):
        about = {"device": device, "start": start, "end": end, "class": chosen, "probability": round(share, 4)}
        yield msgspec.json.encode(about | {"model": model, "version": said.version, "by": said.used})

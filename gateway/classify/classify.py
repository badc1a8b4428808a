"""All classifiers of a gateway, by name. Pure.

Rules:

1. Every model of a schema of `learning.scorer` that is applied classifies, from then on. One whose name ends in
   CANDIDATE is tried in the shadow of the model before that ending: it is compared, and its word is never said.
2. The version that was used before is kept, and taken up again where `trust` says so.
3. At most `most` windows are classified a step: whoever calls may do something else in between.

| may fill | bound | answer when full |
|---|---|---|
| classifiers | MAX_MODELS | further ones do not classify: `unusable` says so |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from gateway.classify.line import Line, Said, Version, Word
from gateway.classify.trust import Trust, Which
from gateway.records import ModelRecord, Readings
from gateway.trainer.heads import Head
from learning import features, scorer
from protocol.errors import ModelRefused
from protocol.manifest import read_sealed

MAX_MODELS = 8
CANDIDATE = ".next"


class Step(NamedTuple):
    """What a step came to."""

    said: dict[str, Said]  # by model
    words: list[Word]


class _Kept(msgspec.Struct, frozen=True):
    """What lasts of one model."""

    active: tuple[int, str, bytes]  # number, digest, content
    previous: tuple[int, str, bytes] | None
    fallen: bool
    lost: bool


class Classify:
    """See the rules above."""

    def __init__(self, margin: float) -> None:
        self.lines: dict[str, Line] = {}
        self.unusable: dict[str, str] = {}  # why, by model
        self._margin = margin
        self._records: dict[str, ModelRecord] = {}
        self._names: Sequence[str] = []
        self._known = 0  # how many of them the lines know

    def configure(self, margin: float) -> None:
        """Take another margin, from here on."""
        self._margin = margin
        for line in self.lines.values():
            line.margin = margin

    def use(self, models: Mapping[str, ModelRecord], names: Sequence[str]) -> list[str]:
        """Take what is applied, and the names of all series so far; give the models that have changed."""
        self._define(names)
        changed = []
        for name in sorted(models):  # a candidate comes after its model
            if self._records.get(name) is not models[name]:
                self._records[name] = models[name]
                if read_sealed(models[name].manifest).schema in scorer.SCHEMAS and self._take(name, models[name]):
                    changed.append(name)
        return changed

    def _define(self, names: Sequence[str]) -> None:
        if len(names) > self._known:
            more = names[self._known :]
            for line in self.lines.values():
                line.windows.define(more)
        self._names, self._known = names, len(names)

    def _take(self, name: str, record: ModelRecord) -> bool:
        manifest = read_sealed(record.manifest)
        version = self._version(name, manifest.version, manifest.digest, record.content)
        if version is None:
            return False
        model = name.removesuffix(CANDIDATE)
        line = self.lines.get(model)
        if name != model:
            if line is not None:
                line.shadow = version
            return False
        if line is None:
            self.lines[name] = line = Line(name, version, self._names[: self._known], self._margin)
            candidate = self._records.get(name + CANDIDATE)
            return candidate is None or not self._take(name + CANDIDATE, candidate)
        if line.active.digest != version.digest:
            line.replace(version, self._names[: self._known])
            line.shadow = None if line.shadow and line.shadow.digest == version.digest else line.shadow
        return True

    def _version(self, name: str, number: int, digest: str, content: bytes) -> Version | None:
        """Read a content; None, and it is noted why, if it cannot classify."""
        if name.removesuffix(CANDIDATE) not in self.lines and len(self.lines) >= MAX_MODELS:
            self.unusable[name] = f"{MAX_MODELS} classify already"
            return None
        try:
            found = scorer.decode(content)
            shape = (1, found.dataset.samples, len(found.dataset.channels))
            found.predict(features.extract(found.dataset.features, np.zeros(shape)))
        except ModelRefused as refused:
            self.unusable[name] = str(refused)
            return None
        self.unusable.pop(name, None)
        return Version(number, digest, content, found)

    def feed(self, readings: Readings) -> None:
        """Take readings that were recorded, of series known to `use`."""
        for line in self.lines.values():
            line.feed(readings)

    @property
    def waiting(self) -> int:
        """How many windows wait."""
        return sum(line.waiting for line in self.lines.values())

    def step(self, most: int) -> Step:
        """Classify at most so many windows of each model."""
        said, words = {}, list[Word]()
        for name, line in self.lines.items():
            own, more = line.step(most)
            words += more
            if own is not None:
                said[name] = own
        return Step(said, words)

    def personalise(self, model: str, heads: Iterable[Head]) -> None:
        """Take the heads that were fine-tuned here for a model."""
        line = self.lines.get(model)
        for head in heads:
            if line is not None and head.digest == line.active.digest:
                vector = np.frombuffer(head.vector, np.float32)
                line.personalise(head.digest, vector, before=head.before, after=head.after, windows=head.windows)

    @property
    def used(self) -> dict[str, Which]:
        """Whose word is said, by model."""
        return {name: line.trust.used for name, line in self.lines.items()}

    # What lasts.

    def snapshot(self, model: str) -> bytes:
        """Give what lasts of a model."""
        line = self.lines[model]
        active, before = line.active, line.previous
        kept = _Kept(active[:3], before[:3] if before else None, line.trust.fallen, line.trust.lost)
        return msgspec.msgpack.encode(kept)

    def restore(self, model: str, snapshot: bytes) -> None:
        """Go on from a snapshot; ModelRefused("content") if it is none. What is applied since then replaces it."""
        try:
            kept = msgspec.msgpack.decode(snapshot, type=_Kept)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ModelRefused("content", str(error)) from error
        active = self._version(model, *kept.active)
        if active is None:
            return
        line = self.lines[model] = Line(model, active, self._names[: self._known], self._margin)
        line.previous = self._version(model, *kept.previous) if kept.previous else None
        line.trust = Trust(fallen=kept.fallen and line.previous is not None, lost=kept.lost)

"""One classifier at work: its windows, what each of its versions says of them, and what the labels say later. Pure.

| may fill | bound | answer when full |
|---|---|---|
| windows that wait to be classified | MAX_WAITING, or MAX_BYTES of samples | the newest are left out: `busy` |
| windows that wait for their label | MAX_UNTOLD | the oldest are left out: `unlabelled` |

What others have made (ONNX, an installed set of features) may fail at work. The cloud is told once a version, as of one
that is refused; a version before that reads the same windows takes over; else windows are left out: `failed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.classify.drift import Drift
from gateway.classify.labels import Labels
from gateway.classify.trust import Trust, Which
from gateway.classify.windows import MAX_BYTES, Finished, Untold, Windows, joined
from gateway.records import Readings, count
from gateway.trainer.dataset import have_class
from learning import features
from learning.classifier import Classifier
from learning.parameters import Array
from learning.scorer import Scorer
from protocol.cascade import Seen, narrow
from protocol.errors import ModelRefused

MAX_WAITING = 4_096
MAX_UNTOLD = 4_096
UNSEEN = 1e-9


class Version(NamedTuple):
    """One content of a model."""

    number: int
    digest: str
    content: bytes
    classifier: Scorer


class Said(NamedTuple):
    """What was said of windows, a row each."""

    device: list[str]
    start: list[int]  # event times of the first and the last sample
    end: list[int]
    chosen: list[int]  # the class
    probability: list[float]
    version: int
    used: Which
    margin: Array  # (n,), by how much the class is likelier than the next one
    seen: Seen  # (n, d), features as questions about them have them


class Word(NamedTuple):
    """What the cloud, and whoever operates this gateway, is to hear of a version."""

    model: str
    version: int
    digest: str
    outcome: str  # "rolled back", "drifted" or "refused", or "lost": of the head, and said here only
    reason: str


WHICH: tuple[Which, ...] = ("active", "personal", "previous", "shadow")


class Line:
    """See above; `margin` as in `Trust`."""

    def __init__(self, model: str, active: Version, names: Sequence[str], margin: float) -> None:
        self.model, self.margin = model, margin
        self.active = active
        self.previous: Version | None = None
        self.shadow: Version | None = None
        self.personal: Classifier | None = None
        self.trust = Trust()
        self.counts: dict[int, int] = {}  # windows said, by class
        self.left_out: dict[str, int] = {}
        self.drifts: dict[str, int] = {}  # how often each was noticed
        self._begin_windows(names)
        self._begin_version()

    def _begin_windows(self, names: Sequence[str]) -> None:
        dataset = self.active.classifier.dataset
        self.windows, self.labels = Windows(dataset), Labels()
        self.windows.define(names)
        self._waiting: list[Finished] = []
        nothing = np.empty(0, np.int64)
        self._untold = Untold(nothing, nothing, nothing, np.empty((0, len(WHICH)), np.int64))
        size = 8 * dataset.samples * (len(dataset.channels) + 1)
        self._room = max(1, min(MAX_WAITING, MAX_BYTES // size))

    def _begin_version(self) -> None:
        classes = self.active.classifier.dataset.classes
        self._drift = {"features": Drift(classes), "confidence": Drift(classes)}
        self._failed: set[str] = set()  # digests of those that failed at work

    def replace(self, active: Version, names: Sequence[str]) -> None:
        """Let another version be in force; the one that was used is the one before it."""
        before = self.previous if self.trust.fallen else self.active
        self.active, self.previous, self.personal, self.trust = active, before, None, Trust()
        if before is not None and before.classifier.dataset != active.classifier.dataset:
            self._begin_windows(names)  # they cannot be compared: there is nothing to fall back by
        self._untold.said[:] = -1
        self._begin_version()

    @property
    def waiting(self) -> int:
        """How many windows wait to be classified."""
        return sum(len(part.device) for part in self._waiting)

    def feed(self, readings: Readings) -> None:
        """Take readings."""
        finished, labels = self.windows.feed(readings)
        self.labels.feed(labels)
        for part in finished:
            room = self._room - self.waiting
            count(self.left_out, {"busy": max(0, len(part.device) - room)})
            if room > 0:
                self._waiting.append(part.part(slice(0, room)))

    def step(self, most: int) -> tuple[Said | None, list[Word]]:
        """Classify at most so many of the windows that wait, and learn from the labels that came."""
        said, words = None, list[Word]()
        if self._waiting:
            said = self._classify(self._next(most), words)
        words += self._compare()
        return said, words

    def _next(self, most: int) -> Finished:
        """Take so many of those that wait, the oldest."""
        taken: list[Finished] = []
        while self._waiting and most > 0:
            part = self._waiting.pop(0)
            if len(part.device) > most:
                self._waiting.insert(0, part.part(slice(most, None)))
            taken.append(part.part(slice(0, most)))
            most -= len(taken[-1].device)
        return Finished._make(map(np.concatenate, zip(*taken, strict=True)))

    def _classify(self, part: Finished, words: list[Word]) -> Said | None:
        dataset = self.active.classifier.dataset
        try:
            vectors = features.extract(dataset.features, part.samples)
        except ModelRefused as refused:
            words += self._fail("active", refused.reason)
            count(self.left_out, {"failed": len(part.device)})
            return None
        shares = self._ask(vectors, words)
        chosen = {which: each.argmax(axis=1) for which, each in shares.items()}
        self._await(part, chosen)
        if "active" in shares:
            words += self._look(vectors, shares["active"])
        used = self.trust.used if self.trust.used in shares else "active"
        if used not in shares:
            count(self.left_out, {"failed": len(part.device)})
            return None
        own = shares[used]
        classes = own.argmax(axis=1).tolist()
        for one in classes:
            self.counts[one] = self.counts.get(one, 0) + 1
        version = self.previous if used == "previous" and self.previous else self.active
        devices = [self.windows.devices[slot] for slot in part.device.tolist()]
        times = (part.start.tolist(), part.end.tolist())
        how = (margins(own), self._seen(vectors))
        return Said(devices, *times, classes, own.max(axis=1).tolist(), version.number, used, *how)

    def _seen(self, vectors: Array) -> Seen:
        active = self.active.classifier
        return narrow(active.standardise(vectors)) if isinstance(active, Classifier) else vectors.astype(np.float32)

    def _ask(self, vectors: Array, words: list[Word]) -> dict[Which, Array]:
        """Give what each says, (n, classes); who fails says nothing."""
        shares: dict[Which, Array] = {}
        for which, one in self._voices():
            try:
                shares[which] = one.predict(vectors)
            except ModelRefused as refused:
                words += self._fail(which, refused.reason)
        return shares

    def _fail(self, which: Which, reason: str) -> Iterator[Word]:
        """Say once that a version failed, and go back from the one in force."""
        versions = {"previous": self.previous, "shadow": self.shadow}
        version = versions.get(which) or self.active
        if version.digest in self._failed:
            return
        self._failed.add(version.digest)
        yield Word(self.model, version.number, version.digest, "refused", reason)
        before = self.previous
        comparable = before is not None and before.classifier.dataset == self.active.classifier.dataset
        if version is self.active and comparable and not self.trust.fallen and reason != "features":
            self.trust.fallen = True
            yield from self._gone_back("failed")

    def _gone_back(self, reason: str) -> Iterator[Word]:
        active, before = self.active, self.previous
        if before is not None:
            yield Word(self.model, active.number, active.digest, "rolled back", reason)
            yield Word(self.model, before.number, before.digest, "applied", "rolled back")

    def _voices(self) -> Iterator[tuple[Which, Scorer]]:
        """Give who says what windows are, of those that read the same windows."""
        dataset = self.active.classifier.dataset
        yield "active", self.active.classifier
        if self.personal is not None:
            yield "personal", self.personal
        for name, version in (("previous", self.previous), ("shadow", self.shadow)):
            if version is not None and version.classifier.dataset == dataset:
                yield name, version.classifier  # type: ignore[misc]  # of WHICH

    def _look(self, vectors: Array, shares: Array) -> Iterator[Word]:
        """Look for drift: in how far features are from what the version learnt from, and in how sure it is."""
        active = self.active
        numbers = {"confidence": 1 - shares.max(axis=1)}
        if isinstance(active.classifier, Classifier):
            apart = (active.classifier.standardise(vectors).astype(np.float64) ** 2).mean(axis=1)
            numbers = {"features": apart} | numbers
        for reason, values in numbers.items():
            if self._drift[reason].feed(np.log(values + UNSEEN), shares.argmax(axis=1)):
                for each in self._drift.values():
                    each.rest()
                count(self.drifts, {reason: 1})
                yield Word(self.model, active.number, active.digest, "drifted", reason)
                return

    def _await(self, part: Finished, chosen: dict[Which, NDArray[np.int64]]) -> None:
        said = np.full((len(part.device), len(WHICH)), -1)
        for column, which in enumerate(WHICH):
            if which in chosen:
                said[:, column] = chosen[which]
        untold = joined(self._untold, Untold(part.device, part.start, part.end, said))
        surplus = max(0, len(untold.device) - MAX_UNTOLD)
        count(self.left_out, {"unlabelled": surplus})
        self._untold = untold.where(np.arange(len(untold.device)) >= surplus)

    def _compare(self) -> list[Word]:
        """Count who was right about the windows whose label is known now."""
        told = self.labels.known(self._untold.device, self._untold.end)
        if not told.any():
            return []
        device, start, end, said = self._untold.where(told)
        first, last = self.labels.at(device, start), self.labels.at(device, end)
        self._untold = self._untold.where(~told)
        self._forget()
        with_class = have_class(first, last, self.active.classifier.dataset.classes) & (said[:, 0] >= 0)
        return self._judge(said[with_class], last[with_class].astype(np.int64)) if with_class.any() else []

    def _forget(self) -> None:
        """Forget labels that no window needs: of those that wait for one, that wait to be classified, or to come."""
        slots = np.arange(len(self.windows.devices))
        needed = self.windows.oldest(slots)
        np.minimum.at(needed, self._untold.device, self._untold.start)
        for part in self._waiting:
            np.minimum.at(needed, part.device, part.start)
        self.labels.forget(needed)

    def _judge(self, said: NDArray[np.int64], classes: NDArray[np.int64]) -> list[Word]:
        there = [(column, which) for column, which in enumerate(WHICH) if (said[:, column] >= 0).all()]
        right = {which: said[:, column] == classes for column, which in there}
        active = self.active
        words = list[Word]()
        for lost in self.trust.feed(right, self.margin):
            if lost == "personal":
                words.append(Word(self.model, active.number, active.digest, "lost", "personal"))
            else:
                words += self._gone_back("worse")
        return words

    def personalise(self, digest: str, vector: Array, *, before: float, after: float, windows: int) -> None:
        """Take a head that was fine-tuned here; one for another version is not for us."""
        active = self.active.classifier
        if digest == self.active.digest and isinstance(active, Classifier) and len(vector) == len(active.vector):
            self.personal = active.with_vector(vector)
            self.trust.offer(before, after, windows, self.margin)


def margins(shares: Array) -> Array:
    """Give by how much the likeliest class is likelier than the next one, (n,), from probabilities (n, classes)."""
    if shares.shape[1] == 1:
        return shares[:, 0]
    ordered = np.sort(shares, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])

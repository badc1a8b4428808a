"""A larger model answers what gateways ask about windows that theirs is unsure of.

    leases ──questions──▶ cascade ▶ the larger model, in a thread ▶ store ▶ fieldgate/v1/{gateway}/answers/{model}

Rules:

1. Questions are kept in the store, among answers to tasks, until they are handled: a restart goes on with the first one
   that was not, and the ledger lets none come twice.
2. Answers are in the store before they are said, and stay there until the gateway says that it has heard them. When the
   bus is there, or back, or the cloud has begun anew, all of them are said again, a message a gateway and model.
3. Of a window the newest answer counts; `at` grows from answer to answer of a gateway and model.
4. A larger model costs nobody but who asks it: what it raises, or says that cannot be, is logged and counted.

| reason | why a window has no answer |
|---|---|
| unknown | no [[cascade]] for this model and gateway |
| version | the content of the version that was unsure is not kept any more |
| questions, content, features | numbers that cannot be |
| model, output, runtime | the larger model failed, or cannot be used here |

| may fill | bound | answer when full |
|---|---|---|
| frames of questions that wait, with answers to tasks | `store.MAX_PARTS` a gateway | the oldest go |
| answers that nobody has heard, of a gateway and model | `protocol.cascade.MAX_ANSWERS` | the oldest go: `unheard` |
| versions that were read | MAX_READ | the one read first is read again |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from cloud.config.cascade import Cascade as Settings
from cloud.leases import Kept, Leases
from cloud.metrics import Counters
from cloud.store import Part, Store
from learning import features, installed, scorer
from learning.classifier import Classifier
from learning.parameters import Array
from learning.scorer import Scorer
from protocol.bus import Bus
from protocol.cascade import ASK, MAX_ANSWERS, Answer, Answers, read_features, read_questions, seal
from protocol.errors import ConfigurationRefused, FrameRefused, ModelRefused
from protocol.identity import Signer
from protocol.messages import QuestionsBody
from protocol.topics import topic
from protocol.training import MODELS

log = logging.getLogger("fieldgate.cascade")

MACHINE = "cascade"
LOOK_S = 600.0
ROWS = 256
MAX_READ = 16


class Large(Protocol):
    """What is asked."""

    def predict(self, x: Array) -> Array:
        """Give the probability of each class, (n, classes), for features, (n, d)."""


class Cascade:
    """See the rules above."""

    def __init__(
        self,
        store: Store,
        settings: tuple[Settings, ...],
        *,
        signer: Signer,
        clock: Callable[[], int],
        counters: Counters,
    ) -> None:
        self._settings = {one.model: one for one in settings}
        self._files = usable(settings)
        self._store, self._signer, self._clock, self._counters = store, signer, clock, counters
        self._unheard: dict[tuple[str, str], list[Answer]] = {}  # by gateway and model
        self._changed: set[tuple[str, str]] = set()
        self._read: dict[str, Scorer] = {}  # by digest
        self._installed: dict[tuple[str, int, int], Large] = {}
        self._leases = Leases(MACHINE, store, signer, self)

    def look(self) -> None:
        """Look for questions soon."""
        self._leases.look()

    def on_state(self, connected: bool, _why: str) -> None:
        """Say all again when the bus is back: a broker may have forgotten."""
        if connected:
            self._say(self._unheard)

    async def run(self, bus: Bus) -> None:
        """Answer until cancelled."""
        await self._leases.run(bus)

    # What leases asks of a machine.

    async def begin(self, state: bytes) -> None:
        """Go on from what was kept."""
        del state
        self._unheard, self._changed = {}, set()
        after = ""
        while rows := await self._store.rows(MACHINE, "", after, ROWS):
            for key, value in rows:
                gateway, _, model = key.rpartition("/")
                self._unheard[gateway, model] = msgspec.msgpack.decode(value, type=list[Answer])
            after = rows[-1][0]
        self._say(self._unheard)

    async def decide(self, parts: list[Part]) -> Kept | None:
        """Answer the questions among these."""
        for part in parts:
            if part.body.name == ASK:
                await self._handle(part.gateway, part.body.content)
        rows = {"/".join(pair): _row(self._unheard.get(pair, [])) for pair in self._changed}
        return Kept(b"\x01", rows) if rows else None

    def carry_out(self) -> None:
        """Say what was answered: it is kept now."""
        changed, self._changed = self._changed, set()
        self._say(changed)

    def until_due(self) -> float:
        """Nothing is due but what comes."""
        return LOOK_S

    def _say(self, pairs: Iterable[tuple[str, str]]) -> None:
        for gateway, model in pairs:
            answers = self._unheard.get((gateway, model), [])
            sealed = seal(Answers(gateway, model, answers), self._signer) if answers else b""
            self._leases.say(f"{topic(gateway, 'answers')}/{model}", sealed)

    # Answers.

    async def _handle(self, gateway: str, content: bytes) -> None:
        try:
            asked = read_questions(content)
        except FrameRefused as refused:
            self._refuse(gateway, "", refused, 1)
            return
        pair = (gateway, asked.model)
        unheard = [one for one in self._unheard.get(pair, []) if one.at > asked.heard]
        try:
            shares = await self._answer(gateway, asked)
        except (FrameRefused, ModelRefused) as refused:
            self._refuse(gateway, asked.model, refused, len(asked.start))
        else:
            newest = max(self._clock() - 1, asked.heard, unheard[-1].at if unheard else 0)
            fresh = list(_answers(asked, shares, newest))
            again = {(one.device, one.start, one.end) for one in fresh}
            unheard = [one for one in unheard if (one.device, one.start, one.end) not in again] + fresh
            self._counters.questions_answered += len(fresh)
        if (surplus := len(unheard) - MAX_ANSWERS) > 0:
            self._counters.refuse_questions("unheard", surplus)
        self._unheard[pair] = unheard[-MAX_ANSWERS:]
        self._changed.add(pair)

    def _refuse(self, gateway: str, model: str, refused: FrameRefused | ModelRefused, windows: int) -> None:
        log.warning("cascade: %s of %s: no answer: %s", model, gateway, refused)
        self._counters.refuse_questions(refused.reason, windows)

    async def _answer(self, gateway: str, asked: QuestionsBody) -> Array:
        """Give the larger model's word, (n, classes)."""
        settings = self._settings.get(asked.model)
        if settings is None or not settings.answers(gateway):
            raise ModelRefused("unknown", "no [[cascade]] for it")
        small = await self._small(asked.digest.hex())
        return await asyncio.to_thread(self._ask, settings, small, asked)

    async def _small(self, digest: str) -> Scorer:
        if digest not in self._read:
            content = await self._store.content(digest)
            if content is None:
                raise ModelRefused("version", f"{digest} is not kept")
            self._read[digest] = await asyncio.to_thread(scorer.decode, content)
            if len(self._read) > MAX_READ:
                del self._read[next(iter(self._read))]
        return self._read[digest]

    def _ask(self, settings: Settings, small: Scorer, asked: QuestionsBody) -> Array:
        """In a thread, one at a time."""
        width, classes = len(features.names(small.dataset.features, small.dataset.channels)), small.dataset.classes
        seen = read_features(asked, width, in_deviations=isinstance(small, Classifier))
        x = small.standardiser.original(seen) if isinstance(small, Classifier) else seen
        large = self._large(settings, width, classes)
        with installed.guarded("model", settings.large):
            said = large.predict(x)
        return installed.sound(said, len(x), classes, "model", settings.large)

    def _large(self, settings: Settings, width: int, classes: int) -> Large:
        if settings.model in self._files:
            return self._files[settings.model]
        key = (settings.large, width, classes)
        if key not in self._installed:
            self._installed[key] = installed.predictor(*key)
        return self._installed[key]


def _answers(asked: QuestionsBody, shares: Array, newest: int) -> Iterator[Answer]:
    for row, (device, start, span) in enumerate(zip(asked.devices, asked.start, asked.span, strict=True)):
        chosen = int(shares[row].argmax())
        probability = min(max(float(shares[row, chosen]), 0.0), 1.0)
        yield Answer(device, start, start + span, chosen, probability, newest + 1 + row, asked.version)


def _row(answers: list[Answer]) -> bytes | None:
    return msgspec.msgpack.encode(answers) if answers else None


def usable(settings: tuple[Settings, ...]) -> dict[str, Scorer]:
    """Give larger models that are files, by whom they answer for; ConfigurationRefused if one is of no use here."""
    for one in settings:
        _check_installed(one)
    return {one.model: _read(one) for one in settings if one.file}


def _check_installed(settings: Settings) -> None:
    known = sorted(set(installed.model_kinds()) - set(MODELS))
    if not settings.file and settings.large not in known:
        expectation = f"one that is installed ({', '.join(known) or 'there is none'}), or a path with a / in it"
        raise ConfigurationRefused("cascade.large", settings.large, expectation)


def _read(settings: Settings) -> Scorer:
    try:
        content = Path(settings.file).read_bytes()
        scorer.CHECKS[scorer.schema_of(content)](content)
        return scorer.decode(content)
    except OSError as error:
        raise ConfigurationRefused("cascade.large", settings.large, f"a readable file ({error.strerror})") from error
    except ModelRefused as error:
        raise ConfigurationRefused("cascade.large", settings.large, f"a model that may answer ({error})") from error

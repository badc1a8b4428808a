"""The cloud's end of the cascade: a larger model answers over a bus in memory, also what was asked before a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud.cascade import Cascade
from cloud.config.cascade import Cascade as Settings
from cloud.metrics import Counters
from cloud.store import Batch, Published
from cloud.store.sqlite import SqliteStore
from cloud.unpack import unpack
from learning import classifier, features, installed, spread
from learning.models import Batch as Rows
from protocol.bus import MemoryBroker, MemoryBus
from protocol.cascade import MAX_ANSWERS, Answer, narrow, pack_features, unseal
from protocol.errors import ConfigurationRefused
from protocol.identity import Signer
from protocol.manifest import digest_of
from protocol.messages import Cover, Kind, QuestionsBody
from protocol.topics import topic
from protocol.training import Dataset, Learning
from tests.cloud.wire import Clock, Wire
from tests.waiting import until

SIGNER = Signer.from_seed(b"s" * 32)
DATASET = Dataset(("x",), "state", 2, 8, 8)
RNG = np.random.default_rng(1)
X = features.extract(DATASET.features, RNG.normal(size=(400, 8, 1)) * (1 + 3 * (np.arange(400) % 2))[:, None, None])
Y = np.arange(400) % 2


def taught(rows: int, epochs: int) -> classifier.Classifier:
    begun = classifier.begin(DATASET, Learning(epochs=epochs), spread.of(X[:rows]), np.random.default_rng(0))
    return begun.fitted(Rows(begun.standardise(X[:rows]), Y[:rows]), np.random.default_rng(0))


SMALL, LARGE = taught(20, 1), taught(400, 20)
CONTENT = classifier.encode(SMALL)
DIGEST = digest_of(CONTENT)


def questions(first: int, number: int, heard: int = 0, **changes: Any) -> QuestionsBody:
    """Ask about rows of X, the windows being numbered."""
    rows = slice(first, first + number)
    seen = pack_features(narrow(SMALL.standardise(X[rows])))
    where = (["pump"] * number, list(range(first, first + number)), [5] * number)
    body = QuestionsBody(Cover(), "state", 4, bytes.fromhex(DIGEST), *where, seen, first + 1, heard)
    return msgspec.structs.replace(body, **changes)


class Cloud:
    """The part of a cloud that answers."""

    def __init__(self, store: SqliteStore, cascade: Cascade, broker: MemoryBroker, counters: Counters) -> None:
        self.store, self.cascade, self.broker, self.counters = store, cascade, broker, counters

    async def ask(self, wire: Wire, body: QuestionsBody) -> None:
        """Let questions arrive as bytes, and be committed."""
        [(frames, size)] = unpack(wire.frame("results", Kind.QUESTIONS, body))
        applied = await self.store.apply(Batch(wire.gateway, wire.epoch, frames, size))
        assert (applied.accepted, applied.quarantined) == (1, {})
        self.cascade.look()

    def said(self, gateway: str = "barn") -> list[Answer]:
        sealed = self.broker.retained.get(f"{topic(gateway, 'answers')}/state")
        return unseal(sealed, SIGNER.public, gateway=gateway, model="state") if sealed else []

    async def starts(self, *expected: int, gateway: str = "barn") -> list[Answer]:
        await until(
            lambda: [one.start for one in self.said(gateway)] == list(expected), f"{expected} are said to {gateway}"
        )
        return self.said(gateway)


@asynccontextmanager
async def running(path: Path, broker: MemoryBroker, wire: Wire, *settings: Settings) -> AsyncIterator[Cloud]:
    """A cloud on the database `path`, which has published the small model."""
    clock, counters = Clock(), Counters()
    store = SqliteStore(path / "cloud.db", clock)
    await store.open()
    await store.hello(wire.hello(), 0)
    await store.publish(Published("state", 4, DIGEST, classifier.SCHEMA, len(CONTENT), 0, 0, 0, b""), CONTENT)
    cascade = Cascade(store, settings, signer=SIGNER, clock=clock, counters=counters)
    with MemoryBus(broker) as bus:
        task = asyncio.create_task(cascade.run(bus))
        try:
            yield Cloud(store, cascade, broker, counters)
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await store.close()


@pytest.fixture
def large(tmp_path: Path) -> Settings:
    path = tmp_path / "large.fg"
    path.write_bytes(classifier.encode(LARGE))
    return Settings("state", str(path))


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


async def test_a_larger_model_says_what_windows_are(tmp_path: Path, broker: MemoryBroker, large: Settings) -> None:
    wire = Wire()
    async with running(tmp_path, broker, wire, large) as cloud:
        await cloud.ask(wire, questions(0, 40))
        answers = await cloud.starts(*range(40))
        chosen = [one.chosen for one in answers]
        assert chosen == LARGE.predict(X[:40]).argmax(axis=1).tolist()
        assert np.equal(chosen, Y[:40]).mean() > np.equal(SMALL.predict(X[:40]).argmax(axis=1), Y[:40]).mean()
        assert np.allclose([one.probability for one in answers], LARGE.predict(X[:40]).max(axis=1), atol=0.01)
        assert answers[0] == Answer("pump", 0, 5, chosen[0], answers[0].probability, Clock().now, 4)
        assert cloud.counters.questions_answered == 40


async def test_answers_wait_until_they_have_been_heard(tmp_path: Path, broker: MemoryBroker, large: Settings) -> None:
    wire = Wire()
    async with running(tmp_path, broker, wire, large) as cloud:
        await cloud.ask(wire, questions(0, 3))
        first = await cloud.starts(0, 1, 2)
        await cloud.ask(wire, questions(10, 2))
        await cloud.starts(0, 1, 2, 10, 11)
        await cloud.ask(wire, questions(20, 1, heard=first[1].at))
        answers = await cloud.starts(2, 10, 11, 20)
        assert len({one.at for one in answers}) == 4


async def test_what_was_asked_or_answered_before_a_restart_is_said_after_it(
    tmp_path: Path, broker: MemoryBroker, large: Settings
) -> None:
    wire = Wire()
    async with running(tmp_path, broker, wire, large) as cloud:
        await cloud.ask(wire, questions(0, 2))
        await cloud.starts(0, 1)
    broker.retained.clear()
    async with running(tmp_path, broker, wire, large) as cloud:
        await cloud.starts(0, 1)
        broker.retained.clear()
        cloud.cascade.on_state(True, "joined")
        await cloud.starts(0, 1)
        await cloud.ask(wire, questions(5, 1))
        await cloud.starts(0, 1, 5)


REFUSED = {
    "another model": ({"model": "other"}, "unknown"),
    "a version that is not kept": ({"digest": b"x" * 32}, "version"),
    "features of another width": ({"seen": bytes(2 * 2 * 17)}, "questions"),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_cannot_be_answered_is_counted_and_the_next_is_answered(
    changes: dict[str, Any], reason: str, tmp_path: Path, broker: MemoryBroker, large: Settings
) -> None:
    wire = Wire()
    async with running(tmp_path, broker, wire, large) as cloud:
        await cloud.ask(wire, questions(0, 2, **changes))
        await cloud.ask(wire, questions(5, 1))
        await cloud.starts(5)
        assert cloud.counters.questions_refused == {reason: 2}


UNLIKE = {"other channels": (("x", "y"), 2), "other classes": (("x",), 3)}


@pytest.mark.parametrize(("channels", "classes"), UNLIKE.values(), ids=UNLIKE.keys())
async def test_a_file_made_for_other_windows_costs_no_more_than_its_questions(
    channels: tuple[str, ...], classes: int, tmp_path: Path, broker: MemoryBroker
) -> None:
    dataset = Dataset(channels, "state", classes, 8, 8)
    x = features.extract(dataset.features, RNG.normal(size=(9, 8, len(channels))))
    (tmp_path / "large.fg").write_bytes(
        classifier.encode(classifier.begin(dataset, Learning(), spread.of(x), np.random.default_rng(0)))
    )
    wire = Wire()
    async with running(tmp_path, broker, wire, Settings("state", str(tmp_path / "large.fg"))) as cloud:
        for first in (0, 5):
            await cloud.ask(wire, questions(first, 2))
        await until(lambda: cloud.counters.questions_refused == {"model": 4}, "both are refused")


async def test_a_gateway_that_is_not_meant_is_not_answered(
    tmp_path: Path, broker: MemoryBroker, large: Settings
) -> None:
    wire = Wire()
    async with running(tmp_path, broker, wire, msgspec.structs.replace(large, gateways=("mill-*",))) as cloud:
        await cloud.ask(wire, questions(0, 2))
        await until(lambda: cloud.counters.questions_refused == {"unknown": 2}, "it is counted")
        assert cloud.said() == []


async def test_so_many_answers_wait_the_newest(tmp_path: Path, broker: MemoryBroker, large: Settings) -> None:
    wire = Wire()
    async with running(tmp_path, broker, wire, large) as cloud:
        await cloud.ask(wire, questions(0, MAX_ANSWERS))
        await cloud.ask(wire, questions(MAX_ANSWERS, 10))
        await cloud.starts(*range(10, MAX_ANSWERS + 10))
        assert cloud.counters.questions_refused == {"unheard": 10}


class Mean:
    """Somebody's model: says 1 where the deviation is large; it raises for what it dislikes."""

    def __init__(self, size: int, classes: int, *_: object) -> None:
        assert (size, classes) == (16, 2)

    def predict(self, x: Any) -> Any:
        if len(x) == 3:
            raise RuntimeError("three")
        large = (x[:, 1] > 2).astype(float)
        return np.column_stack([1 - large, large])


async def test_an_installed_model_answers_and_what_it_raises_costs_itself(
    tmp_path: Path, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "site" / "somebodys-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[{installed.MODEL_KINDS}]\nmean = {__name__}:Mean\n")
    monkeypatch.syspath_prepend(str(about.parent))
    wire = Wire()
    async with running(tmp_path, broker, wire, Settings("state", "mean")) as cloud:
        await cloud.ask(wire, questions(0, 3))
        await cloud.ask(wire, questions(10, 20))
        answers = await cloud.starts(*range(10, 30))
        assert [one.chosen for one in answers] == (X[10:30, 1] > 2).astype(int).tolist()
        assert cloud.counters.questions_refused == {"model": 3}


LARGE_REFUSED = {
    "no file": "/large.fg",
    "something else": "/junk.fg",
    "a model that nobody has": "oracle",
    "ours": "softmax",
}


@pytest.mark.parametrize("large", LARGE_REFUSED.values(), ids=LARGE_REFUSED.keys())
def test_a_model_that_cannot_be_is_refused_at_the_start(large: str, tmp_path: Path) -> None:
    (tmp_path / "junk.fg").write_bytes(b"junk")
    where = f"{tmp_path}{large}" if "/" in large else large
    store: Any = None
    with pytest.raises(ConfigurationRefused, match=r"cascade\.large"):
        Cascade(store, (Settings("state", where),), signer=SIGNER, clock=Clock(), counters=Counters())

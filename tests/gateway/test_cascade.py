"""The gateway's end of the cascade, over a bus in memory: what goes up, and what becomes of what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.cascade import AROUND, BATCH, FRAME, Cascade, Standing
from gateway.classify import Said
from gateway.classify.ask import FEWEST, MAX_MODELS
from gateway.classify.line import Version
from gateway.clock import Clock
from gateway.config import Cascade as Settings
from gateway.config import Duration, GatewayConfig, Models, Size, Source
from gateway.past import read_told, told_path
from gateway.records import NEVER
from gateway.segment import OsFiles
from gateway.tasks.told import Told
from learning import classifier
from protocol.bus import MemoryBroker, MemoryBus
from protocol.cascade import Answer, Answers, narrow, pack_features, read_features, seal
from protocol.frame import message
from protocol.identity import Signer
from protocol.manifest import digest_of
from protocol.messages import Cover, Kind, QuestionsBody
from protocol.topics import topic
from tests.gateway.test_classify import GOOD
from tests.waiting import until

SIGNER = Signer.from_seed(b"s" * 32)
TOPIC = topic("barn", "answers")
WAIT = Duration(50 * 10**6)
VERSION = Version(3, digest_of(GOOD), GOOD, classifier.decode(GOOD))
OTHER = VERSION._replace(number=4, digest="ab" * 32)


def config(data: Path, per_hour: int = 10_000, bytes_per_hour: int = 1 << 30) -> GatewayConfig:
    sources = (Source("s/{device}/{measurement}"),)
    models = Models(public_key=SIGNER.public.hex())
    return GatewayConfig(
        "barn", str(data), sources, models=models, cascade=Settings(per_hour, Size(bytes_per_hour), WAIT)
    )


def windows(margin: float, number: int, first: int = 0) -> Said:
    start = [first + at for at in range(number)]
    seen = narrow(np.arange(2 * number, dtype=np.float32).reshape(number, 2))
    ends, chosen, shares = [one + 7 for one in start], [0] * number, [0.5] * number
    return Said(["pump"] * number, start, ends, chosen, shares, 3, "active", np.full(number, margin), seen)


class Site:
    """A gateway's end; what it asked and said."""

    def __init__(self, data: Path, broker: MemoryBroker, per_hour: int = 10_000) -> None:
        self.asked, self.said = list[QuestionsBody](), list[dict[str, Any]]()
        self.cascade = Cascade(
            config(data, per_hour),
            OsFiles(),
            Clock(),
            ask=self.asked.append,
            publish=lambda payload: self.said.append(json.loads(payload)),
        )
        self.bus = self.cascade.bus = MemoryBus(broker)
        self.cascade.consider("state", VERSION, windows(0.9, FEWEST))  # from here on less is unsure

    def unsure(self, number: int, first: int = 0, version: Version = VERSION) -> None:
        self.cascade.consider("state", version, windows(0.1, number, first))


@asynccontextmanager
async def running(data: Path, broker: MemoryBroker, per_hour: int = 10_000) -> AsyncIterator[Site]:
    site = Site(data, broker, per_hour)
    with site.bus:
        task = asyncio.create_task(site.cascade.run())
        await until(lambda: broker.subscriptions, "it hears")
        yield site
        task.cancel()
        await asyncio.wait([task])


def answer(at: int, start: int = 0, chosen: int = 2) -> Answer:
    return Answer("pump", start, start + 7, chosen, 0.75, at, 3)


async def answered(site: Site, *answers: Answer, model: str = "state", signer: Signer = SIGNER) -> None:
    await site.bus.publish(f"{TOPIC}/{model}", seal(Answers("barn", model, list(answers)), signer), retain=True)


async def test_unsure_windows_go_up_together_with_their_features(tmp_path: Path) -> None:
    site = Site(tmp_path, MemoryBroker())
    site.unsure(BATCH + 1)
    [body] = site.asked
    assert (body.model, body.version, body.digest.hex(), body.heard) == ("state", 3, VERSION.digest, 0)
    assert (body.devices, body.start, body.span) == (["pump"] * BATCH, list(range(BATCH)), [7] * BATCH)
    assert read_features(body, 2, in_deviations=True).tolist() == np.arange(2.0 * BATCH).reshape(BATCH, 2).tolist()
    assert site.cascade.standing() == Standing({"state": BATCH}, {}, {}, {})


async def test_what_waits_goes_up_soon_and_at_once_where_another_version_is_in_force(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBroker()) as site:
        site.unsure(1)
        site.unsure(2, 10, OTHER)
        assert [(body.version, body.start) for body in site.asked] == [(3, [0])]
        await until(lambda: len(site.asked) == 2, "the others go too")
        assert (site.asked[1].version, site.asked[1].start) == (4, [10, 11])
        assert site.asked[1].stamp > site.asked[0].stamp


async def test_what_a_frame_takes_is_paid_from_the_bytes_of_an_hour(tmp_path: Path) -> None:
    site = Site(tmp_path, MemoryBroker())
    each = 2 * 2 + AROUND + len("pump")
    site.cascade.configure(config(tmp_path, bytes_per_hour=20 * each + FRAME))
    site.unsure(BATCH)
    site.unsure(BATCH)
    assert len(site.asked) == 1
    site.cascade.tick(NEVER)
    assert [len(body.start) for body in site.asked] == [BATCH, 4]
    assert site.cascade.standing().left_out == {"bytes": BATCH - 4}


async def test_as_installed_nothing_is_asked(tmp_path: Path) -> None:
    site = Site(tmp_path, MemoryBroker(), per_hour=0)
    site.unsure(100)
    assert (site.asked, site.cascade.standing()) == ([], Standing({}, {}, {}, {}))


async def test_an_answer_is_said_and_kept_and_once_only(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBroker()) as site:
        await answered(site, answer(100), answer(101, 10, 1))
        await answered(site, answer(100), answer(101, 10, 1), answer(102, 20, 0))
        await until(lambda: len(site.said) == 3, "all is said")
        about = {"device": "pump", "probability": 0.75, "model": "state", "version": 3, "by": "cloud"}
        assert site.said == [
            about | {"start": 0, "end": 7, "class": 2},
            about | {"start": 10, "end": 17, "class": 1},
            about | {"start": 20, "end": 27, "class": 0},
        ]
        rows = (Told("pump", 0, 7, 2), Told("pump", 10, 17, 1), Told("pump", 20, 27, 0))
        await until(lambda: read_told(OsFiles(), tmp_path, "state").told == rows, "all is kept")
        site.unsure(BATCH)
        assert site.asked[0].heard == 102
        assert site.cascade.standing() == Standing({"state": BATCH}, {"state": 3}, {"state": 3}, {})


async def test_after_a_restart_what_is_retained_is_known(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(tmp_path, broker) as site:
        await answered(site, answer(100))
        await until(told_path(tmp_path, "state").exists, "it is kept")
    async with running(tmp_path, broker) as again:
        await answered(again, answer(100), answer(101, 10))
        await until(lambda: again.said, "the new one is said")
        assert [one["start"] for one in again.said] == [10]
    async with running(tmp_path, broker) as third:
        third.unsure(BATCH)
        assert third.asked[0].heard == 101


async def test_what_is_not_signed_by_the_cloud_is_refused_and_counted(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBroker()) as site:
        await answered(site, answer(100), signer=Signer.from_seed(b"o" * 32))
        await site.bus.publish(f"{TOPIC}/state", b"", retain=True)
        await answered(site, answer(101, 5))
        await until(lambda: site.said, "what is signed is said")
        assert [one["start"] for one in site.said] == [5]
        assert site.cascade.standing().left_out == {"signature": 1}


async def test_answers_of_more_models_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBroker()) as site:
        for number in range(MAX_MODELS + 1):
            await answered(site, answer(100), model=f"m{number}")
        await until(lambda: site.cascade.standing().left_out == {"models": 1}, "the last one is refused")
        assert len(site.said) == MAX_MODELS


async def test_a_disk_that_refuses_costs_the_label_not_the_answer(tmp_path: Path) -> None:
    (tmp_path / "cascade").write_bytes(b"in the way")
    async with running(tmp_path, MemoryBroker()) as site:
        await answered(site, answer(100))
        await answered(site, answer(101, 10))
        await until(lambda: len(site.said) == 2, "both are said")


@pytest.mark.parametrize("number", [1, BATCH])
@pytest.mark.parametrize("width", [4, 111])
def test_a_frame_takes_no_more_than_is_paid_for_it(number: int, width: int) -> None:
    seen = np.random.default_rng(1).normal(size=(number, width)).astype(np.float16)
    start = [10**18 + 10**9 * at for at in range(number)]
    rows = (["pump-1"] * number, start, [2 * 10**9] * number, pack_features(seen))
    body = QuestionsBody(Cover(10**6, 3), "activity", 7, bytes.fromhex(VERSION.digest), *rows, 10**18, 10**18 - 1)
    size = len(message(Kind.QUESTIONS, body, lane=2, seq=10**6, chain_before=7))
    paid = FRAME + number * (2 * width + AROUND + len("pump-1"))
    assert size <= paid

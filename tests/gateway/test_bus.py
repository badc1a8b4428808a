"""Both ends of the bus, joined by one in memory: models reach the pipeline, and the gateway says that it is here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway import bus, recovery
from gateway.clock import Clock, boot_id
from gateway.config import Broker, GatewayConfig, Models, Score, Size, Source
from gateway.pipeline import Pipeline
from gateway.records import NEVER
from gateway.resources import resources_of
from gateway.segment import OsFiles
from learning import baseline
from protocol import __version__, frame, manifest
from protocol.bus import MemoryBroker, MemoryBus
from protocol.identity import Signer
from protocol.jobs import read_status
from protocol.manifest import Chunk, Manifest, digest_of
from protocol.messages import Kind, ReportBody
from protocol.topics import topic
from tests.waiting import until

SIGNER = Signer.from_seed(bytes(range(32)))
MODELS, WANTS, CHUNKS, STATUS = (
    topic("barn", "models") + "/pumps",
    topic("barn", "wants"),
    topic("barn", "chunks"),
    topic("barn", "status"),
)


def configuration(directory: Path) -> GatewayConfig:
    return GatewayConfig(
        "barn",
        str(directory),
        (Source("s/{device}/{measurement}"),),
        score=(Score(name="pumps"),),
        models=Models(public_key=SIGNER.public.hex(), chunk=Size(1024)),
    )


def content(number: int, size: int = 32) -> bytes:
    """Give a baseline that is like no other."""
    features = tuple(f"measurement {at}" for at in range(size))
    entry = baseline.Entry(50.0 + number, np.arange(size, dtype=np.float64) + number, np.eye(size))
    return baseline.encode(baseline.Baseline({features: entry}))


def announce(version: int, what: bytes, **changes: Any) -> bytes:
    said = Manifest("pumps", version, len(what), digest_of(what), baseline.SCHEMA, 0)
    return manifest.seal(msgspec.structs.replace(said, **changes), SIGNER)


@dataclass
class StubCloud:
    """The other end: gives parts of what it holds; while `mute`, it only listens."""

    bus: MemoryBus
    contents: dict[str, bytes] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)
    mute: bool = False

    async def publish(self, version: int, what: bytes) -> None:
        self.contents[digest_of(what)] = what
        await self.bus.publish(MODELS, announce(version, what), retain=True)

    async def run(self, heard: asyncio.Event) -> None:
        async with self.bus.subscribe(WANTS) as wants:
            heard.set()
            async for message in wants:
                want = manifest.read_want(message.payload)
                self.offsets.append(want.offset)
                if not self.mute:
                    data = self.contents[want.digest][want.offset : want.offset + want.size]
                    await self.bus.publish(CHUNKS, manifest.write(Chunk(want.digest, want.offset, data)))


@dataclass
class Site:
    """A gateway and a cloud on one broker."""

    broker: MemoryBroker
    pipeline: Pipeline
    models: bus.Models
    line: MemoryBus
    cloud: StubCloud

    @property
    def versions(self) -> dict[str, int]:
        return recovery.versions(self.pipeline.at)

    @property
    def status(self) -> dict[str, object]:
        said: dict[str, object] = json.loads(self.broker.retained[STATUS])
        return said

    async def reports(self) -> list[ReportBody]:
        await self.pipeline.commit()
        await self.pipeline.out.spool_now()
        held = self.pipeline.spool.each("results")
        return [frame.load(one.kind, one.body) for one in held if one.kind == Kind.REPORT]


@asynccontextmanager
async def joined(directory: Path, broker: MemoryBroker | None = None) -> AsyncIterator[Site]:
    config = configuration(directory)
    pipeline = Pipeline(config, recovery.recover(config, OsFiles(), 0, lambda: 7), Clock())
    pipeline.inward.begin()
    broker = broker or MemoryBroker()
    line, cloud = MemoryBus(broker), StubCloud(MemoryBus(broker))
    models = bus.models(
        config, line, pipeline.at, pipeline.clock, apply=pipeline.inward.swap, report=pipeline.out.report
    )
    heard = asyncio.Event()
    with cloud.bus:
        tasks = [asyncio.create_task(models.run()), asyncio.create_task(cloud.run(heard))]
        await heard.wait()
        with line:
            yield Site(broker, pipeline, models, line, cloud)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    pipeline.stop()
    await pipeline.finish()


async def test_a_model_comes_over_the_bus_and_scores_and_is_reported(tmp_path: Path) -> None:
    async with joined(tmp_path) as here:
        await here.cloud.publish(3, content(3))
        await until(lambda: here.versions == {"pumps": 3}, "version 3 scores")
        assert here.pipeline.at.derive.models["pumps"].content == content(3)
        assert here.cloud.offsets == list(range(0, len(content(3)), 1024))
        [report] = await here.reports()
        said = (report.model, report.version, report.outcome, report.reason, report.digest)
        assert said == ("pumps", 3, "applied", "", digest_of(content(3)))


async def test_status_says_whose_word_on_windows_is_said_once_there_is_one(tmp_path: Path) -> None:
    used: dict[str, str] = {}
    async with joined(tmp_path) as here:
        here.models._uses = lambda: used
        used["state"] = "personal"
        here.models.restate()
        await until(lambda: "classes" in here.status, "status says so")
        assert here.status["classes"] == {"state": "personal"}


async def test_status_says_what_the_gateway_has_while_it_is_there(tmp_path: Path) -> None:
    async with joined(tmp_path) as here:
        here.models._resources = partial(resources_of, here.pipeline)
        here.models.restate()
        await until(lambda: "resources" in here.status, "status says so")
        said = read_status(here.broker.retained[STATUS])
        assert said.resources is not None
        assert (said.state, said.resources.allow, said.resources.costs) == ("online", ("*",), {})
        assert min(said.resources.cores, said.resources.memory, said.resources.disk) > 0
        here.line.cut()
        assert read_status(here.broker.retained[STATUS]).resources is None


async def test_status_says_which_model_scores_and_is_left_behind_when_the_gateway_goes(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with joined(tmp_path, broker) as here:
        assert here.status == {"state": "online", "version": __version__, "models": {}, "boot": boot_id()}
        await here.cloud.publish(3, content(3))
        await until(lambda: here.status["models"] == {"pumps": 3}, "status says so")
        here.line.cut()
        assert here.status == {"state": "offline", "version": __version__, "models": {"pumps": 3}, "boot": boot_id()}
        here.line.join()
        assert here.status["state"] == "online"
    assert json.loads(broker.retained[STATUS])["state"] == "offline"


async def test_a_model_that_was_announced_while_the_gateway_was_away_is_taken_when_it_comes(tmp_path: Path) -> None:
    async with joined(tmp_path) as here:
        here.line.cut()
        await here.cloud.publish(1, content(1))
        await here.cloud.publish(2, content(2))
        here.line.join()
        await until(lambda: here.versions == {"pumps": 2}, "the newest scores")


async def test_a_download_that_was_cut_goes_on_where_it_stood(tmp_path: Path) -> None:
    async with joined(tmp_path) as here:
        whole = content(5)
        here.cloud.mute = True
        await here.cloud.publish(5, whole)
        await until(lambda: here.cloud.offsets == [0], "it asks")
        await here.cloud.bus.publish(CHUNKS, manifest.write(Chunk(digest_of(whole), 0, whole[:1000])))
        await until(lambda: here.cloud.offsets == [0, 1000], "it asks for more")
        here.line.cut()
        assert here.models.swap.due() == NEVER, "nothing is asked while the bus is away"
        await here.cloud.bus.publish(CHUNKS, manifest.write(Chunk(digest_of(whole), 1000, whole[1000:2000])))
        here.cloud.mute = False
        here.line.join()
        await until(lambda: here.versions == {"pumps": 5}, "it scores")
        assert here.cloud.offsets[:4] == [0, 1000, 1000, 2024]


async def test_what_cannot_be_said_is_no_failure(tmp_path: Path) -> None:
    async with joined(tmp_path) as here:
        here.line.connected = False  # a broker that is gone, and nobody has noticed
        await here.cloud.publish(1, content(1))
        await until(lambda: here.models.swap.due() < 1 << 62, "it would have asked")
        here.line.connected = True
        here.models.changed(False, "the connection was lost")
        here.models.changed(True, "connected")
        await until(lambda: here.versions == {"pumps": 1}, "it scores after all")


async def test_a_refused_model_is_reported_up_once_and_counted(tmp_path: Path) -> None:
    async with joined(tmp_path) as here:
        expired = announce(1, content(1), expires=1)
        for _ in range(2):
            await here.cloud.bus.publish(MODELS, expired, retain=True)
        await here.cloud.bus.publish(MODELS, expired[:-1] + b"\x00", retain=True)
        await until(lambda: here.models.swap.refused == {"expired": 2, "signature": 1}, "they are refused")
        said = [(one.model, one.version, one.outcome, one.reason) for one in await here.reports()]
        assert said == [("pumps", 1, "refused", "expired"), ("pumps", 0, "refused", "signature")]
        assert here.pipeline.at.position == 2, "nothing was recorded but the boot and the configuration"


async def test_a_model_scores_on_after_a_restart_and_an_older_one_is_refused(tmp_path: Path) -> None:
    async with joined(tmp_path) as here:
        await here.cloud.publish(4, content(4))
        await until(lambda: here.versions == {"pumps": 4}, "it scores")
    async with joined(tmp_path) as again:
        assert again.versions == {"pumps": 4}
        assert again.status["models"] == {"pumps": 4}
        await again.cloud.publish(3, content(3))
        await until(lambda: again.models.swap.refused == {"older": 1}, "the older one is refused")
        await again.cloud.publish(4, content(4))
        await again.cloud.publish(5, content(5))
        await until(lambda: again.versions == {"pumps": 5}, "a newer one scores")
        assert again.models.swap.refused == {"older": 1}, "what scores may be announced again"


KEY = {"models": Models(public_key=SIGNER.public.hex())}
BUS = {"bus": Broker("mqtt://bus:1")}


@pytest.mark.parametrize(
    ("changes", "wanted", "address"),
    [
        ({}, False, None),
        (KEY, True, ("127.0.0.1", 1883)),
        (BUS, True, ("bus", 1)),
        (KEY | BUS, True, ("bus", 1)),
    ],
    ids=["neither", "a key", "a bus", "both"],
)
def test_the_bus_is_joined_when_there_is_something_to_do_on_it(
    changes: dict[str, Any], wanted: bool, address: tuple[str, int] | None, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(configuration(tmp_path), **({"models": Models()} | changes))
    assert config.wants_models == wanted
    if wanted:
        made = bus.connect(config, None, Random(1))
        assert (made._host, made._port) == address
        assert made._client_id == "fieldgate-barn-bus"


def test_a_bus_may_be_given_another_name_for_the_gateway(tmp_path: Path) -> None:
    config = msgspec.structs.replace(configuration(tmp_path), bus=Broker(client_id="edge-7"))
    assert bus._client_id(config.bus, config.name) == "edge-7"
    assert bus._client_id(None, config.name) == "fieldgate-barn-bus"

"""What gateways learnt comes back to them as a signed model, over a bus that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud.config import Models
from cloud.fleet import Fleet
from cloud.live import Live
from cloud.metrics import Counters
from cloud.publish import Publish
from cloud.store import Arrived, Batch
from cloud.store.sqlite import SqliteStore
from protocol.bus import MemoryBroker, MemoryBus
from protocol.errors import ModelRefused, StoreUnavailable
from protocol.identity import Signer
from protocol.manifest import digest_of, unseal
from protocol.settings import Duration
from protocol.topics import gateway_of, topic
from tests.cloud.taker import Taker, taking
from tests.cloud.wire import DEADLINE_S, Clock, S, Wire
from tests.waiting import until

SIGNER = Signer.from_seed(b"s" * 32)
HOUR = 3600 * S
SETTINGS = Models(min_interval=Duration(600 * S), refresh=Duration(36_000 * S), expires_after=Duration(9 * 86400 * S))


class Fickle(SqliteStore):
    """A store that fails as long as the test says."""

    away = False

    async def learnt(self, model: str) -> Any:
        if self.away:
            raise StoreUnavailable("the disk is gone")
        return await super().learnt(model)


class Cloud:
    """The part of a cloud that publishes, over a broker in memory; each gateway has its wire."""

    def __init__(self, store: Fickle, publish: Publish, bus: MemoryBus, clock: Clock) -> None:
        self.store, self.publish, self.bus, self.clock = store, publish, bus, clock
        self.wires: dict[str, Wire] = {}

    async def apply(self, gateway: str, *frames: Arrived) -> None:
        applied = await self.store.apply(Batch(gateway, self.wires[gateway].epoch, list(frames), 100))
        assert applied.accepted == len(frames)
        self.publish.on_news(gateway, applied.news)

    async def learns(self, gateway: str, windows: int, *, model: str = "t2", epoch: int = 7) -> None:
        """A gateway's statistics are committed, and time passes until a version may be due."""
        if gateway not in self.wires:
            self.wires[gateway] = Wire(gateway, epoch)
            await self.store.hello(self.wires[gateway].hello(), 0)
        wire = self.wires[gateway]
        await self.apply(gateway, wire.statistics(model, self.clock.now, windows))
        self.passes(HOUR)

    def passes(self, time: int) -> None:
        self.clock.now += time
        self.publish.look()

    def retained(self, gateway: str, model: str = "t2") -> bytes | None:
        return self.bus._broker.retained.get(f"{topic(gateway, 'models')}/{model}")


@asynccontextmanager
async def running(path: Path, bus: MemoryBus, clock: Clock, *, joined: bool = True) -> AsyncIterator[Cloud]:
    """A cloud on the database `path`; it has ended, without error, when this is left."""
    store = Fickle(path, clock)
    await store.open()
    counters = Counters()
    live = Live(Fleet(), most=1)
    publish = Publish(store, live, counters, signer=SIGNER, settings=SETTINGS, clock=clock)
    task = asyncio.create_task(publish.run(bus))
    try:
        cloud = Cloud(store, publish, bus, clock)
        if joined:
            bus.join()
        yield cloud
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.close()


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def cloud(tmp_path: Path, broker: MemoryBroker, clock: Clock) -> AsyncIterator[Cloud]:
    async with running(tmp_path / "test.db", MemoryBus(broker), clock) as cloud:
        yield cloud


@pytest.fixture
async def barn(broker: MemoryBroker) -> AsyncIterator[Taker]:
    with MemoryBus(broker) as bus:
        async with taking(bus, "barn", SIGNER.public) as taker:
            yield taker


async def test_what_a_gateway_learnt_comes_back_signed_and_whole(cloud: Cloud, barn: Taker) -> None:
    before = cloud.clock.now
    await cloud.learns("barn", 60)
    name, manifest = await barn.manifest()
    assert (name, manifest.name, manifest.version, manifest.schema) == ("t2", "t2", 1, "baseline/1")
    assert manifest.expires - manifest.created == 9 * 86400 * S
    assert before < manifest.created <= cloud.clock.now
    baseline = await barn.take(manifest, part=50)
    assert {features: (entry.weight, entry.mean.tolist()) for features, entry in baseline.entries.items()} == {
        ("t0",): (60.0, [60.0])
    }


async def test_the_next_version_holds_what_all_gateways_learnt(cloud: Cloud, barn: Taker) -> None:
    await cloud.learns("barn", 60)
    await barn.version(1)
    await cloud.learns("shed", 60)
    manifest = await barn.version(2)
    (entry,) = (await barn.take(manifest)).entries.values()
    assert entry.weight == 120
    await until(lambda: cloud.retained("shed") == cloud.retained("barn"), "both gateways have it")


async def test_a_gateway_that_comes_later_is_given_what_is_there_at_once(cloud: Cloud, barn: Taker) -> None:
    await cloud.learns("barn", 60)
    await barn.version(1)
    cloud.wires["shed"] = wire = Wire("shed")
    await cloud.store.hello(wire.hello(), 0)
    await cloud.apply("shed", wire.report("t2", 0, "refused", "unpinned"))
    sealed = await until(lambda: cloud.retained("shed"), "the newcomer has a manifest")
    assert unseal(sealed, SIGNER.public, gateway="shed").version == 1
    assert cloud.retained("shed", "rms") is None


async def test_while_the_bus_is_away_versions_are_made_and_given_when_it_is_back(
    tmp_path: Path, broker: MemoryBroker, clock: Clock, barn: Taker
) -> None:
    async with running(tmp_path / "test.db", MemoryBus(broker), clock, joined=False) as cloud:
        for windows in (60, 600):
            await cloud.learns("barn", windows)
            await until(lambda: cloud.publish.registry.versions, "a version is made")
        await until(lambda: cloud.publish.registry.versions == {"t2": 2}, "the next is made")
        assert broker.retained == {}
        cloud.bus.join()
        assert (await barn.manifest())[1].version == 2
        cloud.bus.cut()
        broker.retained.clear()  # a broker that forgot
        cloud.bus.join()
        assert (await barn.manifest())[1].version == 2


async def test_versions_go_on_after_a_restart_and_nothing_is_made_anew(
    tmp_path: Path, broker: MemoryBroker, clock: Clock, barn: Taker
) -> None:
    async with running(tmp_path / "test.db", MemoryBus(broker), clock) as cloud:
        await cloud.learns("barn", 60)
        first = await barn.version(1)
    async with running(tmp_path / "test.db", MemoryBus(broker), clock) as cloud:
        assert await barn.version(1) == first
        assert len((await barn.take(first)).entries) == 1
        assert cloud.publish.registry.versions == {"t2": 1}
        cloud.wires["barn"] = Wire("barn", 8)
        await cloud.store.hello(cloud.wires["barn"].hello(), 0)
        await cloud.learns("barn", 600)
        assert (await barn.version(2)).created > first.created


async def test_rolling_back_is_a_new_version_with_old_content(cloud: Cloud, barn: Taker) -> None:
    await cloud.learns("barn", 60)
    first = await barn.version(1)
    await cloud.learns("barn", 600)
    second = await barn.version(2)
    assert second.digest != first.digest
    assert await cloud.publish.roll_back("t2") == (3, 1)
    third = await barn.version(3)
    assert (third.digest, third.size) == (first.digest, first.size)
    assert len((await barn.take(third)).entries) == 1
    for model, version in (("t2", 9), ("other", 1), ("other", None)):
        with pytest.raises(ModelRefused, match="version"):
            await cloud.publish.roll_back(model, version)


def given(cloud: Cloud, gateway: str) -> tuple[int, str]:
    """The version and digest that a gateway is given now; (0, "") for none."""
    sealed = cloud.retained(gateway)
    manifest = unseal(sealed, SIGNER.public, gateway=gateway) if sealed else None
    return (manifest.version, manifest.digest) if manifest else (0, "")


async def test_a_gateway_that_is_pinned_stays_while_the_others_go_on_and_comes_after_them_later(cloud: Cloud) -> None:
    await cloud.learns("barn", 60)
    await until(lambda: given(cloud, "barn")[0] == 1, "version 1 is there")
    first = given(cloud, "barn")[1]
    await cloud.learns("shed", 600)
    await until(lambda: given(cloud, "barn")[0] == given(cloud, "shed")[0] == 2, "version 2 is there")
    second = given(cloud, "shed")[1]
    assert await cloud.publish.pin("t2", 1, "barn") == 1
    await until(lambda: given(cloud, "barn") == (3, first), "barn is given the first content again")
    assert given(cloud, "shed") == (2, second)
    assert await cloud.publish.unpin("t2", "barn") == 1
    await until(lambda: given(cloud, "barn") == given(cloud, "shed") == (4, second), "both are given the newest")


async def test_nothing_is_published_of_a_model_that_is_pinned_for_all_even_after_a_restart(
    tmp_path: Path, broker: MemoryBroker, clock: Clock
) -> None:
    async with running(tmp_path / "test.db", MemoryBus(broker), clock) as cloud:
        await cloud.learns("barn", 60)
        await until(lambda: given(cloud, "barn")[0] == 1, "version 1 is there")
        assert await cloud.publish.pin("t2", None, None) == 1
    async with running(tmp_path / "test.db", MemoryBus(broker), clock) as cloud:
        await until(lambda: cloud.publish.pins.holds("t2"), "the pin is known")
        cloud.wires["barn"] = Wire("barn", 8)
        await cloud.store.hello(cloud.wires["barn"].hello(), 0)
        await cloud.learns("barn", 600)
        await until(lambda: cloud.publish.registry.due() > clock.now, "it was looked at what is due")
        with pytest.raises(ModelRefused, match="pinned"):
            await cloud.publish.push("t2", await content_of(cloud), [])
        assert given(cloud, "barn")[0] == 1
        await cloud.publish.unpin("t2", None)
        cloud.passes(HOUR)
        await until(lambda: given(cloud, "barn")[0] == 2, "what was learnt meanwhile is published")
        for model, gateway in (("t2", None), ("t2", "barn"), ("other", None)):
            with pytest.raises(ModelRefused, match="pins"):
                await cloud.publish.unpin(model, gateway)


async def content_of(cloud: Cloud) -> bytes:
    content = await cloud.publish.content("t2")
    assert content is not None
    return content


async def test_what_is_pushed_is_a_new_version_if_it_may_score(cloud: Cloud) -> None:
    await cloud.learns("barn", 60)
    await until(lambda: given(cloud, "barn")[0] == 1, "version 1 is there")
    content = await content_of(cloud)
    assert await cloud.publish.push("t2", content, ["mill"]) == 2
    await until(lambda: given(cloud, "barn")[0] == 2, "version 2 is there")
    assert given(cloud, "mill") == (0, "")  # a baseline is for those who have its [[score]]
    with pytest.raises(ModelRefused, match="content"):
        await cloud.publish.push("t2", content[:-1], [])


async def test_an_onnx_model_is_a_version_like_any_other(cloud: Cloud) -> None:
    from tests.gateway.pump_onnx import RIGHT  # noqa: PLC0415 - skips this one where onnx is missing
    from tests.gateway.test_classify import GOOD  # noqa: PLC0415 - comes with it

    publish = cloud.publish
    assert [await publish.push("t2", content, ["mill"]) for content in (RIGHT, GOOD)] == [1, 2]
    assert await publish.pin("t2", 1, "mill") == 1
    await until(lambda: given(cloud, "mill") == (3, digest_of(RIGHT)), "the first again, under a number of its own")
    await publish.unpin("t2", "mill")
    await until(lambda: given(cloud, "mill") == (4, digest_of(GOOD)), "the newest again")
    assert await publish.roll_back("t2") == (5, 1)
    await publish.promote("t2", RIGHT, 0, ["mill"])  # is in force: nothing new
    [view] = await cloud.store.models()
    assert sorted((one.version, one.schema) for one in view.versions) == [
        *[(1, "onnx/1"), (2, "classifier/1"), (4, "classifier/1"), (5, "onnx/1")]
    ]


async def test_a_store_that_fails_delays_a_version_and_costs_nothing_else(cloud: Cloud, barn: Taker) -> None:
    cloud.store.away = True
    await cloud.learns("barn", 60)
    await until(lambda: cloud.publish.registry.due() == cloud.clock.now + 2 * S, "it was tried, and is due again")
    cloud.store.away = False
    cloud.passes(HOUR)
    await barn.version(1)


async def test_statistics_of_too_little_make_no_version(cloud: Cloud) -> None:
    await cloud.learns("barn", 1)
    await cloud.learns("shed", 60)
    await until(lambda: cloud.publish.registry.versions, "a version is made")
    assert (await cloud.store.published())[0].windows == 2  # shed counts for no more than the lesser of two


# Parts


async def test_a_part_is_as_long_as_was_asked_for_and_ends_with_the_content(cloud: Cloud, barn: Taker) -> None:
    await cloud.learns("barn", 60)
    manifest = await barn.version(1)
    asked = [(0, 10), (manifest.size - 3, 10), (manifest.size, 10), (1 << 52, 10)]
    assert [len((await barn.ask(manifest.digest, *place)).data) for place in asked] == [10, 3, 0, 0]
    unknown = await barn.ask("f" * 64, 5, 10)
    assert (unknown.digest, unknown.offset, unknown.data) == ("f" * 64, 5, b"")


async def test_what_is_no_want_and_who_has_no_model_is_not_answered(
    cloud: Cloud, barn: Taker, broker: MemoryBroker
) -> None:
    await cloud.learns("barn", 60)
    manifest = await barn.version(1)
    with MemoryBus(broker) as bus:
        async with taking(bus, "stranger", SIGNER.public) as stranger:
            await stranger.want(manifest.digest, 0, 10)
    await barn.bus.publish(topic("barn", "wants"), b"\xff nonsense")
    await barn.want("no digest", 0, 10)
    await barn.ask(manifest.digest, 0, 10)
    assert cloud.publish.counters.wants_refused == {"gateway": 1, "want": 2}
    assert cloud.publish.counters.chunks_sent == 1


async def test_a_gateway_that_asks_without_end_holds_up_no_other(
    cloud: Cloud, barn: Taker, broker: MemoryBroker
) -> None:
    await cloud.learns("barn", 60)
    await cloud.learns("shed", 60)
    manifest = await barn.version(1)
    with MemoryBus(broker) as bus:
        async with taking(bus, "shed", SIGNER.public) as shed, bus.subscribe("fieldgate/v1/+/chunks") as answers:
            for _ in range(100):
                await shed.want(manifest.digest, 0, 10)
            for _ in range(3):
                await barn.want(manifest.digest, 0, 10)
            order = [gateway_of((await anext(answers)).topic) for _ in range(11)]
    assert order == ["shed", "barn"] * 3 + ["shed"] * 5
    assert cloud.publish.counters.wants_refused == {"busy": 92}


class Slow(MemoryBus):
    """A bus whose retained messages wait for the test."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.taken: asyncio.Queue[bytes] = asyncio.Queue()
        self.let = asyncio.Semaphore(0)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.taken.put_nowait(payload)
        await self.let.acquire()
        await super().publish(topic, payload, retain=retain)


async def test_a_version_made_while_the_one_before_is_on_its_way_is_given_too(
    tmp_path: Path, broker: MemoryBroker, clock: Clock
) -> None:
    bus = Slow(broker)
    async with running(tmp_path / "test.db", bus, clock) as cloud, asyncio.timeout(DEADLINE_S):
        await cloud.learns("barn", 60)
        await bus.taken.get()
        await cloud.learns("barn", 600)
        await until(lambda: cloud.publish.registry.versions == {"t2": 2}, "the next version is made")
        bus.let.release()
        bus.let.release()
        assert unseal(await bus.taken.get(), SIGNER.public).version == 2


async def test_it_ends_while_it_waits_for_anything(tmp_path: Path, broker: MemoryBroker, clock: Clock) -> None:
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(running(tmp_path / "test.db", MemoryBus(broker), clock, joined=False))
        await cloud.learns("barn", 60)
        await until(lambda: cloud.publish.registry.versions, "a version waits for the bus")

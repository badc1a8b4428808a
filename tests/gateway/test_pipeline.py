"""One gateway at work against a broker that obeys the test, on disks that do not."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mqtt5
import msgspec
import pytest

from gateway import outward, pipeline, recovery
from gateway.clock import Clock
from gateway.config import Broker, Duration, GatewayConfig, Http, Journal, Rule, Size, Source, Time, Window
from gateway.derive import Derive
from gateway.intake.drops import Drops
from gateway.journal import Checkpoints
from gateway.pipeline import Pipeline
from gateway.records import Arrivals
from gateway.segment import Files, OsFiles
from gateway.spool import Spool
from protocol import frame
from protocol.columns import decode_windows
from protocol.errors import JournalUnusable
from protocol.messages import Alert
from tests.fake_broker import FakeBroker, Peer, publish
from tests.journeys.processes import get
from tests.waiting import DEADLINE_S, until

MS = 10**6


def configuration(directory: Path, url: str = "mqtt://127.0.0.1:1") -> GatewayConfig:
    return GatewayConfig(
        "edge",
        str(directory / "data"),
        (Source("s/{device}/{measurement}", format="number"),),
        Broker(url),
        window=(Window(size=Duration(50 * MS)),),
        time=Time(idle=Duration(50 * MS)),
        journal=Journal(checkpoint_interval=Duration(50 * MS), commit_interval=Duration(5 * MS)),
    )


@asynccontextmanager
async def running(config: GatewayConfig, files: Files | None = None) -> AsyncIterator[Pipeline]:
    """Run a gateway on this loop; it is told to end when the block ends, and must."""
    stop = asyncio.Event()
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(pipeline.run(config, files=files, on_ready=ready.set_result, stop=stop), name="gateway")
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not ready.done():
            await task
        yield ready.result()
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await task


async def acknowledged(peer: Peer, number: int) -> set[int]:
    return {(await peer.expect(mqtt5.PubAckPacket)).packet_id for _ in range(number)}


@dataclass
class Disk(OsFiles):
    """Real files; while `full`, nothing can be written below the directory of that name. `hold` stops syncs."""

    full: str = ""
    refused: int = 0
    hold: threading.Event = field(default_factory=threading.Event)
    syncing: threading.Event = field(default_factory=threading.Event)
    _paths: dict[int, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hold.set()

    def create(self, path: Path) -> int:
        self._check(path)
        descriptor = super().create(path)
        self._paths[descriptor] = path
        return descriptor

    def reopen(self, path: Path) -> int:
        descriptor = super().reopen(path)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        self._check(self._paths[descriptor])
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self.syncing.set()
        assert self.hold.wait(DEADLINE_S), "somebody forgot us"
        super().sync(descriptor)

    def _check(self, path: Path) -> None:
        if self.full and self.full in path.parts:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_message_is_acknowledged_after_its_commit_and_not_before(
    tmp_path: Path, fake_broker: FakeBroker
) -> None:
    disk = Disk()
    async with running(configuration(tmp_path, fake_broker.url), disk) as gateway:
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(publish(1, packet_id=1))
        assert await acknowledged(peer, 1) == {1}
        disk.hold.clear()
        disk.syncing.clear()
        peer.send(publish(2, packet_id=2))
        await until(lambda: gateway.at.derive.totals.recorded == 2 and disk.syncing.is_set(), "the second is applied")
        assert gateway.inward.intake is not None
        assert gateway.inward.intake.counters.acknowledged == 1
        disk.hold.set()
        assert await acknowledged(peer, 1) == {2}
        await until(lambda: gateway.at.derive.pending == 0, "all windows are closed")
    assert stated(tmp_path) == 2


async def test_an_alert_goes_out_at_once_before_the_commit_that_its_acknowledgement_waits_for(
    tmp_path: Path, fake_broker: FakeBroker
) -> None:
    disk = Disk()
    config = configuration(tmp_path, fake_broker.url)
    async with running(msgspec.structs.replace(config, rule=(Rule(when="value > 5", name="hot"),)), disk) as gateway:
        peer = await fake_broker.accept()
        await peer.greet()
        disk.hold.clear()
        peer.send(publish(9, packet_id=1))
        said = await peer.expect(mqtt5.PublishPacket)
        assert gateway.inward.intake is not None
        assert gateway.inward.intake.counters.acknowledged == 0
        alert = json.loads(said.payload)
        assert (said.topic, said.qos, said.retain) == ("fieldgate/v1/edge/alerts", mqtt5.QoS.AT_MOST_ONCE, False)
        assert (alert["rule"], alert["series"], alert["score"], alert["threshold"]) == ("hot", ["d/m"], 9.0, 5.0)
        disk.hold.set()
        assert await acknowledged(peer, 1) == {1}
        assert gateway.vitals().totals.alerts == 1
    assert [one.start for one in alerted(tmp_path)] == [alert["start"]]


async def test_a_message_that_cannot_be_read_is_acknowledged_like_any_other(
    tmp_path: Path, fake_broker: FakeBroker
) -> None:
    async with running(configuration(tmp_path, fake_broker.url)) as gateway:
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(
            mqtt5.PublishPacket("s/d/m", b"warm", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1), publish(5, packet_id=2)
        )
        assert await acknowledged(peer, 2) == {1, 2}
        tally = gateway.at.derive.totals.tally
        assert (tally.messages, tally.decoded, tally.dead) == (2, 1, {"number": 1})


@pytest.mark.parametrize("where", ["journal", "spool", "checkpoints"])
async def test_a_full_disk_is_survived(
    where: str, tmp_path: Path, fake_broker: FakeBroker, short_retries: None
) -> None:
    del short_retries
    disk = Disk()
    async with running(configuration(tmp_path, fake_broker.url), disk) as gateway:
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(publish(1, packet_id=1))
        assert await acknowledged(peer, 1) == {1}
        disk.full, before = where, disk.refused
        peer.send(*(publish(n, packet_id=n) for n in range(2, 12)))
        if where == "journal":
            await until(lambda: gateway.stalled and disk.refused > before + 2, "the journal has been refused again")
            assert gateway.inward.intake is not None
            assert gateway.inward.intake.counters.acknowledged == 1
            assert gateway.vitals().lacking == ["journal: the last commit failed"]
        else:
            assert await acknowledged(peer, 10) == set(range(2, 12))
            await until(lambda: disk.refused > before + 2, f"the {where} have been refused again")
        disk.full = ""
        if where == "journal":
            assert await acknowledged(peer, 10) == set(range(2, 12))
        await until(lambda: gateway.at.derive.pending == 0, "all windows are closed")
    assert stated(tmp_path) == 11
    assert checkpointed(tmp_path).totals.windowed == 11


@pytest.fixture
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "RETRY_S", 0.02)
    monkeypatch.setattr(outward, "RETRY_S", 0.02)


async def test_intake_stops_reading_while_too_much_waits_for_the_disk(tmp_path: Path, fake_broker: FakeBroker) -> None:
    disk = Disk()
    config = configuration(tmp_path, fake_broker.url)
    config = msgspec.structs.replace(config, journal=msgspec.structs.replace(config.journal, max_pending=Size(1)))
    async with running(config, disk) as gateway:
        peer = await fake_broker.accept()
        await peer.greet()
        disk.hold.clear()
        peer.send(publish(1, packet_id=1))
        assert gateway.inward.intake is not None
        intake = gateway.inward.intake
        await until(lambda: intake.held, "intake holds")
        disk.hold.set()
        assert await acknowledged(peer, 1) == {1}
        await until(lambda: not intake.held, "intake goes on")
        peer.send(publish(2, packet_id=2))
        assert await acknowledged(peer, 1) == {2}


async def test_a_checkpoint_waits_for_outputs_that_are_not_spooled_though_their_record_is_durable(
    tmp_path: Path,
) -> None:
    config = msgspec.structs.replace(configuration(tmp_path), time=Time(idle=Duration(10**12)))
    opened = recovery.recover(config, OsFiles(), 0, lambda: 7)
    now = [18 * 10**17]
    gateway = Pipeline(config, opened, Clock(wall=lambda: now[0]))
    gateway.inward.begin()
    assert await gateway.commit()
    for number in (b"1", b"2"):  # a second apart: the second closes the window of the first
        gateway.inward.arrived(Arrivals(["s/d/m"], [number], [], range(0), None, 1))
        gateway.inward.close_record()
        now[0] += 10**9
    gateway.journal.commit()  # as a commit does that began a moment before the record was taken
    assert gateway.journal.durable == gateway.at.position == 4
    assert gateway.at.behind == 4 * recovery.RECORD_COST
    assert await gateway.checkpoint()
    assert gateway.at.behind == 0
    assert gateway.spool.frames("telemetry") == 1
    assert gateway.spool.cover("telemetry").record == 4
    gateway.stop()
    await gateway.finish()


async def test_what_arrives_while_a_commit_waits_for_another_is_not_forgotten(tmp_path: Path) -> None:
    disk = Disk()
    config = msgspec.structs.replace(configuration(tmp_path), time=Time(idle=Duration(10**12)))
    gateway = Pipeline(config, recovery.recover(config, disk, 0, lambda: 7), Clock())
    gateway.inward.begin()
    disk.hold.clear()
    disk.syncing.clear()
    commits = [asyncio.create_task(gateway.commit()), asyncio.create_task(gateway.commit())]
    await until(disk.syncing.is_set, "the first commit is at work, and the second waits for it")
    gateway.inward.arrived(Arrivals(["s/d/m"], [b"1"], [1], range(1), None, 1))
    disk.hold.set()
    assert await asyncio.gather(*commits) == [True, True]
    assert gateway.journal.durable == gateway.at.position == 3
    gateway.stop()
    await gateway.finish()


async def test_a_gateway_starts_on_a_full_disk(tmp_path: Path, fake_broker: FakeBroker, short_retries: None) -> None:
    del short_retries
    config = configuration(tmp_path, fake_broker.url)
    opened = recovery.recover(config, OsFiles(), 0, lambda: 7)
    gateway = Pipeline(config, opened, Clock())
    gateway.inward.begin()
    gateway.inward.arrived(Arrivals(["s/d/m"], [b"1"], [], range(0), None, 1))
    gateway.inward.close_record()
    gateway.journal.commit()  # and then it is killed: the replay has something to spool
    gateway.stop()
    gateway.journal.close()
    gateway.spool.close()
    disk = Disk(full="data")
    async with running(config, disk) as again:
        await until(lambda: again.stalled, "the disk refuses the journal too")
        disk.full = ""
        await until(lambda: again.at.derive.pending == 0 and not again.stalled, "there is room again")
    assert stated(tmp_path) == 1


async def test_drops_that_were_written_down_before_a_kill_and_not_told_raise_one_alert(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broker.json").write_bytes(msgspec.json.encode(Drops(70, 30)))
    for _ in range(2):
        async with running(config) as gateway:
            assert gateway.at.derive.drops == 30
    assert [(one.series, one.rule, one.score) for one in alerted(tmp_path)] == [([], "broker", 30.0)]


async def test_a_count_of_drops_that_is_behind_what_was_told_raises_no_alert(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    (tmp_path / "data").mkdir()
    for drops in (Drops(70, 30), Drops(60, 20)):  # the second could not be replaced: the disk was full
        (tmp_path / "data" / "broker.json").write_bytes(msgspec.json.encode(drops))
        async with running(config) as gateway:
            assert gateway.at.derive.drops == drops.total
    assert [one.score for one in alerted(tmp_path)] == [30.0]


async def test_a_changed_configuration_is_a_record_and_the_same_one_is_not(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    changed = msgspec.structs.replace(config, window=(Window(size=Duration(80 * MS)),))
    kinds = []
    for one in (config, config, changed, changed):
        async with running(one) as gateway:
            kinds.append(gateway.at.position)
    # A start says which boot it is; the first and the third also say the configuration.
    assert kinds == [2, 3, 5, 6]
    assert checkpointed(tmp_path).config == changed.pipeline


async def test_a_gateway_ends_when_another_has_its_directory(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    async with running(config):
        with pytest.raises(JournalUnusable, match="in use by another process"):
            await pipeline.run(config, stop=asyncio.Event())


async def test_redelivered_messages_are_acknowledged_and_not_recorded_again(
    tmp_path: Path, fake_broker: FakeBroker
) -> None:
    config = configuration(tmp_path, fake_broker.url)
    async with running(config):
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(publish(1, packet_id=1))
        assert await acknowledged(peer, 1) == {1}
    async with running(config) as gateway:
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(publish(1, packet_id=1, duplicate=True), publish(2, packet_id=2))
        assert await acknowledged(peer, 2) == {1, 2}
        totals = gateway.at.derive.totals
        assert (totals.recorded, totals.tally.messages, totals.tally.redelivered) == (2, 3, 1)


def stated(directory: Path) -> int:
    """How many readings the spooled windows count; each in one window, never revised."""
    spool = Spool.open(OsFiles(), directory / "data" / "spool", configuration(directory).spool, new_epoch=lambda: 1)
    bodies = [frame.load(held.kind, held.body) for held in spool.each("telemetry")]
    spool.close()
    return sum(int(decode_windows(body.columns).count.sum()) for body in bodies)


def alerted(directory: Path) -> list[Alert]:
    """Give the spooled alerts."""
    spool = Spool.open(OsFiles(), directory / "data" / "spool", configuration(directory).spool, new_epoch=lambda: 1)
    bodies = [frame.load(held.kind, held.body) for held in spool.each("alerts")]
    spool.close()
    return [alert for body in bodies for alert in body.alerts]


def checkpointed(directory: Path) -> Derive:
    """The state that the newest checkpoint holds."""
    found = Checkpoints(OsFiles(), directory / "data" / "checkpoints").load()
    assert found is not None
    return Derive.restore(found[1]["derive"])


async def test_a_gateway_whose_bus_cannot_be_reached_works_on(
    tmp_path: Path, fake_broker: FakeBroker, free_port: Callable[[], int]
) -> None:
    here = f"127.0.0.1:{free_port()}"
    config = configuration(tmp_path, fake_broker.url)
    nowhere = msgspec.structs.replace(config, bus=Broker("mqtt://127.0.0.1:1"), http=Http(here))
    async with running(nowhere) as gateway:
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(publish(1, packet_id=1))
        assert await acknowledged(peer, 1) == {1}
        assert gateway.bus is not None
        assert not gateway.bus.connected
        assert gateway.vitals().lacking == []
        assert await get(f"http://{here}/readyz") == b"ready\n"
        await until(lambda: gateway.at.derive.pending == 0, "all windows are closed")
    assert stated(tmp_path) == 1


async def test_a_timer_that_fails_ends_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Derive) -> int:
        raise ZeroDivisionError

    ready: asyncio.Future[Pipeline] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(pipeline.run(configuration(tmp_path), on_ready=ready.set_result, stop=asyncio.Event()))
    gateway = await ready
    monkeypatch.setattr(Derive, "due", broken)
    gateway.inward._guarded(gateway.inward.tick)
    with pytest.raises(ExceptionGroup) as ended:
        await task
    assert ended.group_contains(ZeroDivisionError)

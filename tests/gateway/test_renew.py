"""A gateway at work takes another configuration on SIGHUP: what changed is applied, and a refusal changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import mqtt5
import pytest
from msgspec.structs import replace

from gateway import pipeline
from gateway.config import (
    Broker,
    Classify,
    Duration,
    GatewayConfig,
    Http,
    Journal,
    Models,
    Rule,
    Size,
    Source,
    Uplink,
    Window,
    pipeline_text,
)
from gateway.pipeline import Pipeline
from gateway.records import ConfigurationRecord, ReadingsRecord
from gateway.renew import File
from gateway.segment import Files
from protocol.errors import ConfigurationRefused
from tests.fake_broker import FakeBroker, Peer, publish
from tests.gateway.test_pipeline import MS, Disk, acknowledged, configuration
from tests.journeys.processes import get
from tests.systemd import Listener, listening
from tests.waiting import until

HOUR = Duration(3600 * 10**9)


@dataclass
class Editor:
    """A configuration file as an operator changes it, and the gateway that reads it."""

    config: GatewayConfig
    gateway: Pipeline | None = None
    refusal: ConfigurationRefused | None = None
    reads: int = 0

    def read(self) -> GatewayConfig:
        self.reads += 1
        if self.refusal is not None:
            raise self.refusal
        return self.config

    @property
    def at_work(self) -> Pipeline:
        assert self.gateway is not None
        return self.gateway

    async def reload(self, **changes: object) -> dict[str, int]:
        """Change the file, send SIGHUP, wait until it is answered; give what that adds to the outcomes."""
        self.config = replace(self.config, **changes)
        outcomes = self.at_work.reloads.outcomes
        before = dict(outcomes)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: outcomes != before, "the reload has ended")
        return {outcome: number - before[outcome] for outcome, number in outcomes.items() if number > before[outcome]}

    def records(self) -> list[object]:
        return [record for _, record in self.at_work.journal.records(1)]


@asynccontextmanager
async def running(config: GatewayConfig, files: Files | None = None, *, asked: bool = False) -> AsyncIterator[Editor]:
    """Run a gateway on this loop; `asked` for a reload before it is ready."""
    editor, stop = Editor(config), asyncio.Event()
    ready = asyncio.get_running_loop().create_future()
    gateway = pipeline.run(
        config, files=files, on_ready=ready.set_result, stop=stop, file=File("gateway.toml", editor.read)
    )
    task = asyncio.create_task(gateway, name="gateway")
    if asked:
        await asyncio.sleep(0)  # its first step takes the signal
        os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not ready.done():
            await task
        editor.gateway = ready.result()
        yield editor
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await task


async def greeted(broker: FakeBroker) -> Peer:
    peer = await broker.accept()
    await peer.greet()
    return peer


@pytest.fixture
def config(tmp_path: Path, fake_broker: FakeBroker) -> GatewayConfig:
    return configuration(tmp_path, fake_broker.url)


async def test_an_open_window_survives_a_change_of_other_definitions(
    config: GatewayConfig, fake_broker: FakeBroker
) -> None:
    long = Window(size=HOUR)
    async with running(replace(config, window=(long,))) as edited:
        peer = await greeted(fake_broker)
        peer.send(publish(1, packet_id=1))
        assert await acknowledged(peer, 1) == {1}
        assert await edited.reload(window=(Window(size=Duration(60 * 10**9)), long)) == {"applied": 1}
        peer.send(publish(2, packet_id=2))
        assert await acknowledged(peer, 1) == {2}
        assert await edited.reload(window=(long,), rule=(Rule("value > 3"),)) == {"applied": 1}
        assert edited.at_work.at.derive.totals.windows == 1, "that of the definition that went"
        assert edited.at_work.at.derive.pending == 1
        records = [one for one in edited.records() if isinstance(one, ConfigurationRecord | ReadingsRecord)]
        assert [type(one) for one in records[:4]] == [
            ConfigurationRecord,
            ReadingsRecord,
            ConfigurationRecord,
            ReadingsRecord,
        ]
        edited.at_work.inward.close_record()
        await edited.at_work.commit()
        last = [one for one in edited.records() if isinstance(one, ConfigurationRecord)][-1]
        assert last.text == pipeline_text(edited.config.pipeline)


async def test_what_was_not_changed_makes_no_record_and_no_connection(
    config: GatewayConfig, fake_broker: FakeBroker
) -> None:
    async with running(config) as edited:
        peer = await greeted(fake_broker)
        before = edited.at_work.journal.next
        assert await edited.reload() == {"unchanged": 1}
        assert await edited.reload(journal=Journal(commit_interval=Duration(7 * MS), max_bytes=Size(1 << 20))) == {
            "applied": 1
        }
        assert edited.at_work.journal.next == before
        assert edited.at_work.inward.gate.interval == 7 * MS
        assert edited.at_work.journal.settings.max_bytes == 1 << 20
        peer.send(publish(1, packet_id=1))
        assert await acknowledged(peer, 1) == {1}


async def test_other_sources_are_subscribed_before_the_old_ones_are_left(
    config: GatewayConfig, fake_broker: FakeBroker
) -> None:
    async with running(config) as edited:
        peer = await greeted(fake_broker)
        peer.send(publish(1, packet_id=1))
        assert await acknowledged(peer, 1) == {1}
        kept = Source("u/{device}/{measurement}", format="number", qos=0)
        assert await edited.reload(source=(Source("t/{device}/{measurement}", format="number"), kept)) == {"applied": 1}
        asked = await peer.expect(mqtt5.SubscribePacket)
        assert [(one.pattern, int(one.max_qos)) for one in asked.topic_filters] == [("t/+/+", 1), ("u/+/+", 0)]
        assert (await peer.expect(mqtt5.UnsubscribePacket)).patterns == ["s/+/+"]
        peer.send(publish(2, packet_id=2, topic="t/d/m"), publish(3, packet_id=3, topic="s/d/m"))
        assert await acknowledged(peer, 2) == {2, 3}
        tally = edited.at_work.at.derive.totals.tally
        assert (edited.at_work.at.derive.names, tally.dead) == (["d/m"], {"topic": 1})

        assert await edited.reload(source=(replace(kept, qos=1),)) == {"applied": 1}
        asked = await peer.expect(mqtt5.SubscribePacket)
        assert [(one.pattern, int(one.max_qos)) for one in asked.topic_filters] == [("u/+/+", 1)]
        assert (await peer.expect(mqtt5.UnsubscribePacket)).patterns == ["t/+/+"]


async def test_what_has_arrived_is_read_by_the_sources_that_were(
    config: GatewayConfig, fake_broker: FakeBroker
) -> None:
    slow = Journal(record_interval=HOUR, commit_interval=HOUR)
    async with running(replace(config, journal=slow)) as edited:
        peer = await greeted(fake_broker)
        peer.send(publish(1, packet_id=1))
        await until(lambda: edited.at_work.inward.gathered, "it waits for its record")
        assert await edited.reload(source=(Source("t/{device}/{measurement}", format="number"),)) == {"applied": 1}
        tally = edited.at_work.at.derive.totals.tally
        assert (tally.decoded, tally.dead) == (1, {})


async def test_sources_that_changed_while_the_broker_was_away_are_told_when_it_is_back(
    config: GatewayConfig, fake_broker: FakeBroker
) -> None:
    async with running(config) as edited:
        peer = await fake_broker.accept()
        await peer.expect(mqtt5.ConnectPacket)
        assert await edited.reload(source=(Source("t/{device}/{measurement}"),)) == {"applied": 1}
        peer.send(mqtt5.ConnAckPacket(session_present=True))
        asked = await peer.expect(mqtt5.SubscribePacket)
        assert [one.pattern for one in asked.topic_filters] == ["t/+/+"]
        assert (await peer.expect(mqtt5.UnsubscribePacket)).patterns == ["s/+/+"]


async def test_a_change_of_the_broker_makes_that_connection_again_and_keeps_the_session(
    config: GatewayConfig, fake_broker: FakeBroker
) -> None:
    disk = Disk()
    async with running(config, disk) as edited:
        peer = await fake_broker.accept()
        first = await peer.greet()
        disk.hold.clear()
        peer.send(publish(1, packet_id=1))
        await until(lambda: edited.at_work.inward.gathered or edited.at_work.journal.pending_bytes, "it has arrived")
        changed = Broker(fake_broker.url, keepalive=Duration(9 * 10**9), receive_maximum=77)
        assert await edited.reload(devices=changed) == {"applied": 1}
        await peer.gone()
        peer = await fake_broker.accept()
        second = await peer.greet(mqtt5.ConnAckPacket(session_present=True))
        disk.hold.set()
        assert (second.client_id, second.clean_start) == (first.client_id, False)
        assert (second.keep_alive, second.receive_max) == (9, 77)
        peer.send(publish(1, packet_id=1, duplicate=True), publish(2, packet_id=2))
        assert await acknowledged(peer, 2) == {1, 2}
        tally = edited.at_work.at.derive.totals.tally
        assert (tally.decoded, tally.redelivered) == (2, 1)


async def test_a_refused_file_changes_nothing_and_is_said_until_one_is_taken(
    config: GatewayConfig, fake_broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(config) as edited:
        await greeted(fake_broker)
        edited.refusal = ConfigurationRefused("window[0].size", "0s", "more than 0")
        assert await edited.reload(max_series=3) == {"refused": 1}
        said = "gateway.toml: window[0].size = '0s': expected more than 0"
        assert edited.at_work.reloads.refusal == said
        assert edited.at_work.config == config
        (record,) = [one for one in caplog.records if one.name == "fieldgate.reload"]
        assert (record.levelno, said in record.message) == (logging.ERROR, True)
        edited.refusal = None
        assert await edited.reload() == {"applied": 1}
        assert (edited.at_work.reloads.refusal, edited.at_work.config.max_series) == ("", 3)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "other"}, "name"),
        ({"devices": Broker(password_file="/absent")}, "devices.password_file"),
        ({"devices": Broker("mqtts://localhost", ca_file="/absent")}, "devices.ca_file"),
        ({"uplink": Uplink(url="http://127.0.0.1:1", token_file="/absent")}, "uplink.token_file"),
        ({"uplink": Uplink(url="http://127.0.0.1:1", token_env="PATH", ca_file="/absent")}, "uplink.ca_file"),
        ({"http": Http("127.0.0.1:1")}, "http.listen"),
    ],
    ids=["another name", "no password", "no authorities", "no token", "no authorities of the cloud", "a taken address"],
)
async def test_what_cannot_be_had_is_refused_before_anything_changes(
    config: GatewayConfig, fake_broker: FakeBroker, changes: dict[str, object], key: str
) -> None:
    if key == "http.listen":
        taken = fake_broker.url.rpartition(":")[2]
        changes = {"http": Http(f"127.0.0.1:{taken}")}
    async with running(config) as edited:
        peer = await greeted(fake_broker)
        assert await edited.reload(**changes, rule=(Rule("value > 3"),)) == {"refused": 1}
        assert edited.at_work.reloads.refusal.startswith(f"gateway.toml: {key} = ")
        assert (edited.at_work.config, edited.at_work.at.derive.config) == (config, config.pipeline)
        peer.send(publish(1, packet_id=1))
        assert await acknowledged(peer, 1) == {1}


async def test_its_own_address_moves(
    config: GatewayConfig, fake_broker: FakeBroker, free_port: Callable[[], int]
) -> None:
    first, second = free_port(), free_port()
    async with running(replace(config, http=Http(f"127.0.0.1:{first}"))) as edited:
        await greeted(fake_broker)
        assert await get(f"http://127.0.0.1:{first}/livez") == b"alive\n"
        assert await edited.reload(http=Http(f"127.0.0.1:{second}")) == {"applied": 1}
        assert [await get(f"http://127.0.0.1:{port}/livez") for port in (first, second)] == [b"", b"alive\n"]
        assert await edited.reload(http=Http()) == {"applied": 1}
        assert await get(f"http://127.0.0.1:{second}/livez") == b""


async def test_a_reload_during_a_commit_waits_for_nothing(config: GatewayConfig, fake_broker: FakeBroker) -> None:
    disk = Disk()
    async with running(config, disk) as edited:
        peer = await greeted(fake_broker)
        disk.hold.clear()
        disk.syncing.clear()
        peer.send(publish(1, packet_id=1))
        await until(disk.syncing.is_set, "a commit is under way")
        assert await edited.reload(rule=(Rule("value > 3"),)) == {"applied": 1}
        peer.send(publish(5, packet_id=2))
        await until(lambda: edited.at_work.at.derive.totals.recorded == 2, "both are recorded")
        disk.hold.set()
        said = [await peer.read() for _ in range(3)]  # the alert goes out as soon as it is raised
        assert {one.packet_id for one in said if isinstance(one, mqtt5.PubAckPacket)} == {1, 2}
        assert [one.topic for one in said if isinstance(one, mqtt5.PublishPacket)] == ["fieldgate/v1/edge/alerts"]
        assert edited.at_work.at.derive.totals.alerts == 1, "the new rule judges what came after it"


async def test_a_hangup_before_it_is_ready_is_a_reload_when_it_is(
    config: GatewayConfig, fake_broker: FakeBroker
) -> None:
    async with running(config, asked=True) as edited:
        await greeted(fake_broker)
        await until(lambda: edited.at_work.reloads.outcomes["unchanged"] == 1, "it was read again")


async def test_hangups_while_one_is_answered_are_one_more(config: GatewayConfig, fake_broker: FakeBroker) -> None:
    async with running(config) as edited:
        await greeted(fake_broker)
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGHUP)
        assert await edited.reload(max_series=9) == {"applied": 1}
        await until(lambda: edited.at_work.config.max_series == 9, "the last word counts")
        assert edited.reads <= 2


async def test_a_cloud_and_a_bus_come_and_go(config: GatewayConfig, fake_broker: FakeBroker, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    nowhere = Uplink(url="http://127.0.0.1:1", token_file=str(token))
    async with running(config) as edited:
        await greeted(fake_broker)
        gateway = edited.at_work
        bus = Broker("mqtt://127.0.0.1:1")
        assert await edited.reload(uplink=nowhere, bus=bus, models=Models(public_key="ab" * 32)) == {"applied": 1}
        uplink, models = gateway.out.uplink, gateway.models
        assert uplink is not None
        assert models is not None
        models.swap.refused["older"] = 3
        assert gateway.classes is not None
        classes, line = gateway.classes, gateway.classes.classify
        assert await edited.reload(classify=Classify(margin=0.1)) == {"applied": 1}
        assert (gateway.classes is classes, line._margin) == (True, 0.1)
        token.write_text("two")
        assert await edited.reload(bus=replace(bus, username="me")) == {"applied": 1}
        assert (gateway.out.uplink, gateway.secrets.uplink, uplink._token) == (uplink, "two", "two")
        assert gateway.models is not models
        assert gateway.vitals().models_refused == {"older": 3}
        assert await edited.reload(uplink=Uplink(), bus=None, models=Models()) == {"applied": 1}
        assert (gateway.out.uplink, gateway.bus, gateway.models) == (None, None, None)
        assert gateway.vitals().cloud_connected is False


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    with listening(tmp_path / "notify") as listener:
        for name, value in listener.pinged_every(600).items():  # so often a status is said too
            monkeypatch.setenv(name, value)
        yield listener


async def test_systemd_is_told_of_the_reload_and_of_the_refusal(
    systemd: Listener, config: GatewayConfig, fake_broker: FakeBroker
) -> None:
    async with running(config) as edited:
        await greeted(fake_broker)
        await systemd.hear("STATUS=0 readings/s")
        await edited.reload(max_series=9)
        await systemd.hear("RELOADING=1")
        assert systemd.heard[-1].startswith("MONOTONIC_USEC=")
        await systemd.hear("READY=1")
        assert systemd.heard[-1] == "STATUS=reloaded: max_series"
        edited.refusal = ConfigurationRefused("(syntax)", "line 3", "valid TOML")
        await edited.reload()
        refused = "reload refused: gateway.toml: (syntax) = 'line 3': expected valid TOML"
        await systemd.hear(f"STATUS={refused}".replace("(", r"\(").replace(")", r"\)"))
        await systemd.hear("STATUS=0 readings/s.*; reload refused: gateway.toml")

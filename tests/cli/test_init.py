"""`fieldgate gateway init`, against real brokers: it listens, proposes, writes, and says what to do when it cannot."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import mqtt5
import pytest

from cli.broker import EmbeddedBroker
from cli.init import NothingToPropose, hear
from cli.main import run
from cli.proposal import Ear
from cli.proposal.ear import Heard
from gateway import config
from gateway.config import DIALECTS, Broker
from gateway.decode import Decode
from gateway.records import Arrivals, SeriesTable, no_recent
from tests.fake_broker import FakeBroker
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def broker(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[EmbeddedBroker]:
    """One of its own: what others publish must not be heard."""
    with EmbeddedBroker(tmp_path, free_port(), free_port()) as broker:
        yield broker


@asynccontextmanager
async def simulated(broker: EmbeddedBroker, dialect: str) -> AsyncIterator[Process]:
    options = ["--devices", "8", "--rate", "40", "--name", dialect, "--dialect", dialect, "--json"]
    command = ["-m", "cli.main", "simulate", "--broker", broker.url, *options]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def init(broker: str, output: Path, *options: str) -> int:
    arguments = ["gateway", "init", "--broker", broker, "--output", str(output), *options]
    return await asyncio.to_thread(run, arguments)


def series_of(settings: config.GatewayConfig, topics: dict[str, Heard]) -> tuple[set[str], dict[str, int]]:
    """Read what was heard with the gateway's own decode; give the series and the causes of what was refused."""
    decode = Decode(settings.source, SeriesTable(), no_recent(), 1)
    names, payloads = [], []
    for name, heard in topics.items():
        names += [name] * len(heard.samples)
        payloads += [sample.payload for sample in heard.samples]
    decoded = decode.feed(Arrivals(names, payloads, [], range(0), None, 1), 1_900_000_000 * 10**9)
    return set(decoded.names), decoded.tally.dead


async def heard_of_all(broker: EmbeddedBroker) -> Ear:
    """Listen until every simulated device has said something of each kind."""

    async def once() -> Ear | None:
        ear = await hear(Broker(url=broker.url), None, 0.5)
        return ear if len(ear.topics) == 8 + 8 + 16 + 15 else None

    found = await until(once, "all devices are heard")
    assert isinstance(found, Ear)
    return found


async def test_what_devices_of_all_dialects_say_becomes_a_configuration_that_reads_it(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    async with AsyncExitStack() as stack:
        for dialect in ("json", *DIALECTS):
            await stack.enter_async_context(simulated(broker, dialect))
        ear = await heard_of_all(broker)
        assert await init(broker.url, path, "--seconds", "2", "--name", "barn") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"Written: {path}. Next: fieldgate gateway check {path}, then fieldgate gateway run {path}"
    assert "  8 topics: Tasmota's own health, answers and commands are no measurements" in said
    settings = config.parse(path.read_text())
    assert (settings.name, settings.data, settings.devices) == (
        "barn",
        str(tmp_path / "fieldgate-data"),
        Broker(url=broker.url),
    )
    assert {(source.topic, source.format) for source in settings.source} == {
        ("sensors/{device}/{measurement}", "json"),
        ("zigbee2mqtt/{device}", "zigbee2mqtt"),
        ("tele/{device}/SENSOR", "tasmota"),
        ("{device}/events/rpc", "shelly"),
        ("shellies/{device}/#", "shelly"),
    }
    assert run(["gateway", "check", str(path)]) == 0
    series, dead = series_of(settings, ear.topics)
    assert set(dead) == {"topic"}  # Tasmota's STATE
    assert {name.split("-")[0] for name in series} == {"json", *DIALECTS}
    assert {name for name in series if name.startswith(("json-1/", "zigbee2mqtt-2/", "tasmota-3/", "shelly-"))} == {
        "json-1/machine_temperature",
        *(f"zigbee2mqtt-2/{measurement}" for measurement in ("battery", "voltage", "ambient_temperature")),
        *(f"tasmota-3/ENERGY.{measurement}" for measurement in ("Total", "Power", "Voltage")),
        *(f"shelly-1/sensor.{measurement}" for measurement in ("temperature", "battery")),
        *(f"shelly-{n}/relay.0.{measurement}" for n in (3, 5, 7) for measurement in ("power", "energy")),
        "shelly-2/temperature:0.tC",
        *(f"shelly-{n}/switch:0.{measurement}" for n in (4, 6, 8) for measurement in ("apower", "aenergy.total")),
    }


async def test_an_existing_file_is_replaced_only_by_force(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("mine")
    async with simulated(broker, "json"):
        await heard_something(broker)
        assert await init(broker.url, path, "--seconds", "1") == 1
        assert (path.read_text(), "--force" in capsys.readouterr().err) == ("mine", True)
        assert await init(broker.url, path, "--seconds", "1", "--force") == 0
    assert config.parse(path.read_text()).source[0].topic == "sensors/{device}/{measurement}"


async def heard_something(broker: EmbeddedBroker) -> None:
    async def once() -> bool:
        return bool((await hear(Broker(url=broker.url), None, 0.2)).topics)

    await until(once, "something is heard")


async def test_silence_is_told_from_a_broker_that_is_not_there(
    broker: EmbeddedBroker, tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    assert await init(broker.url, path, "--seconds", "0.1") == 1
    assert "nothing was published. Does anything publish there?" in capsys.readouterr().err
    assert await init(f"mqtt://127.0.0.1:{free_port()}", path, "--seconds", "0.1") == 1
    assert "Is a broker running there?" in capsys.readouterr().err
    assert not path.exists()


async def test_a_directory_that_is_not_there_is_told_before_anybody_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await init("mqtt://127.0.0.1:1", tmp_path / "absent" / "gateway.toml") == 1
    assert capsys.readouterr().err.startswith(f"fieldgate: {tmp_path}/absent/gateway.toml: there is no such directory")


async def test_a_broker_that_does_not_let_us_listen_is_told_of(fake_broker: FakeBroker) -> None:
    listening = asyncio.create_task(hear(Broker(url=fake_broker.url), None, 30))
    await (await fake_broker.accept()).greet(codes=[0x87])
    with pytest.raises(NothingToPropose, match="does not let this user subscribe to #: not_authorized"):
        await listening


async def test_a_broker_that_ends_the_connection_is_told_of(fake_broker: FakeBroker) -> None:
    listening = asyncio.create_task(hear(Broker(url=fake_broker.url), None, 30))
    peer = await fake_broker.accept()
    await peer.greet()
    peer.drop()
    with pytest.raises(NothingToPropose, match="it ended the connection"):
        await listening


async def test_messages_are_heard_with_their_payload_and_whether_they_were_kept(fake_broker: FakeBroker) -> None:
    listening = asyncio.create_task(hear(Broker(url=fake_broker.url), None, 0.3))
    peer = await fake_broker.accept()
    await peer.greet()
    peer.send(mqtt5.PublishPacket("s/a/t", b"1", retain=True), mqtt5.PublishPacket("s/a/t", b"2"))
    ear = await listening
    assert [(sample.retained, sample.payload) for sample in ear.topics["s/a/t"].samples] == [
        (True, b"1"),
        (False, b"2"),
    ]


async def test_user_and_files_stand_in_the_configuration(fake_broker: FakeBroker, tmp_path: Path) -> None:
    secret, path = tmp_path / "password", tmp_path / "gateway.toml"
    secret.write_text("hush\n")
    url = fake_broker.url.replace("://", "://somebody@")
    running = asyncio.create_task(init(url, path, "--seconds", "0.5", "--password-file", str(secret)))
    peer = await fake_broker.accept()
    hello = await peer.greet()
    peer.send(mqtt5.PublishPacket("s/a/t", b"1"))
    assert (hello.username, hello.password, await running) == ("somebody", b"hush", 0)
    read = config.parse(path.read_text()).devices
    assert read == Broker(url=fake_broker.url, username="somebody", password_file=str(secret))
    assert "hush" not in path.read_text()


async def test_a_broker_that_wants_to_know_who_we_are_is_told_of(mosquitto: Callable[..., str]) -> None:
    with pytest.raises(NothingToPropose, match=r"refuses the connection: not_authorized\n(?s:.)*--password-file"):
        await hear(Broker(url=mosquitto("allow_anonymous false")), None, 1)

"""What the broker drops while the gateway is away is noticed when it comes back: against brokers real and scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import mqtt5
import pytest

from cli.broker import EmbeddedBroker
from cli.doctor.probe.broker import look
from cli.doctor.probe.line import Account
from gateway.config import Broker, GatewayConfig, Source
from gateway.intake import Hearsay, hearsay
from gateway.intake.drops import Drops
from gateway.intake.hearsay import DROPPED
from gateway.segment import OsFiles
from tests.fake_broker import FakeBroker
from tests.faults.disk import FaultyFiles
from tests.waiting import until


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearsay, "EVERY_S", 0.01)


@asynccontextmanager
async def hearing(url: str, directory: Path, files: OsFiles | None = None) -> AsyncIterator[tuple[Hearsay, list[int]]]:
    told: list[int] = []
    ear = Hearsay(Broker(url), "edge-hearsay", None, files or OsFiles(), directory / "broker.json", told.append)
    task = asyncio.create_task(ear.run(), name="hearsay")
    try:
        yield ear, told
    finally:
        task.cancel()
        await asyncio.wait({task})


def word(number: int) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(DROPPED, b"%d" % number, retain=True)


async def test_a_growth_is_told_after_it_is_written_and_outlives_a_restart(
    fake_broker: FakeBroker, tmp_path: Path
) -> None:
    async with hearing(fake_broker.url, tmp_path) as (_, told):
        peer = await fake_broker.accept()
        hello = await peer.greet()
        assert (hello.client_id, hello.clean_start, hello.session_expiry_interval) == ("edge-hearsay", True, 0)
        peer.send(word(7))
        await until((tmp_path / "broker.json").exists, "the first word is written")
        peer.send(word(10))
        await until(lambda: told == [3], "a growth of 3")
    async with hearing(fake_broker.url, tmp_path) as (ear, told):
        assert ear.drops == Drops(10, 3)
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(word(110))  # dropped while we were away
        await until(lambda: told == [103], "a growth of 100 more")


async def test_a_connection_that_breaks_is_made_again(fake_broker: FakeBroker, tmp_path: Path) -> None:
    async with hearing(fake_broker.url, tmp_path) as (_, told):
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(word(1))
        await until((tmp_path / "broker.json").exists, "the first word is written")
        peer.drop()
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(mqtt5.PublishPacket(DROPPED, b"nonsense"), mqtt5.PublishPacket("else", b"9"), word(2))
        await until(lambda: told == [1], "a growth of 1")


async def test_a_broker_that_does_not_let_us_hear_is_not_asked_again(fake_broker: FakeBroker, tmp_path: Path) -> None:
    async with hearing(fake_broker.url, tmp_path):
        peer = await fake_broker.accept()
        await peer.greet(codes=[0x87])
        peer.drop()
        await until(lambda: not names("hearsay"), "it is over")


async def test_the_embedded_broker_that_ends_the_connection_for_it_is_not_asked_again(
    embedded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    async with hearing(embedded_broker.url, tmp_path) as (ear, told):
        await until(lambda: not names("hearsay"), "it is over")
        assert (ear.drops, told) == (Drops(), [])


def names(name: str) -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == name]


async def test_a_disk_that_refuses_costs_a_warning_and_the_count_goes_on(
    fake_broker: FakeBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with hearing(fake_broker.url, tmp_path, FaultyFiles(faults={("create", 1): 28})) as (_, told):
        peer = await fake_broker.accept()
        await peer.greet()
        peer.send(word(1))
        await until(lambda: "cannot be written (" in caplog.text, "a warning")
        peer.send(word(4))
        await until(lambda: told == [3], "a growth of 3")
    assert (tmp_path / "broker.json").exists()


async def test_what_mosquitto_drops_for_an_absent_client_is_heard(
    mosquitto: Callable[..., str], tmp_path: Path
) -> None:
    url = mosquitto("sys_interval 1", "max_queued_messages 50")
    settings = GatewayConfig("edge", str(tmp_path), (Source("s/{device}/{measurement}"),), Broker(url))
    async with hearing(url, tmp_path) as (_, told):
        await until((tmp_path / "broker.json").exists, "the first word is written")
        await look(Account(settings.devices, "edge", None), settings, "nonce")
        await until(lambda: told[-1:] == [1050], "what the doctor published beyond the queue")

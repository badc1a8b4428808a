"""What `gateway run` says when nothing is recorded: a gateway, a broker, and devices that it does not understand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from cli.broker import EmbeddedBroker
from cli.devices import Devices
from cli.publisher import Publisher
from cli.watch import watch
from gateway import config, pipeline
from tests.waiting import until

SOURCES = {
    "elsewhere": ('topic = "hall/{device}/{measurement}"', 'topic = "plant/{device}/{measurement}"'),
    "a level missing": ('topic = "plant/+/{device}/{measurement}"', 'topic = "plant/{device}/{measurement}"'),
    "another format": ('topic = "plant/{device}/{measurement}"\nformat = "number"', "Refused:"),
    "another field": ('topic = "plant/{device}/{measurement}"\nvalue = "v"', "  missing ("),
}


@asynccontextmanager
async def devices(broker: EmbeddedBroker) -> AsyncIterator[None]:
    three = Devices(3, 100.0, {"a": [1.0]}, topic="plant/{device}/t", start=time.time_ns())
    settings = config.Broker(url=broker.url)
    publisher = Publisher(settings, three, client_id="plant", clock=time.time_ns, rng=Random(1))
    publishing = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        publisher.stop()
        await publishing


@asynccontextmanager
async def gateway(url: str, data: Path, source: str) -> AsyncIterator[list[str]]:
    """Run a gateway that is watched; give what is said of it."""
    text = f'name = "g-{data.name}"\ndata = "{data}"\n[devices]\nurl = "{url}"\n[[source]]\n{source}\n'
    said: list[str] = []
    watching: list[asyncio.Task[None]] = []
    stop = asyncio.Event()

    def ready(running: pipeline.Pipeline) -> None:
        watching.append(asyncio.create_task(watch(running, said.append, 0.3)))

    running = asyncio.create_task(pipeline.run(config.parse(text), on_ready=ready, stop=stop))
    try:
        yield said
    finally:
        stop.set()
        await running
        watching[0].cancel()
        await asyncio.gather(*watching, return_exceptions=True)


@pytest.mark.parametrize(("source", "expected"), SOURCES.values(), ids=SOURCES.keys())
async def test_why_nothing_is_recorded_is_said(
    embedded_broker: EmbeddedBroker, tmp_path: Path, source: str, expected: str
) -> None:
    async with devices(embedded_broker), gateway(embedded_broker.url, tmp_path, source) as said:
        await until(lambda: any(expected in text for text in said), expected)


async def test_a_broker_that_is_not_there_is_said_once_and_its_silence_after_that(
    free_port: Callable[[], int], mosquitto: Callable[..., str], tmp_path: Path
) -> None:
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    async with gateway(url, tmp_path / "data", 'topic = "{device}/{measurement}"') as said:
        await until(lambda: said, "no broker")
        mosquitto(port=port)
        await until(lambda: len(said) > 1, "a broker, and no message")
    first, second = (text.splitlines() for text in said)
    assert first == [
        f"Nothing has been recorded for 0.3 s: there is no connection to {url}.",
        "Does a broker run there, and does it speak MQTT 5? devices.url says where it is.",
    ]
    assert second[1].startswith("No message has come")

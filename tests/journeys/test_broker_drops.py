"""What the broker acknowledges to devices and then drops, because the gateway is away, is noticed when it is back: in
its metrics, in the ledger, and as an alert, here and in the cloud."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import mqtt5
import pytest
from aiohttp.test_utils import TestServer

from cli.doctor.probe.line import Account, Line
from cloud.app import API, create_app
from cloud.config import parse
from cloud.store import Store
from cloud.store.answers import AlertView
from gateway.config import Broker, GatewayConfig, Source, Uplink
from gateway.intake import hearsay
from protocol.topics import topic
from tests.at_work import at_work
from tests.waiting import until

QUEUE = 50
SENT = 80


async def listen(config: GatewayConfig) -> Line:
    """Listen to alerts, as somebody near the gateway does."""
    account = Account(config.devices, "listener", None)
    line = await Line.open(account, account.hello("1"))
    await line.subscribe(mqtt5.TopicFilter(topic(config.name, "alerts")))
    return line


async def publish(config: GatewayConfig, number: int) -> None:
    """Publish so many readings, each of which the broker acknowledges."""
    account = Account(config.devices, "device", None)
    line = await Line.open(account, account.hello("1"))
    for value in range(number):
        packet_id = value + 1
        line.say(mqtt5.PublishPacket("s/d/m", b"%d" % value, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id))
        assert (await line.answer(mqtt5.PubAckPacket)).reason_code == mqtt5.PubAckReasonCode.SUCCESS
    await line.close()


async def test_what_the_broker_drops_while_the_gateway_is_away_is_noticed_declared_and_alerted(
    mosquitto: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearsay, "EVERY_S", 0.05)
    app = create_app(parse(f'data = "{tmp_path}/cloud"'), clock=time.time_ns)
    async with TestServer(app) as server:
        app[API].tokens.issue("edge")
        config = GatewayConfig(
            "edge",
            str(tmp_path / "data"),
            (Source("s/{device}/{measurement}", format="number"),),
            Broker(mosquitto("sys_interval 1", f"max_queued_messages {QUEUE}")),
            uplink=Uplink(str(server.make_url("/")), token_file=str(app[API].tokens.token_file("edge"))),
        )
        async with at_work(config) as gateway:
            await until(lambda: gateway.inward.intake is not None and gateway.inward.intake.connected, "connected")
            await until((tmp_path / "data" / "broker.json").exists, "the broker's word before")
        await publish(config, SENT)
        near = await listen(config)
        async with at_work(config) as gateway:
            await until(lambda: gateway.vitals().totals.recorded == QUEUE, "what the broker kept")
            await until(lambda: gateway.vitals().broker_drops == SENT - QUEUE, "what it says it did not keep")
            await until(lambda: declared(app[API].store), "it is declared to the cloud")
            await until(lambda: near.messages, "it is alerted here")
            await until(lambda: alerted(app[API].store), "it is alerted in the cloud")
        async with at_work(config) as gateway:
            await until(lambda: gateway.inward.intake is not None and gateway.inward.intake.connected, "once more")
        [there], [here] = await alerted(app[API].store), near.messages
        await near.close()
        said = json.loads(here.payload)
        assert (there.start, there.stamp) == (said["start"], said["stamp"])
        assert (there.series, there.rule, there.score) == (said["series"], said["rule"], said["score"])
        assert (said["series"], said["rule"], said["score"]) == ([], "broker", SENT - QUEUE)


async def alerted(store: Store) -> list[AlertView]:
    return (await store.alerts("edge", (1 << 63) - 1, 10)).alerts


async def declared(store: Store) -> bool:
    return [view.counts.get("broker") for view in await store.gateways()] == [SENT - QUEUE]

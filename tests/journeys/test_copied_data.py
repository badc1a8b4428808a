"""Two gateways run on copies of one data directory: nothing of either is lost, and an operator is told in words."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import mqtt5
import msgspec
import pytest
from aiohttp.test_utils import TestServer

from cli.broker import EmbeddedBroker
from cli.doctor.probe.line import Account, Line
from cli.ledger import missing
from cloud.api import Api
from cloud.app import API, create_app
from cloud.config import parse
from cloud.routes import LedgerBody
from gateway.config import GatewayConfig
from gateway.config import parse as parse_gateway
from gateway.pipeline import Pipeline
from protocol.messages import COPIED
from tests.at_work import at_work
from tests.waiting import until

SENT = 5


class Machine:
    """A gateway that is called `edge`, on its own directory; what it hears is under its own name."""

    def __init__(self, directory: Path, broker: str, cloud: str, token: Path) -> None:
        self.name, self.data, self.broker = directory.name, directory, broker
        self.uplink = f'[uplink]\nurl = "{cloud}"\ntoken_file = "{token}"\npack_interval = "50ms"\n'

    def config(self, *, connected: bool = True) -> GatewayConfig:
        return parse_gateway(
            f'name = "edge"\ndata = "{self.data}"\n[devices]\nurl = "{self.broker}"\nclient_id = "copied-{self.name}"\n'
            f'[[source]]\ntopic = "copied/{self.name}/{{device}}/{{measurement}}"\nformat = "number"\n'
            f'[[window]]\nsize = "100ms"\n[time]\nidle = "300ms"\n{self.uplink if connected else ""}'
        )

    @asynccontextmanager
    async def running(self, *, connected: bool = True) -> AsyncIterator[Pipeline]:
        async with at_work(self.config(connected=connected)) as gateway:
            await until(lambda: gateway.inward.intake is not None and gateway.inward.intake.connected, "its broker")
            yield gateway

    async def hears(self, gateway: Pipeline) -> None:
        """A device publishes, and all of it is in windows that wait for the cloud, or are there."""
        before = gateway.vitals().totals.windowed
        account = Account(self.config().devices, f"device-of-{self.name}", None)
        line = await Line.open(account, account.hello("1"))
        for number in range(1, SENT + 1):
            topic = f"copied/{self.name}/on-{self.name}/t"
            line.say(mqtt5.PublishPacket(topic, b"1", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number))
            await line.answer(mqtt5.PubAckPacket)
        await line.close()
        await until(lambda: gateway.vitals().totals.windowed == before + SENT, "its windows are closed")

    async def works(self, api: Api, readings: int) -> None:
        """Run until so many readings of all that it has heard are in the cloud."""
        async with self.running() as gateway:
            await self.hears(gateway)
            await until(lambda: self.stored(api, readings), f"{readings} readings of {self.name} are stored")

    async def stored(self, api: Api, readings: int) -> bool:
        """Whether windows hold so many of its readings, in every clock domain."""
        names = {one.name: one.id for one in await api.store.series("edge", None, 0, 100)}
        if (number := names.get(f"on-{self.name}/t")) is None:
            return False
        page = await api.store.windows(number, None, "", (0, 1 << 62), 1000)
        return page is not None and sum(row.count for row in page.windows) == readings


async def ledger(api: Api) -> LedgerBody:
    return LedgerBody(await api.store.ledger(None), await api.store.accounts(None), time.time_ns())


@pytest.mark.parametrize("ahead", [False, True], ids=["the copy holds less", "the copy holds more"])
async def test_a_copied_data_directory_is_noticed_and_nothing_is_lost(
    tmp_path: Path, embedded_broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture, ahead: bool
) -> None:
    caplog.set_level(logging.WARNING)
    app = create_app(parse(f'data = "{tmp_path}/cloud"'), clock=time.time_ns)
    async with TestServer(app) as server:
        api = app[API]
        api.tokens.issue("edge")
        tail = "ahead" if ahead else "behind"
        first, copy = (
            Machine(
                tmp_path / f"{name}-{tail}",
                embedded_broker.url,
                str(server.make_url("/")),
                api.tokens.token_file("edge"),
            )
            for name in ("first", "copy")
        )
        await first.works(api, SENT)
        shutil.copytree(first.data, copy.data)
        await first.works(api, 2 * SENT)
        if ahead:
            async with copy.running(connected=False) as gateway:
                for _ in range(3):
                    await copy.hears(gateway)
        await copy.works(api, (4 if ahead else 1) * SENT)
        await first.works(api, 3 * SENT)
        body = msgspec.to_builtins(await ledger(api))
    ours, theirs = body["gateways"][0]["epochs"]
    assert ours["remark"].startswith(f"it speaks again although {theirs['epoch']} began later: two copies of its data")
    assert (COPIED in theirs["remark"]) == ahead  # else the cloud noticed, and said so of the other epoch
    assert any(ours["remark"] in line for line in missing(body))
    said = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("spool: a new epoch begins: ") and line.endswith(COPIED) for line in said)
    assert f"ingest: edge: epoch {ours['epoch']}: {ours['remark']}" in said

"""Statistics up by WebSocket, a model back over a real broker: a whole cloud, and what it tells of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientResponse

from cli.broker import EmbeddedBroker
from protocol.messages import Alert, AlertsBody, Cover, Kind, Moments, ReportBody, StatisticsBody
from protocol.mqtt import MqttBus
from tests.cloud.taker import taking
from tests.cloud.wire import DEADLINE_S, DIGEST, S, Served, Socket, Wire
from tests.waiting import until


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> str:
    """What a test asks for by the name of a fixture; nothing else."""
    return str(request.getfixturevalue(request.param)) if hasattr(request, "param") else ""


@asynccontextmanager
async def connected(broker: EmbeddedBroker, name: str) -> AsyncIterator[MqttBus]:
    parts = urlsplit(broker.url)
    bus = MqttBus(parts.hostname or "", parts.port or 0, name, rng=Random(1))
    task = asyncio.create_task(bus.run())
    try:
        await until(lambda: bus.connected, "the gateway is on the bus")
        yield bus
    finally:
        task.cancel()
        await asyncio.wait([task])


async def learns(served: Served, socket: Socket, wire: Wire, windows: int) -> None:
    """Statistics go up, again after they have settled: then a version is due."""
    for _ in range(2):
        moments = Moments(["t", "p"], windows, [20.0, 3.0], [4.0, 1.0, 1.0, 9.0])
        body = StatisticsBody(Cover(), "bearing", served.clock.now, [moments], alerts=12, shadow=5)
        await socket.send(wire.frame("results", Kind.STATISTICS, body))
        await socket.receipt("results", wire.seq["results"])
        served.clock.now += 3 * S


async def event(answer: ClientResponse, wanted: str) -> dict[str, object]:
    """The next event of this name."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            name, data, _ = [await answer.content.readline() for _ in range(3)]
            if name.decode().removeprefix("event: ").strip() == wanted:
                body: dict[str, object] = json.loads(data.removeprefix(b"data: "))
                return body


@pytest.fixture
def with_bus(embedded_broker: EmbeddedBroker) -> str:
    return f'[bus]\nurl = "{embedded_broker.url}"\n'


@pytest.mark.parametrize("settings", [pytest.param("with_bus", id="bus")], indirect=True)
async def test_what_a_gateway_learnt_comes_back_over_the_broker_and_everybody_is_told(
    served: Served, wire: Wire, embedded_broker: EmbeddedBroker
) -> None:
    socket = await served.begin(wire)
    public = served.api.tokens.signer().public
    async with (
        connected(embedded_broker, "barn-ear") as bus,
        taking(bus, "barn", public) as barn,
        served.client.get("/v1/live") as live,
    ):
        await learns(served, socket, wire, 60)
        manifest = await barn.version(1)
        baseline = await barn.take(manifest, part=64)
        told = {"model": "bearing", "version": 1, "outcome": "published", "reason": ""}
        assert await event(live, "model") == told
        applied = ReportBody(Cover(), "bearing", 1, "applied", "", manifest.digest, served.clock.now)
        await socket.send(wire.frame("results", Kind.REPORT, applied))
        assert await event(live, "model") == told | {"gateway": "barn", "outcome": "applied"}
    ((features, entry),) = baseline.entries.items()
    assert (features, entry.weight, entry.mean.tolist()) == (("t", "p"), 60.0, [20.0, 3.0])
    _, body = await served.get("/v1/gateways")
    assert [(one["models"], one["shadow"]) for one in body["gateways"]] == [({"bearing": 1}, 5)]
    _, body = await served.get("/v1/models")
    (model,) = body["models"]
    assert (model["name"], model["version"], model["digest"]) == ("bearing", 1, manifest.digest)
    assert [(one["version"], one["size"], one["windows"]) for one in model["versions"]] == [(1, manifest.size, 60)]
    (run,) = model["gateways"]
    assert (run["gateway"], run["version"], run["alerts"], run["shadow"], run["refused"]) == ("barn", 1, 12, 5, None)
    assert [(report["outcome"], report["stamp"]) for report in body["reports"]] == [("applied", served.clock.now)]
    _, text = await served.get("/metrics")
    assert 'fieldgate_model_version{model="bearing"} 1.0' in text.splitlines()


async def test_without_a_bus_what_was_learnt_is_kept_and_no_model_made(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    await learns(served, socket, wire, 60)
    refused = ReportBody(Cover(), "bearing", 4, "refused", "expired", DIGEST, 78)
    await socket.send(wire.frame("results", Kind.REPORT, refused))
    await socket.receipt("results", wire.seq["results"])
    _, body = await served.get("/v1/models?gateway=barn&limit=5")
    (model,) = body["models"]
    assert (model["version"], model["versions"], [run["windows"] for run in model["gateways"]]) == (0, [], [60])
    assert model["gateways"][0]["refused"] == body["reports"][0]
    assert (body["reports"][0]["reason"], body["reports"][0]["version"]) == ("expired", 4)


async def test_an_alert_is_shown_as_it_is_stored_and_only_once(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    alerts = [Alert([0, 1], start, 0, start, 8.0, "bearing", 0, 6.0, [0.9, 0.1], [1]) for start in (10, 20)]
    async with served.client.get("/v1/live") as live:
        for some in (alerts[:1], alerts):
            await socket.send(wire.frame("alerts", Kind.ALERTS, AlertsBody(Cover(), some)))
        told = [await event(live, "alert") for _ in range(2)]
    _, body = await served.get("/v1/alerts")
    assert told == body["alerts"][::-1]
    assert (told[0]["contributions"], told[0]["missing"], told[0]["threshold"]) == ([0.9, 0.1], ["b/t"], 6.0)
    _, text = await served.get("/metrics")
    assert "fieldgate_alerts_stored_total 2.0" in text.splitlines()


@pytest.mark.parametrize("settings", [pytest.param("with_bus", id="bus")], indirect=True)
async def test_a_model_goes_back_when_it_is_told_to_by_the_admin_token(
    served: Served, embedded_broker: EmbeddedBroker
) -> None:
    wire, served.token = Wire("loft"), served.api.tokens.issue("loft")  # the broker keeps what others' clouds said
    socket = await served.begin(wire)
    admin = {"Authorization": f"Bearer {served.api.tokens.token_file('admin').read_text().strip()}"}

    async def go_back(query: str) -> tuple[int, dict[str, Any]]:
        async with served.client.post(f"/v1/rollback?model=bearing{query}", headers=admin) as answer:
            return answer.status, await answer.json()

    public = served.api.tokens.signer().public
    async with connected(embedded_broker, "loft-ear") as bus, taking(bus, "loft", public) as loft:
        await learns(served, socket, wire, 60)
        first = await loft.version(1)
        status, refused = await go_back("")
        assert (status, refused["error"]["what"]) == (404, "bearing has no version before")
        served.clock.now += 3600 * S
        await learns(served, socket, wire, 6000)
        assert (await loft.version(2)).digest != first.digest
        assert await go_back("") == (200, {"model": "bearing", "version": 3, "of": 1})
        assert (await loft.version(3)).digest == first.digest
        assert await go_back("&version=2") == (200, {"model": "bearing", "version": 4, "of": 2})

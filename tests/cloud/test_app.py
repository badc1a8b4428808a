"""The cloud as a whole: it starts, tells how to go on, and ends in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from cloud.app import API, Ready, _look, create_app, run
from cloud.config import CloudConfig, parse
from protocol.errors import ConfigurationRefused
from protocol.frame import message as frame_of
from protocol.messages import Kind
from protocol.notify import Sight, Work
from tests.cloud.wire import Socket, Wire, definitions, windows_body
from tests.waiting import until


def config(path: Path, more: str = "") -> CloudConfig:
    return parse(f'data = "{path}"\nlisten = "127.0.0.1:0"\n{more}')


@asynccontextmanager
async def running(
    settings: CloudConfig, stop: asyncio.Event | None = None
) -> AsyncIterator[tuple[Ready, asyncio.Event]]:
    """A cloud that runs in this process; it has ended, without error, when this is left."""
    stop = stop or asyncio.Event()
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(60):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run(settings, on_ready=ready.set_result, stop=stop))
            try:
                yield await ready, stop
            finally:
                stop.set()


async def test_the_first_start_prints_a_configuration_the_second_does_not(tmp_path: Path) -> None:
    async with running(config(tmp_path)) as (ready, _):
        assert ready.url.startswith("http://127.0.0.1:")
        assert f'url = "{ready.url.rstrip("/")}"' in ready.text
        assert f'token_file = "{tmp_path}/gateway-1.token"' in ready.text
    async with running(config(tmp_path)) as (ready, _):
        assert "token_file" not in ready.text


async def test_a_gateway_behind_a_proxy_is_told_the_public_address(tmp_path: Path) -> None:
    async with running(config(tmp_path, 'public_url = "https://cloud.example"\n')) as (ready, _):
        assert 'url = "https://cloud.example"' in ready.text


async def test_the_store_must_go_on_while_frames_wait_for_it(tmp_path: Path) -> None:
    api = create_app(config(tmp_path))[API]
    trouble = "frames wait for a commit"
    assert _look(api) == Sight("gateways connected: 0, windows stored: 0", [Work("store", False, 0, trouble)])
    api.ingest.room.used = 100
    assert _look(api).works == [Work("store", True, 0, trouble)]
    api.counters.commits, api.counters.refused = 3, 1  # one that was refused has waited no longer
    assert _look(api).works == [Work("store", True, 4, trouble)]


async def test_what_was_receipted_outlives_the_cloud(tmp_path: Path) -> None:
    wire = Wire("gateway-1")
    async with running(config(tmp_path)) as (ready, _), ClientSession(ready.url) as session:
        socket_ = await _hello(session, wire, tmp_path)
        await socket_.send(wire.frame("definitions", Kind.DEFINITIONS, definitions()))
        await socket_.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5))))
        await socket_.receipt("telemetry", 1)
    async with running(config(tmp_path)) as (ready, _), ClientSession(ready.url) as session:
        async with session.get("/v1/windows?series=1") as answer:
            assert [row["count"] for row in (await answer.json())["windows"]] == [5]
        async with session.get("/v1/gateways") as answer:
            (gateway,) = (await answer.json())["gateways"]
            assert (gateway["online"], gateway["windows"]) == (False, 1)


async def test_stopping_tells_connected_gateways_and_does_not_wait_for_viewers(tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with running(config(tmp_path), stop) as (ready, _), ClientSession(ready.url) as session:
        socket_ = await _hello(session, Wire("gateway-1"), tmp_path)
        async with session.get("/v1/live") as viewer:
            await viewer.content.readline()
            stop.set()
            assert (await socket_.receive()).reason.startswith("closing")
            while await viewer.content.readline():
                pass


async def _hello(session: ClientSession, wire: Wire, data: Path) -> Socket:
    token = (data / f"{wire.gateway}.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    made = Socket(await session.ws_connect("/v1/uplink", headers=headers))
    await made.send(frame_of(Kind.HELLO, wire.hello()))
    await made.receive()
    return made


async def test_sigterm_ends_it(tmp_path: Path) -> None:
    def stop_now(_ready: Ready) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.timeout(60):
        await run(config(tmp_path), on_ready=stop_now)


async def test_an_address_in_use_is_refused_by_its_key(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationRefused, match="listen = "):
            await run(parse(f'data = "{tmp_path}"\nlisten = "{listen}"'), stop=asyncio.Event())


async def test_a_database_that_is_none_is_refused_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "fieldgate.db").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(ConfigurationRefused, match=r"store\.url = "):
        await run(config(tmp_path), stop=asyncio.Event())


async def test_two_clouds_on_one_database_are_refused(tmp_path: Path) -> None:
    async with running(config(tmp_path)):
        with pytest.raises(ConfigurationRefused, match="in use by another process"):
            await run(config(tmp_path), stop=asyncio.Event())


async def test_windows_older_than_the_retention_go(tmp_path: Path) -> None:
    wire = Wire("gateway-1")
    settings = config(tmp_path, '[store]\nretention = "1h"\n')
    async with running(settings) as (ready, _), ClientSession(ready.url) as session:
        socket_ = await _hello(session, wire, tmp_path)
        await socket_.send(wire.frame("definitions", Kind.DEFINITIONS, definitions()))
        await socket_.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5))))
        await socket_.receipt("telemetry", 1)
    async with running(settings) as (ready, _), ClientSession(ready.url) as session:
        await until(lambda: _empty(session), "the window of 1970 is gone")


async def _empty(session: ClientSession) -> bool:
    async with session.get("/v1/windows?series=1") as answer:
        return not (await answer.json())["windows"]

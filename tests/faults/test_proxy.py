"""What the proxy does to a connection, byte by byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.proxy import NONE, STEP, Fault, Link, Proxy, proxy_to
from tests.waiting import until


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with proxy_to(server.sockets[0].getsockname()[1]) as running:
        yield running
    server.close()


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


@pytest.mark.parametrize("fault", [NONE, Fault(delay_s=0.01), Fault(piece=1)], ids=["nothing", "delay", "single bytes"])
async def test_bytes_pass_unchanged_and_in_order(proxy: Proxy, fault: Fault) -> None:
    proxy.turn(fault)
    reader, writer = await connect(proxy)
    writer.write(bytes(range(256)))
    assert await reader.readexactly(256) == bytes(range(256))
    assert (proxy.up, proxy.down) == (256, 256)
    writer.close()


async def test_after_a_black_hole_all_goes_on(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    proxy.turn(Fault(black_hole=True))
    writer.write(b"one")
    await until(lambda: proxy.connections, "it is connected")
    assert proxy.down == 0
    proxy.turn(NONE)
    assert await reader.readexactly(3) == b"one"
    writer.close()


async def test_in_a_stall_the_server_hears_and_its_answers_wait(proxy: Proxy) -> None:
    proxy.turn(Fault(stall=True))
    reader, writer = await connect(proxy)
    writer.write(b"one")
    await until(lambda: proxy.up == 3, "the server has it")
    assert proxy.down == 0
    proxy.turn(NONE)
    assert await reader.readexactly(3) == b"one"
    writer.close()


async def test_a_reset_comes_after_so_many_bytes(proxy: Proxy) -> None:
    proxy.turn(Fault(reset_after=5))
    reader, writer = await connect(proxy)
    writer.write(b"123456789")
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(9)
    assert (proxy.up, proxy.resets) == (9, 1)
    writer.close()


async def test_lost_answers_are_lost_though_the_server_heard(proxy: Proxy) -> None:
    proxy.turn(Fault(mute=True))
    reader, writer = await connect(proxy)
    writer.write(b"one")
    await until(lambda: proxy.swallowed, "the server has answered")
    assert (proxy.up, proxy.down) == (3, 0)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


async def test_what_is_shut_refuses_and_opens_again_at_the_same_port(proxy: Proxy) -> None:
    proxy.shut()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await connect(proxy)
    proxy.watch()
    await proxy.open()
    reader, writer = await connect(proxy)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    assert proxy.passed_at > 0
    writer.close()


async def test_a_connection_may_be_answered_by_the_proxy(proxy: Proxy) -> None:
    proxy.turn(Fault(answer=b"HTTP/1.1 503 no\r\n\r\n"))
    reader, writer = await connect(proxy)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b"HTTP/1.1 503 no\r\n\r\n"
    assert (proxy.answered, proxy.up) == (1, 0)
    writer.close()


def test_a_link_carries_one_byte_after_another_and_idle_time_is_gone() -> None:
    link = Link()
    sent = [(100, 0.0), (100, 0.5), (100, 9.0)]
    assert [link.carry(size, 100.0, now) for size, now in sent] == [1.0, 2.0, 10.0]


async def test_a_slow_link_passes_bytes_unchanged_and_keeps_its_rate(proxy: Proxy) -> None:
    proxy.turn(Fault(rate=10.0 * STEP))
    reader, writer = await connect(proxy)
    began = time.monotonic()
    writer.write(bytes(2 * STEP))
    assert await reader.readexactly(2 * STEP) == bytes(2 * STEP)
    assert time.monotonic() - began >= 0.2
    writer.close()

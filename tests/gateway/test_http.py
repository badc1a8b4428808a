"""A few pages on loopback: what is asked decides what is answered, and nobody can hold a place for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest
import pytest_asyncio

from gateway import http
from gateway.http import MAX_CLIENTS, MAX_HEAD, Answer, Server, answer
from tests.waiting import until

PAGES = {"/good": lambda: Answer("well, °C\n"), "/bad": lambda: Answer("no\n", HTTPStatus.SERVICE_UNAVAILABLE)}


def said(status: str, body: str, *, more: str = "", length: int | None = None) -> bytes:
    """Give a whole answer; `length` where the body is left out."""
    size = len(body.encode()) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {size}\r\n{more}"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("GET /good HTTP/1.1", said("200 OK", "well, °C\n"), id="a page"),
        pytest.param("GET /good?since=1 HTTP/1.0", said("200 OK", "well, °C\n"), id="a page, with a query"),
        pytest.param("HEAD /good HTTP/1.1", said("200 OK", "", length=10), id="its head alone"),
        pytest.param("GET /bad HTTP/1.1", said("503 Service Unavailable", "no\n"), id="a page that says no"),
        pytest.param("GET /none HTTP/1.1", said("404 Not Found", "404 Not Found\n"), id="no page"),
        pytest.param(
            "POST /good HTTP/1.1",
            said("405 Method Not Allowed", "405 Method Not Allowed\n", more="Allow: GET, HEAD\r\n"),
            id="not to be written",
        ),
        pytest.param("GET /good", said("400 Bad Request", "400 Bad Request\n"), id="no version"),
        pytest.param("\x16\x03\x01 ü", said("400 Bad Request", "400 Bad Request\n"), id="no HTTP"),
        pytest.param("", said("400 Bad Request", "400 Bad Request\n"), id="nothing"),
    ],
)
def test_a_request_gets_the_answer_that_its_first_line_asks_for(line: str, expected: bytes) -> None:
    assert answer(f"{line}\r\nHost: here\r\n\r\n".encode("latin-1"), PAGES) == expected


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    listening = Server(PAGES)
    await listening.listen("127.0.0.1", 0)
    yield listening
    await listening.close()


async def connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    assert server.address is not None
    return await asyncio.open_connection(*server.address)


async def asked(server: Server, request: bytes) -> bytes:
    """Send, and read until the connection ends."""
    reader, writer = await connect(server)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_a_head_in_pieces_is_answered_once_it_is_whole(server: Server) -> None:
    reader, writer = await connect(server)
    writer.write(b"GET /good HT")
    await writer.drain()
    writer.write(b"TP/1.1\r\n\r\n")
    assert await reader.read() == said("200 OK", "well, °C\n")
    writer.close()


async def test_a_head_that_does_not_end_is_refused(server: Server) -> None:
    text = "431 Request Header Fields Too Large"
    assert (await asked(server, b"GET /good HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEAD)).startswith(
        f"HTTP/1.1 {text}".encode()
    )


async def test_who_says_nothing_is_shown_out_and_others_are_answered(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "WITHIN_S", 0.01)
    silent = [await connect(server) for _ in range(MAX_CLIENTS + 1)]
    assert [await reader.read() for reader, _ in silent] == [b""] * (MAX_CLIENTS + 1)
    assert await asked(server, b"GET /good HTTP/1.1\r\n\r\n") == said("200 OK", "well, °C\n")
    for _, writer in silent:
        writer.close()


async def test_who_comes_when_all_places_are_taken_finds_the_connection_closed(server: Server) -> None:
    waiting = [await connect(server) for _ in range(MAX_CLIENTS)]
    await until(lambda: len(server._clients) == MAX_CLIENTS, "all places are taken")
    assert await asked(server, b"GET /good HTTP/1.1\r\n\r\n") == b""
    for _, writer in waiting:
        writer.close()
    await until(lambda: not server._clients, "the places are free again")
    assert await asked(server, b"GET /good HTTP/1.1\r\n\r\n") == said("200 OK", "well, °C\n")


async def test_a_server_that_closes_ends_what_it_has_begun(server: Server) -> None:
    reader, writer = await connect(server)
    await until(lambda: bool(server._clients), "it has begun")
    await server.close()
    assert await reader.read() == b""
    assert server.address is None
    writer.close()

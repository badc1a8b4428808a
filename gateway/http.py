"""As much of HTTP as a few pages on loopback need; a whole server would take a seventh of a small gateway's memory.

Rules:

1. A request is a head of at most MAX_HEAD bytes, within WITHIN_S; it gets one answer, which ends the connection.
2. What is no GET or HEAD of a page is answered by its status, what is no HTTP by 400.
3. At most MAX_CLIENTS are attended at a time; whoever comes then finds the connection closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple

MAX_HEAD = 16 << 10
MAX_CLIENTS = 32
WITHIN_S = 10.0


class Answer(NamedTuple):
    """What a page says: text, and how it is meant."""

    text: str
    status: HTTPStatus = HTTPStatus.OK


Pages = Mapping[str, Callable[[], Answer]]
"""By path; asked anew each time."""


def answer(head: bytes, pages: Pages) -> bytes:
    """Answer a request of which this is the head."""
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    target, _, version = rest.partition(" ")
    page = pages.get(target.partition("?")[0])
    if not version.startswith("HTTP/1."):
        said = Answer("", HTTPStatus.BAD_REQUEST)
    elif method not in ("GET", "HEAD"):
        said = Answer("", HTTPStatus.METHOD_NOT_ALLOWED)
    else:
        said = page() if page is not None else Answer("", HTTPStatus.NOT_FOUND)
    return _encoded(said, whole=method != "HEAD")


def _encoded(said: Answer, *, whole: bool = True) -> bytes:
    body = (said.text or f"{said.status.value} {said.status.phrase}\n").encode()
    lines = (
        f"HTTP/1.1 {said.status.value} {said.status.phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        *(["Allow: GET, HEAD"] if said.status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + (body if whole else b"")


class Server:
    """Gives `pages` to whoever asks at one address, from `listen` until `close`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens, if anywhere."""
        if self._server is None or not self._server.sockets:
            return None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def listen(self, host: str | None, port: int | None) -> None:
        """Listen there; OSError if that cannot be."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=MAX_HEAD)

    async def close(self) -> None:
        """Listen no more, and end what is being answered."""
        if self._server is not None:
            self._server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            writer.close()
            return
        client = asyncio.create_task(self._attend(reader, writer), name="http")
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):  # gone, or too slow: TimeoutError is an OSError
                async with asyncio.timeout(WITHIN_S):
                    writer.write(await self._answer(reader))
                    await writer.drain()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return answer(await reader.readuntil(b"\r\n\r\n"), self._pages)
        except asyncio.LimitOverrunError:
            return _encoded(Answer("", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))

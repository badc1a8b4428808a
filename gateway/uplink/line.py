"""One WebSocket to the cloud: bytes up, bytes down, and failures in our own words.

All of the gateway at work that knows aiohttp, and loaded when it is first needed: it is 11 MB and a fifth of a start.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

from aiohttp import (
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientWebSocketResponse,
    ClientWSTimeout,
    WSMessage,
    WSMsgType,
    WSServerHandshakeError,
)

from gateway.uplink.failure import CLOSE_WITHIN_S, Failure, OutOfReach, answered
from protocol.certificates import suspect_clock
from protocol.errors import CloudRefused, CloudUnavailable

CONNECT_WITHIN_S = 15.0
HEARTBEAT_S = 20.0
MAX_ANSWER = 128 << 10

TOO_LARGE = 1009  # RFC 6455, 7.4.1


class Line:
    """An open connection; `open` makes it."""

    def __init__(self, session: ClientSession, connection: ClientWebSocketResponse) -> None:
        self._session, self._connection = session, connection

    @classmethod
    async def open(cls, url: str, token: str, tls: ssl.SSLContext | bool) -> Line:
        """Connect; CloudRefused, OutOfReach or CloudUnavailable."""
        session = ClientSession()
        try:
            return cls(session, await _connect(session, url, token, tls))
        except BaseException:
            await session.close()
            raise

    @property
    def socket(self) -> socket.socket | None:
        """The socket underneath, to be asked and not used; None once it is gone."""
        under: socket.socket | None = self._connection.get_extra_info("socket")
        return under

    async def close(self) -> None:
        """Take leave and end it; at once if that is cancelled."""
        try:
            await self._connection.close()
        finally:
            await self._session.close()

    async def send(self, data: bytes) -> None:
        """Send one message; CloudUnavailable if the connection has ended."""
        try:
            await self._connection.send_bytes(data)
        except (ClientError, OSError) as error:
            raise CloudUnavailable(f"the connection ended: {error}") from error

    async def receive(self) -> bytes:
        """Give the next message; CloudRefused or CloudUnavailable says how the connection ended."""
        received = await self._connection.receive()
        if received.type is not WSMsgType.BINARY:
            raise closed(received)
        data: bytes = received.data
        return data


async def _connect(session: ClientSession, url: str, token: str, tls: ssl.SSLContext | bool) -> ClientWebSocketResponse:
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            return await session.ws_connect(
                url,
                headers={"Authorization": f"Bearer {token}"},
                ssl=tls,
                heartbeat=HEARTBEAT_S,
                max_msg_size=MAX_ANSWER,
                timeout=ClientWSTimeout(ws_close=CLOSE_WITHIN_S),
            )
    except WSServerHandshakeError as error:
        raise answered(error.status, error.headers or {}) from error
    except (ClientError, OSError) as error:  # TimeoutError is an OSError
        why = suspect_clock(f"{url}: {error or type(error).__name__}", time.time_ns())
        raise (CloudUnavailable if isinstance(error, ClientSSLError) else OutOfReach)(why) from error


def closed(received: WSMessage) -> Failure:
    """Tell what a message means that is none: how the connection ended."""
    if received.type is WSMsgType.CLOSE and received.data == TOO_LARGE:
        return CloudRefused(413, "the cloud finds a message too large")
    return CloudUnavailable(f"the connection ended ({received.type.name.lower()} {received.data or ''})")

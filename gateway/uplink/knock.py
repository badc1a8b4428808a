"""A knock at the cloud's door, for the doctor: who we are there, and whether a WebSocket passes. Nothing is sent.

The WebSocket is closed before HELLO, so the cloud's ledger stays as it is, and so does a running gateway's connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec
from aiohttp import (
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    ClientWSTimeout,
    StreamReader,
    WSServerHandshakeError,
)

from gateway import config
from gateway.uplink.failure import CLOSE_WITHIN_S
from gateway.uplink.link import tls_context
from gateway.uplink.uplink import PATH

WHOAMI = "/v1/whoami"
ANSWER_WITHIN_S = 10.0
MAX_ANSWER = 64 << 10


class Said(msgspec.Struct):
    """What the cloud says of a token."""

    gateway: str
    version: str = ""
    now: int = 0


@dataclass(frozen=True, slots=True)
class Knock:
    """What came of it. `cause` says why nobody answered, "" if somebody did; times in ns, 0 if unknown."""

    cause: Literal["", "away", "tls", "silent"]
    why: str = ""
    status: int = 0
    gateway: str = ""  # whose token it is
    version: str = ""
    now: int = 0  # by the cloud's clock ...
    here: int = 0  # ... and by ours, in the middle between question and answer
    precision: int = 0  # how far the two may differ by the way of asking alone
    upgrade: str = ""  # why no WebSocket opens; "" if one does, or none was tried


async def knock(settings: config.Uplink, token: str, wall: Callable[[], int]) -> Knock:
    """Ask who we are, then open the WebSocket and close it. ConfigurationRefused if `ca_file` cannot be used."""
    tls = tls_context(settings.ca_file)
    url, headers = settings.url.rstrip("/"), {"Authorization": f"Bearer {token}"}
    async with ClientSession(headers=headers, timeout=ClientTimeout(total=ANSWER_WITHIN_S)) as session:
        try:
            asked = await _ask(session, url + WHOAMI, tls, wall)
        except ClientSSLError as error:
            return Knock("tls", str(error))
        except TimeoutError:
            return Knock("silent", f"no answer within {ANSWER_WITHIN_S:g} s")
        except (ClientError, OSError) as error:
            return Knock("away", str(error) or type(error).__name__)
        if asked.status == 200 and asked.gateway:
            asked = replace(asked, upgrade=await _upgrade(session, url + PATH, tls))
        return asked


async def _ask(session: ClientSession, url: str, tls: ssl.SSLContext | bool, wall: Callable[[], int]) -> Knock:
    began = wall()
    async with session.get(url, ssl=tls, allow_redirects=False) as answer:
        ended = wall()
        body = await _read(answer.content)
    said = _said(body) if answer.status == 200 else None
    now, unit = (said.now, 0) if said and said.now else (_date(answer.headers), 10**9)
    return Knock(
        "",
        status=answer.status,
        gateway=said.gateway if said else "",
        version=said.version if said else "",
        now=now,
        here=(began + ended) // 2,
        precision=(ended - began) // 2 + unit,
    )


async def _read(content: StreamReader) -> bytes:
    body = b""
    while len(body) < MAX_ANSWER and (part := await content.read(MAX_ANSWER - len(body))):
        body += part
    return body


def _said(body: bytes) -> Said | None:
    try:
        return msgspec.json.decode(body, type=Said)
    except msgspec.DecodeError:
        return None


def _date(headers: Mapping[str, str]) -> int:
    """Give the time in the header Date, in ns; 0 if there is none."""
    try:
        return int(parsedate_to_datetime(headers["Date"]).timestamp()) * 10**9
    except (KeyError, ValueError):
        return 0


async def _upgrade(session: ClientSession, url: str, tls: ssl.SSLContext | bool) -> str:
    """Say why no WebSocket opens; "" if one does."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            socket = await session.ws_connect(url, ssl=tls, timeout=ClientWSTimeout(ws_close=CLOSE_WITHIN_S))
            await socket.close()
    except WSServerHandshakeError as error:
        return f"it answers {error.status} where a WebSocket should open"
    except TimeoutError:
        return f"no WebSocket within {ANSWER_WITHIN_S:g} s"
    except (ClientError, OSError) as error:
        return str(error) or type(error).__name__
    return ""

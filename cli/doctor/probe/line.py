"""One connection to a broker, as the doctor uses it: says packets, and waits for what it expects. See `cli.link`.

Rules:

1. `Turned` says why a connection did not come about, or ended; nothing else is raised for the network's faults.
2. Messages wait in `messages`, at most MOST of them: what comes beyond is let go. Other packets answer what was said.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from typing import NamedTuple, TypeVar

import mqtt5

from cli.doctor.facts import Cause
from cli.link import Link
from gateway.config import Broker
from gateway.intake import tls_context
from protocol.errors import BrokerUnavailable

ANSWER_S = 10.0
"""How long a connection, and each answer of the broker's, may take."""

MOST = 4_096

P = TypeVar("P", mqtt5.SubAckPacket, mqtt5.PubAckPacket)
Code = mqtt5.ConnAckReasonCode

CAUSES: dict[int, Cause] = {
    int(Code.BAD_USER_NAME_OR_PASSWORD): "user",
    int(Code.NOT_AUTHORIZED): "user",
    int(Code.BANNED): "user",
    int(Code.BAD_AUTHENTICATION_METHOD): "user",
    int(Code.CLIENT_ID_NOT_VALID): "client",
    int(Code.UNSUPPORTED_PROTOCOL_VERSION): "speech",
}


class Turned(Exception):
    """The broker, or the network, turned us away."""

    def __init__(self, cause: Cause, why: str) -> None:
        super().__init__(cause, why)
        self.cause, self.why = cause, why


class Account(NamedTuple):
    """With which words a broker is greeted; `section` is where the configuration has them."""

    broker: Broker
    client_id: str
    password: bytes | None
    section: str = "devices"

    def hello(
        self, suffix: str, *, clean: bool = True, expiry: int = 0, receive_max: int = 65_535
    ) -> mqtt5.ConnectPacket:
        """Make a CONNECT of a client whose id is ours and a suffix; the gateway's own session is never touched."""
        return mqtt5.ConnectPacket(
            f"{self.client_id}-{suffix}",
            username=self.broker.username or None,
            password=self.password,
            clean_start=clean,
            keep_alive=60,  # rumqttd takes nobody who promises nothing
            session_expiry_interval=expiry,
            receive_max=receive_max,
        )


class Line:
    """An open connection."""

    def __init__(self) -> None:
        self.messages: list[mqtt5.PublishPacket] = []
        self.greeting = mqtt5.ConnAckPacket()
        self._answers: deque[mqtt5.Packet] = deque()
        self._changed = asyncio.Event()
        self._link = Link(self._received)

    @classmethod
    async def open(cls, account: Account, hello: mqtt5.ConnectPacket) -> Line:
        """Connect and be let in, or Turned. ConfigurationRefused if a TLS file cannot be used."""
        host, port, tls = account.broker.address
        context = tls_context(account.broker, account.section) if tls else None
        line, answered = cls(), False
        try:
            async with asyncio.timeout(ANSWER_S):
                await line._connect(host, port, context, hello)
            answered = True
        except TimeoutError:
            raise Turned("silent", f"{host}:{port} does not answer within {ANSWER_S:g} s") from None
        finally:
            if not answered:
                line._link.abort()
        if line.greeting.reason_code != Code.SUCCESS:
            await line._link.end()
            code = line.greeting.reason_code
            raise Turned(CAUSES.get(int(code), "answer"), f"it refuses the connection: {said(code)}")
        return line

    async def _connect(self, host: str, port: int, context: ssl.SSLContext | None, hello: mqtt5.ConnectPacket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self._link, host, port, ssl=context)
        except ssl.SSLError as error:
            raise Turned("tls", str(error)) from None
        except socket.gaierror as error:
            raise Turned("name", f"{host}: {error.strerror}") from None
        except (OSError, UnicodeError) as error:
            raise Turned("address", str(error)) from None
        self._link.write(hello.write())
        try:
            self.greeting = await self._link.answer
        except BrokerUnavailable:
            raise Turned("speech", "it ends the connection instead of answering") from None

    def _received(self, packets: list[mqtt5.Packet]) -> None:
        for packet in packets:
            if not isinstance(packet, mqtt5.PublishPacket):
                self._answers.append(packet)
            elif len(self.messages) < MOST:
                self.messages.append(packet)
        self._changed.set()

    def say(self, *packets: mqtt5.Packet) -> None:
        """Send at once."""
        self._link.write(b"".join(packet.write() for packet in packets))

    async def answer(self, kind: type[P]) -> P:
        """Wait for the next packet of a kind, letting others go; Turned if it does not come."""
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    while self._answers:
                        if isinstance(packet := self._answers.popleft(), kind):
                            return packet
                        if isinstance(packet, mqtt5.DisconnectPacket):
                            raise Turned("answer", f"it ends the connection: {said(packet.reason_code)}")
                    await self._change()
        except TimeoutError:
            raise Turned("silent", f"it did not answer within {ANSWER_S:g} s") from None

    async def _change(self) -> None:
        if self._link.ended.is_set():
            raise Turned("answer", "it ends the connection")
        self._changed.clear()
        ended = asyncio.create_task(self._link.ended.wait(), name="ended")
        changed = asyncio.create_task(self._changed.wait(), name="changed")
        try:
            await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            changed.cancel()

    async def quiet(self, seconds: float) -> None:
        """Wait until no packet has come for so long."""
        while True:
            try:
                async with asyncio.timeout(seconds):
                    await self._change()
            except TimeoutError:
                return

    async def subscribe(self, *filters: mqtt5.TopicFilter) -> list[mqtt5.SubAckReasonCode]:
        """Subscribe, and give the broker's answers in the same order; Turned if there is none."""
        self.say(mqtt5.SubscribePacket(1, list(filters)))
        return (await self.answer(mqtt5.SubAckPacket)).reason_codes

    async def close(self) -> None:
        """Take leave; the broker keeps the session as long as it was asked to."""
        await self._link.end()


def said(code: mqtt5.ConnAckReasonCode | mqtt5.DisconnectReasonCode | mqtt5.SubAckReasonCode) -> str:
    """Give a reason code in words."""
    return code.name.lower().replace("_", " ")

"""Hears what the devices' broker says of its drops, under $SYS, on a connection of its own.

Its own, because a broker that does not know such topics may end the connection that asks for one (rumqttd does), and
because what it says there is no reading. It begins EVERY_S after the start, since mosquitto states its counters every
10 s; a broker that does not let us hear is not asked again until the next start.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from mqtt5 import ConnAckPacket, ConnectPacket, SubAckReasonCode

from gateway.config import Broker
from gateway.intake.connection import ANSWER_S, Connection, Subscriptions
from gateway.intake.counters import Counters
from gateway.intake.drops import Drops
from gateway.intake.session import tls_of
from gateway.records import Arrivals
from gateway.segment import Files, write_atomically

log = logging.getLogger("fieldgate.intake")

DROPPED = "$SYS/broker/publish/messages/dropped"
EVERY_S = 10.0
KEEPALIVE_S = 60
REFUSED = 0x80  # reason codes from here on are refusals (MQTT 5, 2.4)


class Hearsay:
    """Counts the broker's drops in a file at `path`; `on_drops(total)` hears of each growth, after that is written."""

    held = False
    gone: Sequence[str] = ()

    def __init__(  # noqa: PLR0917 - each is of its own type
        self,
        broker: Broker,
        client_id: str,
        password: bytes | None,
        files: Files,
        path: Path,
        on_drops: Callable[[int], None],
    ) -> None:
        self.counters = Counters()
        self.drops = _read(files, path)
        self._address = broker.address
        self.configure(broker, client_id, password, tls_of(broker))
        self._files, self._path, self._on_drops = files, path, on_drops
        self._accepted = self._granted = False
        self._said = self.drops.last
        self._news = asyncio.Event()

    def configure(self, broker: Broker, client_id: str, password: bytes | None, tls: ssl.SSLContext | None) -> None:
        """Go to this broker, from the next connection on."""
        if broker.address != self._address:
            self.drops = self.drops._replace(last=-1)  # another's counter: begin where it stands
        self._address, self._tls = broker.address, tls
        self._connect = ConnectPacket(
            client_id, username=broker.username or None, password=password, clean_start=True, keep_alive=KEEPALIVE_S
        )

    async def run(self) -> None:
        """Hear until cancelled, or until the broker does not let us."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write_for_ever(), name="broker's drops")
            self._accepted = self._granted = False
            while not (self._accepted and not self._granted):
                await asyncio.sleep(EVERY_S)
                await self._live()
            log.info("intake: the broker does not say what it drops")
            writing.cancel()

    async def _live(self) -> None:
        """Live through one connection; why it ends is of no matter, the intake says it."""
        loop = asyncio.get_running_loop()
        self._accepted = self._granted = False
        connection = Connection(self, 1, self._connect, [(DROPPED, 0)])
        host, port, _ = self._address
        try:
            async with asyncio.timeout(ANSWER_S):
                await loop.create_connection(lambda: connection, host, port, ssl=self._tls)
            await connection.ended
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            log.debug("intake: %s:%s cannot be reached (%s)", host, port, error)
        finally:
            await connection.leave()

    # Called by the connection.

    def accepted(self, answer: ConnAckPacket) -> None:
        """Take note that the broker let us in."""
        del answer
        self._accepted = True

    def subscribed(self, asked: Subscriptions, codes: Sequence[SubAckReasonCode]) -> None:
        """Take note whether it lets us hear."""
        del asked
        self._granted = all(int(code) < REFUSED for code in codes)

    def arrived(self, arrivals: Arrivals) -> None:
        """Take the newest word."""
        for topic, payload in zip(arrivals.topics, arrivals.payloads, strict=True):
            if topic == DROPPED and payload.isdigit():
                self._said = int(payload)
                self._news.set()

    # What is heard is written down, then told.

    async def _write_for_ever(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            before, self.drops = self.drops, self.drops.feed(self._said)
            if self.drops != before:
                await asyncio.to_thread(self._write, self.drops)
            if self.drops.total > before.total:
                dropped = self.drops.total - before.total
                log.warning("the broker dropped %d messages, of this or other clients, and told no device", dropped)
                self._on_drops(self.drops.total)

    def _write(self, drops: Drops) -> None:
        try:
            write_atomically(self._files, self._path, msgspec.json.encode(drops))
        except OSError as error:
            log.warning("%s cannot be written (%s): after a restart some drops are counted again", self._path, error)


def _read(files: Files, path: Path) -> Drops:
    """Read what was written; where there is nothing, or nothing legible, counting begins anew."""
    try:
        return msgspec.json.decode(files.read(path), type=Drops)
    except (OSError, msgspec.DecodeError):
        return Drops()

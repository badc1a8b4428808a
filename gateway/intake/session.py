"""One connection after another: the session with the broker that outlives them.

A connection that drops is made again at once; one that cannot be made, after a moment of AWAY_S at most; one that the
broker refuses or takes leave of, after a longer one. The broker keeps the session (stable client id, `session_expiry`)
and sends again what was not acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from random import Random

from mqtt5 import ConnAckPacket, ConnectPacket, SubAckReasonCode

from gateway.config import Broker
from gateway.intake.connection import ANSWER_S, MAX_PACKET, Connection, Subscriptions, said
from gateway.intake.counters import Counters
from gateway.records import Arrivals
from protocol.bus import LONGEST_DELAY_S, reconnect_delay
from protocol.certificates import suspect_clock
from protocol.errors import ConfigurationRefused

log = logging.getLogger("fieldgate.intake")

STEADY_S = 5.0
"""A connection that lived this long was a good one: the next is tried at once."""

AWAY_S = 3.0
"""Longest pause while the broker is away: what it queues for us meanwhile is bounded, and asking costs it little."""

REFUSED = 0x80  # reason codes from here on are refusals (MQTT 5, 2.4)
MAX_SECONDS = 0xFFFF_FFFE  # MQTT's largest session expiry that is not "for ever"

MAX_GONE = 256
"""Subscriptions given up, of which a broker is told again at each connection; the oldest is forgotten."""


class Intake:
    """The gateway's connection to the devices' broker. ConfigurationRefused if the TLS files cannot be used."""

    def __init__(  # noqa: PLR0917 - each is of its own type
        self,
        broker: Broker,
        client_id: str,
        subscriptions: Subscriptions,
        password: bytes | None,
        on_arrivals: Callable[[Arrivals], None],
        on_state: Callable[[bool, str], None],
        rng: Random,
    ) -> None:
        self.counters = Counters()
        self.held = False
        self.gone: Sequence[str] = ()
        self.arrived = on_arrivals
        self.configure(broker, client_id, password, tls_of(broker))
        self._subscriptions = _strongest(subscriptions)
        self._on_state = on_state
        self._rng = rng
        self._connection: Connection | None = None
        self._granted: dict[str, int] = {}

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us, now."""
        return self._connection is not None and self._connection.connected

    def configure(self, broker: Broker, client_id: str, password: bytes | None, tls: ssl.SSLContext | None) -> None:
        """Go to this broker, from the next connection on: for one at once, end `run` and begin it again."""
        self._told = (False, "")
        self._address, self._tls = broker.address, tls
        self._connect = _connect(broker, client_id, password)

    def subscribe(self, subscriptions: Subscriptions) -> None:
        """Receive these topics from now on, and no others, but for what the broker already holds of others.

        What is new is asked for before the rest is given up: where both match, a message may come twice, never not.
        """
        before, self._subscriptions = self._subscriptions, _strongest(subscriptions)
        wanted = [pattern for pattern, _ in self._subscriptions]
        new = [one for one in self._subscriptions if one not in before]
        gone = [pattern for pattern, _ in before if pattern not in wanted]
        self.gone = [*(pattern for pattern in self.gone if pattern not in wanted), *gone][-MAX_GONE:]
        self._granted = {pattern: level for pattern, level in self._granted.items() if pattern in wanted}
        if self._connection is not None:
            self._connection.resubscribe(self._subscriptions, new, gone)

    async def run(self) -> None:
        """Stay connected until cancelled; what the network and the broker do is told, never raised."""
        failures, longest = 0, AWAY_S
        while True:
            await asyncio.sleep(reconnect_delay(failures, self._rng, longest))
            steady, why = await self._live()
            failures = 0 if steady else failures + 1
            longest = LONGEST_DELAY_S if self._connection and self._connection.refused else AWAY_S
            self._tell(False, why)

    async def _live(self) -> tuple[bool, str]:
        """Live through one connection: whether it was a good one, and why it ended."""
        loop = asyncio.get_running_loop()
        number = self.counters.connections + 1
        self._connection = connection = Connection(self, number, self._connect, self._subscriptions)
        host, port, _ = self._address
        began = loop.time()
        try:
            async with asyncio.timeout(ANSWER_S):
                await loop.create_connection(lambda: connection, host, port, ssl=self._tls)
            why = await connection.ended
        except TimeoutError:
            why = f"{host}:{port} did not answer within {ANSWER_S:g} s"
        except (OSError, UnicodeError) as error:
            why = suspect_clock(f"{host}:{port} cannot be reached ({error})", time.time_ns())
        finally:
            await connection.leave()
        lived = connection.number == self.counters.connections and loop.time() - began > STEADY_S
        return lived and not connection.refused, why

    def _tell(self, connected: bool, why: str) -> None:
        if (connected, why) != self._told:
            self._told = (connected, why)
            self._on_state(connected, why)

    # Called by the connection.

    def accepted(self, answer: ConnAckPacket) -> None:
        """Tell that we are connected, and whether the broker remembered us."""
        self.counters.connections += 1
        again = self.counters.connections > 1
        if again and not answer.session_present:
            self.counters.sessions_lost += 1
            log.warning("the broker forgot our session; what it had queued for us is lost")
        session = "session resumed" if answer.session_present else "new session"
        host, port, _ = self._address
        self._tell(True, f"connected to {host}:{port} ({session})")

    def subscribed(self, asked: Subscriptions, codes: Sequence[SubAckReasonCode]) -> None:
        """Name the topics that the broker refuses, or grants with less than we asked; not again at each reconnect."""
        for (pattern, level), code in zip(asked, codes, strict=False):
            if self._granted.get(pattern) == int(code):
                continue
            self._granted[pattern] = int(code)
            if int(code) >= REFUSED:
                self.counters.subscriptions_refused += 1
                log.warning("the broker refused the subscription to %s: %s", pattern, said(code))
            elif int(code) < level:
                log.warning("the broker grants %s at most once only: unacknowledged readings may be lost", pattern)

    # Called by the pipeline.

    def acknowledge(self, connection: int, packet_ids: Sequence[int]) -> None:
        """Acknowledge messages of that connection in one write; if it is gone, the broker sends them again."""
        if self._connection is not None and self._connection.number == connection:
            self._connection.acknowledge(packet_ids)
        else:
            self.counters.stale += len(packet_ids)

    def pause(self) -> None:
        """Stop reading; the broker queues. At most one more read is handed over."""
        self._hold(True)

    def resume(self) -> None:
        """Read again."""
        self._hold(False)

    def _hold(self, held: bool) -> None:
        if held != self.held:
            self.held = held
            if self._connection is not None:
                self._connection.hold()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send at most once; dropped and counted when the broker is not there or does not read."""
        if self._connection is not None and self._connection.publish(topic, payload, retain=retain):
            self.counters.published += 1
        else:
            self.counters.unpublished += 1


def _strongest(subscriptions: Subscriptions) -> list[tuple[str, int]]:
    levels: dict[str, int] = {}
    for pattern, level in subscriptions:
        levels[pattern] = max(level, levels.get(pattern, 0))
    return list(levels.items())


def _connect(broker: Broker, client_id: str, password: bytes | None) -> ConnectPacket:
    return ConnectPacket(
        client_id,
        username=broker.username or None,
        password=password,
        clean_start=False,
        keep_alive=_seconds(broker.keepalive, 0xFFFF),
        session_expiry_interval=_seconds(broker.session_expiry, MAX_SECONDS),
        receive_max=broker.receive_maximum,
        max_packet_size=MAX_PACKET,
    )


def _seconds(duration: int, most: int) -> int:
    """Whole seconds, at least one unless the duration is none at all."""
    return min(-(-duration // 10**9), most)


def tls_of(broker: Broker, section: str = "devices") -> ssl.SSLContext | None:
    """Make what the broker's address asks for; None without TLS."""
    return tls_context(broker, section) if broker.address[2] else None


def tls_context(broker: Broker, section: str = "devices") -> ssl.SSLContext:
    """Make the TLS settings of a broker; ConfigurationRefused names the file that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=broker.ca_file or None)
    except OSError as error:
        raise ConfigurationRefused(f"{section}.ca_file", broker.ca_file, f"a PEM file ({error})") from None
    if broker.cert_file:
        try:
            context.load_cert_chain(broker.cert_file, broker.key_file or None)
        except OSError as error:
            raise ConfigurationRefused(
                f"{section}.cert_file", broker.cert_file, f"a PEM certificate, with its key in key_file ({error})"
            ) from None
    return context

"""Devices on one MQTT 5 connection: published when due, resent until acknowledged, for ever reconnected.

Rules:

1. At most `window` QoS 1 messages are unacknowledged (fewer if the broker asks for fewer); what is due meanwhile waits.
2. After a connection ends, the next one begins by sending the unacknowledged again, in order; with DUP if the broker
   still has the session, as new messages if it has forgotten it.
3. An acknowledgement with an error is none: the message is counted as refused, and not sent again.
4. `repeat` publishes the newest acknowledged messages once more: a broker that keeps its queue in memory loses, when it
   dies, what it had acknowledged and not delivered. Whoever receives both knows them by series and event time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random

import mqtt5

from cli.accounting import Ranges
from cli.devices import Devices
from cli.link import Link, connect
from gateway.config import Broker
from protocol.errors import BrokerUnavailable

BATCH = 500
"""Messages in one write: enough that a write costs little, little enough that acknowledgements are read meanwhile."""

TICK_S = 0.005
"""Shortest pause between writes; what falls due meanwhile goes out together."""

RETRY_S = 2.0
"""Longest pause before the next try to connect; after a connection that was of use it is none."""

KEEP_ALIVE_S = 20

TAKEN = (mqtt5.PubAckReasonCode.SUCCESS, mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)
"""Acknowledgements that are one."""


class Publisher:
    """One connection's devices; `acknowledged[d]` are the counters of device d that the broker has acknowledged."""

    def __init__(
        self,
        broker: Broker,
        devices: Devices,
        *,
        client_id: str,
        clock: Callable[[], int],
        rng: Random,
        password: bytes | None = None,
        qos: int = 1,
        window: int = 1000,
        limit: int | None = None,
    ) -> None:
        self.devices = devices
        self.acknowledged = [Ranges() for _ in devices.names]
        self.sent = 0  # messages published at least once
        self.repeated = self.refused = self.reconnects = self.bytes_json = 0
        self.connected = False
        self.trouble = ""  # why the last connection ended or could not begin
        self.finished = asyncio.Event()
        self._broker, self._password, self._client_id = broker, password, client_id
        self._clock, self._rng = clock, rng
        self._qos = qos
        self._limit = limit
        self._window = window
        self._free = deque(range(1, window + 1))
        self._inflight: dict[int, int] = {}  # packet id to message, oldest first
        self._again: deque[int] = deque()
        self._link: Link | None = None
        self._heard = self._pinged = 0  # ns, when the broker was last heard, and last asked for a sign of life

    @property
    def inflight(self) -> int:
        """How many messages wait for their acknowledgement."""
        return len(self._inflight)

    async def run(self) -> None:
        """Connect and publish until everything is out and acknowledged (`finished`); then end the session in order."""
        pause = 0.0
        while not self.finished.is_set():
            heard = sum(map(len, self.acknowledged))
            try:
                await self._publish(await self._connect())
            except BrokerUnavailable as error:
                self.trouble = str(error)
            self.connected = False
            if not self.finished.is_set():
                self.reconnects += 1
                pause = 0.0 if sum(map(len, self.acknowledged)) > heard else min(RETRY_S, max(0.1, pause * 2))
                await asyncio.sleep(self._rng.uniform(0, pause))

    def stop(self) -> None:
        """Publish nothing new; `finished` comes when the rest is acknowledged."""
        self._limit = self.sent
        self._check_finished()

    def repeat(self, ns: int) -> None:
        """Publish what was first published within the last `ns` once more."""
        waiting = {*self._inflight.values(), *self._again}
        since = self.devices.until(self._clock() - ns)
        self._again.extend(k for k in range(min(since, self.sent), self.sent) if k not in waiting)

    async def _connect(self) -> Link:
        hello = mqtt5.ConnectPacket(
            self._client_id,
            username=self._broker.username or None,
            password=self._password,
            keep_alive=KEEP_ALIVE_S,
            session_expiry_interval=3600 if self._qos else 0,
        )
        link, answer = await connect(self._broker, hello, self._received)
        self._link = link
        self._heard = self._clock()
        self._window = min(self._window, answer.receive_max)
        self._resend(link, known=answer.session_present)
        self.connected, self.trouble = True, ""
        return link

    def _resend(self, link: Link, *, known: bool) -> None:
        link.write(b"".join(self._packet(k, packet_id, known) for packet_id, k in self._inflight.items()))

    async def _publish(self, link: Link) -> None:
        try:
            while not link.ended.is_set() and not self.finished.is_set():
                self._pump()
                self._keep_alive(link)
                wait = (self.devices.due(self.sent) - self._clock()) / 1e9
                await asyncio.sleep(min(max(wait, TICK_S), 1.0))
        finally:
            await link.end()
            self._link = None
        if not self.finished.is_set():
            raise BrokerUnavailable("the connection ended")

    def _keep_alive(self, link: Link) -> None:
        now, half = self._clock(), KEEP_ALIVE_S * 10**9 // 2
        if now - self._heard > 3 * half:
            link.abort()
        elif now - max(self._heard, self._pinged) > half:
            link.write(mqtt5.PingReqPacket().write())
            self._pinged = now

    def _pump(self) -> None:
        """Write what is due, as far as the window and the socket allow."""
        link = self._link
        due = self.devices.until(self._clock())
        due = due if self._limit is None else min(due, self._limit)
        while link is not None and link.writable and (batch := self._take(due)):
            link.write(b"".join(batch))
        self._check_finished()

    def _take(self, due: int) -> list[bytes]:
        room = min(self._window - len(self._inflight), BATCH) if self._qos else BATCH
        batch: list[bytes] = []
        while len(batch) < room and (self._again or self.sent < due):
            batch.append(self._next())
        return batch

    def _next(self) -> bytes:
        if self._again:
            k = self._again.popleft()
            self.repeated += 1
        else:
            k, self.sent = self.sent, self.sent + 1
            self.bytes_json += len(self.devices.message(k)[1])
        if not self._qos:
            return self._packet(k, None, False)
        packet_id = self._free.popleft()
        self._inflight[packet_id] = k
        return self._packet(k, packet_id, False)

    def _packet(self, k: int, packet_id: int | None, duplicate: bool) -> bytes:
        topic, payload = self.devices.message(k)
        return mqtt5.PublishPacket(
            topic, payload, qos=mqtt5.QoS(self._qos), packet_id=packet_id, duplicate=duplicate
        ).write()

    def _received(self, packets: list[mqtt5.Packet]) -> None:
        self._heard = self._clock()
        for packet in packets:
            if isinstance(packet, mqtt5.PubAckPacket):
                self._acknowledge(packet)
            elif isinstance(packet, mqtt5.DisconnectPacket) and self._link is not None:
                self._link.abort()
        self._pump()

    def _acknowledge(self, packet: mqtt5.PubAckPacket) -> None:
        k = self._inflight.pop(packet.packet_id, None)
        if k is None:
            return
        self._free.append(packet.packet_id)
        if packet.reason_code not in TAKEN:
            self.refused += 1
            return
        device, counter = self.devices.pair(k)
        self.acknowledged[device].add(counter)

    def _check_finished(self) -> None:
        if self._limit is not None and self.sent >= self._limit and not self._inflight and not self._again:
            self.finished.set()

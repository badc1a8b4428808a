"""The way in: what arrives is gathered into records, which go into the journal's buffer and are applied at once.

Rules:

1. What is applied is in the journal's buffer already, in the same order: a replay does the same.
2. Nothing here waits: the commit takes `uncommitted`, and what depends on it (PUBACK, spool) waits there.
3. Alerts go to the devices' broker at once, before the commit: an alert's identity makes a repeat harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from gateway import alerts, recovery
from gateway.alarm import Alarm
from gateway.clock import Clock, boot_id, told
from gateway.commit import Gate
from gateway.config import GatewayConfig, pipeline_text
from gateway.decode import Decode
from gateway.gather import Gathering
from gateway.intake import Intake
from gateway.records import (
    NEVER,
    Arrivals,
    ConfigurationRecord,
    DropsRecord,
    ModelRecord,
    Outputs,
    Readings,
    ReadingsRecord,
    Record,
    SeriesTable,
    TickRecord,
)
from protocol.topics import topic

log = logging.getLogger("fieldgate.inward")

LOOK_S = 0.05
"""After a record, how soon it is asked when the next tick is due: asking costs, and a record may come each 10 ms."""

FINEST = 10**6
"""In ns: no timer of the event loop is finer."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A record in the journal's buffer: its outputs and acknowledgements wait for the commit."""

    seq: int
    outputs: Outputs
    connection: int = 0
    packet_ids: list[int] = field(default_factory=list)
    readings: Readings | None = None  # for classifiers; None where there are none


class Inward:
    """Decode, records and ticks of one gateway, up to the commit; `alarm` rings when one may be due."""

    def __init__(self, config: GatewayConfig, opened: recovery.Opened, clock: Clock, alarm: Alarm) -> None:
        self.config, self.clock = config, clock
        self.journal, self.at = opened.journal, opened.at
        series = SeriesTable(self.at.derive.names, limit=config.max_series)
        self.decode = Decode(config.source, series, self.at.recent, config.devices.receive_maximum)
        self.gate = Gate(int(config.journal.commit_interval), config.devices.receive_maximum)
        self.intake: Intake | None = None
        self.uncommitted: list[Applied] = []
        self._alarm = alarm
        self._gathering = Gathering(int(config.journal.record_interval))
        self._failed = asyncio.Event()
        self._error: Exception | None = None  # what a timer's callback raised
        self._record_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None

    @property
    def gathered(self) -> bool:
        """Whether something has arrived that no record holds yet."""
        return bool(self._gathering) or (self.intake is not None and self.intake.held)

    def connect(self, client_id: str, password: bytes | None, rng: Random) -> None:
        """Make the connection to the devices' broker; it opens when its task runs."""
        config = self.config
        self.intake = Intake(
            config.devices, client_id, subscriptions(config), password, self.arrived, self._changed, rng
        )

    def _changed(self, connected: bool, why: str) -> None:
        log.log(logging.INFO if connected else logging.WARNING, "intake: %s", why)
        if connected:
            self.gate.forget()

    def begin(self) -> None:
        """State which boot this is and, if it changed, the configuration; then wait for readings."""
        now = self.clock.now()
        said = self.clock.record(now, boot_id(), after=self.at.stamp or now)
        self._apply(said)
        if self.at.derive.domain:
            log.warning("clock: %s", told(said))
        self._state_configuration(now, anew=self.journal.next == 2)
        self.gate.feed(0, now)
        self._alarm.ring()
        self._set_tick_timer()

    def configure(self, config: GatewayConfig) -> None:
        """Take another configuration between two records: what has arrived is read, and judged, as it was before.

        The connection keeps its broker until its owner says otherwise.
        """
        self.close_record()
        old, self.config = self.config, config
        memory = config.devices.receive_maximum
        if (old.source, old.max_series, old.devices.receive_maximum) != (config.source, config.max_series, memory):
            self.decode.configure(config.source, config.max_series, self.at.recent, memory)
        self.gate.interval = int(config.journal.commit_interval)
        self.gate.most = config.devices.receive_maximum
        self._gathering = Gathering(int(config.journal.record_interval), self.clock.now())
        self._state_configuration(self._moment())
        if self.intake is not None:
            self.intake.subscribe(subscriptions(config))
        self.gate.feed(0, self.clock.now())
        self._alarm.ring()
        self._set_tick_timer()

    def _state_configuration(self, now: int, *, anew: bool = False) -> None:
        text = pipeline_text(self.config.pipeline)
        if anew or pipeline_text(self.at.derive.config) != text:
            self._apply(ConfigurationRecord(now, text))

    def _moment(self) -> int:
        """Give `now` for a record; what has become of the clock since the last one is a record before it."""
        now = self.clock.now()
        if self.clock.changed:
            record = self.clock.record(now, boot_id())
            log.warning("clock: %s", told(record))
            self._apply(record)
            self.gate.feed(0, now)
        return now

    def watch_clock(self) -> None:
        """State what has become of the clock, though nothing else is to be recorded."""
        self.clock.now()
        if self.clock.changed:
            self.close_record()
            self._moment()
            self._alarm.ring()
            self._set_tick_timer()

    def arrived(self, arrivals: Arrivals) -> None:
        """Take what one socket read held, and gather it into a record."""
        now = self.clock.now()
        if not self._gathering.takes(arrivals):
            self.close_record()
        self._gathering.feed(arrivals, now)
        self.gate.feed(len(arrivals.packet_ids), now)
        if self._gathering.full or self.gate.due() <= now:
            self.close_record()
        elif self._record_timer is None:
            self._set_record_timer()

    def _set_record_timer(self) -> None:
        delay = max(self._gathering.due() - self.clock.now(), 0) / 1e9
        self._record_timer = asyncio.get_running_loop().call_later(delay, self._guarded, self._interval_over)

    def _interval_over(self) -> None:
        if self._gathering.due() > self.clock.now() + FINEST:  # more has come: it is due later than it was
            self._set_record_timer()
        else:
            self.close_record()

    def close_record(self) -> None:
        """Make one journal record of what was gathered, and apply it."""
        if self._record_timer is not None:
            self._record_timer.cancel()
            self._record_timer = None
        gathered = self._gathering
        if not gathered:
            return
        now = self._moment()
        self._gathering = Gathering(int(self.config.journal.record_interval), now)
        arrivals = gathered.joined()
        decoded = self.decode.feed(arrivals, now, adrift=self.at.derive.domain != "")
        record = ReadingsRecord(now, decoded.readings, decoded.names, decoded.tally, decoded.recent, decoded.ours)
        self._apply(record, arrivals.connection, arrivals.packet_ids)
        self._hold_intake()
        self._alarm.ring()
        self._tick_within(LOOK_S)

    def tick(self) -> None:
        """Let time pass for the stages that wait for it; journalled before it is applied."""
        self._tick_timer = None
        self.close_record()
        now = self._moment()
        if self.at.derive.due() <= now:
            self._apply(TickRecord(now))
            self.gate.feed(0, now)
            self._alarm.ring()
        self._set_tick_timer()

    def swap(self, sealed: bytes, content: bytes) -> None:
        """Let another model score from here on: a record like any other, so it changes between two windows."""
        self._record(lambda now: ModelRecord(now, sealed, content))

    def broker_dropped(self, total: int) -> None:
        """Take note of how many messages the broker has dropped by now: a record, since alerts come of it."""
        if total != self.at.derive.drops:
            self._record(lambda now: DropsRecord(now, total))

    def _record(self, made: Callable[[int], Record]) -> None:
        self.close_record()
        now = self._moment()
        self._apply(made(now))
        self.gate.feed(0, now)
        self._alarm.ring()
        self._set_tick_timer()

    def _apply(self, record: Record, connection: int = 0, packet_ids: list[int] | None = None) -> None:
        seq = self.journal.append(record)
        outputs = recovery.apply(self.at, seq, record, self.config.devices.receive_maximum)
        readings = record.readings if self.at.derive.models and isinstance(record, ReadingsRecord) else None
        self.uncommitted.append(Applied(seq, outputs, connection, packet_ids or [], readings))
        if self.intake is not None and outputs.items:  # at once: an alert's identity makes a repeat harmless
            for alert in alerts.said(outputs, self.at.derive.names):
                self.intake.publish(topic(self.config.name, "alerts"), alert)

    def _set_tick_timer(self) -> None:
        due = self.at.derive.due()
        if due != NEVER:
            self._tick_within(max((due - self.clock.now()) / 1e9, self.config.journal.record_interval / 1e9))

    def _tick_within(self, delay: float) -> None:
        """Look in at most `delay` seconds whether a tick is due."""
        loop = asyncio.get_running_loop()
        timer = self._tick_timer
        if self._alarm.stopping or (timer is not None and timer.when() <= loop.time() + delay):
            return
        if timer is not None:
            timer.cancel()
        self._tick_timer = loop.call_later(delay, self._guarded, self.tick)

    def _hold_intake(self) -> None:
        if self.intake is not None and self.journal.pending_bytes > self.config.journal.max_pending:
            self.intake.pause()

    def _guarded(self, callback: Callable[[], None]) -> None:
        """Let a timer's callback end the gateway if it raises: the journal may hold a record that was not applied."""
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - raised again from `fail`: the loop would only log it
            self._error = error
            self._failed.set()

    async def fail(self) -> None:
        """Wait for a timer's callback to fail, and raise what it raised."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error

    def stop(self) -> None:
        """Let no tick come any more."""
        if self._tick_timer is not None:
            self._tick_timer.cancel()


def subscriptions(config: GatewayConfig) -> list[tuple[str, int]]:
    """Give what a configuration subscribes to, and at which level."""
    return [(source.filter, source.qos) for source in config.source]

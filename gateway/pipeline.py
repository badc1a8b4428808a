"""Start reading here: how a reading goes from the broker to the cloud, and who runs when.

    device ──MQTT──▶ intake ▶ decode ▶ journal ══▶ derive: clean ▶ window
                     (PUBACK after the commit)                │
                         uplink ◀ delivery ◀ spool ◀ pack ◀───┘

This file owns the tasks, the commit and the checkpoints; there is no arithmetic in it. What comes before the commit is
`inward`, what comes after it `outward`.

| between | bound | when full |
|---|---|---|
| decode and commit | `journal.max_pending` bytes | intake stops reading; the broker queues |
| commit and spool | one pack interval, `pack.MAX_ROWS` rows | packed at once |
| spool and cloud | `spool.*_bytes` per lane | the oldest segment is dropped and declared |

Order of a shutdown: intake stops, what was gathered is recorded and committed, its outputs are spooled, a checkpoint is
written. A kill at any point leaves what the journal holds, and the next start replays it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING

from gateway import recovery
from gateway.alarm import Alarm
from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.intake import Hearsay
from gateway.inward import Applied, Inward
from gateway.outward import Outward
from gateway.segment import Files, OsFiles
from gateway.service import Bulletin, Course, give_back, secret
from gateway.status import Status, Vitals
from protocol.errors import JournalUnusable
from protocol.messages import LANES
from protocol.notify import Notify, Sight, Work

if TYPE_CHECKING:
    from gateway.bus import Models
    from protocol.mqtt import MqttBus

log = logging.getLogger("fieldgate.pipeline")

RETRY_S = 1.0
"""Pause after a commit that failed: a full disk is asked once a second, not in a tight loop."""


class Pipeline:
    """One gateway at work. Everything here runs on the event loop, but for the commits."""

    def __init__(self, config: GatewayConfig, opened: recovery.Opened, clock: Clock) -> None:
        self.config = config
        self.journal, self.checkpoints = opened.journal, opened.checkpoints
        self.spool, self.at = opened.spool, opened.at
        self.clock = clock
        self._alarm = Alarm(clock)
        self.inward = Inward(config, opened, clock, self._alarm)
        self.out = Outward(config, opened, clock, self._make_room)
        self.hearsay: Hearsay | None = None
        self.bus: MqttBus | None = None
        self.models: Models | None = None
        self.stalled = False  # the last commit failed
        self.refusals = 0  # commits that the disk refused: it is asked again, so the gateway goes on
        self._committing = asyncio.Lock()
        self._journal_disk = ThreadPoolExecutor(1, "journal")

    def connect(self, password: str | None, token: str | None, rng: Random) -> None:
        """Make the connections; they open when their tasks run."""
        config = self.config
        client_id = config.devices.client_id or f"fieldgate-{config.name}"
        word = password.encode() if password is not None else None
        self.inward.connect(client_id, word, rng)
        self.hearsay = Hearsay(
            config.devices,
            f"{client_id}-hearsay",
            word,
            self.spool.files,
            Path(config.data) / "broker.json",
            self.out.broker_dropped,
        )
        self.out.broker_drops = self.hearsay.drops.total
        if config.uplink.url and token is not None:
            self.out.connect(token, rng)

    def join(self, password: str | None, rng: Random) -> None:
        """Make the connection to the bus, if there is anything to do on one; it opens when its task runs."""
        if self.config.wants_models:
            from gateway import bus  # noqa: PLC0415 - 2 MB that a gateway without models does without

            self.bus = bus.connect(self.config, password, rng)
            self.models = bus.models(
                self.config, self.bus, self.at, self.clock, apply=self.inward.swap, report=self.out.report
            )

    def vitals(self) -> Vitals:
        """Read all counters at one moment."""
        uplink, intake = self.out.uplink, self.inward.intake
        return Vitals(
            totals=self.at.derive.totals,
            unread=intake.counters.unread if intake else {},
            pending=self.at.derive.pending,
            frames_sent=uplink.sent if uplink else 0,
            frames_receipted=uplink.receipted if uplink else 0,
            cloud_connected=uplink is not None and uplink.connected,
            journal_bytes=self.journal.bytes,
            journal_written=self.journal.written,
            spool_frames={lane: self.spool.frames(lane) for lane in LANES},
            spool_bytes={lane: self.spool.bytes(lane) for lane in LANES},
            progress=self.at.derive.progress(),
            models=recovery.versions(self.at),
            models_refused=self.models.swap.refused if self.models is not None else {},
            lacking=[
                *(["intake: not connected to the broker"] if intake is None or not intake.connected else []),
                *(["journal: the last commit failed"] if self.stalled else []),
            ],
            broker_drops=self.out.broker_drops,
        )

    def course(self) -> Course:
        """Say how far it has come, for a line about it."""
        totals, frames = self.at.derive.totals, sum(self.spool.frames(lane) for lane in LANES)
        intake = self.inward.intake
        broker = intake is not None and intake.connected
        uplink = self.out.uplink
        cloud = uplink.connected if uplink is not None else None
        return Course(totals.recorded, totals.windows, frames, broker, cloud)

    def works(self) -> list[Work]:
        """Say what must go on. What only waits for the broker or the cloud is none of it."""
        journal = self.journal
        done = journal.durable + self.refusals
        return [
            Work("intake", self.inward.gathered, journal.next + done, "what arrived is not recorded"),
            Work("journal", journal.pending_bytes > 0, done, "no commit ends"),
            *self.out.works(),
        ]

    # The commit: acknowledgements and spool wait for it.

    async def commit_for_ever(self) -> None:
        """Commit whenever the gate says so, one commit at a time, until stopped."""
        while await self._alarm.wait(self.inward.gate.due):
            if not await self.commit():
                await asyncio.sleep(RETRY_S)

    async def commit(self) -> bool:
        """Make the applied records durable, acknowledge them and spool their outputs; False if the disk refused."""
        async with self._committing:
            self.inward.close_record()  # the gate counts what was gathered too, and would not ask for it again
            batch = list(self.inward.uncommitted)
            self.inward.gate.begin()
            try:
                await asyncio.get_running_loop().run_in_executor(self._journal_disk, self.journal.commit)
            except JournalUnusable as error:
                self.inward.gate.end(self.clock.now(), durable=False)
                self._alarm.ring()
                self._refused(error)
                return False
            self.inward.gate.end(self.clock.now(), durable=True)
            self.stalled = False
            del self.inward.uncommitted[: len(batch)]
            self._committed(batch)
            return True

    def _committed(self, batch: list[Applied]) -> None:
        now = self.clock.now()
        for applied in batch:
            self.out.committed(applied.seq, applied.outputs, now)
        self._acknowledge(batch)
        self.out.ring()

    def _acknowledge(self, batch: list[Applied]) -> None:
        intake = self.inward.intake
        if intake is None:
            return
        by_connection: dict[int, list[int]] = {}
        for applied in batch:
            by_connection.setdefault(applied.connection, []).extend(applied.packet_ids)
        for connection, packet_ids in by_connection.items():
            if packet_ids:
                intake.acknowledge(connection, packet_ids)
        intake.resume()

    def _refused(self, error: JournalUnusable) -> None:
        """Acknowledge nothing until a commit succeeds."""
        if not self.stalled:
            log.error("journal: %s; nothing is acknowledged until it commits again", error)
        self.stalled = True
        self.refusals += 1
        self._make_room(error)

    def _make_room(self, error: JournalUnusable) -> None:
        """When the disk is full, win room from history behind the checkpoints, else from telemetry."""
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
        if full and not self.journal.make_room(self.checkpoints.older_position)[0]:
            self.spool.make_room()

    # Checkpoints.

    async def checkpoint_for_ever(self) -> None:
        """Write a checkpoint when the interval has passed or enough readings have come, until stopped."""
        settings = self.config.journal
        position, waited = self.at.position, 0.0
        step = min(settings.checkpoint_interval / 1e9, 5.0)
        while not self._alarm.stopping:
            await asyncio.sleep(step)
            waited += step
            enough = self.at.readings >= settings.checkpoint_readings or waited >= settings.checkpoint_interval / 1e9
            if enough and self.at.position > position and await self.checkpoint():
                position, waited = self.at.position, 0.0

    async def checkpoint(self) -> bool:
        """Write all stage state at one position, once journal and spool hold everything up to it; False if refused.

        Until then the older checkpoints cover it.
        """
        self.inward.close_record()
        position, state, readings = self.at.position, recovery.checkpoint_state(self.at), self.at.readings
        while self.inward.uncommitted and self.inward.uncommitted[0].seq <= position:
            # Not `durable`: a record may be on the disk already, and its outputs not in the spool.
            if not await self.commit():
                return False
        if not await self.out.spool_now(flush=True):
            return False
        try:
            save = self.checkpoints.save
            await asyncio.get_running_loop().run_in_executor(self._journal_disk, save, position, state)
            del state
            await asyncio.get_running_loop().run_in_executor(self._journal_disk, give_back)
        except JournalUnusable as error:
            log.error("checkpoint: %s", error)  # noqa: TRY400 - the operator needs the cause, not our stack
            self._make_room(error)
            return False
        self.at.readings -= readings
        self.journal.retain(self.clock.now(), self.checkpoints.older_position)
        return True

    # Ending.

    def stop(self) -> None:
        """Let the loops end at their next step."""
        self._alarm.stop()
        self.out.stop()
        self.inward.stop()

    async def finish(self) -> None:
        """After the loops have ended: commit, spool and checkpoint what is left, and close the files."""
        self.inward.close_record()
        if await self.commit():
            await self.checkpoint()
        self.close()

    def close(self) -> None:
        """Close the files at once; what was not committed is gone."""
        self._journal_disk.shutdown()
        self.journal.close()
        self.out.close()


async def run(
    config: GatewayConfig,
    *,
    files: Files | None = None,
    on_ready: Callable[[Pipeline], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run one gateway until SIGTERM, SIGINT or `stop`; ConfigurationRefused if a secret is missing."""
    password = secret("devices", "password", file=config.devices.password_file, env=config.devices.password_env)
    bus_password = _bus_password(config, password)
    token = secret("uplink", "token", file=config.uplink.token_file, env=config.uplink.token_env)
    stop = stop or _stop_signal()
    rng = SystemRandom()
    notify = Notify(os.environ, os.getpid())
    recover = asyncio.to_thread(
        recovery.recover, config, files or OsFiles(), Clock().now(), lambda: rng.getrandbits(63)
    )
    opened = await notify.starting(recover, "recovering: replaying the end of the journal")
    pipeline = Pipeline(config, opened, Clock(opened.at.stamp))
    pipeline.connect(password, token, rng)
    pipeline.join(bus_password, rng)
    status = Status(pipeline.vitals)
    pipeline.journal.observe = status.fsync.observe
    runner = await status.serve(config.http.listen) if config.http.listen else None
    try:
        await _run_tasks(pipeline, stop, on_ready, notify)
    finally:
        if runner is not None:
            await runner.cleanup()


def _bus_password(config: GatewayConfig, devices: str | None) -> str | None:
    """Give the password for the bus: the devices' where their broker serves both."""
    if config.bus is None:
        return devices
    return secret("bus", "password", file=config.bus.password_file, env=config.bus.password_env)


async def _run_tasks(
    pipeline: Pipeline, stop: asyncio.Event, on_ready: Callable[[Pipeline], None] | None, notify: Notify
) -> None:
    pipeline.inward.begin()
    async with asyncio.TaskGroup() as tasks:
        for loop in (pipeline.commit_for_ever, pipeline.out.spool_for_ever):
            tasks.create_task(loop(), name=loop.__name__)
        connections = [tasks.create_task(pipeline.checkpoint_for_ever(), name="checkpoint")]
        connections.append(tasks.create_task(pipeline.inward.fail(), name="fail"))
        connections += [
            tasks.create_task(side.run(), name=type(side).__name__.lower())
            for side in (pipeline.inward.intake, pipeline.hearsay, pipeline.out.uplink, pipeline.models, pipeline.bus)
            if side is not None
        ]
        if on_ready is not None:
            on_ready(pipeline)
        connections.append(tasks.create_task(notify.attend(_look(pipeline)), name="notify"))
        await stop.wait()
        notify.stopping()
        for task in connections:
            task.cancel()
        pipeline.stop()
    await pipeline.finish()


def _look(pipeline: Pipeline) -> Callable[[], Sight]:
    """Give what a look at the gateway is, for whoever runs it as a service."""
    bulletin = Bulletin(pipeline.course(), pipeline.clock.monotonic())
    return lambda: Sight(bulletin.feed(pipeline.course(), pipeline.clock.monotonic()), pipeline.works())


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

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
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Protocol

from gateway import recovery
from gateway.alarm import Alarm
from gateway.clock import Clock, adrift, vouched
from gateway.config import GatewayConfig
from gateway.disk import LOOK_S, Disk
from gateway.intake import Hearsay
from gateway.inward import Applied, Inward
from gateway.outward import Outward
from gateway.reload import Reloads, Secrets
from gateway.renew import File, Renewal, client_id, make_bus
from gateway.segment import Files, OsFiles
from gateway.service import Bulletin, Course, give_back, secrets
from gateway.sides import Sides
from gateway.status import Status
from gateway.vitals import Vitals
from protocol.errors import JournalUnusable
from protocol.messages import LANES
from protocol.notify import Notify, Sight, Work
from protocol.topics import topic

if TYPE_CHECKING:
    from gateway.bus import Models
    from gateway.cascade import Cascade
    from gateway.classes import Classes
    from gateway.classify import Word
    from gateway.compute import Compute
    from protocol.mqtt import MqttBus

log = logging.getLogger("fieldgate.pipeline")

RETRY_S = 1.0
"""Pause after a commit that failed: a full disk is asked once a second, not in a tight loop."""


class Connection(Protocol):
    """What connects and stays connected."""

    async def run(self) -> None:
        """Stay connected until cancelled."""


class Pipeline:
    """One gateway at work. Everything here runs on the event loop, but for the commits."""

    def __init__(self, config: GatewayConfig, opened: recovery.Opened, clock: Clock) -> None:
        self.config = config
        self.journal, self.checkpoints = opened.journal, opened.checkpoints
        self.spool, self.at = opened.spool, opened.at
        self.clock = clock
        self._alarm = Alarm(clock)
        self.inward = Inward(config, opened, clock, self._alarm)
        self.disk = Disk(config, opened)
        self.out = Outward(config, opened, clock, self.disk.refused)
        self.hearsay: Hearsay | None = None
        self.bus: MqttBus | None = None
        self.models: Models | None = None
        self.compute: Compute | None = None
        self.classes: Classes | None = None
        self.cascade: Cascade | None = None
        self.secrets, self.rng = Secrets(), Random()  # noqa: S311 - until `connect`, where nothing is drawn
        self.reloads = Reloads(clock.now())
        self.stalled = False  # the last commit failed
        self.refusals = 0  # commits that the disk refused: it is asked again, so the gateway goes on
        self._committing = asyncio.Lock()
        self._journal_disk = ThreadPoolExecutor(1, "journal")

    def connect(self, held: Secrets, rng: Random) -> None:
        """Make the connections; they open when their tasks run."""
        config, name = self.config, client_id(self.config)
        self.secrets, self.rng = held, rng
        word = held.devices.encode() if held.devices is not None else None
        self.inward.connect(name, word, rng)
        self.hearsay = Hearsay(
            config.devices,
            f"{name}-hearsay",
            word,
            self.spool.files,
            Path(config.data) / "broker.json",
            self._broker_dropped,
        )
        self.out.broker_drops = self.hearsay.drops.total
        if config.uplink.url and held.uplink is not None:
            self.out.connect(held.uplink, rng)

    def _broker_dropped(self, total: int) -> None:
        self.inward.broker_dropped(total)
        self.out.broker_dropped(total)

    def join(self, bus: MqttBus | None) -> None:
        """Have this connection to the bus, or none; it opens when its task runs."""
        self.bus, self.models, self.compute = bus, None, None
        if self.classes is None and (bus is not None or self.at.derive.models):
            self.classes = self._make_classes()
        if bus is not None:
            from gateway.bus import compute, models  # noqa: PLC0415 - 2 MB that a gateway without models does without
            from gateway.resources import resources_of  # noqa: PLC0415 - the same

            assert self.classes is not None
            apply, report, uses = self.inward.swap, self.out.report, self.classes.uses
            has = partial(resources_of, self)
            joined = partial(models, apply=apply, report=report, uses=uses, resources=has)
            self.models = joined(self.config, bus, self.at, self.clock)
            floor = lambda: self.disk.free()[1]  # noqa: E731 - as it is then
            self.compute = compute(self.config, bus, self.clock, self.spool.files, self.out.answer, floor)
            self.compute.on_change = self.models.restate
            self.cascade = self.cascade or self._make_cascade()
            self.cascade.bus, self.classes.on_said = bus, self.cascade.consider
            self.classes.on_change, self.compute.on_kept = self.models.restate, self.classes.trained

    def _make_classes(self) -> Classes:
        from gateway.classes import Classes  # noqa: PLC0415 - the same

        data, margin = Path(self.config.data), self.config.classify.margin
        return Classes(self.at, self.spool.files, data, margin, publish=self._say_class, report=self._report)

    def _make_cascade(self) -> Cascade:
        from gateway.cascade import Cascade  # noqa: PLC0415 - the same

        return Cascade(self.config, self.spool.files, self.clock, ask=self.out.ask, publish=self._say_class)

    def _say_class(self, payload: bytes) -> None:
        if self.inward.intake is not None:
            self.inward.intake.publish(topic(self.config.name, "classes"), payload)

    def _report(self, word: Word) -> None:
        self.out.report(word.model, word.version, word.reason, word.digest, word.outcome)

    def connections(self) -> dict[str, Connection | None]:
        """Give all connections by name; each runs until cancelled."""
        return {
            "intake": self.inward.intake,
            "hearsay": self.hearsay,
            "uplink": self.out.uplink,
            "models": self.models,
            "compute": self.compute,
            "classes": self.classes,
            "cascade": self.cascade if self.bus is not None else None,
            "bus": self.bus,
        }

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
            journal_pending=self.journal.pending_bytes,
            journal_written=self.journal.written,
            spool_frames={lane: self.spool.frames(lane) for lane in LANES},
            spool_bytes={lane: self.spool.bytes(lane) for lane in LANES},
            progress=self.at.derive.progress(),
            models=recovery.versions(self.at),
            models_refused=self.models.swap.refused if self.models is not None else {},
            classes=self.classes.standing() if self.classes is not None else None,
            cascade=self.cascade.standing() if self.cascade is not None else None,
            lacking=[
                *(["intake: not connected to the broker"] if intake is None or not intake.connected else []),
                *(["journal: the last commit failed"] if self.stalled else []),
            ],
            broker_drops=self.out.broker_drops,
            reloads=self.reloads,
            disk=self.disk.free(),
            budget=uplink.meter.day if uplink else None,
            journal_dropped=self.disk.dropped,
            frames_dropped=self.out.dropped,
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
            self.inward.gate.begin(self.clock.now())
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
            await self.out.room()
            self._committed(batch)
            return True

    def _committed(self, batch: list[Applied]) -> None:
        now = self.clock.now()
        for applied in batch:
            self.out.committed(applied.seq, applied.outputs, now)
        self._acknowledge(batch)
        self.out.ring()
        if self.classes is not None and self.classes.wanted:
            self.classes.feed(applied.readings for applied in batch if applied.readings is not None)

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
        self.disk.refused(error)

    async def watch_disk_for_ever(self) -> None:
        """Keep the floor of free disk, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.disk.look():
                self.out.declare()

    # Checkpoints.

    async def checkpoint_for_ever(self) -> None:
        """Write a checkpoint when the interval has passed or a replay would be long, until stopped."""
        position, waited = self.at.position, 0.0
        while not self._alarm.stopping:
            settings = self.config.journal
            step = min(settings.checkpoint_interval / 1e9, 5.0)
            await asyncio.sleep(step)
            waited += step
            self.inward.watch_clock()
            enough = self.at.behind >= settings.checkpoint_readings or waited >= settings.checkpoint_interval / 1e9
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
            self.disk.refused(error)
            return False
        self.at.readings -= readings
        self.at.since = position
        self.journal.retain(self.clock.now(), self.checkpoints.older_position, self.at.derive.clock.leaps)
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
    file: File | None = None,
) -> None:
    """Run one gateway until SIGTERM, SIGINT or `stop`; ConfigurationRefused if a secret is missing.

    SIGHUP reads `file` again, if that is given, and applies what changed.
    """
    hangup = _hangup_signal() if file is not None else asyncio.Event()
    held = secrets(config)
    stop = stop or _stop_signal()
    rng = SystemRandom()
    notify = Notify(os.environ, os.getpid())
    recover = asyncio.to_thread(
        recovery.recover, config, files or OsFiles(), Clock().now(), lambda: rng.getrandbits(63)
    )
    opened = await notify.starting(recover, "recovering: replaying the end of the journal")
    at = opened.at
    pipeline = Pipeline(config, opened, Clock(at.stamp, vouched=vouched, since=adrift(at.derive.clock.last)))
    pipeline.connect(held, rng)
    pipeline.join(make_bus(config, held, rng))
    status = Status(pipeline.vitals)
    pipeline.journal.observe = status.fsync.observe
    renewal = partial(Renewal, pipeline, status, file, notify, hangup) if file is not None else None
    try:
        await status.listen(config.http.listen)
        await _run_tasks(pipeline, stop, on_ready, notify, renewal)
    finally:
        await status.close()


async def _run_tasks(
    pipeline: Pipeline,
    stop: asyncio.Event,
    on_ready: Callable[[Pipeline], None] | None,
    notify: Notify,
    renewal: Callable[[Sides], Renewal] | None,
) -> None:
    pipeline.inward.begin()
    pipeline.inward.broker_dropped(pipeline.out.broker_drops)  # what was written down before a kill, and not told
    async with asyncio.TaskGroup() as tasks:
        for loop in (pipeline.commit_for_ever, pipeline.out.spool_for_ever):
            tasks.create_task(loop(), name=loop.__name__)
        sides = Sides(tasks)
        sides.begin("checkpoint", pipeline.checkpoint_for_ever)
        sides.begin("disk", pipeline.watch_disk_for_ever)
        sides.begin("fail", pipeline.inward.fail)
        for name, side in pipeline.connections().items():
            if side is not None:
                sides.begin(name, side.run)
        if on_ready is not None:
            on_ready(pipeline)
        sides.begin("notify", partial(notify.attend, _look(pipeline)))
        if renewal is not None:  # after READY, which a reload ends with
            sides.begin("reload", renewal(sides).run)
        await stop.wait()
        notify.stopping()
        sides.cancel()
        pipeline.stop()
    await pipeline.finish()


def _look(pipeline: Pipeline) -> Callable[[], Sight]:
    """Give what a look at the gateway is, for whoever runs it as a service."""
    bulletin = Bulletin(pipeline.course(), pipeline.clock.monotonic())

    def look() -> Sight:
        line, refusal = bulletin.feed(pipeline.course(), pipeline.clock.monotonic()), pipeline.reloads.refusal
        return Sight(f"{line}; reload refused: {refusal}" if refusal else line, pipeline.works())

    return look


def _hangup_signal() -> asyncio.Event:
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # whoever starts us may have kept one for us
    return hangup


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

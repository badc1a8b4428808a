"""Start reading here: how a reading goes from the broker to the cloud, and who runs when.

    device ──MQTT──▶ intake ▶ decode ▶ journal ══▶ derive: clean ▶ window
                     (PUBACK after the commit)                │
                         uplink ◀ delivery ◀ spool ◀ pack ◀───┘

This file owns the tasks, the gating on the commit, and the checkpoints; there is no arithmetic in it.

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
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random, SystemRandom

from gateway import recovery
from gateway.clock import Clock, boot_id
from gateway.commit import Gate
from gateway.config import GatewayConfig, pipeline_text
from gateway.decode import Decode
from gateway.gather import Gathering
from gateway.intake import Intake
from gateway.pack import Packed
from gateway.records import (
    NEVER,
    Arrivals,
    ClockRecord,
    ConfigurationRecord,
    Outputs,
    ReadingsRecord,
    Record,
    SeriesTable,
    TickRecord,
    count,
)
from gateway.segment import Files, OsFiles
from gateway.service import secret
from gateway.status import Status, Vitals
from gateway.uplink import Uplink
from protocol import __version__
from protocol.errors import JournalUnusable
from protocol.messages import LANES, Hello, Loss

log = logging.getLogger("fieldgate.pipeline")

RETRY_S = 1.0
"""Pause after a commit that failed: a full disk is asked once a second, not in a tight loop."""


@dataclass(frozen=True, slots=True)
class _Applied:
    """A record in the journal's buffer: its outputs and acknowledgements wait for the commit."""

    seq: int
    outputs: Outputs
    connection: int = 0
    packet_ids: list[int] = field(default_factory=list)


class Pipeline:
    """One gateway at work. Everything here runs on the event loop, but for the commits."""

    def __init__(self, config: GatewayConfig, opened: recovery.Opened, clock: Clock) -> None:
        self.config = config
        self.journal, self.checkpoints = opened.journal, opened.checkpoints
        self.spool, self.pack, self.at = opened.spool, opened.pack, opened.at
        self.clock = clock
        series = SeriesTable(self.at.derive.names, limit=config.max_series)
        memory = config.devices.receive_maximum
        self.decode = Decode(config.source, series, self.at.recent, memory)
        self.gate = Gate(int(config.journal.commit_interval))
        self.intake: Intake | None = None
        self.uplink: Uplink | None = None
        self.stalled = False  # the last commit failed
        self._gathering = Gathering()
        self._uncommitted: list[_Applied] = []
        self._declared: dict[str, int] = {}  # per lane, the end of the last range declared gone in this epoch
        self._unsent: list[tuple[str, int, int]] = []  # appended to the spool, not yet durable
        self._commit_wanted = asyncio.Event()
        self._spool_wanted = asyncio.Event()
        self._committing = asyncio.Lock()
        self._spooling = asyncio.Lock()
        self._failed = asyncio.Event()
        self._error: Exception | None = None  # what a timer's callback raised
        self._stopping = False
        self._believed = False  # what the last clock record says of the wall clock
        self._record_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._journal_disk = ThreadPoolExecutor(1, "journal")
        self._spool_disk = ThreadPoolExecutor(1, "spool")

    def connect(self, password: str | None, token: str | None, rng: Random) -> None:
        """Make the connections; they open when their tasks run."""
        config = self.config
        self.intake = Intake(
            config.devices,
            config.devices.client_id or f"fieldgate-{config.name}",
            [(source.filter, source.qos) for source in config.source],
            password.encode() if password is not None else None,
            self.arrived,
            self._intake_changed,
            rng,
        )
        if config.uplink.url and token is not None:
            self.uplink = Uplink(
                config.uplink,
                token,
                self.spool,
                self.hello,
                rng=rng,
                on_fork=self._forked,
                on_gone=self._gone,
            )

    def hello(self) -> Hello:
        """Say who speaks, and what the spool holds."""
        spool = self.spool
        recorded = self.at.derive.totals.recorded
        now = self.clock.now()
        return Hello(self.config.name, spool.epoch, spool.heads(), boot_id(), __version__, now, recorded)

    def vitals(self) -> Vitals:
        """Read all counters at one moment."""
        uplink, intake = self.uplink, self.intake
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
            lacking=[
                *(["intake: not connected to the broker"] if intake is None or not intake.connected else []),
                *(["journal: the last commit failed"] if self.stalled else []),
            ],
        )

    def _forked(self, reason: str) -> None:
        """Begin a new epoch: the cloud has something else under this one."""
        log.warning("spool: a new epoch begins: %s", reason)
        now = self.clock.now()
        self._declared.clear()
        counts = self.at.derive.totals.counts()
        for loss in self.spool.begin_epoch(now):  # sequences of the old epoch: declared as counts
            log.warning("spool: frames %d to %d of %s were lost (%s)", loss.first, loss.last, loss.lane, loss.cause)
            count(counts, {f"frames.{loss.lane}.{loss.cause}": loss.last - loss.first + 1})
        self._put([self.pack.losses([], counts)], now)
        self._spool_wanted.set()

    def _gone(self, lane: str, first: int, last: int) -> None:
        """Declare frames that the cloud misses and the spool does not hold; once, though each connection finds them."""
        if last <= self._declared.get(lane, 0):
            return
        self._declared[lane] = last
        self._declare([Loss(lane, first, last, "gone")], self.clock.now())
        self._spool_wanted.set()

    def _intake_changed(self, connected: bool, why: str) -> None:
        log.info("intake: %s", why)
        if connected:
            self.gate.forget()

    # In: arrivals become records.

    def begin(self) -> None:
        """State which boot this is and, if it changed, the configuration; then wait for readings."""
        now = self.clock.now()
        self._state_clock(now)
        text = pipeline_text(self.config.pipeline)
        if self.journal.next == 2 or pipeline_text(self.at.derive.config) != text:
            self._apply(ConfigurationRecord(now, text))
        self.gate.feed(0, now)
        self._commit_wanted.set()
        self._set_tick_timer()

    def _state_clock(self, now: int) -> None:
        self._believed = self.clock.synchronised
        self._apply(ClockRecord(now, boot_id(), self.clock.monotonic(), self._believed))

    def arrived(self, arrivals: Arrivals) -> None:
        """Take what one socket read held, and gather it into a record."""
        now = self.clock.now()
        if not self._gathering.takes(arrivals):
            self.close_record()
        self._gathering.feed(arrivals)
        self.gate.feed(len(arrivals.packet_ids), now)
        if self._gathering.full or self.gate.due() <= now:
            self.close_record()
        elif self._record_timer is None:
            delay = self.config.journal.record_interval / 1e9
            self._record_timer = asyncio.get_running_loop().call_later(delay, self._guarded, self.close_record)

    def close_record(self) -> None:
        """Make one journal record of what was gathered, and apply it."""
        if self._record_timer is not None:
            self._record_timer.cancel()
            self._record_timer = None
        gathered, self._gathering = self._gathering, Gathering()
        if not gathered:
            return
        now = self.clock.now()
        if self._believed != self.clock.synchronised:
            self._state_clock(now)
        arrivals = gathered.joined()
        decoded = self.decode.feed(arrivals, now)
        record = ReadingsRecord(now, decoded.readings, decoded.names, decoded.tally, decoded.recent)
        self._apply(record, arrivals.connection, arrivals.packet_ids)
        self._hold_intake()
        self._commit_wanted.set()
        self._set_tick_timer()

    def tick(self) -> None:
        """Let time pass for the stages that wait for it; journalled before it is applied."""
        self._tick_timer = None
        self.close_record()
        now = self.clock.now()
        if self.at.derive.due() <= now:
            if self._believed != self.clock.synchronised:
                self._state_clock(now)
            self._apply(TickRecord(now))
            self.gate.feed(0, now)
            self._commit_wanted.set()
        self._set_tick_timer()

    def _apply(self, record: Record, connection: int = 0, packet_ids: list[int] | None = None) -> None:
        seq = self.journal.append(record)
        outputs = recovery.apply(self.at, seq, record, self.config.devices.receive_maximum)
        self._uncommitted.append(_Applied(seq, outputs, connection, packet_ids or []))

    def _set_tick_timer(self) -> None:
        due = self.at.derive.due()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None
        if due != NEVER and not self._stopping:
            delay = max((due - self.clock.now()) / 1e9, self.config.journal.record_interval / 1e9)
            self._tick_timer = asyncio.get_running_loop().call_later(delay, self._guarded, self.tick)

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

    # The commit: acknowledgements and spool wait for it.

    async def commit_for_ever(self) -> None:
        """Commit whenever the gate says so, one commit at a time, until stopped."""
        while await self._wait(self._commit_wanted, self.gate.due):
            if not await self.commit():
                await asyncio.sleep(RETRY_S)

    async def commit(self) -> bool:
        """Make the applied records durable, acknowledge them and spool their outputs; False if the disk refused."""
        async with self._committing:
            self.close_record()  # the gate counts what was gathered too, and would not ask for it again
            batch = list(self._uncommitted)
            self.gate.begin()
            try:
                await asyncio.get_running_loop().run_in_executor(self._journal_disk, self.journal.commit)
            except JournalUnusable as error:
                self.gate.end(self.clock.now(), durable=False)
                self._commit_wanted.set()
                self._refused(error)
                return False
            self.gate.end(self.clock.now(), durable=True)
            self.stalled = False
            del self._uncommitted[: len(batch)]
            self._committed(batch)
            return True

    def _committed(self, batch: list[_Applied]) -> None:
        now = self.clock.now()
        for applied in batch:
            if applied.outputs.items:
                self._put(self.pack.feed(applied.seq, applied.outputs, now), now)
        self._acknowledge(batch)
        self._spool_wanted.set()

    def _acknowledge(self, batch: list[_Applied]) -> None:
        if self.intake is None:
            return
        by_connection: dict[int, list[int]] = {}
        for applied in batch:
            by_connection.setdefault(applied.connection, []).extend(applied.packet_ids)
        for connection, packet_ids in by_connection.items():
            if packet_ids:
                self.intake.acknowledge(connection, packet_ids)
        self.intake.resume()

    def _refused(self, error: JournalUnusable) -> None:
        """Acknowledge nothing until a commit succeeds."""
        if not self.stalled:
            log.error("journal: %s; nothing is acknowledged until it commits again", error)
        self.stalled = True
        self._make_room(error)

    def _make_room(self, error: JournalUnusable) -> None:
        """When the disk is full, win room from history behind the checkpoints, else from telemetry."""
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
        if full and not self.journal.make_room(self.checkpoints.older_position)[0]:
            self.spool.make_room()

    # Out: outputs become frames in lanes.

    def _put(self, packed: list[Packed], now: int) -> None:
        self._unsent += recovery.put(self.spool, packed, now)

    def _spool_due(self) -> int:
        return 0 if self._unsent else self.pack.due()

    async def spool_for_ever(self) -> None:
        """Spool what is packed, make it durable, and tell the uplink, until stopped."""
        while await self._wait(self._spool_wanted, self._spool_due):
            await self.spool_now()

    async def spool_now(self, *, flush: bool = False) -> bool:
        """Append what is due (or everything), commit the lanes, tell the uplink; False if the disk refused."""
        async with self._spooling:
            now = self.clock.now()
            self._put(self.pack.flush() if flush else self.pack.tick(now), now)
            self._declare(self.spool.enforce(now), now)
            unsent, self._unsent = self._unsent, []
            try:
                await asyncio.get_running_loop().run_in_executor(self._spool_disk, self.spool.commit)
            except JournalUnusable as error:
                log.error("spool: %s", error)  # noqa: TRY400 - the operator needs the cause, not our stack
                self._unsent = unsent + self._unsent
                self._make_room(error)
                await asyncio.sleep(RETRY_S)
                return False
            if self.uplink is not None and unsent:
                for lane, head in self.spool.heads().items():  # not `unsent`: an epoch may have begun meanwhile
                    self.uplink.appended(lane, head.next - 1)
            return True

    def _declare(self, losses: list[Loss], now: int) -> None:
        if losses:
            self._put([self.pack.losses(losses, self.at.derive.totals.counts())], now)

    # Checkpoints.

    async def checkpoint_for_ever(self) -> None:
        """Write a checkpoint when the interval has passed or enough readings have come, until stopped."""
        settings = self.config.journal
        position, waited = self.at.position, 0.0
        step = min(settings.checkpoint_interval / 1e9, 5.0)
        while not self._stopping:
            await asyncio.sleep(step)
            waited += step
            enough = self.at.readings >= settings.checkpoint_readings or waited >= settings.checkpoint_interval / 1e9
            if enough and self.at.position > position and await self.checkpoint():
                position, waited = self.at.position, 0.0

    async def checkpoint(self) -> bool:
        """Write all stage state at one position, once journal and spool hold everything up to it; False if refused.

        Until then the older checkpoints cover it.
        """
        self.close_record()
        position, state, readings = self.at.position, recovery.checkpoint_state(self.at), self.at.readings
        while self._uncommitted and self._uncommitted[0].seq <= position:
            # Not `durable`: a record may be on the disk already, and its outputs not in the spool.
            if not await self.commit():
                return False
        if not await self.spool_now(flush=True):
            return False
        try:
            save = self.checkpoints.save
            await asyncio.get_running_loop().run_in_executor(self._journal_disk, save, position, state)
        except JournalUnusable as error:
            log.error("checkpoint: %s", error)  # noqa: TRY400 - the operator needs the cause, not our stack
            self._make_room(error)
            return False
        self.at.readings -= readings
        self.journal.retain(self.clock.now(), self.checkpoints.older_position)
        return True

    # Waiting and ending.

    async def _wait(self, event: asyncio.Event, due: Callable[[], int]) -> bool:
        """Return True once `due()` has passed, False when stopping; `event` says that it may have changed."""
        while not self._stopping and (moment := due()) > (now := self.clock.now()):
            event.clear()
            timeout = None if moment == NEVER else (moment - now) / 1e9
            try:
                async with asyncio.timeout(timeout):
                    await event.wait()
            except TimeoutError:
                continue
        return not self._stopping

    def stop(self) -> None:
        """Let the loops end at their next step."""
        self._stopping = True
        self._commit_wanted.set()
        self._spool_wanted.set()
        if self._tick_timer is not None:
            self._tick_timer.cancel()

    async def finish(self) -> None:
        """After the loops have ended: commit, spool and checkpoint what is left, and close the files."""
        self.close_record()
        if await self.commit():
            await self.checkpoint()
        self._journal_disk.shutdown()
        self._spool_disk.shutdown()
        self.journal.close()
        self.spool.close()


async def run(
    config: GatewayConfig,
    *,
    files: Files | None = None,
    on_ready: Callable[[Pipeline], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run one gateway until SIGTERM, SIGINT or `stop`; ConfigurationRefused if a secret is missing."""
    password = secret("devices", "password", file=config.devices.password_file, env=config.devices.password_env)
    token = secret("uplink", "token", file=config.uplink.token_file, env=config.uplink.token_env)
    stop = stop or _stop_signal()
    rng = SystemRandom()
    opened = await asyncio.to_thread(
        recovery.recover, config, files or OsFiles(), Clock().now(), lambda: rng.getrandbits(63)
    )
    pipeline = Pipeline(config, opened, Clock(opened.at.stamp))
    pipeline.connect(password, token, rng)
    status = Status(pipeline.vitals)
    pipeline.journal.observe = status.fsync.observe
    runner = await status.serve(config.http.listen) if config.http.listen else None
    try:
        await _run_tasks(pipeline, stop, on_ready)
    finally:
        if runner is not None:
            await runner.cleanup()


async def _run_tasks(pipeline: Pipeline, stop: asyncio.Event, on_ready: Callable[[Pipeline], None] | None) -> None:
    pipeline.begin()
    async with asyncio.TaskGroup() as tasks:
        for loop in (pipeline.commit_for_ever, pipeline.spool_for_ever):
            tasks.create_task(loop(), name=loop.__name__)
        connections = [tasks.create_task(pipeline.checkpoint_for_ever(), name="checkpoint")]
        connections.append(tasks.create_task(pipeline.fail(), name="fail"))
        connections += [
            tasks.create_task(side.run(), name=type(side).__name__.lower())
            for side in (pipeline.intake, pipeline.uplink)
            if side is not None
        ]
        if on_ready is not None:
            on_ready(pipeline)
        await stop.wait()
        for task in connections:
            task.cancel()
        pipeline.stop()
    await pipeline.finish()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

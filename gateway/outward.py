"""The way out: outputs of committed records become frames in the spool's lanes, and the uplink hears of them.

Rules:

1. Only what the journal has committed comes here, and what is no journal output: losses, refused models.
2. The uplink is told of a frame when the spool has committed it, never before.
3. While an epoch begins nothing else touches the spool; what is packed waits, and beyond MAX_HELD the journal does.
4. A spool that the disk refuses is tried again each RETRY_S; what waits for it stays in the log's memory, bounded by
   what the journal commits meanwhile. Nothing that comes in waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from ssl import SSLContext
from typing import TYPE_CHECKING

from gateway import recovery
from gateway.alarm import Alarm
from gateway.clock import Clock, boot_id
from gateway.config import GatewayConfig
from gateway.delivery import SILENCE_NS
from gateway.pack import Packed
from gateway.records import Outputs
from gateway.spool import MAX_WAITING
from protocol import __version__
from protocol.errors import JournalUnusable
from protocol.messages import AnswerBody, Hello, Loss, PartBody, QuestionsBody, lost_counts
from protocol.notify import Work

if TYPE_CHECKING:
    from gateway.uplink import Uplink

log = logging.getLogger("fieldgate.outward")

MAX_HELD = MAX_WAITING
"""Bytes that wait in memory while an epoch begins."""

RETRY_S = 1.0
"""Pause after a commit that failed: a full disk is asked once a second, not in a tight loop."""


class Outward:
    """Pack, spool and uplink of one gateway; `make_room` is asked when the disk refuses the spool."""

    def __init__(
        self,
        config: GatewayConfig,
        opened: recovery.Opened,
        clock: Clock,
        make_room: Callable[[JournalUnusable], None],
    ) -> None:
        self.config, self.clock = config, clock
        self.spool, self.pack, self.at = opened.spool, opened.pack, opened.at
        self.uplink: Uplink | None = None
        self.spooled = 0  # commits that ended, well or refused
        self.broker_drops = 0  # messages, by the broker's own word
        self.dropped = Counter[tuple[str, str]]()  # frames declared lost, by lane and cause
        self._make_room = make_room
        self._forked = ""  # why this epoch began, until the cloud has been told
        self._declared: dict[str, int] = {}  # per lane, the end of the last range declared gone in this epoch
        self._unsent: list[tuple[str, int, int]] = []  # appended to the spool, not yet durable
        self._alarm = Alarm(clock)
        self._spooling = asyncio.Lock()
        self._held: list[Packed] | None = None  # packed while an epoch begins
        self._held_less = asyncio.Event()
        self._beginning: asyncio.Task[JournalUnusable | None] | None = None
        self._disk = ThreadPoolExecutor(1, "spool")

    def connect(self, token: str, rng: Random, tls: SSLContext | bool | None = None) -> None:
        """Make the connection; it opens when its task runs."""
        from gateway.uplink import Meter, Uplink  # noqa: PLC0415 - 11 MB that a gateway which works alone does without

        self.uplink = Uplink(
            self.config.uplink,
            token,
            self.spool,
            self.hello,
            rng=rng,
            on_fork=self.forked,
            on_gone=self.gone,
            on_time=self.clock.agree,
            tls=tls,
            meter=Meter(
                self.spool.files,
                Path(self.config.data) / "uplink.json",
                self.clock.now,
                lambda: recovery.sizes_in(self.spool),
            ),
        )

    def configure(self, config: GatewayConfig) -> None:
        """Take other bounds, from the next frame on; the connection is its owner's affair."""
        self.config = config
        self.pack.interval = config.uplink.pack_interval
        self.pack.apart = config.uplink.max_per_day is not None
        if self.uplink is not None:
            self.uplink.configure(config.uplink)
        self.ring()

    def hello(self) -> Hello:
        """Say who speaks, and what the spool holds."""
        spool = self.spool
        recorded = self.at.derive.totals.recorded
        now, since = self.clock.utc(), spool.since()
        reason, self._forked = self._forked, ""
        about = (boot_id(), __version__, now, recorded, since, reason)
        return Hello(self.config.name, spool.epoch, spool.heads(), *about)

    def works(self) -> list[Work]:
        """Say what must go on. What only waits for the cloud is none of it."""
        uplink = self.uplink
        busy = bool(self._unsent) or self._spooling.locked()
        works = [Work("spool", busy, self.spooled + self.spool.copied, "no commit ends")]
        if uplink is not None:  # it ends a connection that is silent for SILENCE_NS: the cloud's fault, not ours
            flying = uplink.connected and uplink.delivery.pace.frames > 0
            works.append(Work("delivery", flying, uplink.receipted, "frames are in flight and stay there", SILENCE_NS))
        return works

    def committed(self, seq: int, outputs: Outputs, now: int) -> None:
        """Take the outputs of a record that the journal has committed."""
        if outputs.items:
            self._put(self.pack.feed(seq, outputs, now), now)

    def report(self, model: str, version: int, reason: str, digest: str, outcome: str = "refused") -> None:
        """Say up what became of a model: by default, why it was refused."""
        now = self.clock.now()
        self._put([self.pack.refused(model, version, reason, digest, now, outcome=outcome)], now)
        self.ring()

    def answer(self, body: PartBody | AnswerBody) -> None:
        """Say up how a task ended."""
        self._put([self.pack.part(body)], self.clock.now())
        self.ring()

    def ask(self, body: QuestionsBody) -> None:
        """Ask the cloud what windows are."""
        self._put([self.pack.questions(body)], self.clock.now())
        self.ring()

    def ring(self) -> None:
        """Let the loop look again: there may be something to spool."""
        self._alarm.ring()

    async def forked(self, reason: str) -> None:
        """Begin a new epoch: the cloud has something else under this one. JournalUnusable if the disk refused.

        Its copying is not ended with us: it goes on, and what is packed meanwhile waits for it.
        """
        self._beginning = asyncio.create_task(self._begin(reason), name="epoch")
        if (error := await asyncio.shield(self._beginning)) is not None:
            raise error

    async def _begin(self, reason: str) -> JournalUnusable | None:
        log.warning("spool: a new epoch begins: %s", reason)
        async with self._spooling:
            self._held = []
            try:
                loop = asyncio.get_running_loop()
                losses = await loop.run_in_executor(self._disk, self.spool.begin_epoch, self.clock.now())
            except JournalUnusable as error:
                self._make_room(error)
                return error
            else:
                self._began(reason, losses)
            finally:
                held, self._held = self._held, None
                self._put(held, self.clock.now())
                self._held_less.set()
                self.ring()
        return None

    def _began(self, reason: str, losses: list[Loss]) -> None:
        self._forked = reason
        self._declared.clear()
        if self.uplink is not None:
            self.uplink.meter.forget()
        for loss in losses:  # sequences of the old epoch: declared as counts
            log.warning("spool: frames %d to %d of %s were lost (%s)", loss.first, loss.last, loss.lane, loss.cause)
        self._held = [self.pack.losses([], self._counts() | lost_counts(losses), self.clock.now()), *(self._held or [])]

    async def room(self) -> None:
        """Wait while an epoch begins and too much waits for it: then the journal's commits wait, and the broker."""
        while self._held is not None and sum(len(packed.body) for packed in self._held) > MAX_HELD:
            self._held_less.clear()
            await self._held_less.wait()

    def gone(self, lane: str, first: int, last: int) -> None:
        """Declare frames that the cloud misses and the spool does not hold; once, though each connection finds them."""
        if last <= self._declared.get(lane, 0):
            return
        self._declared[lane] = last
        self._declare([Loss(lane, first, last, "gone", *self.spool.between(lane, first, last))], self.clock.now())
        self.ring()

    def broker_dropped(self, total: int) -> None:
        """Declare what the broker says it has dropped so far: of no lane, so as a count alone."""
        self.broker_drops = total
        now = self.clock.now()
        self._put([self.pack.losses([], self._counts(), now)], now)
        self.ring()

    def _counts(self) -> dict[str, int]:
        drops = {"broker": self.broker_drops} if self.broker_drops else {}
        return self.at.derive.totals.counts() | drops

    def _put(self, packed: list[Packed], now: int) -> None:
        if self._held is not None:
            self._held += packed
            return
        self._unsent += recovery.put(self.spool, packed, now)

    def declare(self) -> None:
        """Declare at once what the spool has lost: nothing else may be due for long."""
        if self._held is None:
            now = self.clock.now()
            self._declare(self._lost(now), now)
            self.ring()

    def _lost(self, now: int) -> list[Loss]:
        return self.spool.enforce(now) + (self.uplink.meter.losses() if self.uplink is not None else [])

    def _declare(self, losses: list[Loss], now: int) -> None:
        for loss in losses:
            self.dropped[loss.lane, loss.cause] += loss.last - loss.first + 1
        if said := losses + self.spool.again():
            self._put([self.pack.losses(said, self._counts(), now)], now)

    def _due(self) -> int:
        return 0 if self._unsent else self.pack.due()

    async def spool_for_ever(self) -> None:
        """Spool what is packed, make it durable, and tell the uplink, until stopped."""
        while await self._alarm.wait(self._due):
            await self.spool_now()

    async def spool_now(self, *, flush: bool = False) -> bool:
        """Append what is due (or everything), commit the lanes, tell the uplink; False if the disk refused."""
        async with self._spooling:
            now = self.clock.now()
            self._put(self.pack.flush() if flush else self.pack.tick(now), now)
            self._declare(self._lost(now), now)
            unsent, self._unsent = self._unsent, []
            try:
                await asyncio.get_running_loop().run_in_executor(self._disk, self.spool.commit)
            except JournalUnusable as error:
                log.error("spool: %s", error)  # noqa: TRY400 - the operator needs the cause, not our stack
                self._unsent = unsent + self._unsent
                self.spooled += 1  # asked and answered: a full disk is no stall
                self._make_room(error)
                await asyncio.sleep(RETRY_S)
                return False
            self.spooled += 1
            if self.uplink is not None and unsent:
                for lane, head in self.spool.heads().items():  # not `unsent`: an epoch may have begun meanwhile
                    self.uplink.appended(lane, head.next - 1)
            return True

    def stop(self) -> None:
        """Let the loop end at its next step."""
        self._alarm.stop()

    def close(self) -> None:
        """Close the files; what was not committed is gone."""
        self._disk.shutdown()
        if self.uplink is not None:
            self.uplink.meter.close()
        self.spool.close()

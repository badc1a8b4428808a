"""One connection after the other to the cloud. What goes when is `delivery`'s to say.

    HELLO ▶  ◀ WELCOME  (a fork: a new epoch, HELLO again)  frames ▶ ◀ RECEIPT ...  ◀ REFUSAL ends it

| what happens | answer |
|---|---|
| no connection, 408, 5xx, the connection ends | back-off with full jitter, FIRST_S doubling to LONGEST_S |
| 429 or 503 with Retry-After, REFUSAL with `retry_after_s` | so long, and a little jitter; not cut short |
| 401, 403, 413, any other status | LONGEST_S with jitter: trying again without a change is slow on purpose |
| no WELCOME for long, no pong, no receipt for long | the connection is closed, back-off |
| bytes that are no frame, half a frame; a spool that cannot be read | the connection is closed, back-off |
| the day's budget is spent | the connection is closed until tomorrow (`meter`) |

Rules:

1. Nothing of this stops the gateway: `run` ends by cancellation only, and then the connection is closed.
2. The back-off begins anew once a connection has brought a receipt, and with another kind of failure: a cloud that was
   out of reach owes no patience to one that is there. Meanwhile its port is tried every PROBE_S: when it answers and
   nobody had answered before, the back-off is cut short. `wake` does the same. A cloud that refuses us is not tried.
3. So it is while a connection is being made, or is silent though the cloud owes an answer: if the link was away and is
   back (`link`), what hangs is given up, without a word, and the next connection made at once.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from gateway import config
from gateway.delivery import QUIET_NS, Delivery
from gateway.uplink.conversation import Conversation, Held, Matter
from gateway.uplink.failure import Failure, OutOfReach, back_off
from gateway.uplink.link import LinkReturned, answers, first_failure, returned, tls_context
from gateway.uplink.meter import LEAVE_BYTES, LOOK_S, LOST_BYTES, REFUSED_BYTES, TRY_BYTES, Meter
from protocol.errors import CloudRefused, CloudUnavailable, JournalUnusable
from protocol.messages import Hello

if TYPE_CHECKING:
    from gateway.uplink.line import Line

log = logging.getLogger("fieldgate.uplink")

PATH = "/v1/uplink"
PROBE_S = 1.0
PROBE_WITHIN_S = 5.0
TRY_S = 0.5
"""Between tries while a connection hangs: what is lost on it is sent again at 0.2, 0.6, 1.4, 3 and 6.2 s."""

TRY_WITHIN_S = 0.9
"""Before TCP repeats it, after 1 s: or the first one lost would be the first one answered."""

LOST = 3
"""Tries lost before a connection is given up: more than a poor link loses by chance."""


def _nobody(*_: object) -> None:
    pass


def _line() -> type[Line]:
    from gateway.uplink.line import Line  # noqa: PLC0415 - aiohttp is a fifth of a start, and intake needs none of it

    return Line


class Uplink:
    """Keeps one connection to the cloud. ConfigurationRefused if `ca_file` cannot be used, unless `tls` is given.

    `on_fork(reason)` begins a new epoch, and may raise JournalUnusable; `on_gone(lane, first, last)` declares frames
    lost that the cloud misses and the spool does not hold; `on_state(connected, why)` hears each change,
    `on_time(now)` what the time (ns) is by the cloud's clock, 0 if it does not say.
    """

    def __init__(
        self,
        settings: config.Uplink,
        token: str,
        spool: Held,
        hello: Callable[[], Hello],
        *,
        rng: Random,
        on_fork: Callable[[str], Awaitable[None]],
        on_gone: Callable[[str, int, int], None],
        on_state: Callable[[bool, str], None] = _nobody,
        on_time: Callable[[int], None] = _nobody,
        tls: ssl.SSLContext | bool | None = None,
        meter: Meter,
    ) -> None:
        self.delivery = Delivery(settings.max_in_flight, settings.max_rate, time.monotonic_ns())
        self.connected = False
        self.meter = meter
        meter.configure(settings.max_per_day, settings.coarse)
        self._matter = Matter(self.delivery, spool, hello, on_fork, on_gone, on_time, meter)
        self._rng = rng
        self.go_to(settings, token, tls_context(settings.ca_file) if tls is None else tls)
        self._on_state = on_state
        self._told = ""  # why it ended last, if it was never connected since
        self._hangs = False  # the connection would not notice that it is closed
        self._woken = asyncio.Event()

    def go_to(self, settings: config.Uplink, token: str, tls: ssl.SSLContext | bool) -> None:
        """Go to this cloud, from the next connection on: for one at once, end `run` and begin it again."""
        self.url = settings.url.rstrip("/") + PATH
        self._token, self._tls = token, tls

    def configure(self, settings: config.Uplink) -> None:
        """Keep other bounds from the next frame on."""
        self.delivery.pace.configure(settings.max_in_flight, settings.max_rate, time.monotonic_ns())
        self.meter.configure(settings.max_per_day, settings.coarse)
        self._matter.wanted.set()

    @property
    def sent(self) -> int:
        """Frames sent up, again ones too."""
        return self._matter.sent

    @property
    def receipted(self) -> int:
        """Frames that the cloud has committed."""
        return self.delivery.receipted_frames

    def appended(self, lane: str, seq: int) -> None:
        """Note that the spool holds one more frame, durably."""
        self.delivery.appended(lane, seq)
        self._matter.wanted.set()

    def wake(self) -> None:
        """Try at once: the link may be back."""
        self._woken.set()

    async def run(self) -> None:
        """Keep connected until cancelled."""
        failures = 0
        kind: type[Failure] = CloudUnavailable
        while True:
            await self.meter.opens()
            before = self.receipted
            failure = await self._once()
            if isinstance(failure, LinkReturned):
                continue
            failures = failures + 1 if type(failure) is kind and self.receipted == before else 1
            kind = type(failure)
            seconds, patient = back_off(failure, failures, self._rng)
            if patient:
                await asyncio.sleep(seconds)
            else:
                await self._wait(seconds, failure)

    async def _wait(self, seconds: float, failure: Failure) -> None:
        """Wait until the time is up, `wake` is called, or a cloud that was away, or goes away now, is back."""
        ends: list[asyncio.Task[bool]] = [asyncio.create_task(self._woken.wait(), name="uplink woken")]
        if not isinstance(failure, CloudRefused):
            lost = 0 if isinstance(failure, OutOfReach) else 1
            ends.append(asyncio.create_task(self._found(lost), name="uplink found"))
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        self._woken.clear()

    async def _found(self, lost: int) -> bool:
        every_s = PROBE_S if self.meter.budget is None else LOOK_S
        if not lost:  # it has just been tried
            await asyncio.sleep(every_s)
        return await returned(partial(self._try, PROBE_WITHIN_S), lost=lost, every_s=every_s)

    # One connection.

    async def _once(self) -> Failure:
        """Connect and speak until it ends; give the reason."""
        try:
            return self._ended(await first_failure(talk=self._talk(), watch=self._watch()))
        except JournalUnusable as error:
            return self._ended(CloudUnavailable(f"the spool cannot be read: {error}"))

    async def _talk(self) -> None:
        self._hangs = False
        self.meter.begin()
        line: Line | None = None
        try:
            line = await self._connect()
            await self._speak(line)
        finally:
            self.delivery.closed()
            self.connected = False
            if line is not None:
                self.meter.count(line.socket)
                self.meter.spend(LEAVE_BYTES)
                await self._close(line)

    async def _close(self, line: Line) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._hangs else None):  # a cancelled close aborts
                await line.close()

    def _ended(self, failure: Failure) -> Failure:
        if failure.reason != self._told:  # it may be so for days
            log.warning("uplink: %s", failure.reason)
        self._told, self.connected = failure.reason, False
        self._on_state(False, failure.reason)
        return failure

    async def _connect(self) -> Line:
        line = await asyncio.to_thread(_line)
        try:
            return await line.open(self.url, self._token, self._tls)
        except (CloudRefused, CloudUnavailable) as failure:
            self.meter.spend(LOST_BYTES if isinstance(failure, OutOfReach) else REFUSED_BYTES)
            raise

    async def _speak(self, line: Line) -> None:
        conversation = Conversation(line, self._matter)
        await conversation.greet()
        log.info("uplink: connected to %s", self.url)
        self._told, self.connected = "", True
        self._woken.clear()
        self._on_state(True, f"connected to {self.url}")
        raise await conversation.both()

    # Whether the link was away.

    async def _watch(self) -> None:
        """Raise LinkReturned if what there is of a connection hangs, and the next one would not."""
        began = time.monotonic_ns()
        while True:
            seen = self.connected, self.delivery.heard
            due = self.delivery.quiet if self.connected else began + QUIET_NS
            if (left := due - time.monotonic_ns()) > 0:
                await asyncio.sleep(min(left / 1e9, TRY_S))
            elif await self._returned(seen):
                self._hangs = True
                raise LinkReturned("the link was away and is back")

    async def _returned(self, seen: tuple[bool, int]) -> bool:
        def over() -> bool:
            return (self.connected, self.delivery.heard) != seen

        return await returned(partial(self._try, TRY_WITHIN_S), lost=LOST, every_s=TRY_S, over=over)

    async def _try(self, within_s: float) -> bool:
        there = await answers(self.url, within_s)
        self.meter.spend(TRY_BYTES if there else LOST_BYTES)
        return there

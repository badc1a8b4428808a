"""What a service tells systemd, and when it may say that it is alive (sd_notify(3)). Without NOTIFY_SOCKET, nothing.

| line | when |
|---|---|
| EXTEND_TIMEOUT_USEC | while it starts, every EXTEND_EVERY_S, for LONGEST_START_S at most |
| READY=1 | when its tasks run |
| RELOADING=1 | when it begins to read its configuration again; READY=1 ends that |
| STATUS=... | how it fares: at every look, if that changed |
| WATCHDOG=1 | at every look, unless something stalls |
| STOPPING=1 | when it begins to end |

A look is taken every LOOK_EVERY_S, and at least every half of WATCHDOG_USEC.

Rules:

1. Telling never ends a service and never makes it wait: what cannot be sent is dropped, and the log says so once.
2. Looks are taken by the event loop: when it hangs, there are no pings.
3. A work stalls when something waits for it and it got nothing done for longer than WATCHDOG_USEC, and its slack. The
   pings end until it goes on; the log says why, once. Where nothing waits nothing stalls, however long it is silent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

log = logging.getLogger("fieldgate.notify")

LOOK_EVERY_S = 5.0
EXTEND_EVERY_S = 10.0
EXTEND_BY_S = 60
LONGEST_START_S = 3600.0
"""A start that takes longer is none: systemd's own TimeoutStartSec counts from then on."""

T = TypeVar("T")


class Work(NamedTuple):
    """What must go on: whether anything waits for it, and a number that changes with all it gets done."""

    name: str
    waiting: bool
    done: int
    trouble: str  # what it means if it does not
    slack: int = 0  # ns that it may take beyond the watchdog's patience


class Stall(NamedTuple):
    """A work that does not go on, and for how long (ns) nothing has been seen of it."""

    work: Work
    lasted: int

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.work.name}: {self.work.trouble}, for {self.lasted // 10**9} s"


class Sight(NamedTuple):
    """A service at one moment: how it fares, for a person, and its works."""

    status: str
    works: Sequence[Work] = ()


class Watchdog:
    """Tells slow from stalled (rule 3). Pure: `now` is any clock that does not go back, in ns."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._since: dict[str, tuple[int, int]] = {}  # of each work that is waited for: its number, and since when

    def feed(self, works: Sequence[Work], now: int) -> list[Stall]:
        """Take a look at all works; give those that stall."""
        waiting = [work for work in works if work.waiting]
        self._since = {work.name: self._seen(work, now) for work in waiting}
        lasted = [Stall(work, now - self._since[work.name][1]) for work in waiting]
        return [stall for stall in lasted if stall.lasted > self.patience + stall.work.slack]

    def _seen(self, work: Work, now: int) -> tuple[int, int]:
        before = self._since.get(work.name)
        return before if before is not None and before[0] == work.done else (work.done, now)


class Notify:
    """The way to systemd, as the environment describes it; false where there is none."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_ns = _watchdog(environment, pid)
        self._lost = False  # something could not be sent
        self._status = ""
        self._stalled: set[str] = set()

    def __bool__(self) -> bool:
        """Tell whether anybody listens."""
        return bool(self._address)

    def tell(self, *lines: str) -> None:
        """Send lines such as "READY=1", in one datagram (rule 1)."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
                way.setblocking(False)
                way.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._lost:
                log.warning("notify: systemd cannot be told %s: %s", lines[0], error)
            self._lost = True

    def status(self, text: str) -> None:
        """Say how the service fares, if that is new."""
        if text != self._status:
            self._status = text
            self.tell(f"STATUS={text}")

    async def starting(self, start: Awaitable[T], status: str) -> T:
        """Wait for something long that comes before READY, asking for more time meanwhile."""
        self.status(status)
        asking = asyncio.create_task(self._extend(), name="notify start")
        try:
            return await start
        finally:
            asking.cancel()

    async def _extend(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_START_S):
                while True:
                    self.tell(f"EXTEND_TIMEOUT_USEC={EXTEND_BY_S * 10**6}")
                    await asyncio.sleep(EXTEND_EVERY_S)

    async def attend(self, look: Callable[[], Sight]) -> None:
        """Say that the service is ready, and from then on how it fares, until cancelled; return if nobody listens."""
        self.tell("READY=1")
        watchdog = Watchdog(self.watchdog_ns or 0)
        every_s = min(LOOK_EVERY_S, self.watchdog_ns / 2e9) if self.watchdog_ns else LOOK_EVERY_S
        while self:
            self._look(look(), watchdog)
            await asyncio.sleep(every_s)

    def _look(self, sight: Sight, watchdog: Watchdog) -> None:
        stalls = watchdog.feed(sight.works, time.monotonic_ns()) if self.watchdog_ns else []
        self._log(stalls)
        if self.watchdog_ns and not stalls:
            self.tell("WATCHDOG=1")
        self.status(f"stalled: {'; '.join(map(str, stalls))}" if stalls else sight.status)

    def _log(self, stalls: list[Stall]) -> None:
        names = {stall.work.name for stall in stalls}
        for stall in stalls:
            if stall.work.name not in self._stalled:
                log.error("watchdog: no more pings: %s", stall)
        for name in sorted(self._stalled - names):
            log.warning("watchdog: %s goes on", name)
        self._stalled = names

    def reloading(self) -> None:
        """Say that the configuration is read again; until `reloaded`."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, text: str) -> None:
        """Say that the service goes on, and how the reload ended."""
        self._status = text
        self.tell("READY=1", f"STATUS={text}")

    def stopping(self) -> None:
        """Say that the service begins to end."""
        self._status = "stopping"
        self.tell("STOPPING=1", "STATUS=stopping")


def _address(text: str) -> str:
    """Give the socket's address: a path, or a zero and a name for one in the abstract namespace; "" for none."""
    if text.startswith("/"):
        return text
    return "\0" + text[1:] if text.startswith("@") else ""


def _watchdog(environment: Mapping[str, str], pid: int) -> int | None:
    """Give WATCHDOG_USEC in ns; None if no pings are wanted of this process (sd_watchdog_enabled(3))."""
    text = environment.get("WATCHDOG_USEC", "")
    ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
    return int(text) * 1000 if text.isascii() and text.isdigit() and int(text) and ours else None

"""The one clock of a gateway: `now` in ns, never decreasing, across restarts too.

Rules:

1. `now` runs on by elapsed time and follows a wall clock that is believed: where that is ahead, `now` leaps; where it
   is behind by at most CATCH_UP, `now` runs at half speed until it has caught up. Where it is behind by more, `now`
   runs on and `offset` says what is to be added to get UTC.
2. A wall clock that is not believed moves nothing: `now` runs on at full speed from where it was, at first from that
   clock or PLAUSIBLE, whichever is less.
3. Not believed is a clock before PLAUSIBLE (a board without a battery wakes in 1970), and one that its time service has
   not set yet (an old date from the disk). So is one that stepped away from where it was believed, until somebody
   vouches for it, it is back, or it has stood for PATIENCE where nothing keeps it right. What the cloud's clock agrees
   with is believed.
4. Belief lasts while the clock does not step: that the network is gone for a day makes no good clock bad.
5. `changed` says that a clock record is due; `record` gives it. Until the next one nothing of it changes.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

from gateway.records import ClockRecord

PLAUSIBLE = 1_735_689_600 * 10**9
"""2025-01-01: this code did not exist before, so no honest clock says less."""

STEP = 10**9
"""In ns: wall time that moves more than this against elapsed time was set, not slewed."""

CATCH_UP = 60 * 10**9
"""In ns: so far behind the wall clock may be found, and caught up with in twice the time."""

PATIENCE = 600 * 10**9
"""In ns: a step that nobody undoes for so long was meant."""

ASK = 10**9
"""In ns: how often others are asked about a clock that is not believed."""

AGREES = 2 * 10**9
"""In ns: so far apart may ours and the cloud's be, the way of asking included."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SERVICES = (Path("/run/systemd/timesync"), Path("/run/chrony"))
SET = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd makes it when it has set the clock in this boot (systemd-timesyncd.service(8))."""

TIMEX = 512
"""Bytes, more than any struct timex has: `modes` of 0 asks and changes nothing (adjtimex(2))."""

TIME_ERROR = 5
"""What adjtimex answers while nothing keeps the clock right."""


def elapsed_ns() -> int:
    """Give elapsed time, in ns; a machine that sleeps ages too, or waking up would look like a clock being set."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def nobody() -> None:
    """Say nothing of the wall clock."""


class Clock:
    """Wall and monotonic time, as arguments for everybody else.

    `vouched()` is True if somebody keeps the clock right, False if somebody would and has not set it yet. `since` is a
    clock record of this boot after which `now` ran on by elapsed time: it goes on so.
    """

    def __init__(
        self,
        last: int = 0,
        *,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = elapsed_ns,
        vouched: Callable[[], bool | None] = nobody,
        since: ClockRecord | None = None,
    ) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self._vouched = vouched
        self._last_monotonic = monotonic()
        self._last = last
        if since is not None:
            self._last = max(last, since.stamp + self._last_monotonic - since.monotonic)
        self.synchronised = False  # whether wall time is believed
        self.offset = 0  # ns, from `now` to UTC, where wall time is believed
        self._leapt = 0  # what `now` has leapt since the last record
        self._ahead: int | None = None  # what wall time was ahead of `now` when it was believed again
        self._stands: int | None = None  # wall minus monotonic time
        self._good: int | None = None  # where that stood when it was last believed
        self._stepped = self._asked = 0  # by monotonic time
        self._agreed: int | None = None  # where the cloud's clock stands
        self._told: tuple[bool, int] | None = None

    def now(self) -> int:
        """Give the time in ns; never less than before."""
        wall, monotonic = self._wall(), self.monotonic()
        elapsed, self._last_monotonic = monotonic - self._last_monotonic, monotonic
        self._judge(wall, monotonic, self._last + elapsed)
        if not self.synchronised:
            self._last += elapsed
        elif wall - self.offset >= self._last:
            self._last = wall - self.offset
        else:
            self._last += elapsed // 2
        return self._last

    def utc(self) -> int:
        """Give `now` as UTC, as far as that is known."""
        return self.now() + self.offset

    def _judge(self, wall: int, monotonic: int, on: int) -> None:
        """Believe the wall clock or not; `on` is where `now` has run on to."""
        stands, before = wall - monotonic, self._stands
        self._stands = stands
        stepped = before is None or abs(stands - before) > STEP
        if self.synchronised and not stepped and wall >= PLAUSIBLE:
            return
        if stepped:
            self._stepped = monotonic
            self._good = before if self.synchronised else self._good
        elif not self.synchronised and monotonic < self._asked + ASK:
            return
        self._asked = monotonic
        self.synchronised = wall >= PLAUSIBLE and self._believes(stands, monotonic)
        if self.synchronised:
            self._follow(wall - on, first=before is None)
        elif before is None:
            self._last = max(self._last, min(wall, PLAUSIBLE))

    def _believes(self, stands: int, monotonic: int) -> bool:
        vouched = self._vouched()
        known = (self._good, self._agreed)
        if vouched or any(one is not None and abs(stands - one) <= AGREES for one in known):
            return True
        if vouched is not None:
            return False
        return self._good is None or monotonic - self._stepped >= PATIENCE

    def _follow(self, ahead: int, *, first: bool) -> None:
        self._ahead = ahead + self._leapt
        self.offset = ahead if ahead < -CATCH_UP else 0
        if ahead > STEP and not first:
            self._leapt += ahead

    def agree(self, now: int) -> None:
        """Take the word of the cloud's clock, which said `now` (ns) a moment ago; 0 is no word."""
        if not now:
            return
        self._agreed = now - self.monotonic()
        self._asked = self.monotonic() - ASK

    @property
    def changed(self) -> bool:
        """Whether a clock record is due."""
        return bool(self._leapt) or (self.synchronised, self.offset) != self._told

    def record(self, now: int, boot: str, *, after: int | None = None) -> ClockRecord:
        """State the clock in a record of this stamp; `after` is the last one's where it is of another process."""
        leap = self._leapt if after is None else now - after
        shift = self._ahead if self.synchronised else None
        self._leapt, self._ahead, self._told = 0, None, (self.synchronised, self.offset)
        return ClockRecord(now, boot, self._last_monotonic, self.synchronised, leap, shift, self.offset)


def adrift(record: ClockRecord | None) -> ClockRecord | None:
    """Give a clock record if it is of this boot and `now` has run on by elapsed time since; else None."""
    if record is None or record.synchronised or not record.boot or record.boot != boot_id():
        return None
    return record


def told(record: ClockRecord) -> str:
    """Say what a clock record means, for whoever reads the log."""
    if not record.synchronised:
        return "it is not believed: what has its time from it gets its place when the clock is right"
    if record.offset:
        return f"it was set back by {-record.offset / 1e9:.0f} s; what has its time from it is told apart until then"
    return "it is believed" + (f"; it went ahead by {record.leap / 1e9:.0f} s" if record.leap else "")


def boot_id() -> str:
    """Give the kernel's id of this boot, or "" where it has none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def vouched() -> bool | None:
    """Ask kernel and time services about the wall clock: see `Clock`. None: nobody knows, or nobody keeps it right."""
    if kernel_vouches():
        return True
    if SET.exists():
        return None
    return False if any(path.exists() for path in SERVICES) else None


def kernel_vouches() -> bool | None:
    """Ask the kernel whether somebody keeps its clock right; None if it does not say."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    answer = adjtimex(ctypes.create_string_buffer(TIMEX)) if adjtimex is not None else -1
    return None if answer < 0 else answer != TIME_ERROR

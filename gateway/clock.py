"""The one clock of a gateway: `now` in ns, never decreasing, across restarts too.

Rules:

1. Wall time is used whenever it is not behind the last `now`.
2. When wall time was set back, `now` runs on at half speed until wall time has caught up, so that order is kept and the
   error shrinks.
3. A wall clock before PLAUSIBLE (a board without a battery wakes in 1970) is not synchronised: `now` runs on at full
   speed from where it was, because such a clock never catches up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

PLAUSIBLE = 1_735_689_600 * 10**9
"""2025-01-01: this code did not exist before, so no honest clock says less."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock:
    """Wall and monotonic time, as arguments for everybody else."""

    def __init__(
        self,
        last: int = 0,
        *,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self._last = last
        self._last_monotonic = monotonic()
        self.synchronised = False  # whether wall time could be believed at the last `now`

    def now(self) -> int:
        """Give the time in ns; never less than before."""
        wall, monotonic = self._wall(), self.monotonic()
        elapsed, self._last_monotonic = monotonic - self._last_monotonic, monotonic
        self.synchronised = wall >= PLAUSIBLE
        ahead = elapsed // 2 if self.synchronised else elapsed
        self._last = wall if wall >= self._last else self._last + ahead
        return self._last


def boot_id() -> str:
    """Give the kernel's id of this boot, or "" where it has none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""

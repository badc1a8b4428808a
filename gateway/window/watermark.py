"""How far event time has come, per device.

Rules:

1. A device is the part of a series' name before the last "/" (all of it, where there is none).
2. A device's event time is the latest of its readings; it never decreases.
3. A device silent for `idle` has it carried on by elapsed time: event time + (now - last arrival). When `now` leaps
   (from 1970 to today, or over the time in which the gateway was off), so do last arrivals: only what we have lived
   through is silence. While our clock is believed (`offset` makes UTC of `now`), nothing is carried beyond it: a device
   that is ahead, or was heard sooner than usual, has its full time. While it is not, the device's time is all there is.
   A device is adrift that got its time from our clock while that was not UTC: `now` itself is its time.
4. A definition's watermark is event time - lateness; the windows keep it, as they keep what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.records import NEVER, State

BEFORE_ALL = -(1 << 62)
"""Event time of a device that has not been heard; `clean` lets no reading through that is earlier."""

Devices = NDArray[np.int64]

NOBODY: Devices = np.empty(0, np.int64)
"""No devices; never changed."""


class Watermark:
    """Event time and last arrival of each device."""

    def __init__(self) -> None:
        self.device: Devices = np.empty(0, np.int64)  # of each series
        self.event: NDArray[np.int64] = np.empty(0, np.int64)
        self.arrived: NDArray[np.int64] = np.empty(0, np.int64)
        self.adrift: NDArray[np.bool_] = np.empty(0, bool)
        self.offset: int | None = 0
        self._numbers: dict[str, int] = {}
        self._earliest = BEFORE_ALL  # no last arrival is before it

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self.event)

    @property
    def everyone(self) -> Devices:
        """All devices."""
        return np.arange(self.devices)

    def define(self, names: Sequence[str]) -> int:
        """Append series; give the number of devices there are now."""
        numbers = self._numbers
        devices = [numbers.setdefault(name.rpartition("/")[0] or name, len(numbers)) for name in names]
        self.device = np.concatenate([self.device, np.array(devices, np.int64)])
        new = len(numbers) - len(self.event)
        self.event = np.concatenate([self.event, np.full(new, BEFORE_ALL)])
        self.arrived = np.concatenate([self.arrived, np.full(new, NEVER)])
        self.adrift = np.concatenate([self.adrift, np.zeros(new, bool)])
        return len(numbers)

    def hear(self, series: NDArray[np.int32], time: NDArray[np.int64], now: int) -> Devices:
        """Take what arrived now, one row per series with its latest time; give the devices heard."""
        devices = self.device[series]
        np.maximum.at(self.event, devices, time)
        self.arrived[devices] = now
        self._earliest = min(self._earliest, now)
        return devices

    def silent(self, now: int, idle: int) -> tuple[Devices, NDArray[np.int64]]:
        """Give the devices that are silent, and how far their event time is carried on."""
        if now - idle < self._earliest:
            return NOBODY, NOBODY
        devices = (self.arrived <= now - idle).nonzero()[0]
        if not len(devices):
            self._earliest = int(np.minimum.reduce(self.arrived, initial=NEVER))
            return NOBODY, NOBODY
        event = self.event[devices]
        carried = event + (now - self.arrived[devices])
        if self.offset is None:
            return devices, carried
        return devices, np.minimum(carried, np.maximum(event, now + self._offsets(devices)))

    def _offsets(self, devices: Devices) -> NDArray[np.int64]:
        return np.where(self.adrift[devices], 0, self.offset or 0)

    def reach(self, devices: Devices, event: NDArray[np.int64], idle: int) -> NDArray[np.int64]:
        """Tell when silence alone carries devices on to `event`, which is beyond their event time."""
        arrived = self.arrived[devices]
        elapsed = np.maximum(arrived + idle, arrived + (event - self.event[devices]))
        return elapsed if self.offset is None else np.maximum(elapsed, event - self._offsets(devices))

    def leap(self, leap: int | None, now: int) -> int:
        """Note that `now` has leapt to where it is; where it is not known how far, as far as from the last arrival."""
        heard = self.arrived != NEVER
        if leap is None:
            leap = now - int(self.arrived[heard].max()) if heard.any() else 0
        self.arrived[heard] += leap
        self._earliest = BEFORE_ALL
        return leap

    def snapshot(self) -> State:
        """Give all state but the names and `offset`."""
        return {"event": self.event.copy(), "arrived": self.arrived.copy(), "adrift": self.adrift.copy()}

    def restore(self, state: State) -> None:
        """Continue from a snapshot; the same series must have been defined."""
        self.event, self.arrived = state["event"].copy(), state["arrived"].copy()
        self._earliest = BEFORE_ALL
        if "adrift" in state:  # not in a checkpoint of an earlier version
            self.adrift = state["adrift"].copy()

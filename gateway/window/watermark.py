"""How far event time has come, per device.

Rules:

1. A device is the part of a series' name before the last "/" (all of it, where there is none).
2. A device's event time is the latest of its readings; it never decreases.
3. A device silent for `idle` has it carried on by our own clock: event time + (now - last arrival), but never beyond
   `now` (unless its own readings say so): when our clock jumps from 1970 to today, a device whose clock was right all
   the time must not be carried fifty years on.
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


class Watermark:
    """Event time and last arrival of each device."""

    def __init__(self) -> None:
        self.device: Devices = np.empty(0, np.int64)  # of each series
        self.event: NDArray[np.int64] = np.empty(0, np.int64)
        self.arrived: NDArray[np.int64] = np.empty(0, np.int64)
        self._numbers: dict[str, int] = {}

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self.event)

    def define(self, names: Sequence[str]) -> int:
        """Append series; give the number of devices there are now."""
        numbers = self._numbers
        devices = [numbers.setdefault(name.rpartition("/")[0] or name, len(numbers)) for name in names]
        self.device = np.concatenate([self.device, np.array(devices, np.int64)])
        new = len(numbers) - len(self.event)
        self.event = np.concatenate([self.event, np.full(new, BEFORE_ALL)])
        self.arrived = np.concatenate([self.arrived, np.full(new, NEVER)])
        return len(numbers)

    def hear(self, series: NDArray[np.int32], time: NDArray[np.int64], now: int) -> Devices:
        """Take what arrived now, one row per series with its latest time; give the devices heard."""
        devices = self.device[series]
        np.maximum.at(self.event, devices, time)
        self.arrived[devices] = now
        return devices

    def silent(self, now: int, idle: int) -> tuple[Devices, NDArray[np.int64]]:
        """Give the devices that are silent, and how far their event time is carried on."""
        devices = (self.arrived <= now - idle).nonzero()[0]
        event = self.event[devices]
        return devices, np.minimum(event + (now - self.arrived[devices]), np.maximum(event, now))

    def reach(self, devices: Devices, event: NDArray[np.int64], idle: int) -> NDArray[np.int64]:
        """Tell when silence alone carries devices on to `event`, which is beyond their event time."""
        arrived = self.arrived[devices]
        return np.maximum(np.maximum(arrived + idle, arrived + (event - self.event[devices])), event)

    def snapshot(self) -> State:
        """Give all state but the names."""
        return {"event": self.event.copy(), "arrived": self.arrived.copy()}

    def restore(self, state: State) -> None:
        """Continue from a snapshot; the same series must have been defined."""
        self.event, self.arrived = state["event"].copy(), state["arrived"].copy()

"""The newest labels of devices, for windows that ended: known as soon as a later one has come. Pure.

Rules:

1. A label counts from its event time to that of the next one. So what a window's class is, by the rule of
   `gateway.trainer.dataset.have_class`, is known when a label at its end, or after it, has come.
2. Of labels that say the same in a row the first is kept, and the others while they are the newest of their device.

| may fill | bound | answer when full |
|---|---|---|
| labels | MAX_LABELS | the oldest are forgotten |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.classify.windows import EVER, Rows, Slots
from gateway.trainer.dataset import Times, Values

MAX_LABELS = 16_384


class Labels:
    """See the rules above; devices are those of `Windows`, by number."""

    def __init__(self) -> None:
        self._device, self._time = np.empty(0, np.int64), np.empty(0, np.int64)
        self._value = np.empty(0)
        self._newest = np.full(1, EVER)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._time)

    def feed(self, rows: Rows) -> None:
        """Take labels; those that are no number say nothing."""
        rows = rows.where(np.isfinite(rows.value))
        if not len(rows.device):
            return
        more = int(rows.device.max()) + 1 - len(self._newest)
        self._newest = np.concatenate([self._newest, np.full(max(more, 0), EVER)])
        np.maximum.at(self._newest, rows.device, rows.time)
        self._put(
            np.concatenate([self._device, rows.device]),
            np.concatenate([self._time, rows.time]),
            np.concatenate([self._value, rows.value]),
        )

    def _put(self, device: Slots, time: Times, value: Values) -> None:
        order = np.lexsort((time, device))
        device, time, value = device[order], time[order], value[order]
        other = np.ones((2, len(device)), bool)  # than the one before; than the one after
        other[0, 1:] = (np.diff(device) != 0) | (np.diff(value) != 0)
        repeated = np.zeros(len(device), bool)
        repeated[1:] = (np.diff(device) == 0) & (np.diff(time) == 0)  # the first counts
        kept = other[0] & ~repeated
        device, time, value = device[kept], time[kept], value[kept]
        if len(time) > MAX_LABELS:
            newest = np.sort(np.argpartition(time, len(time) - MAX_LABELS)[-MAX_LABELS:])
            device, time, value = device[newest], time[newest], value[newest]
        self._device, self._time, self._value = device, time, value

    def forget(self, needed: Times) -> None:
        """Forget what counts only before a time, by device (EVER: nothing); what is in force there stays."""
        last = np.ones(len(self._time), bool)
        last[:-1] = np.diff(self._device) != 0
        until = np.append(self._time[1:], 0)
        kept = last | (until > needed[self._device])
        self._device, self._time, self._value = self._device[kept], self._time[kept], self._value[kept]

    def known(self, device: Slots, end: Times) -> NDArray[np.bool_]:
        """Whether a label at a time, or after it, has come from a device, (n,)."""
        heard = device < len(self._newest)
        return np.asarray(heard & (self._newest[np.where(heard, device, 0)] >= end))

    def at(self, device: Slots, time: Times) -> Values:
        """Give the newest label of devices at times, (n,); NaN where there is none yet."""
        kept = len(self._time)
        if not kept:
            return np.full(len(device), np.nan)
        asked = np.arange(kept + len(device)) >= kept
        of, when = np.concatenate([self._device, device]), np.concatenate([self._time, time])
        order = np.lexsort((asked, when, of))  # a label before a question of the same time
        newest = np.maximum.accumulate(np.where(asked[order], -1, np.arange(len(order))))
        found = np.empty(len(order), np.int64)
        found[order] = np.where(newest >= 0, order[np.maximum(newest, 0)], -1)
        place = found[kept:]
        own = (place >= 0) & (self._device[np.maximum(place, 0)] == device)
        return np.where(own, self._value[np.maximum(place, 0)], np.nan)

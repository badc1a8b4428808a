"""Raw readings, as they come, into the windows that the trainer makes of the journal. Pure; all devices at once.

Rules, besides those of `gateway.trainer.dataset`, whose `are_gaps` tells where runs end:

1. A device counts from when all its channels have been seen. A run begins with its first sample since we started: what
   was held when the gateway ended is not kept, so a device's first window takes `samples` new ones.
2. Samples are taken in the order of event time. What comes later than a newer sample is left out: `late`. So is what
   is not complete when so many newer event times of its device are: `incomplete`.
3. Gaps are found when a window is due, by its own steps.

| may fill | bound | answer when full |
|---|---|---|
| devices | MAX_DEVICES, or MAX_BYTES of samples | readings of further ones are left out: `devices` |
| samples of a device | `samples` | the oldest are replaced |
| event times of a device that lack a channel | `samples`, at most MAX_INCOMPLETE | the oldest go: `incomplete` |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gateway.records import Readings, count
from gateway.trainer.dataset import MAX_DEVICES, Times, Values, are_gaps
from protocol.training import Dataset

MAX_BYTES = 32 << 20
MAX_INCOMPLETE = 256
FIRST = 8
"""Devices that there is room for before any is known; it doubles as they come."""
EVER = -(1 << 62)
UNKNOWN, REFUSED = -1, -2
"""In place of a device's number."""

Slots = NDArray[np.int64]
"""Devices by number, (n,)."""


class Finished(NamedTuple):
    """Windows that ended, a row each."""

    device: Slots
    start: Times  # event time of the first sample
    end: Times  # and of the last
    samples: Values  # (n, samples, channels)

    def part(self, of: slice) -> Finished:
        """Give some of them."""
        return Finished._make(column[of] for column in self)


class Rows(NamedTuple):
    """Readings of chosen devices, or their samples, by device and time."""

    device: Slots
    time: Times
    channel: Slots
    value: Values

    def where(self, chosen: NDArray[np.bool_] | Slots) -> Rows:
        """Give those chosen, in that order."""
        return Rows._make(column[chosen] for column in self)


class Untold(NamedTuple):
    """Windows that wait for their label, a row each."""

    device: Slots
    start: Times
    end: Times
    said: NDArray[np.int64]  # a column for each who may speak; -1: nothing was said

    def where(self, chosen: NDArray[np.bool_]) -> Untold:
        """Give those chosen."""
        return Untold._make(column[chosen] for column in self)


Columns = TypeVar("Columns", Rows, Untold)


class Windows:
    """See the rules above. The label is a channel after the others, and makes no samples."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.devices: list[str] = []
        self._numbers: dict[str, int] = {}
        self.left_out: dict[str, int] = {}  # readings, by reason
        self._channels = {name: at for at, name in enumerate((*dataset.channels, dataset.label))}
        width = 8 * dataset.samples * (len(dataset.channels) + 1)
        self._most = max(1, min(MAX_DEVICES, MAX_BYTES // width))
        self._known: dict[str, dict[int, int]] = {}  # series of a device that lacks a channel, by channel
        self._slot, self._channel = np.empty(0, np.int64), np.empty(0, np.int64)  # by series
        self._waiting = no_rows()
        self._time = np.zeros((FIRST, dataset.samples), np.int64)
        self._value = np.zeros((FIRST, dataset.samples, len(dataset.channels)))
        self._run, self._at = np.zeros(FIRST, np.int64), np.zeros(FIRST, np.int64)  # samples in the run; next place
        self._newest = np.full(FIRST, EVER)

    def define(self, names: Sequence[str]) -> None:
        """Make series known, in order; their integers follow on from those known before."""
        first = len(self._slot)
        self._slot = np.concatenate([self._slot, np.full(len(names), UNKNOWN)])
        self._channel = np.concatenate([self._channel, np.zeros(len(names), np.int64)])
        for series, name in enumerate(names, first):
            device, _, measurement = name.rpartition("/")
            if measurement in self._channels and fnmatchcase(device, self.dataset.devices):
                self._channel[series] = self._channels[measurement]
                self._admit(device, series)

    def _admit(self, device: str, series: int) -> None:
        if device in self._numbers:  # the label may come last
            self._slot[series] = self._numbers[device]
            return
        own = self._known.setdefault(device, {})
        own[int(self._channel[series])] = series
        if any(channel not in own for channel in range(len(self.dataset.channels))):
            return
        room = len(self.devices) < self._most
        self._slot[list(own.values())] = len(self.devices) if room else REFUSED
        if room:
            del self._known[device]
            self._numbers[device] = len(self.devices)
            self.devices.append(device)
            self._grow()

    def _grow(self) -> None:
        if len(self.devices) > len(self._run):
            more = min(len(self._run), self._most - len(self._run))
            for name in ("_time", "_value", "_run", "_at"):
                held = getattr(self, name)
                setattr(self, name, np.concatenate([held, np.zeros((more, *held.shape[1:]), held.dtype)]))
            self._newest = np.concatenate([self._newest, np.full(more, EVER)])

    def feed(self, readings: Readings) -> tuple[list[Finished], Rows]:
        """Take readings; give the windows that ended, and the labels among the readings."""
        slot = self._slot[readings.series]
        if (slot == UNKNOWN).all():
            return [], no_rows()
        ours = slot >= 0
        self._leave_out("devices", int((slot == REFUSED).sum()))
        rows = Rows(slot[ours], readings.time[ours], self._channel[readings.series[ours]], readings.value[ours])
        of_label = rows.channel == len(self.dataset.channels)
        return list(self._finish(self._complete(rows.where(~of_label)))), rows.where(of_label)

    def oldest(self, device: Slots) -> Times:
        """Give the event time of the first sample that a later window may have, (n,)."""
        held = np.minimum(self._run[device], self.dataset.samples)
        place = (self._at[device] - held) % self.dataset.samples
        return np.where(held > 0, self._time[device, place], self._newest[device])

    def _leave_out(self, reason: str, readings: int) -> None:
        count(self.left_out, {reason: readings})

    def _complete(self, rows: Rows) -> Rows:
        """Give the samples that are whole now, channel by channel; keep the others."""
        late = rows.time <= self._newest[rows.device]
        self._leave_out("late", int(late.sum()))
        rows = joined(self._waiting, rows.where(~late))
        order = np.lexsort((rows.channel, rows.time, rows.device))  # stable: of repeats the first comes first
        rows = rows.where(order)
        apart = _changes(rows.device, rows.time)
        rows, apart = (rows.where(first := apart | _changes(rows.channel)), apart[first])
        group = np.cumsum(apart) - 1
        sound = np.bincount(group, np.isfinite(rows.value)) if len(group) else np.empty(0)
        whole = (sound == len(self.dataset.channels))[group]
        samples = rows.where(whole)
        np.maximum.at(self._newest, samples.device, samples.time)
        self._keep(rows.where(~whole), group[~whole])
        return samples

    def _keep(self, rows: Rows, group: NDArray[np.int64]) -> None:
        """Keep what lacks a channel and may still be completed: the newest event times of each device."""
        fresh = rows.time > self._newest[rows.device]
        rows, group = rows.where(fresh), group[fresh]
        _, place = np.unique(group, return_inverse=True)
        last = np.zeros(len(self._newest), np.int64)
        np.maximum.at(last, rows.device, place)
        near = last[rows.device] - place < min(self.dataset.samples, MAX_INCOMPLETE)
        self._waiting = rows.where(near)
        self._leave_out("incomplete", int((~fresh).sum() + (~near).sum()))

    def _finish(self, rows: Rows) -> Iterator[Finished]:
        """Put samples where they belong; each time at most as many as bring every device to its next window."""
        channels = len(self.dataset.channels)
        device, time = rows.device[::channels], rows.time[::channels]
        value = rows.value.reshape(-1, channels)
        while len(device):
            begins = np.maximum.accumulate(np.where(_changes(device), np.arange(len(device)), 0))
            rank = np.arange(len(device)) - begins
            now = rank < self._missing(device)
            chosen, place = device[now], (self._at[device[now]] + rank[now]) % self.dataset.samples
            self._time[chosen, place], self._value[chosen, place] = time[now], value[now]
            added = np.bincount(chosen, minlength=len(self._run))
            self._run += added
            self._at = (self._at + added) % self.dataset.samples
            touched = np.flatnonzero(added)
            if len(due := touched[self._is_due(touched)]):
                yield self._windows(due)
            device, time, value = device[~now], time[~now], value[~now]

    def _missing(self, device: Slots) -> Slots:
        """Say how many samples each lacks to its next window; never more than one window holds."""
        samples, hop, run = self.dataset.samples, self.dataset.hop, self._run[device]
        lacks = np.where(run < samples, samples - run, hop - (run - samples) % hop)
        return np.minimum(lacks, samples)

    def _is_due(self, device: Slots) -> NDArray[np.bool_]:
        run = self._run[device]
        return np.asarray((run >= self.dataset.samples) & ((run - self.dataset.samples) % self.dataset.hop == 0))

    def _windows(self, device: Slots) -> Finished:
        """Give the newest samples of devices whose window is due, but of those where a run ended within them."""
        samples = self.dataset.samples
        place = (self._at[device, None] + np.arange(samples)) % samples
        time = self._time[device[:, None], place]
        gaps = are_gaps(np.diff(time, axis=1)) if samples > 1 else np.zeros((len(device), 0), bool)
        broken = gaps.any(axis=1)
        if broken.any():
            self._run[device[broken]] = 1 + gaps[broken][:, ::-1].argmax(axis=1)
        device, time, place = device[~broken], time[~broken], place[~broken]
        return Finished(device, time[:, 0], time[:, -1], self._value[device[:, None], place])


def joined(one: Columns, other: Columns) -> Columns:
    """Give the rows of both, one's first."""
    return type(one)._make(np.concatenate(pair) for pair in zip(one, other, strict=True))


def no_rows() -> Rows:
    """Give none."""
    return Rows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def _changes(*columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a row differs from the one before it in any column, (n,); the first does."""
    differs = np.ones(len(columns[0]), bool)
    if len(differs) > 1:
        differs[1:] = np.any([np.diff(column) != 0 for column in columns], axis=0)
    return differs

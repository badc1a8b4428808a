"""From raw readings to labelled vectors: samples, windows without a gap, features, classes. Pure.

Rules:

1. A sample is one finite reading of each channel of a device at one event time; of repeats the first counts.
2. Samples come at even steps; a step of more than GAP medians ends a run, and a window lies within one run.
3. A window's class is the newest label at its last sample. It counts only if the label was the same at its first one,
   and is a whole number from 0 to classes - 1.
4. Examples of a device are in the order of time; the newest share of each is held out, and windows that overlap with it
   are left out, so that nothing is scored that was learnt from.
5. Where a window has no label of its own, what the cloud has said of it counts, to learn from and never to score by.

| may fill | bound | answer when full |
|---|---|---|
| samples of one device | `newest` windows | the oldest are left out |
| devices | MAX_DEVICES | the first by name are taken |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.records import Readings, join_readings
from gateway.tasks.contract import Past
from gateway.tasks.told import Spans, Told, by_device
from learning import features
from protocol.training import Dataset

GAP = 1.5
MAX_DEVICES = 1_000
COMPACT = 4
"""Readings of a series are thinned to the newest when there are so many times as many as count."""

AT_ONCE = 1 << 14
"""Values whose features are computed at once: what is needed meanwhile is some 40 times as many bytes. More were no
faster."""

Times = NDArray[np.int64]
Values = NDArray[np.float64]


class Examples(NamedTuple):
    """In the order of time of a device."""

    x: NDArray[np.float32]  # features (n, d)
    y: NDArray[np.int64]  # classes (n,)
    at: Times  # event time of the last sample (n,)

    def part(self, of: slice) -> Examples:
        """Give some of them."""
        return Examples(self.x[of], self.y[of], self.at[of])


class Split(NamedTuple):
    """All devices together: what is learnt from, and what is held out."""

    learnt: Examples
    held_out: Examples


class Column(NamedTuple):
    """One series: event times ascending, each once, and values; shape (n,)."""

    time: Times
    value: Values


NO_COLUMN = Column(np.empty(0, np.int64), np.empty(0))
NOTHING = Spans(*np.empty((3, 0), np.int64))


class Gathered:
    """What a journal holds for one dataset, as far as it has been read: each `take` reads on from there.

    Examples once made are kept: the windows of a device that begin and end where they did have the same samples, since
    a journal only grows, and of repeats the first counts.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.readings = 0
        self.held = (0, 0)  # event times, [from, to)
        self._position = 0
        self._names: Sequence[str] = ()
        self._parts: dict[int, list[Readings]] = {}  # by series, in the order of arrival
        self.lent: dict[str, Examples] = {}  # of the same devices: windows whose class only the cloud has said
        self._told: Sequence[Told] = ()
        self._made: dict[str, Made] = {}  # by device
        self._made_lent: dict[str, Made] = {}
        self._examples: dict[str, Examples] = {}

    def take(self, past: Past, model: str = "") -> dict[str, Examples]:
        """Read what is new, and give the examples of each device; with a model also `lent`."""
        told = past.told(model) if model else ()
        changed, self._told = told != self._told, told
        if (position := past.position) != self._position or not position:
            found = self.readings
            for batch in past.batches(_patterns(self.dataset), after=self._position):
                self._note(batch)
            self._position, self._names = position, past.names
            if self.readings > found:
                self.held = _union(self.held, past.held)
                changed = True
        if changed:
            self._make()
        return self._examples

    def _note(self, batch: Readings) -> None:
        most = self.dataset.newest * self.dataset.hop + self.dataset.samples
        self.readings += batch.rows
        for series in np.unique(batch.series).tolist():
            own = self._parts.setdefault(series, [])
            own.append(Readings(*(column[batch.series == series] for column in batch)))
            if sum(part.rows for part in own) > COMPACT * most:
                own[:] = [_newest(join_readings(own), most)]

    def _make(self) -> None:
        for own in self._parts.values():
            own[:] = [join_readings(own)]
        columns = {self._names[series]: _column(own) for series, [own] in self._parts.items()}
        told = by_device(self._told)
        examples, lent = dict[str, tuple[Examples, Made]](), dict[str, tuple[Examples, Made]]()
        for device, each in _by_device(self.dataset, columns, told):
            examples[device] = make(self.dataset, each, self._made.get(device))
            lent[device] = lend(self.dataset, each, told.get(device, NOTHING), self._made_lent.get(device))
        self._examples, self._made = _apart(examples)
        self.lent, self._made_lent = _apart(lent)


def _apart(found: dict[str, tuple[Examples, Made]]) -> tuple[dict[str, Examples], dict[str, Made]]:
    return {device: one for device, (one, _) in found.items()}, {device: made for device, (_, made) in found.items()}


def gather(dataset: Dataset, past: Past) -> tuple[dict[str, Examples], int]:
    """Give the examples of each device, and how many readings they were made of."""
    gathered = Gathered(dataset)
    return gathered.take(past), gathered.readings


def _patterns(dataset: Dataset) -> list[str]:
    return [f"{dataset.devices}/{measurement}" for measurement in (*dataset.channels, dataset.label)]


def _union(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return (min(one[0], other[0]), max(one[1], other[1])) if one != (0, 0) else other


def _newest(readings: Readings, most: int) -> Readings:
    order = np.argsort(readings.time, kind="stable")[-most:]
    return Readings(readings.series[order], readings.time[order], readings.value[order])


def _column(readings: Readings) -> Column:
    time, first = np.unique(readings.time, return_index=True)
    value = readings.value[first]
    sound = np.isfinite(value)
    return Column(time[sound], value[sound])


def _by_device(
    dataset: Dataset, columns: dict[str, Column], told: Mapping[str, Spans]
) -> Iterable[tuple[str, dict[str, Column]]]:
    devices = sorted({name.rpartition("/")[0] for name in columns})
    chosen = [device for device in devices if fnmatchcase(device, dataset.devices)]
    for device in chosen[:MAX_DEVICES]:
        own = {name.rpartition("/")[2]: column for name, column in columns.items() if name.rpartition("/")[0] == device}
        if device in told:
            own.setdefault(dataset.label, NO_COLUMN)
        if all(measurement in own for measurement in (*dataset.channels, dataset.label)):
            yield device, own


class Made(NamedTuple):
    """Features of windows, (n, d), and the event times of their first and last samples, (n,), ascending."""

    x: NDArray[np.float32]
    begin: Times
    end: Times


def examples(dataset: Dataset, columns: dict[str, Column]) -> Examples:
    """Make examples of one device's columns, by measurement."""
    return make(dataset, columns, None)[0]


def make(dataset: Dataset, columns: dict[str, Column], known: Made | None) -> tuple[Examples, Made]:
    """Make examples of one device's columns, by measurement; features that are known are not computed again."""
    time, samples = _samples([columns[channel] for channel in dataset.channels])
    starts = _starts(time, dataset.samples, dataset.hop)[-dataset.newest :]
    ends = starts + dataset.samples - 1
    _, last, told = _labels(dataset, columns, time[starts], time[ends])
    starts, ends = starts[told], ends[told]
    span = time[starts], time[ends]
    made = Made(_features(dataset, samples, starts, _places(known, *span), known), *span)
    return Examples(made.x, last[told].astype(np.int64), made.end), made


def lend(dataset: Dataset, columns: dict[str, Column], said: Spans, known: Made | None) -> tuple[Examples, Made]:
    """Make examples of one device's windows by what the cloud has said of them, where no label of its own is there.

    Such a window begins where it did when it was classified, which may be between those that `make` makes.
    """
    time, samples = _samples([columns[channel] for channel in dataset.channels])
    starts = np.searchsorted(time, said.start)
    whole = starts + dataset.samples <= len(time)
    whole[whole] &= time[starts[whole]] == said.start[whole]
    whole[whole] &= time[starts[whole] + dataset.samples - 1] == said.end[whole]
    whole &= ~_labels(dataset, columns, said.start, said.end)[2] & (said.chosen < dataset.classes)
    starts, span = starts[whole], (said.start[whole], said.end[whole])
    made = Made(_features(dataset, samples, starts, _places(known, *span), known), *span)
    return Examples(made.x, said.chosen[whole], made.end), made


def _labels(
    dataset: Dataset, columns: dict[str, Column], begin: Times, end: Times
) -> tuple[Values, Values, NDArray[np.bool_]]:
    """Give the labels at the first and the last samples of windows, and whether they have a class; (n,) each."""
    label = columns[dataset.label]
    first, last = _label_at(label, begin), _label_at(label, end)
    return first, last, have_class(first, last, dataset.classes)


def _features(
    dataset: Dataset,
    samples: Values,
    starts: Times,
    places: tuple[NDArray[np.int64], NDArray[np.bool_]],
    known: Made | None,
) -> NDArray[np.float32]:
    """Give the features of windows, (n, d): what is known, and the others AT_ONCE values at a time."""
    place, same = places
    fresh = starts[~same]
    step = max(AT_ONCE // (dataset.samples * samples.shape[1]), 1)
    parts = [fresh[at : at + step, None] + np.arange(dataset.samples) for at in range(0, max(len(fresh), 1), step)]
    made = np.concatenate([features.extract(dataset.features, samples[part]) for part in parts])
    x = np.empty((len(starts), made.shape[1]), np.float32)
    x[~same] = made
    if known is not None:
        x[same] = known.x[place[same]]
    return x


def _places(known: Made | None, begin: Times, end: Times) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Say where windows are among those that are known, and whether they are: (n,) each."""
    if known is None or not len(known.begin):
        return np.zeros(len(begin), np.int64), np.zeros(len(begin), np.bool_)
    place = np.minimum(np.searchsorted(known.begin, begin), len(known.begin) - 1)
    return place, np.asarray((known.begin[place] == begin) & (known.end[place] == end))


def have_class(first: Values, last: Values, classes: int) -> NDArray[np.bool_]:
    """Whether windows have one, by the newest labels at their first and last samples: (n,)."""
    return np.asarray((first == last) & (last == np.floor(last)) & (last >= 0) & (last < classes))


def are_gaps(steps: Times) -> NDArray[np.bool_]:
    """Whether steps from sample to sample, (..., n) with n at least 1, end a run."""
    return np.asarray(steps > GAP * np.median(steps, axis=-1, keepdims=True))


def _samples(channels: Sequence[Column]) -> tuple[Times, Values]:
    """Give the event times that all channels have, (n,), and their values, (n, channels)."""
    time = channels[0].time
    for column in channels[1:]:
        time = np.intersect1d(time, column.time, assume_unique=True)
    values = [column.value[np.searchsorted(column.time, time)] for column in channels]
    return time, np.stack(values, axis=1)


def _starts(time: Times, samples: int, hop: int) -> NDArray[np.int64]:
    """Give the samples with which windows begin: each `hop` of a run, as long as the run lasts."""
    if len(time) < samples:
        return np.empty(0, np.int64)
    steps = np.diff(time)
    run = np.concatenate([[0], np.cumsum(are_gaps(steps))]) if len(steps) else np.zeros(1, np.int64)
    begins = np.flatnonzero(np.diff(run, prepend=-1))
    place = np.arange(len(time)) - begins[run]
    candidates = np.arange(len(time) - samples + 1)
    within = run[candidates] == run[candidates + samples - 1]
    chosen: NDArray[np.int64] = candidates[within & (place[candidates] % hop == 0)]
    return chosen


def _label_at(label: Column, time: Times) -> Values:
    """Give the newest label at each time; NaN where there is none yet."""
    place = np.searchsorted(label.time, time, side="right") - 1
    return np.where(place >= 0, label.value[np.maximum(place, 0)] if len(label.value) else np.nan, np.nan)


def split(of_devices: Iterable[Examples], share: float, apart: int, lent: Sequence[Examples] = ()) -> Split:
    """Hold out the newest share of each device's examples, and leave out the `apart` before them.

    What is lent, of the same devices, is learnt from as far as it ends before what is left out.
    """
    learnt, held_out = [], []
    for number, each in enumerate(of_devices):
        cut = round(len(each.x) * (1 - share))
        own = each.part(slice(0, max(cut - apart, 0)))
        learnt.append(own)
        held_out.append(each.part(slice(cut, None)))
        if lent:
            learnt.append(_before(lent[number], own) if len(each.x) else lent[number])
    return Split(_joined(learnt), _joined(held_out))


def _before(lent: Examples, own: Examples) -> Examples:
    """Give what is lent and ends no later than what is learnt from."""
    return lent.part(slice(0, int(np.searchsorted(lent.at, own.at[-1], side="right")) if len(own.x) else 0))


def _joined(parts: list[Examples]) -> Examples:
    return Examples(*map(np.concatenate, zip(*parts, strict=True)))

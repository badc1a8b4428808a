"""`spectrum`: power spectral density by Welch's method (1967): periodograms of overlapping segments, averaged.

Rules:

1. Sampling is even: `step` ns from one reading to the next, half of it more or less. A gap ends a run; of repeats of
   one time the least value counts.
2. Segments are `samples` readings of one run, and begin each half of that from where the run begins. Each has its mean
   taken off, and a Hann window.
3. Readings come in no order, so each series keeps its newest until HELD are held together: then what is complete is
   settled, and what comes for it afterwards is counted as `late`.

Parts add up exactly: sums of periodograms, and how many. A split that cuts a run in time costs the segments across the
cut, and may move where later ones of that run begin; gateways cut none. An average over k segments of noise has a
relative deviation of about sqrt(19 / (18 k)); the result says it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from learning import reading
from learning.work.aligned import Step
from learning.work.contract import Batch
from learning.work.groups import By, Groups, group_of, merged_names, read_names, runs
from protocol.columns import encode_state
from protocol.errors import ModelRefused, TaskRefused

SCHEMA = "spectrum/1"
HELD = 1 << 20
"""Readings: 16 MB."""

AT_ONCE = 1 << 18
"""Values transformed at once."""

MAX_CELLS = 1 << 19
"""Groups times frequencies: 4 MB."""

OVERLAP = 19 / 18
"""How much more an average varies because segments of a Hann window overlap by half."""

Numbers = NDArray[np.int64]
Values = NDArray[np.float64]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How readings come (`step` in ns), how fine the spectrum is, and what is told apart."""

    step: Step
    samples: Annotated[int, Meta(ge=8, le=16_384)] = 256
    by: By = "series"

    def __post_init__(self) -> None:
        """Refuse what cannot overlap by half."""
        if self.samples % 2:
            raise ValueError("`samples` must be even")


class Kept(NamedTuple):
    """Readings of one series that are not settled, by time, each once; shape (n,)."""

    time: Numbers
    value: Values


class Spectra(NamedTuple):
    """Of g groups: sums of periodograms, (g, f), over so many segments, (g,); and readings that came too late."""

    names: list[str]
    power: Values
    segments: Numbers
    late: int


class Spectrum:
    """See `learning.work.contract`."""

    name = "spectrum"
    version = 1
    params = Params
    raw = False

    def map(self, batches: Iterable[Batch], params: Params) -> bytes:
        """Add up the periodograms of each group."""
        return _encode(_Welch(params).over(batches))

    def merge(self, parts: Sequence[bytes], params: Params) -> bytes:
        """Add them up."""
        read = [_decode(part, params) for part in parts]
        names, places = merged_names([part.names for part in read])
        power, segments = np.zeros((len(names), params.samples // 2 + 1)), np.zeros(len(names), np.int64)
        for part, place in zip(read, places, strict=True):
            power[place] += part.power
            segments[place] += part.segments
        return _encode(Spectra(names, power, segments, sum(part.late for part in read)))

    def result(self, part: bytes, params: Params) -> dict[str, Any]:
        """Give the density of each group (unit^2 / Hz) at the frequencies (Hz), and how sure it is."""
        found = _decode(part, params)
        density = found.power / found.segments[:, None]
        groups = {
            name: {"segments": count, "relative_deviation": math.sqrt(OVERLAP / count), "density": row}
            for name, count, row in zip(found.names, found.segments.tolist(), density.tolist(), strict=True)
        }
        frequencies = np.fft.rfftfreq(params.samples, params.step / 1e9).tolist()
        return {"frequencies": frequencies, "groups": groups, "late": found.late}


class _Welch:
    """Readings of each series as they come; see the rules above."""

    def __init__(self, params: Params) -> None:
        self._params = params
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(params.samples) / params.samples)
        self._window = window
        self._scale = np.full(params.samples // 2 + 1, 2 * params.step / 1e9 / (window @ window))
        self._scale[[0, -1]] /= 2  # they have no mirror image
        self._fresh: dict[str, list[Kept]] = {}
        self._kept: dict[str, Kept] = {}
        self._settled: dict[str, int] = {}  # time that was used up
        self._size = self._late = 0
        self._power: dict[str, Values] = {}
        self._segments: dict[str, int] = {}

    def over(self, batches: Iterable[Batch]) -> Spectra:
        """Take all."""
        series = Groups("series")
        for batch in batches:
            self._take(series, batch)
            if self._size > HELD:
                self._settle(last=False)
                if self._size > HELD // 2:
                    raise TaskRefused("groups", f"{len(series.names)} series of {self._params.samples} samples each")
        self._settle(last=True)
        names = sorted(self._power)
        power = np.array([self._power[name] for name in names]).reshape(len(names), len(self._scale))
        return Spectra(names, power, np.array([self._segments[name] for name in names], np.int64), self._late)

    def _take(self, series: Groups, batch: Batch) -> None:
        sound = np.isfinite(batch.value)
        if not sound.any():
            return
        found = runs(series.of(batch)[sound], batch.time[sound], batch.value[sound])
        for number, start, size in zip(found.groups.tolist(), found.starts, found.sizes, strict=True):
            time, value = (column[start : start + size] for column in found.columns)
            self._fresh.setdefault(series.names[number], []).append(Kept(time, value))
            self._size += len(time)

    def _settle(self, *, last: bool) -> None:
        for name, fresh in self._fresh.items():
            kept = [self._kept[name]] if name in self._kept else []
            held = self._in_order(name, Kept(*map(np.concatenate, zip(*kept, *fresh, strict=True))))
            self._kept[name] = self._use(name, held, last=last)
        self._fresh.clear()
        self._size = sum(len(kept.time) for kept in self._kept.values())

    def _in_order(self, name: str, held: Kept) -> Kept:
        order = np.lexsort((held.value, held.time))
        time, value = held.time[order], held.value[order]
        fresh = np.diff(time, prepend=time[0] - 1) != 0
        late = fresh & (time < self._settled.get(name, time[0]))
        self._late += int(np.count_nonzero(late))
        return Kept(time[fresh & ~late], value[fresh & ~late])

    def _use(self, name: str, held: Kept, *, last: bool) -> Kept:
        """Add the segments of all runs; give back what later readings may still belong to."""
        samples, rest = self._params.samples, len(held.time)
        for begin, end in self._runs(held.time):
            used = begin
            if end - begin >= samples:
                used += self._add(group_of(name, self._params.by), held.value[begin:end])
            rest = used if end == len(held.time) else end
        if last or not len(held.time):
            return Kept(held.time[:0], held.value[:0])
        self._settled[name] = int(held.time[rest]) if rest < len(held.time) else int(held.time[-1]) + 1
        return Kept(held.time[rest:], held.value[rest:])

    def _runs(self, time: Numbers) -> Iterator[tuple[int, int]]:
        steps = np.diff(time)
        step = self._params.step
        borders = np.flatnonzero((2 * steps < step) | (2 * steps > 3 * step)) + 1
        yield from zip([0, *borders.tolist()], [*borders.tolist(), len(time)], strict=True)

    def _add(self, group: str, value: Values) -> int:
        """Add the segments of one run; give where the next one would begin."""
        samples, hop = self._params.samples, self._params.samples // 2
        segments = sliding_window_view(value, samples)[::hop]
        power = self._power.setdefault(group, np.zeros(hop + 1))
        if len(self._power) * (hop + 1) > MAX_CELLS:
            raise TaskRefused("groups", f"more than {MAX_CELLS // (hop + 1)} groups: choose fewer series")
        for at in range(0, len(segments), max(AT_ONCE // samples, 1)):
            part = segments[at : at + max(AT_ONCE // samples, 1)]
            centred = (part - part.mean(axis=1, keepdims=True)) * self._window
            power += (np.abs(np.fft.rfft(centred, axis=1)) ** 2).sum(axis=0) * self._scale
        self._segments[group] = self._segments.get(group, 0) + len(segments)
        return len(segments) * hop


def _encode(found: Spectra) -> bytes:
    return encode_state({"schema": SCHEMA, **found._asdict()})


def _decode(part: bytes, params: Params) -> Spectra:
    state = reading.state(part, SCHEMA, "part")
    names, late = read_names(state), state.get("late")
    power = reading.array(state, "power", np.float64, (len(names), params.samples // 2 + 1), "part")
    segments = reading.array(state, "segments", np.int64, (len(names),), "part")
    if (power < 0).any() or (segments < 1).any() or segments.sum(dtype=np.float64) >= reading.MAX_WEIGHT:
        raise ModelRefused("part", "a negative power, or a count that is none")
    if type(late) is not int or not 0 <= late < reading.MAX_WEIGHT:
        raise ModelRefused("part", f"late: {late!r:.64}")
    return Spectra(names, power, segments, late)


spectrum = Spectrum()

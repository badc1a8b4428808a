"""Windows of raw readings as vectors of features: sets that have a name and a version.

    statistics/1   how values lie: level, spread, shape, and how fast they change           16 a channel
    spectrum/1     how they swing: amplitude by octave, centre, entropy, strongest line     11 a channel
    course/1       how values run: the mean of each eighth of a window                     8 a channel
    motion/1       the first two, of every channel and of their length, and how each two channels go together

A set of another name is one that somebody has installed (`learning.installed`).

A name and version say the same features for ever: a change is a new version, as models are trained for one. All are
finite for readings within +-1e30, of a constant too, and computed for all windows at once.

Rules: features come channel by channel, in the order of `names`; inputs are untouched; frequencies are shares of half
the sampling rate, so that a set does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from learning import installed
from learning.parameters import Array
from learning.statistics import Vector
from protocol.errors import ModelRefused
from protocol.training import MIN_SAMPLES

Windows = NDArray[np.float64]
"""Readings at even steps: shape (n, samples, channels)."""

FEWEST = MIN_SAMPLES
"""Samples in a window: fewer have no spectrum to speak of."""

OCTAVES = 7
EIGHTHS = 8
TINY = 1e-12

STATISTICS = (
    *("mean", "deviation", "least", "most", "median", "lower", "upper", "off", "skew", "tails"),
    *("change", "bend", "crossings", "next", "later", "trend"),
)
SPECTRUM = (*(f"octave{octave}" for octave in range(OCTAVES)), "centre", "entropy", "line", "strength")


COURSE = tuple(f"eighth{number}" for number in range(EIGHTHS))


class FeatureSet(NamedTuple):
    """Names of features for channels, and what computes them: from windows to (n, features)."""

    names: Callable[[tuple[str, ...]], tuple[str, ...]]
    compute: Callable[[Windows], Vector]


def names(which: str, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Give the names of a set's features; ModelRefused("features") for a set that is not here."""
    return _set(which).names(channels)


def extract(which: str, windows: Array) -> NDArray[np.float32]:
    """Give features, shape (n, f), of windows, (n, samples, channels) with at least FEWEST samples, finite."""
    chosen = _set(which)
    if windows.ndim != 3 or windows.shape[1] < FEWEST or windows.shape[2] < 1:
        raise ModelRefused("features", f"windows of shape {windows.shape}, expected (n, {FEWEST} or more, channels)")
    return chosen.compute(windows.astype(np.float64)).astype(np.float32)


def _set(which: str) -> installed.Features:
    return SETS[which] if which in SETS else installed.features(which)


def _statistics(windows: Windows) -> Vector:
    mean = windows.mean(axis=1)
    about = windows - mean[:, None]
    deviation = np.sqrt((about**2).mean(axis=1))
    scaled = about / _some(deviation)[:, None]
    ordered = np.sort(windows, axis=1)
    count = windows.shape[1]
    lower, median, upper = ordered[:, count // 4], ordered[:, count // 2], ordered[:, (3 * count) // 4]
    change = np.abs(np.diff(windows, axis=1)).mean(axis=1)
    crossings = (np.diff(np.signbit(about), axis=1)).mean(axis=1)
    bend = np.abs(np.diff(windows, n=2, axis=1)).mean(axis=1)
    following, later = (_echo(scaled, lag) for lag in (1, count // 8))
    trend = (scaled * np.linspace(-1, 1, count)[:, None]).mean(axis=1)
    level = (mean, deviation, ordered[:, 0], ordered[:, -1], median, lower, upper, np.abs(about).mean(axis=1))
    shape = ((scaled**3).mean(axis=1), (scaled**4).mean(axis=1))
    return _flat(*level, *shape, change, bend, crossings, following, later, trend)


def _echo(scaled: Windows, lag: int) -> Vector:
    """Give the autocorrelation at a lag, shape (n, channels)."""
    return np.asarray((scaled[:, lag:] * scaled[:, :-lag]).sum(axis=1) / scaled.shape[1])


def _spectrum(windows: Windows) -> Vector:
    """Of the power of every line but that at 0, under a Hann window (Harris, 1978)."""
    shape = np.hanning(windows.shape[1] + 1)[:-1, None]
    lines = np.abs(np.fft.rfft((windows - windows.mean(axis=1, keepdims=True)) * shape, axis=1))[:, 1:]
    power = lines**2 / (shape**2).sum()
    place = np.arange(1, power.shape[1] + 1) / power.shape[1]
    octave = np.clip(np.floor(-np.log2(place)).astype(int), 0, OCTAVES - 1)
    amplitudes = [np.log(np.sqrt(power[:, octave == which].sum(axis=1)) + TINY) for which in range(OCTAVES)]
    share = power / _some(power.sum(axis=1))[:, None]
    entropy = -(share * np.log(share + TINY)).sum(axis=1) / np.log(power.shape[1])
    centre = (share * place[:, None]).sum(axis=1)
    return _flat(*amplitudes, centre, entropy, place[power.argmax(axis=1)], share.max(axis=1))


def _course(windows: Windows) -> Vector:
    edges = np.arange(EIGHTHS) * windows.shape[1] // EIGHTHS
    counts = np.diff(edges, append=windows.shape[1])
    return _flat(*np.moveaxis(np.add.reduceat(windows, edges, axis=1) / counts[:, None], 1, 0))


def _motion(windows: Windows) -> Vector:
    length = np.sqrt((windows**2).sum(axis=2, keepdims=True))
    all_ = np.concatenate([windows, length], axis=2)
    return np.hstack([_statistics(all_), _spectrum(all_), _together(windows)])


def _together(windows: Windows) -> Vector:
    """Give the correlation of each two channels, shape (n, pairs); 0 where one is constant."""
    about = windows - windows.mean(axis=1, keepdims=True)
    scaled = about / _some(np.sqrt((about**2).mean(axis=1)))[:, None]
    pairs = list(combinations(range(windows.shape[2]), 2))
    columns = [(scaled[:, :, one] * scaled[:, :, other]).mean(axis=1) for one, other in pairs]
    return np.stack(columns, axis=1) if columns else np.zeros((len(windows), 0))


def _some(scale: Vector) -> Vector:
    """Give a scale to divide by: 1 where there is none."""
    return np.where(scale > TINY, scale, 1.0)


def _flat(*columns: Vector) -> Vector:
    """Put features, each (n, channels), side by side, channel by channel: (n, channels * features)."""
    return np.stack(columns, axis=2).reshape(len(columns[0]), columns[0].shape[1] * len(columns))


def _by_channel(features: tuple[str, ...]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    return lambda channels: tuple(f"{channel}.{feature}" for channel in channels for feature in features)


def _motion_names(channels: tuple[str, ...]) -> tuple[str, ...]:
    more = (*channels, "length")
    pairs = tuple(f"{one}.with.{other}" for one, other in combinations(channels, 2))
    return (*_by_channel(STATISTICS)(more), *_by_channel(SPECTRUM)(more), *pairs)


SETS = {
    "statistics/1": FeatureSet(_by_channel(STATISTICS), _statistics),
    "spectrum/1": FeatureSet(_by_channel(SPECTRUM), _spectrum),
    "course/1": FeatureSet(_by_channel(COURSE), _course),
    "motion/1": FeatureSet(_motion_names, _motion),
}

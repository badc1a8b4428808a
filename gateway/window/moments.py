"""The statistics of a window: as rows of one structured array that can be merged in any order and any split.

Rules:

1. A row holds `shift`, one value that lies in the window, and the moments *about* it: `mean` is the mean of
   (value - shift), `squares` the sum of (value - shift - mean)^2. Because shift lies in the window, |mean| is at most
   sqrt(count) deviations, so noise on a level of 1e9 is as exact as noise on 0.
2. Rows are merged by the formulas of Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing
   sample variances", 1979): only squares are added, nothing cancels, and no sum of squares is ever naive.
3. Count, minimum and maximum are exact. `first` and `last` go by event time; of equal times the earlier arrival is
   first, the later is last.
4. Mean and deviation are rounded to float32 once, when a window is stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.config import MAX_SERIES
from protocol.messages import WindowRows

Rows = NDArray[np.void]
"""Shape (n,), dtype ROW."""

ROW = np.dtype(
    [
        ("key", np.int64),  # window number * MAX_SERIES + series
        ("count", np.int64),  # readings in the window
        ("own", np.int64),  # those of them that are accounted here
        ("revision", np.int64),
        ("shift", np.float64),
        ("mean", np.float64),
        ("squares", np.float64),
        ("minimum", np.float64),
        ("maximum", np.float64),
        ("first", np.float64),
        ("last", np.float64),
        ("first_time", np.int64),
        ("last_time", np.int64),
    ]
)


DTYPES = {name: ROW[name] for name in ROW.names or ()}

SHORT = 8
"""Readings of a run that may be summed up beside others, if they are of about one length; else it repays nothing."""

WHOLE = np.dtype((np.void, ROW.itemsize))
"""A row as so many bytes: numpy copies it whole, where it would copy ROW field by field, ten times as slowly."""


class Picked(Mapping[str, NDArray[Any]]):
    """Some rows as columns, each made when it is asked for, so that not all of them are held at once."""

    def __init__(self, rows: Rows, which: NDArray[Any]) -> None:
        self._rows, self._which = rows, which

    def __getitem__(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = self._rows[name][self._which]
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(DTYPES)

    def __len__(self) -> int:
        return len(DTYPES)


def select(rows: Rows, which: NDArray[Any]) -> Rows:
    """Copy the rows at these places, or where a mask is true."""
    chosen: Rows = rows.view(WHOLE)[which].view(ROW)
    return chosen


def put(rows: Rows, places: NDArray[Any], more: Rows) -> None:
    """Overwrite the rows at these places."""
    rows.view(WHOLE)[places] = more.view(WHOLE)


def join(first: Rows, second: Rows) -> Rows:
    """Concatenate."""
    joined: Rows = np.concatenate([first.view(WHOLE), second.view(WHOLE)]).view(ROW)
    return joined


def gather(
    key: NDArray[np.int64], time: NDArray[np.int64], value: NDArray[np.float64], starts: NDArray[np.intp]
) -> Rows:
    """Make one row of each run of readings: run i begins at starts[i], has one key, and times that do not decrease."""
    rows = np.zeros(len(starts), ROW)
    rows["key"] = key
    ends = _ends(starts, len(value))
    shift = value[starts]
    rows["count"] = count = ends - starts + 1
    rows["shift"] = rows["first"] = shift
    rows["first_time"], rows["last_time"] = time[starts], time[ends]
    if len(starts) == len(value):  # each run is one reading, as in most small batches
        rows["minimum"] = rows["maximum"] = rows["last"] = shift
        return rows
    rows["last"] = value[ends]
    longest = int(np.maximum.reduce(count))
    if longest <= SHORT and 2 * longest * len(starts) <= 3 * len(value):
        _abreast(rows, value, starts, ends, longest)
    else:
        _end_to_end(rows, value, starts)
    return rows


def _end_to_end(rows: Rows, value: NDArray[np.float64], starts: NDArray[np.intp]) -> None:
    count = rows["count"]
    rows["minimum"], rows["maximum"] = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
    about = value - np.repeat(rows["shift"], count)
    rows["mean"] = mean = np.add.reduceat(about, starts) / count
    about -= np.repeat(mean, count)
    rows["squares"] = np.add.reduceat(about * about, starts)


def _abreast(
    rows: Rows, value: NDArray[np.float64], starts: NDArray[np.intp], ends: NDArray[np.intp], longest: int
) -> None:
    """Do the same with the runs side by side, shape (longest, runs): four times as fast for thousands of short ones."""
    places = starts + np.arange(longest)[:, None]
    over = places > ends
    about = value[np.minimum(places, ends)]
    rows["minimum"], rows["maximum"] = np.minimum.reduce(about), np.maximum.reduce(about)
    about -= rows["shift"]
    np.putmask(about, over, 0.0)
    rows["mean"] = mean = np.add.reduce(about) / rows["count"]
    about -= mean
    about *= about
    np.putmask(about, over, 0.0)
    rows["squares"] = np.add.reduce(about)


def combine(rows: Rows, starts: NDArray[np.intp]) -> Rows:
    """Merge each run of rows into one: run i begins at starts[i], has one key, and is in the order of time."""
    if len(starts) == len(rows):
        return rows
    ends = _ends(starts, len(rows))
    length = ends - starts + 1
    into, weight = select(rows, starts), rows["count"]
    into["count"] = count = np.add.reduceat(weight, starts)
    into["own"] = np.add.reduceat(rows["own"], starts)
    into["minimum"] = np.minimum.reduceat(rows["minimum"], starts)
    into["maximum"] = np.maximum.reduceat(rows["maximum"], starts)
    into["last"], into["last_time"] = rows["last"][ends], rows["last_time"][ends]
    about = (rows["shift"] - np.repeat(into["shift"], length)) + rows["mean"]
    into["mean"] = mean = np.add.reduceat(about * weight, starts) / count
    about -= np.repeat(mean, length)
    into["squares"] = np.add.reduceat(rows["squares"] + about * about * weight, starts)
    return into


def _ends(starts: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Give the last place of each run that begins at `starts`, of which there is one at least."""
    ends = np.empty_like(starts)
    np.subtract(starts[1:], 1, out=ends[:-1])
    ends[-1] = length - 1
    return ends


def merge(into: Rows, more: Rows) -> Rows:
    """Merge rows pairwise; `more` arrived later. `into` is changed and returned."""
    before, added = into["count"], more["count"]
    count = before + added
    share = added / count
    delta = (more["shift"] - into["shift"]) + (more["mean"] - into["mean"])
    into["mean"] += delta * share
    into["squares"] += more["squares"] + delta * delta * (before * share)
    np.minimum(into["minimum"], more["minimum"], out=into["minimum"])
    np.maximum(into["maximum"], more["maximum"], out=into["maximum"])
    earlier, later = more["first_time"] < into["first_time"], more["last_time"] >= into["last_time"]
    for name, better in (("last", later), ("last_time", later)):
        np.copyto(into[name], more[name], where=better)
    if np.count_nonzero(earlier):  # as a rule what arrives later is later
        for name in ("first", "first_time"):
            np.copyto(into[name], more[name], where=earlier)
    into["own"] += more["own"]
    into["count"] = count
    return into


def split(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give window number and series of each key."""
    number = keys // MAX_SERIES
    return number, keys - number * MAX_SERIES


def state(rows: Rows, definition: int, hop: int) -> WindowRows:
    """Give rows as they leave: definition `definition`, starts `hop` ns apart."""
    number, series = split(rows["key"])
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and says so
        mean = (rows["shift"] + rows["mean"]).astype(np.float32)
        deviation = np.sqrt(rows["squares"] / rows["count"]).astype(np.float32)
    return WindowRows(
        series=series.astype(np.int32),
        definition=np.full(len(rows), definition, np.int32),
        start=number * hop,
        revision=rows["revision"].astype(np.int32),
        count=rows["count"].copy(),
        mean=mean,
        deviation=deviation,
        minimum=rows["minimum"].copy(),
        maximum=rows["maximum"].copy(),
        first=rows["first"].copy(),
        last=rows["last"].copy(),
    )

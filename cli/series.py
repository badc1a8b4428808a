"""Series of sensor data from files: .npz with `NAME|t` and `NAME|v`, or .csv, long or wide.

CSV begins with a header. Long: columns `time` (or `timestamp`), `series`, `value`. Wide: the first column is the time,
every other column a series named by its header. Times are integers or decimals since 1970 (s, ms, us or ns, told apart
by their size) or ISO 8601, UTC when they do not say. Empty values are left out.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from protocol.errors import FieldgateError

NAB = Path(__file__).parent / "data" / "nab.npz"
"""Eight series of the Numenta Anomaly Benchmark; its notice lies beside it."""

UNITS = ((10**17, 1), (10**14, 10**3), (10**11, 10**6), (0, 10**9))
"""A time at or above the first is in units of so many ns: seconds reach 10**11 in the year 5138."""


class FileRefused(FieldgateError):
    """A data file that cannot be read; the text says where and why."""


class Series(NamedTuple):
    """One series: its name, and arrays of shape (n,) in the file's order."""

    name: str
    time: NDArray[np.int64]  # ns
    value: NDArray[np.float64]


def read(path: Path) -> list[Series]:
    """Read every series of a file; FileRefused says what is wrong with it."""
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".csv":
        return _read_csv(path)
    raise FileRefused(f"{path}: expected a .csv or .npz file")


def _read_npz(path: Path) -> list[Series]:
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise FileRefused(f"{path}: {error}") from None
    names = [key.removesuffix("|v") for key in arrays if key.endswith("|v")]
    if not names:
        raise FileRefused(f"{path}: expected arrays named `NAME|t` (times) and `NAME|v` (values)")
    return [_series_of(path, name, arrays) for name in names]


def _series_of(path: Path, name: str, arrays: dict[str, NDArray[np.generic]]) -> Series:
    time, value = arrays.get(f"{name}|t"), arrays[f"{name}|v"]
    if time is None or time.shape != value.shape or time.ndim != 1:
        raise FileRefused(f"{path}: `{name}|t` and `{name}|v` must be of one length")
    if time.dtype.kind not in "iu" or value.dtype.kind not in "iuf":
        raise FileRefused(f"{path}: `{name}|t` must hold integers and `{name}|v` numbers")
    scaled = time.astype(np.int64)
    unit = _unit(int(np.abs(scaled).max(initial=0)))
    return Series(name, scaled * unit, value.astype(np.float64))


def labelled(path: Path) -> dict[str, NDArray[np.bool_]]:
    """Tell which readings of each series of an .npz lie in an anomaly, first to last time in `NAME|w`, shape (k, 2)."""
    with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    names = [key.removesuffix("|w") for key in arrays if key.endswith("|w")]
    return {name: _within(arrays[f"{name}|t"], arrays[f"{name}|w"]) for name in names}


def _within(time: NDArray[np.generic], spans: NDArray[np.generic]) -> NDArray[np.bool_]:
    inside = np.zeros(len(time), np.bool_)
    for first, last in spans:
        inside |= (time >= first) & (time <= last)
    return inside


def _unit(size: float) -> int:
    return next(unit for least, unit in UNITS if size >= least)


def parse_time(text: str) -> int:
    """Read a time into ns since 1970; ValueError if it is none."""
    try:
        number = int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10**3
    return round(number * _unit(abs(number)))


def _read_csv(path: Path) -> list[Series]:
    columns: dict[str, tuple[list[int], list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            for name, time, value in _cells(path, csv.reader(lines)):
                times, values = columns.setdefault(name, ([], []))
                times.append(time)
                values.append(value)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileRefused(f"{path}: {error}") from None
    if not columns:
        raise FileRefused(f"{path}: no readings in it")
    return [Series(name, np.array(times, np.int64), np.array(values)) for name, (times, values) in columns.items()]


def _cells(path: Path, rows: Iterable[list[str]]) -> Iterator[tuple[str, int, float]]:
    header: list[str] = []
    for number, row in enumerate(rows, 1):
        if not header:
            header = [name.strip() for name in row]
            if len(header) < 2:
                raise FileRefused(f"{path}: line 1: expected a header: time,series,value or time,NAME,...")
            continue
        try:
            yield from _row(header, row)
        except (ValueError, OverflowError) as error:
            raise FileRefused(f"{path}: line {number}: {error}") from None


def _row(header: list[str], row: list[str]) -> Iterator[tuple[str, int, float]]:
    if not row:
        return
    if len(row) != len(header):
        raise ValueError(f"{len(row)} columns where the header has {len(header)}")
    cells = dict(zip(header, map(str.strip, row), strict=True))
    if "series" in cells and "value" in cells:
        time = cells.get("time") or cells.get("timestamp") or ""
        pairs = [(cells["series"], cells["value"])]
    else:
        time = row[0].strip()
        pairs = list(cells.items())[1:]
    for name, value in pairs:
        if value:
            yield name, parse_time(time), float(value)

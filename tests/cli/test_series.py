"""Series from files, and what is said of files that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.series import NAB, FileRefused, parse_time, read

S = 10**9


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    savez: Callable[..., None] = np.savez  # its type would have every array be its flag
    savez(path, **arrays)


def rows(path: Path) -> dict[str, list[tuple[int, float]]]:
    return {series.name: list(zip(series.time.tolist(), series.value.tolist(), strict=True)) for series in read(path)}


def test_the_selection_of_nab_is_small_whole_and_ordered() -> None:
    found = read(NAB)
    assert len(found) == 8
    assert NAB.stat().st_size < 300_000
    assert all(2000 <= len(series.time) <= 4032 for series in found)
    assert all((np.diff(series.time) > 0).all() and np.isfinite(series.value).all() for series in found)
    assert "Copyright 2014-2024 Numenta Inc." in (NAB.parent / "NAB-LICENSE").read_text()


TIMES = [
    ("0", 0),
    ("1700000000", 1700000000 * S),
    ("1700000000.5", 1700000000 * S + S // 2),
    ("1700000000123", 1700000000123 * 10**6),
    ("1700000000123456", 1700000000123456 * 10**3),
    ("1700000000123456789", 1700000000123456789),
    ("2023-11-14T22:13:20Z", 1700000000 * S),
    ("2023-11-14 22:13:20", 1700000000 * S),
    ("2023-11-14T23:13:20.25+01:00", 1700000000 * S + S // 4),
]


@pytest.mark.parametrize(("text", "ns"), TIMES, ids=[text for text, _ in TIMES])
def test_a_time_is_told_by_its_size_or_its_form(text: str, ns: int) -> None:
    assert parse_time(text) == ns


TABLES = [
    ("long", "time,series,value\n1,a/t,2.5\n1,b/t,3\n2,a/t,4\n", {"a/t": [(S, 2.5), (2 * S, 4.0)], "b/t": [(S, 3.0)]}),
    ("wide", "timestamp,t,h\n1,2.5,7\n2,,8\n", {"t": [(S, 2.5)], "h": [(S, 7.0), (2 * S, 8.0)]}),
    ("one column", "timestamp,value\n1,2.5\n", {"value": [(S, 2.5)]}),
    ("blank lines", "time,v\n\n1,2\n\n", {"v": [(S, 2.0)]}),
    ("byte order mark", "\ufefftime,v\n1,2\n", {"v": [(S, 2.0)]}),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in TABLES], ids=[row[0] for row in TABLES])
def test_csv_is_read_long_and_wide(tmp_path: Path, text: str, expected: dict[str, list[tuple[int, float]]]) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text, encoding="utf-8")
    assert rows(path) == expected


REFUSED = [
    ("no header", "", "no readings in it"),
    ("header only", "time,v\n", "no readings in it"),
    ("one column", "time\n1\n", "line 1: expected a header: time,series,value or time,NAME,..."),
    ("bad value", "time,v\n1,2\n2,x\n", "line 3: could not convert string to float: 'x'"),
    ("bad time", "time,v\nyesterday,2\n", "line 2: Invalid isoformat string: 'yesterday'"),
    ("short row", "time,v,w\n1,2\n", "line 2: 2 columns where the header has 3"),
]


@pytest.mark.parametrize(("text", "why"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_bad_csv_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(FileRefused) as refused:
        read(path)
    assert str(refused.value) == f"{path}: {why}"


def test_npz_times_in_seconds_become_ns(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    save(path, {"a|t": np.array([1, 2]), "a|v": np.array([3, 4])})
    assert rows(path) == {"a": [(S, 3.0), (2 * S, 4.0)]}


BAD_NPZ = [
    ("no arrays", {}, "expected arrays named `NAME|t` (times) and `NAME|v` (values)"),
    ("no times", {"a|v": np.ones(2)}, "`a|t` and `a|v` must be of one length"),
    ("lengths", {"a|t": np.arange(3), "a|v": np.ones(2)}, "`a|t` and `a|v` must be of one length"),
    ("text", {"a|t": np.arange(1), "a|v": np.array(["x"])}, "`a|t` must hold integers and `a|v` numbers"),
]


@pytest.mark.parametrize(("arrays", "why"), [row[1:] for row in BAD_NPZ], ids=[row[0] for row in BAD_NPZ])
def test_a_bad_npz_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], why: str) -> None:
    path = tmp_path / "d.npz"
    save(path, arrays)
    with pytest.raises(FileRefused) as refused:
        read(path)
    assert str(refused.value) == f"{path}: {why}"


def test_an_npz_that_would_unpickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    save(path, {"a|t": np.arange(1), "a|v": np.array([{}], object)})
    with pytest.raises(FileRefused):
        read(path)


@pytest.mark.parametrize("name", ["d.txt", "d.csv", "d.npz"])
def test_another_or_absent_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileRefused):
        read(tmp_path / name)


def test_bytes_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(FileRefused):
        read(path)

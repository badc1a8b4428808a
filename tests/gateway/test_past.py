"""Raw readings are read from the journal that a gateway writes on, by series and by time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway import config, past
from gateway.journal import Journal
from gateway.past import JournalPast
from gateway.records import Readings, ReadingsRecord, TickRecord
from gateway.segment import OsFiles

Row = tuple[str, int, float]


def record(stamp: int, rows: list[tuple[int, int, float]], names: list[str]) -> ReadingsRecord:
    series, time, value = zip(*rows, strict=True)
    return ReadingsRecord(stamp, Readings(np.array(series, np.int32), np.array(time), np.array(value)), names)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a data directory whose journal holds six readings of three series, and one that is not committed."""
    journal = Journal.open(OsFiles(), tmp_path / "journal", config.Journal(), about=dict)
    journal.append(record(10, [(0, 1, 1.0), (1, 2, 2.0), (0, 3, 3.0)], ["pump/flow", "pump/heat"]))
    journal.append(TickRecord(11))
    journal.append(record(12, [(2, 4, 4.0), (0, 2, 2.5)], ["mill/flow"]))
    journal.append(record(13, [(1, 9, 9.0)], []))
    journal.commit()
    journal.append(record(14, [(1, 10, 10.0)], []))
    return tmp_path


def rows(data: Path, *patterns: str, start: int = 0, end: int = 0) -> tuple[list[Row], tuple[int, int]]:
    reader = JournalPast(data)
    found = [
        (reader.names[series], int(time), float(value))
        for batch in reader.batches(patterns, start, end)
        for series, time, value in zip(*batch, strict=True)
    ]
    reader.close()
    return found, reader.held


def test_what_is_durable_is_given_in_the_order_it_was_recorded(data: Path) -> None:
    assert rows(data, "*") == (
        [
            ("pump/flow", 1, 1.0),
            ("pump/heat", 2, 2.0),
            ("pump/flow", 3, 3.0),
            ("mill/flow", 4, 4.0),
            ("pump/flow", 2, 2.5),
            ("pump/heat", 9, 9.0),
        ],
        (1, 10),
    )


def test_series_are_chosen_by_patterns_and_readings_by_time(data: Path) -> None:
    assert rows(data, "*/flow", start=2) == (
        [("pump/flow", 3, 3.0), ("mill/flow", 4, 4.0), ("pump/flow", 2, 2.5)],
        (2, 5),
    )
    assert rows(data, "mill/*", "*/heat", end=9) == ([("pump/heat", 2, 2.0), ("mill/flow", 4, 4.0)], (2, 5))
    assert rows(data, "kiln/*") == ([], (0, 0))


def test_many_small_records_are_given_in_few_large_batches(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "BATCH", 4)
    reader = JournalPast(data)
    assert [batch.rows for batch in reader.batches(["*"])] == [5, 1]
    reader.close()


def test_a_record_that_is_damaged_costs_itself(data: Path) -> None:
    [segment] = (data / "journal").glob("*.seg")
    whole = bytearray(segment.read_bytes())
    whole[whole.index(b"mill/flow")] ^= 1
    segment.write_bytes(whole)
    assert rows(data, "*/heat")[0] == [("pump/heat", 2, 2.0), ("pump/heat", 9, 9.0)]


def test_what_is_new_is_read_by_a_later_one_that_knows_the_names_from_before(tmp_path: Path) -> None:
    journal = Journal.open(OsFiles(), tmp_path / "journal", config.Journal(), about=dict)
    journal.append(record(10, [(0, 1, 1.0), (1, 2, 2.0)], ["pump/flow", "pump/heat"]))
    journal.commit()
    first = JournalPast(tmp_path)
    assert sum(batch.rows for batch in first.batches(["*"])) == 2
    first.close()
    journal.append(record(15, [(2, 11, 11.0), (0, 12, 12.0)], ["mill/heat"]))
    journal.commit()
    journal.close()
    for before in (first, None):
        later = JournalPast(tmp_path, before)
        batches = list(later.batches(["*"], after=1))
        later.close()
        assert [batch.time.tolist() for batch in batches] == [[11, 12]]
        assert later.names == ["pump/flow", "pump/heat", "mill/heat"]

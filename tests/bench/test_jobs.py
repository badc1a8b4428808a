"""The measurement of jobs, over a few readings: what it compares is equal, and its rows say what they should."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.bench.jobs import central, history
from tests.bench.jobs.rows import HEADLINE, OTHERS, rows

READINGS = 40_000
SEALED = '[journal]\nsegment_bytes = "64KiB"\n'  # or there would be no blocks


async def test_a_small_history_is_asked_everything_and_all_is_what_one_place_says(tmp_path: Path) -> None:
    found = [row async for row in rows(tmp_path, READINGS, SEALED)]
    asked = [(row["link_mbit"], row["nth"], row["work"]) for row in found]
    headline = [(mbit, nth, work) for mbit, nth in [(1, "first"), (1, "second"), (10, "third")] for work in HEADLINE]
    assert asked == headline + [(10, "first", work) for work in OTHERS]
    readings = 2 * history.seconds(READINGS) * (history.FAST * history.HERTZ + history.MACHINES)
    assert {row["readings"] for row in found} == {readings}


def test_a_history_has_every_series_at_its_rate() -> None:
    made = list(history.records("mill", 1, READINGS, 100 * history.S))
    series = np.concatenate([record.readings.series for record in made])
    seconds = history.seconds(READINGS)
    expected = [seconds * history.HERTZ] * history.FAST + [seconds] * history.MACHINES
    assert np.bincount(series).tolist() == expected
    assert all(one.stamp < other.stamp for one, other in itertools.pairwise(made))
    assert int(made[-1].readings.time.max()) < 100 * history.S


@pytest.mark.parametrize(
    ("found", "expected", "far"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0]}, 0.0),
        ({"a": [1.0, 3.0]}, {"a": [1.0, 2.0]}, 0.5),
        ({"a": {"b": 2.0}}, {"a": {"b": 1.0}}, 1.0),
        ({"a": ["x"]}, {"a": ("x",)}, 0.0),
    ],
    ids=["equal", "one of a list", "deeper", "words"],
)
def test_the_largest_difference_is_found(found: object, expected: object, far: float) -> None:
    assert central.furthest(found, expected) == far


@pytest.mark.parametrize("found", [{"a": 1}, {"b": 2}, {"a": [1.0]}], ids=["a count", "a name", "a shape"])
def test_what_is_no_rounding_is_no_difference_but_an_error(found: object) -> None:
    with pytest.raises((AssertionError, TypeError)):
        central.furthest(found, {"a": 2} if found != {"a": [1.0]} else {"a": [1.0, 2.0]})

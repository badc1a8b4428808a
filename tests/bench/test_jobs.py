"""The measurement of jobs, over a few readings: what it compares is equal, and its rows say what they should."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.bench.jobs import central, history
from tests.bench.jobs.rows import asked, rows

READINGS = 40_000
SEALED = '[journal]\nsegment_bytes = "64KiB"\n'  # or there would be no blocks


async def test_a_small_history_is_asked_everything_and_all_is_what_one_place_says(tmp_path: Path) -> None:
    found = [row async for row in rows(tmp_path, READINGS, SEALED)]
    assert [(row["link_mbit"], row["nth"], row["work"]) for row in found] == [one[:3] for one in asked()]
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


PLAIN = {"pump/x": np.arange(1.0, 5.0), "mill/x": np.arange(3.0, 9.0)}
RIGHT = {"groups": {"x": {"count": 10, "mean": 4.3, "deviation": 2.1, "minimum": 1.0, "maximum": 8.0}}}


@pytest.mark.parametrize(
    ("changes", "right"),
    [({}, True), ({"mean": 4.3000001}, False), ({"count": 9}, False), ({"maximum": 8.1}, False)],
    ids=["as it is", "a mean beyond rounding", "a count", "an edge"],
)
def test_what_is_not_what_numpy_says_is_no_result(changes: dict[str, float], right: bool) -> None:
    result = {"groups": {"x": RIGHT["groups"]["x"] | changes}}
    how = {"by": "measurement"}
    if right:
        assert central.furthest("moments", how, result, PLAIN) < 1e-15
    else:
        with pytest.raises(AssertionError):
            central.furthest("moments", how, result, PLAIN)

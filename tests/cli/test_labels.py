"""Which alerts of a demonstration are about labelled anomalies."""

from __future__ import annotations

import numpy as np
import pytest

from cli.demo.labels import Labels, turns
from cli.series import NAB, labelled, read

S = 10**9


def counter(start: int, low: int, high: int) -> dict[str, int | float]:
    """One second of a device's counter."""
    return {"start": start * S, "size": S, "count": high - low + 1, "minimum": low, "maximum": high}


@pytest.mark.parametrize(
    ("at", "firsts", "expected"),
    [
        (5 * S, [1], range(20, 40)),
        (5 * S + S // 2, [1], range(20, 40)),
        (6 * S, [1, 1001], range(10)),
        (9 * S, [1], range(0)),
    ],
    ids=["first window", "within it", "a second life", "no such window"],
)
def test_the_counter_says_which_readings_a_window_held(at: int, firsts: list[int], expected: range) -> None:
    assert turns([counter(5, 21, 40), counter(6, 1001, 1010)], at, firsts) == expected


def test_a_further_device_begins_elsewhere_in_the_same_series() -> None:
    places = np.zeros(2000, np.bool_)
    places[[10, 1007]] = True
    labels = Labels({"speed": places})
    assert labels.holds("speed-1", range(10, 11))
    assert labels.holds("speed-2", range(10, 11))
    assert not labels.holds("speed-2", range(11, 12))
    assert labels.holds("speed-1", range(2010, 2011)), "round and round"
    assert not labels.holds("else-1", range(10, 11))


def test_every_series_that_is_shipped_has_its_labels() -> None:
    found = labelled(NAB)
    assert {name: len(places) for name, places in found.items()} == {one.name: len(one.time) for one in read(NAB)}
    assert all(0 < places.sum() < len(places) / 2 for places in found.values())

"""Live windows of raw readings: the same as the trainer makes of the journal, in whatever pieces they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.classify import windows as module
from gateway.classify.windows import Finished, Windows
from gateway.records import Readings
from gateway.trainer.dataset import gather
from learning import features
from protocol.training import Dataset
from tests.gateway.test_trainer import NAMES, Held, device

DATASET = Dataset(("x", "y"), "state", 3, samples=16, hop=8)
SMALL = Dataset(("x",), "state", 2, samples=4, hop=2)

Row = tuple[int, int, float]


def readings(rows: list[Row]) -> Readings:
    series, time, value = zip(*rows, strict=True) if rows else ((), (), ())
    return Readings(np.array(series, np.int32), np.array(time, np.int64), np.array(value, np.float64))


def fed(windows: Windows, *parts: list[Row]) -> Finished:
    """Feed one part after the other, and join what ended."""
    found = [one for part in parts for one in windows.feed(readings(part))[0]]
    empty = Finished(*(np.empty(0, np.int64),) * 3, np.empty((0, windows.dataset.samples, 2)))
    return Finished._make(np.concatenate(columns) for columns in zip(*found, strict=True)) if found else empty


def small(names: tuple[str, ...] = ("pump/x", "mill/x")) -> Windows:
    windows = Windows(SMALL)
    windows.define(names)
    return windows


def steps(series: int, *times: int) -> list[Row]:
    return [(series, time, float(time)) for time in times]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.lists(st.integers(0, 300), max_size=3))
@settings(max_examples=30, deadline=None)
def test_windows_are_those_that_the_trainer_makes_of_the_same_readings(sizes: list[int], gone: list[int]) -> None:
    rows = device([0, 2, 1, 0], each=80)
    rows = [row for row in rows if row[1] // 10 not in gone]
    windows, parts, at = Windows(DATASET), list[list[Row]](), 0
    windows.define(NAMES)
    while at < len(rows):
        size = sizes[len(parts) % len(sizes)]
        parts.append(rows[at : at + size])
        at += size
    live = fed(windows, *parts)
    learnt = gather(DATASET, Held(rows))[0]["pump"]
    with_class = np.isin(live.end, learnt.at)
    assert live.end[with_class].tolist() == learnt.at.tolist()
    assert (features.extract(DATASET.features, live.samples[with_class]) == learnt.x).all()
    assert windows.left_out == {}


RUNS: dict[str, tuple[list[int], list[tuple[int, int]]]] = {
    "each hop": ([1, 2, 3, 4, 5, 6, 7, 8], [(1, 4), (3, 6), (5, 8)]),
    "too few": ([1, 2, 3], []),
    "a gap begins anew": ([1, 2, 3, 4, 9, 10, 11, 12, 13, 14], [(1, 4), (9, 12), (11, 14)]),
    "a gap before the first": ([1, 2, 9, 10, 11, 12], [(9, 12)]),
}


@pytest.mark.parametrize("together", [True, False], ids=["in one piece", "one by one"])
@pytest.mark.parametrize(("times", "ended"), RUNS.values(), ids=RUNS.keys())
def test_a_window_lies_within_one_run(times: list[int], ended: list[tuple[int, int]], together: bool) -> None:
    rows = steps(0, *times)
    found = fed(small(), rows) if together else fed(small(), *([row] for row in rows))
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == ended
    assert found.samples[:, -1, 0].tolist() == found.end.tolist()


def test_devices_do_not_mix() -> None:
    found = fed(small(), [*steps(1, 1, 2, 3, 4), *steps(0, 11, 12, 13, 14)])
    assert (found.device.tolist(), found.end.tolist()) == ([0, 1], [14, 4])


def test_a_sample_waits_for_its_channels_and_the_first_of_repeats_counts() -> None:
    windows = Windows(Dataset(("x", "y"), "state", 2, samples=2, hop=2))
    windows.define(["pump/x", "pump/y"])
    assert fed(windows, [(0, 1, 1.0), (0, 2, 2.0), (1, 1, 5.0), (0, 2, 9.0)]).samples.tolist() == []
    assert fed(windows, [(1, 2, 6.0), (1, 2, 7.0)]).samples.tolist() == [[[1.0, 5.0], [2.0, 6.0]]]


def test_a_device_counts_from_when_its_channels_have_been_seen() -> None:
    windows = Windows(Dataset(("x", "y"), "state", 2, samples=2, hop=2, devices="p*"))
    windows.define(["pump/x", "mill/x", "mill/y"])
    assert fed(windows, [(0, 1, 1.0), (1, 1, 1.0), (2, 1, 1.0)]).end.tolist() == []
    windows.define(["pump/y", "pump/state"])
    assert fed(windows, [(0, 2, 1.0), (3, 2, 1.0), (0, 3, 1.0), (3, 3, 1.0)]).end.tolist() == [3]
    assert windows.devices == ["pump"]
    _, labels = windows.feed(readings([(4, 5, 1.0)]))
    assert [column.tolist() for column in labels] == [[0], [5], [2], [1.0]]


LEFT_OUT: dict[str, tuple[list[list[Row]], dict[str, int]]] = {
    "late": ([steps(0, 1, 2, 3), steps(0, 2), steps(0, 3, 4)], {"late": 2}),
    "not finite": ([[(0, 1, float("nan"))], steps(0, 2)], {"incomplete": 1}),
    "more devices than there is room for": ([steps(0, 1), steps(1, 1)], {"devices": 1}),
}


@pytest.mark.parametrize(("parts", "reasons"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_is_left_out_is_counted_by_reason(
    parts: list[list[Row]], reasons: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_DEVICES", 1)
    windows = small()
    fed(windows, *parts)
    assert windows.left_out == reasons


def test_a_channel_that_is_missing_fills_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INCOMPLETE", 3)
    windows = Windows(Dataset(("x", "y"), "state", 2, samples=8, hop=2))
    windows.define(["pump/x", "pump/y"])
    fed(windows, steps(0, *range(10)), steps(0, *range(10, 12)))
    assert windows.left_out == {"incomplete": 9}
    assert len(windows._waiting.time) == 3


def test_room_grows_with_the_devices_and_what_was_held_stays() -> None:
    names = tuple(f"pump-{number}/x" for number in range(20))
    windows = small(names[:2])
    fed(windows, steps(0, 1, 2, 3))
    windows.define(names[2:])
    found = fed(windows, [row for number in range(20) for row in steps(number, 4, 5, 6, 7)])
    assert found.device.tolist() == [0, *range(1, 20), 0]
    assert windows.oldest(np.arange(2)).tolist() == [4, 4]


def test_its_memory_is_bounded_whatever_a_dataset_asks_for() -> None:
    large = Dataset(tuple(f"c{number}" for number in range(16)), "state", 2, samples=65_536, hop=1)
    windows = Windows(large)
    names: Any = [f"pump-{number}/c{channel}" for number in range(9) for channel in range(16)]
    windows.define(names)
    assert len(windows.devices) == module.MAX_BYTES // (8 * 65_536 * 17) == 3

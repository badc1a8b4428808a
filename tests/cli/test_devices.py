"""What simulated devices publish, message by message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.devices import Devices

S = 10**9
TABLES = {"t": [1.0, 2.5], "h": [10.0, 20.0, 30.0]}


def devices(count: int = 3, rate: float = 2.0, **more: object) -> Devices:
    return Devices(count, rate, TABLES, topic="s/{device}/{measurement}", start=100 * S, **more)  # type: ignore[arg-type]


def test_devices_take_turns_and_replay_their_tables_for_ever() -> None:
    publishing = devices(3, 2.0)
    messages = [publishing.message(k) for k in range(9)]
    sixth = S // 6
    assert [topic for topic, _ in messages[:4]] == ["s/device-1/t", "s/device-2/h", "s/device-3/t", "s/device-1/t"]
    assert [json.loads(payload) for _, payload in messages] == [
        {"time": 100 * S, "value": 1.0, "n": 1},
        {"time": 100 * S + sixth, "value": 10.0, "n": 1},
        {"time": 100 * S + 2 * S // 6, "value": 2.5, "n": 1},
        {"time": 100 * S + 3 * S // 6, "value": 2.5, "n": 2},
        {"time": 100 * S + 4 * S // 6, "value": 20.0, "n": 2},
        {"time": 100 * S + 5 * S // 6, "value": 1.0, "n": 2},
        {"time": 101 * S, "value": 1.0, "n": 3},
        {"time": 100 * S + 7 * S // 6, "value": 30.0, "n": 3},
        {"time": 100 * S + 8 * S // 6, "value": 2.5, "n": 3},
    ]


def test_counters_begin_where_they_are_told_to() -> None:
    assert [devices(2, first=501).pair(k) for k in range(4)] == [(0, 501), (1, 501), (0, 502), (1, 502)]


def test_devices_without_a_name_are_called_after_what_they_measure() -> None:
    assert devices(5, name="").names == ["t-1", "h-1", "t-2", "h-2", "t-3"]


def test_names_are_padded_so_that_they_sort() -> None:
    assert devices(10).names[::9] == ["device-01", "device-10"]


@pytest.mark.parametrize(
    ("now", "count"),
    [(0, 0), (100 * S - 1, 0), (100 * S, 1), (100 * S + S // 6 - 1, 1), (100 * S + S // 6 + 1, 2), (101 * S, 7)],
    ids=["long before", "just before", "at the start", "before the second", "after the second", "a second later"],
)
def test_a_message_falls_due_at_its_time(now: int, count: int) -> None:
    assert devices(3, 2.0).until(now) == count


@settings(max_examples=200)
@given(st.integers(1, 50), st.floats(0.001, 10_000), st.integers(0, 10**7))
def test_due_and_until_agree_to_the_nanosecond(count: int, rate: float, k: int) -> None:
    publishing = devices(count, rate)
    due = publishing.due(k)
    assert publishing.until(due) > k >= publishing.until(due - 1)

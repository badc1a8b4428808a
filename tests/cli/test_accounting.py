"""The balance of acknowledged pairs, as tables."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.accounting import Account, Ranges, Stated, account, declared_pairs

WHOLE = [Stated(0, 0, 10, 1, 10), Stated(1, 0, 10, 11, 20)]

TABLE = [
    ("everything is in a window", [(1, 20)], WHOLE, 0, 20, 0),
    ("nothing was ever published", [], [], 0, 0, 0),
    ("one pair is missing inside a window", [(1, 20)], [Stated(0, 0, 9, 1, 10), WHOLE[1]], 0, 19, 1),
    ("one pair is missing at a window's edge", [(1, 20)], [WHOLE[0], Stated(1, 0, 9, 12, 20)], 0, 19, 1),
    ("a whole window is missing", [(1, 20)], [WHOLE[1]], 0, 10, 10),
    ("no window has come at all", [(1, 20)], [], 0, 0, 20),
    ("the last window has not closed", [(1, 23)], WHOLE, 0, 20, 3),
    ("a drop was declared", [(1, 20)], [Stated(0, 0, 9, 1, 10), WHOLE[1]], 1, 19, 0),
    ("more was declared than is missing", [(1, 20)], WHOLE, 5, 20, 0),
    ("the higher revision speaks", [(1, 10)], [Stated(0, 1, 10, 1, 10), Stated(0, 0, 7, 2, 9)], 0, 10, 0),
    ("the order of revisions does not matter", [(1, 10)], [Stated(0, 0, 7, 2, 9), Stated(0, 1, 10, 1, 10)], 0, 10, 0),
    ("a window holds pairs whose acknowledgement never came", [(1, 8)], WHOLE, 0, 8, 0),
    ("numbers the broker never acknowledged are no loss", [(1, 5), (9, 20)], [Stated(0, 0, 17, 1, 20)], 0, 17, 0),
    ("windows that overlap speak together", [(1, 20)], [Stated(0, 0, 9, 1, 11), Stated(1, 0, 11, 10, 20)], 0, 20, 0),
    ("an empty window says nothing", [(1, 2)], [Stated(0, 0, 0, 0, 0)], 0, 0, 2),
    ("a device that began anew at a high number", [(1, 5), (1001, 1005)], [Stated(0, 0, 10, 1, 1005)], 0, 10, 0),
]


@pytest.mark.parametrize(
    ("pairs", "windows", "declared", "accounted", "lost"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_balance_of_one_device(
    pairs: list[tuple[int, int]], windows: list[Stated], declared: int, accounted: int, lost: int
) -> None:
    balance = account({"d": Ranges(pairs)}, {"d": windows}, declared=declared)
    assert (balance.accounted, balance.lost, balance.closed) == (accounted, lost, lost == 0)


def test_devices_are_balanced_one_by_one() -> None:
    acknowledged = {"a": Ranges([(1, 10)]), "b": Ranges([(1, 10)]), "c": Ranges()}
    windows = {"a": [Stated(0, 0, 10, 1, 10)], "b": [Stated(0, 0, 8, 1, 8)], "stranger": [Stated(0, 0, 5, 1, 5)]}
    assert account(acknowledged, windows, published=25) == Account(
        published=25, acknowledged=20, accounted=18, declared=0, lost=2, by_device={"b": 2}
    )


def test_missing_and_unacknowledged_follow_from_the_balance() -> None:
    balance = account({"a": Ranges([(1, 10)])}, {}, published=12, declared=4)
    assert (balance.missing, balance.unacknowledged, balance.lost) == (10, 2, 6)


@pytest.mark.parametrize(
    ("dropped", "pairs"),
    [
        ({}, 0),
        ({"late": 6.0}, 3),
        ({"late": 6.0, "future": 2.0}, 4),
        ({"duplicate": 100.0}, 0),
        ({"duplicate": 100.0, "late": 2.0}, 1),
    ],
    ids=["nothing", "late", "several reasons", "duplicates are no loss", "duplicates beside late ones"],
)
def test_a_pair_is_two_dropped_readings(dropped: dict[str, float], pairs: int) -> None:
    assert declared_pairs(dropped) == pairs


def test_consecutive_numbers_make_one_range() -> None:
    numbers = Ranges()
    for number in range(1, 1001):
        numbers.add(number)
    assert list(numbers) == [(1, 1000)]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=20),
    st.tuples(st.integers(0, 70), st.integers(0, 30)),
)
def test_ranges_are_a_set_of_integers(parts: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    ranges, numbers = Ranges(), set[int]()
    for first, more in parts:
        ranges.add(first, first + more)
        numbers |= set(range(first, first + more + 1))
    first, last = asked[0], asked[0] + asked[1]
    walked = list(ranges)
    assert len(ranges) == len(numbers)
    assert ranges.within(first, last) == sum(first <= number <= last for number in numbers)
    assert {number for low, high in walked for number in range(low, high + 1)} == numbers
    assert all(high + 1 < low for (_, high), (low, _) in pairwise(walked))

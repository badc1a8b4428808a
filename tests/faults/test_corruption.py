"""What is damaged costs itself: it always starts, only what is damaged is gone, a lost tail is never written over."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.faults import corruption
from tests.faults.corruption import Found, LaneStore, Store


@pytest.fixture(params=[Store, LaneStore], ids=["journal", "spool"], scope="module")
def store(request: pytest.FixtureRequest) -> Store:
    made: Store = request.param(corruption.RECORDS, 1)
    return made


@pytest.mark.parametrize(
    ("damage", "least"),
    [
        (lambda store, found: corruption.truncations(store, 120, Random(1), found), 120),
        (lambda store, found: corruption.zeros(store, 60, Random(1), found), 60),
        (lambda store, found: corruption.bits(store, 200, Random(1), found), 200),
        (corruption.swaps, 3),
        (corruption.losses, 3),
    ],
    ids=["cut off", "zeros at the end", "a bit flipped", "files swapped", "a file lost"],
)
def test_only_what_is_damaged_is_gone(damage: Callable[[Store, Found], None], least: int, store: Store) -> None:
    found = Found()
    damage(store, found)
    assert found.failures == []
    assert sum(found.done.values()) >= least


def test_a_gateway_starts_whatever_was_done_to_its_files() -> None:
    found = Found()
    corruption.gateways(50, 1, found)
    assert found.failures == []
    assert len(found.done) == 6

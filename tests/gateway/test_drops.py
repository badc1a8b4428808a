"""The broker's own counter of drops, heard now and then, across restarts of either side."""

from __future__ import annotations

import pytest

from gateway.intake.drops import Drops


@pytest.mark.parametrize(
    ("said", "totals"),
    [
        pytest.param([0, 0, 5, 5, 12], [0, 0, 5, 5, 12], id="growth is counted once"),
        pytest.param([900, 900, 903], [0, 0, 3], id="what was dropped before we came is not ours to tell"),
        pytest.param([10, 15, 0, 4], [0, 5, 5, 9], id="a broker that started again begins at nothing"),
        pytest.param([10, 15, 7], [0, 5, 12], id="a broker that started again and has dropped since"),
    ],
)
def test_drops_are_the_growth_of_the_brokers_counter(said: list[int], totals: list[int]) -> None:
    drops, known = Drops(), []
    for value in said:
        drops = drops.feed(value)
        known.append(drops.total)
    assert (known, drops.last) == (totals, said[-1])

"""A few cycles of each scenario: nothing is lost, doubled or out of order, and the accounting closes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.faults.plan import PLAN, program

SEED = 4


@pytest.mark.parametrize("scenario", [name for name, plan in PLAN.items() if plan.brief])
async def test_nothing_is_lost_in(scenario: str, tmp_path: Path) -> None:
    plan = PLAN[scenario]
    if plan.needs and not program(plan.needs):
        pytest.skip(f"{plan.needs} is not installed")
    found = await plan.play(tmp_path, plan.brief, Random(SEED))
    assert found.wrong == []
    assert (found.cycles, found.lost, found.duplicated, found.reordered) == (plan.brief, 0, 0, 0)
    kept = found.sums["stored"] + found.sums["removed"] + found.sums["declared"]
    assert kept == found.sums["recorded"] > 0

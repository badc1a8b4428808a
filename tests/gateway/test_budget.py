"""The daily budget, as a timetable: what goes up at which hour, what is withheld, what a restart knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budget import AMISS, DAY_NS, DECLARE_NS, GRANTS, RANGES, Budget, Spent
from protocol.messages import LANES, Loss

LIMIT = 96_000  # telemetry may take 72,000: 3,000 an hour
HOUR = DAY_NS // 24
TODAY = 20_000 * DAY_NS


def at(hour: float) -> int:
    return TODAY + round(hour * HOUR)


def waits(budget: Budget, hour: float) -> str:
    """Say which lanes wait, and whether only coarse windows go up."""
    barred = budget.barred(at(hour))
    return " ".join([*(lane for lane in LANES if lane in barred), *(["coarse"] if budget.coarse else [])])


def test_a_day() -> None:
    budget = Budget(LIMIT)
    timetable = [
        (0.0, 0, ""),
        (0.0, 2_999, ""),
        (0.0, 1, "coarse"),  # the line is at 3,000
        (0.5, 0, "coarse"),  # 4,500 by now: not an hour's share more than what is spent
        (1.0, 0, ""),
        (1.0, 3_000, "coarse"),
        (5.0, 0, ""),
        (12.0, 60_000, "coarse"),
        (21.9, 0, "coarse"),
        (22.0, 0, ""),  # 69,000 by now, 66,000 spent
        (23.5, 6_000, "telemetry coarse"),
        (23.6, 11_999, "telemetry coarse"),
        (23.6, 1, "results telemetry coarse"),  # 84,000
        (23.9, 11_999, "results telemetry coarse"),
        (23.9, 1, "definitions alerts results telemetry coarse"),
        (23.99, 0, "definitions alerts results telemetry coarse"),
        (24.0, 0, ""),
    ]
    for hour, size, expected in timetable:
        budget.spend(size, at(hour))
        assert waits(budget, hour) == expected, f"at {hour}, {budget.spent} spent"
    assert budget.kept() == Spent(20_001, 0)


def test_tomorrow_is_the_next_midnight_of_utc() -> None:
    assert Budget(LIMIT).tomorrow(at(0)) == Budget(LIMIT).tomorrow(at(23.99)) == TODAY + DAY_NS


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        pytest.param(at(12), Spent(20_000, 500), id="the same day"),
        pytest.param(at(24), Spent(20_001, 0), id="the next day"),
        pytest.param(at(-24 * AMISS), Spent(20_000, 500), id="a clock that fell back a little"),
        pytest.param(0, Spent(0, 500), id="1970: the day is wrong, what was spent is not"),
    ],
)
def test_a_restart_goes_on_with_what_was_spent(now: int, kept: Spent) -> None:
    budget = Budget(LIMIT, Spent(20_000, 500))
    budget.spend(0, now)
    assert budget.kept() == kept


def test_what_is_withheld_is_declared_in_ranges_once_with_its_times() -> None:
    budget = Budget(LIMIT)
    for seq in (5, 1, 6, 2, 7, 2, 9):  # what is live and what waited take turns
        budget.withhold("telemetry", seq, at(1) + seq, at(2))
    assert budget.losses(at(2)) == []
    ranges = [(5, 7), (1, 2), (9, 9)]
    late = at(2) + DECLARE_NS
    assert budget.losses(late - 1) == []
    assert budget.losses(late) == [
        Loss("telemetry", first, last, "budget", at(1) + first, at(1) + last) for first, last in ranges
    ]
    assert budget.losses(late) == []


def test_many_ranges_do_not_wait() -> None:
    budget = Budget(LIMIT)
    for seq in range(2, 2 * RANGES, 2):
        budget.withhold("telemetry", seq, at(1), at(1))
        assert budget.losses(at(1)) == []
    budget.withhold("telemetry", 2 * RANGES, at(1), at(1))
    assert len(budget.losses(at(1))) == RANGES


def test_a_new_epoch_has_withheld_nothing() -> None:
    budget = Budget(LIMIT)
    budget.withhold("telemetry", 5, at(1), at(1))
    budget.forget()
    assert budget.losses(at(20)) == []


def test_nothing_is_spent_that_a_kill_would_forget() -> None:
    budget, written = Budget(LIMIT), Spent()
    for _ in range(100):
        if (grant := budget.grant(at(1))) is not None:
            written = grant
        budget.spend(50, at(1))
        assert budget.spent <= written.bytes + 50 <= budget.spent + LIMIT // GRANTS + 50


@given(st.lists(st.tuples(st.integers(0, 48), st.integers(0, LIMIT)), max_size=40))
def test_the_more_is_spent_the_more_waits_and_alerts_wait_last(steps: list[tuple[int, int]]) -> None:
    budget, order = Budget(LIMIT), ["telemetry", "results"]
    for hour, size in sorted(steps):
        budget.spend(size, at(hour))
        barred = budget.barred(at(hour))
        assert barred in (frozenset(order[:count]) for count in (0, 1, 2)) or barred == frozenset(LANES)
        assert ("alerts" in barred) == (budget.spent >= LIMIT)
        assert budget.coarse or "telemetry" not in barred

"""`now` never decreases, whatever the wall clock does."""

from __future__ import annotations

import pytest

from gateway.clock import PLAUSIBLE, Clock


@pytest.mark.parametrize(
    ("walls", "expected"),
    [
        pytest.param([100, 110, 120], [100, 110, 120], id="an honest clock is believed"),
        pytest.param([100, 5000, 5010], [100, 5000, 5010], id="a jump ahead is followed"),
        pytest.param([100, 40, 50, 60], [100, 105, 110, 115], id="a step back runs on at half speed"),
        pytest.param([100, 96, 106, 116], [100, 105, 106, 116], id="until wall time has caught up"),
    ],
)
def test_now_follows_the_wall_clock_but_never_back(walls: list[int], expected: list[int]) -> None:
    wall, monotonic = iter(PLAUSIBLE + wall for wall in walls), iter(range(0, 1000, 10))
    clock = Clock(wall=lambda: next(wall), monotonic=lambda: next(monotonic))
    assert [clock.now() - PLAUSIBLE for _ in walls] == expected


def test_without_a_clock_that_can_be_believed_time_runs_on_at_full_speed() -> None:
    monotonic = iter(range(0, 1000, 10))
    clock = Clock(last=500, wall=lambda: 7, monotonic=lambda: next(monotonic))
    assert [clock.now() for _ in range(3)] == [510, 520, 530]


def test_now_is_not_before_the_journals_last_stamp() -> None:
    clock = Clock(last=1000, wall=lambda: 10, monotonic=lambda: 0)
    assert clock.now() == 1000


def test_a_clock_from_1970_is_not_synchronised() -> None:
    for wall, believed in ((5 * 10**9, False), (PLAUSIBLE, True)):
        clock = Clock(wall=lambda: wall)  # noqa: B023 - used within this turn
        clock.now()
        assert clock.synchronised == believed


def test_a_clock_that_is_set_later_is_believed_from_then_on() -> None:
    walls = iter([10, PLAUSIBLE + 5])
    clock = Clock(wall=lambda: next(walls), monotonic=lambda: 0)
    assert (clock.now(), clock.synchronised) == (10, False)
    assert (clock.now(), clock.synchronised) == (PLAUSIBLE + 5, True)

"""What the broker drops, as alerts: timetables in seconds."""

from __future__ import annotations

import pytest

from gateway.bursts import QUIET_NS, Bursts
from gateway.records import NEVER
from protocol.messages import Alert

SECOND = 10**9
QUIET = QUIET_NS // SECOND
Heard = tuple[int, int | None]  # at (s), the count; None: a tick


def alert(at: int, dropped: int) -> Alert:
    return Alert([], at * SECOND, 0, at * SECOND, float(dropped), "broker")


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        pytest.param([(5, 30)], [alert(5, 30)], id="a growth is told at once"),
        pytest.param([(5, 0), (6, None)], [], id="no growth is no alert"),
        pytest.param([(5, 30), (15, 30)], [alert(5, 30)], id="what was told is not told again"),
        pytest.param(
            [(5, 1), *((at, at) for at in range(15, QUIET, 10)), (QUIET + 4, None), (QUIET + 5, None)],
            [alert(5, 1), alert(QUIET + 5, QUIET - 6)],
            id="what goes on is told together when the quiet is over",
        ),
        pytest.param([(5, 1), (QUIET + 9, 3)], [alert(5, 1), alert(QUIET + 9, 2)], id="another burst has its own"),
        pytest.param(
            [(5, 40), (QUIET + 5, 30), (QUIET + 6, 33)],
            [alert(5, 40), alert(QUIET + 6, 3)],
            id="a count that is behind is no growth, what grows from there is",
        ),
    ],
)
def test_a_burst_of_drops_is_one_alert(heard: list[Heard], told: list[Alert]) -> None:
    through, again, got, repeated = Bursts(), Bursts(), [], []
    for at, total in heard:
        now = at * SECOND
        stopped, again = again, Bursts()
        again.restore(stopped.snapshot())
        got += through.tick(now) if total is None else through.feed(total, now)
        repeated += again.tick(now) if total is None else again.feed(total, now)
    assert (got, repeated) == (told, told)
    assert again.snapshot() == through.snapshot()


def test_it_is_due_when_something_waits_and_never_otherwise() -> None:
    bursts = Bursts()
    assert bursts.due() == NEVER
    bursts.feed(1, SECOND)
    assert bursts.due() == NEVER
    bursts.feed(2, 2 * SECOND)
    assert bursts.due() == SECOND + QUIET_NS

"""When a commit is due, as timetables: (at, what) in milliseconds, and what `due` answers."""

from __future__ import annotations

import pytest

from gateway.commit import LEARN_FROM, TRY_AGAIN, Gate
from gateway.records import NEVER


def gate() -> Gate:
    return Gate(interval=100)


def test_nothing_is_due_while_nothing_waits() -> None:
    assert gate().due() == NEVER


def test_a_lone_reading_waits_for_the_interval() -> None:
    g = gate()
    g.feed(0, 1000)
    g.feed(0, 1050)
    assert g.due() == 1100


def test_half_a_window_of_messages_is_due_at_once() -> None:
    g = gate()
    g.feed(LEARN_FROM // 2 - 1, 1000)
    assert g.due() == 1100
    g.feed(1, 1001)
    assert g.due() == 0


def test_the_window_is_learnt_from_what_waits_while_a_commit_runs() -> None:
    g = gate()
    g.feed(10, 1000)
    g.begin(1000)
    g.feed(190, 1002)  # the broker allows 200 in flight
    assert g.window == 200
    g.end(1005, durable=True)
    assert g.due() == 0


def busy(g: Gate, allowed: int, start: int, commits: int) -> list[tuple[int, int]]:
    """A broker that sends 10 messages a ms, `allowed` of them in flight; each commit takes 2 ms, and each ends in
    acknowledgements. Gives how long each commit was waited for, and how many messages it took."""
    now, taken, flying, waits = start, 0, 0, []
    for _ in range(commits):
        began = now
        while g.due() > now:
            sent = min(10, allowed - flying - taken)
            if sent:
                g.feed(sent, now)
            taken, now = taken + sent, now + 1
        g.begin(now)
        waits.append((now - began, taken))
        flying, taken = taken, 0
        for _ in range(2):
            sent = min(10, allowed - flying - taken)
            if sent:
                g.feed(sent, now)
            taken, now = taken + sent, now + 1
        g.end(now, durable=True)
        flying = 0
    return waits


def test_a_broker_with_a_wide_window_is_answered_once_an_interval() -> None:
    waits = busy(gate(), 20_000, 1000, 40)
    assert waits[0] == (1, 10)
    assert waits[-1][0] in range(96, 101)
    assert waits[-1][1] in range(980, 1011)


def test_a_broker_with_a_narrow_window_waits_for_one_interval_and_then_no_more() -> None:
    waits = busy(gate(), 20, 1000, 200)
    long = [at for at, (waited, _) in enumerate(waits) if waited > 50]
    assert len(long) == 1
    assert all(waited <= 1 for waited, _ in waits[long[0] + 1 :])


def test_more_is_tried_again_after_a_while() -> None:
    g = gate()
    busy(g, 20, 1000, 20)
    assert g.window == 20
    waits = busy(g, 20_000, 5000 + TRY_AGAIN, 40)
    assert waits[-1][0] in range(96, 101)


@pytest.mark.parametrize(
    ("waiting", "last", "window"),
    [
        pytest.param(40, 1030, 40, id="they stopped coming: that is the window"),
        pytest.param(40, 1080, 100, id="they come still, only slowly"),
        pytest.param(19, 1030, 100, id="fewer than any broker allows"),
    ],
)
def test_what_an_interval_says_of_the_window(waiting: int, last: int, window: int) -> None:
    g = gate()
    g.feed(100, 0)
    g.begin(0)
    g.end(1, durable=True)
    g.window = 100
    g.feed(waiting - 1, 1000)
    g.feed(1, last)
    g.begin(1100)
    assert g.window == window


def test_no_window_is_wider_than_our_own_receive_maximum() -> None:
    g = Gate(interval=100, most=50)
    busy(g, 50, 1000, 40)
    assert g.window == 50


def test_a_failed_commit_leaves_everything_waiting() -> None:
    g = gate()
    g.feed(3, 1000)
    g.begin(1000)
    assert g.due() == NEVER
    g.end(1020, durable=False)
    assert g.due() == 1120
    g.feed(7, 1030)
    assert g.due() == 0


def test_another_connection_may_have_a_smaller_window() -> None:
    g = gate()
    g.feed(5000, 1000)
    g.begin(1000)
    g.end(1001, durable=True)
    g.forget()
    assert g.window == LEARN_FROM

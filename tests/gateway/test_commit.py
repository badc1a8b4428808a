"""When a commit is due, as timetables: (at, what) in milliseconds, and what `due` answers."""

from __future__ import annotations

from gateway.commit import LEARN_FROM, Gate
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
    g.begin()
    g.feed(190, 1002)  # the broker allows 200 in flight
    assert g.window == 200
    g.end(1005, durable=True)
    assert g.due() == 0
    g.begin()
    g.end(1010, durable=True)
    g.feed(99, 1011)
    assert g.due() == 1111
    g.feed(1, 1012)
    assert g.due() == 0


def test_a_failed_commit_leaves_everything_waiting() -> None:
    g = gate()
    g.feed(3, 1000)
    g.begin()
    assert g.due() == NEVER
    g.end(1020, durable=False)
    assert g.due() == 1120
    g.feed(7, 1030)
    assert g.due() == 0


def test_another_connection_may_have_a_smaller_window() -> None:
    g = gate()
    g.feed(5000, 1000)
    g.begin()
    g.end(1001, durable=True)
    g.forget()
    assert g.window == LEARN_FROM

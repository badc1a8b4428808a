"""Two streams of alerts over the same readings, compared as they come."""

from __future__ import annotations

import pytest

from cli.replay.alerts import AlertDiff, Differing, Met, labels, reach_of
from gateway.config import Duration, PipelineConfig, Rule, Score, Window
from protocol.messages import Alert

S = 10**9
NAMES = ["pump/t", "pump/p", "fan/t"]
WINDOWS = (Window(series="fan/*", size=Duration(60 * S), hop=Duration(20 * S)), Window(size=Duration(10 * S)))
CONFIG = PipelineConfig(
    window=WINDOWS,
    score=(Score(name="odd", hold=3),),
    rule=(Rule("value > 80"), Rule("value < 5 for 30s", name="low"), Rule("rate > 1", window=Duration(10 * S))),
)


def alert(second: int, *series: int, rule: str = "odd") -> Alert:
    return Alert(list(series), second * S, 0, 0, 7.0, rule)


def diff_of(other: PipelineConfig = CONFIG, *, ahead: int = 100) -> AlertDiff:
    diff = AlertDiff(CONFIG, other, ahead=ahead)
    diff.define(NAMES[:2])
    diff.define(NAMES[2:])
    return diff


def decided(diff: AlertDiff, a: list[Alert], b: list[Alert]) -> list[tuple[str, int]]:
    """Feed both; give what is on one side only: the side and the second."""
    diff.feed(0, a)
    diff.feed(1, b)
    return seconds(diff.settle() + diff.finish())


def seconds(differing: list[Differing]) -> list[tuple[str, int]]:
    return [("ab"[side], one.start // S) for side, one in differing]


@pytest.mark.parametrize(
    ("a", "b", "only", "both"),
    [
        ([alert(0, 0)], [alert(0, 0)], [], 1),
        ([alert(0, 0)], [alert(30, 0)], [], 1),
        ([alert(0, 0)], [alert(40, 0)], [("a", 0), ("b", 40)], 0),
        ([alert(0, 0)], [alert(0, 1)], [("a", 0), ("b", 0)], 0),
        ([alert(0, 0, 1)], [alert(10, 1, 2)], [], 1),
        ([alert(0, 0), alert(100, 0)], [alert(100, 0)], [("a", 0)], 1),
        ([alert(0, 0), alert(30, 0)], [alert(30, 0)], [("a", 0)], 1),
        ([alert(0, 0), alert(50, 0)], [alert(30, 0)], [("a", 50)], 1),
        ([alert(0, 0)], [alert(20, 0), alert(10, 0)], [("b", 20)], 1),
        ([], [alert(20, 0), alert(10, 0)], [("b", 10), ("b", 20)], 0),
    ],
    ids=[
        "the same",
        "within the hold",
        "beyond the hold",
        "other series",
        "groups that overlap",
        "one more",
        "the same window goes first",
        "then the earliest chooses",
        "and takes the nearest",
        "in the order of time",
    ],
)
def test_alerts_meet_by_rule_series_and_time(
    a: list[Alert], b: list[Alert], only: list[tuple[str, int]], both: int
) -> None:
    diff = diff_of()
    assert decided(diff, a, b) == only
    sides = [side for side, _ in only]
    assert diff.rules == {"odd": Met([sides.count("a"), sides.count("b")], both)}


def test_alerts_of_other_rules_do_not_meet() -> None:
    diff = diff_of()
    assert decided(diff, [alert(0, 0)], [alert(0, 0, rule="low")]) == [("a", 0), ("b", 0)]
    assert diff.rules == {"odd": Met([1, 0]), "low": Met([0, 1])}


@pytest.mark.parametrize(
    ("rule", "series", "seconds"),
    [
        ("odd", "pump/t", 30),
        ("odd", "fan/t", 60),
        ("value > 80", "pump/t", 10),
        ("value > 80", "fan/t", 60),
        ("low", "pump/t", 40),
        ("rate > 1", "fan/t", 10),
        ("unknown", "pump/t", 0),
    ],
)
def test_a_rule_reaches_as_far_as_it_holds_or_as_its_window_and_what_must_last(
    rule: str, series: str, seconds: int
) -> None:
    assert reach_of(rule, series, CONFIG) == seconds * S


def test_limits_of_which_only_the_text_differs_are_the_same_rule() -> None:
    a = PipelineConfig(rule=(Rule("value > 80"), Rule("value > 5", series="fan/*"), Rule("value < 1")))
    b = PipelineConfig(
        rule=(Rule("value < 1"), Rule("value > 6", series="fan/*"), Rule("value > 90"), Rule("rate > 9"))
    )
    assert labels(a, b) == (
        {"value > 80": "value > 80 -> value > 90", "value > 5": "value > 5 -> value > 6"},
        {"value > 90": "value > 80 -> value > 90", "value > 6": "value > 5 -> value > 6"},
    )
    diff = AlertDiff(a, b)
    diff.define(NAMES)
    assert decided(diff, [alert(0, 0, rule="value > 80")], [alert(0, 0, rule="value > 90")]) == []
    assert diff.rules == {"value > 80 -> value > 90": Met(both=1)}


def test_a_named_limit_is_the_same_whatever_its_text() -> None:
    a, b = (PipelineConfig(rule=(Rule(when, name="hot"),)) for when in ("value > 80", "value > 90"))
    assert labels(a, b) == ({}, {})


def test_what_has_waited_longest_is_decided_when_too_much_waits() -> None:
    diff = diff_of(ahead=4)
    flood = [alert(1000 * at, 0) for at in range(5)]
    diff.feed(0, flood)
    assert seconds(diff.settle()) == [("a", 0), ("a", 1000), ("a", 2000)]
    assert (diff.early, diff.rules) == (3, {"odd": Met([3, 0])})
    assert decided(diff, [], flood) == [("b", 0), ("b", 1000), ("b", 2000)]
    assert (diff.early, diff.rules) == (3, {"odd": Met([3, 3], 2)})


def test_alerts_that_meet_do_not_wait() -> None:
    diff = diff_of(ahead=1)
    for at in range(0, 1000, 100):
        diff.feed(0, [alert(at, 0)])
        diff.feed(1, [alert(at, 0)])
        assert diff.settle() == []
    assert (diff.finish(), diff.early, diff.rules) == ([], 0, {"odd": Met(both=10)})

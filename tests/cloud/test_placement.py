"""Where parts are computed, why, and what the plan says it costs."""

from __future__ import annotations

import pytest

from cloud.jobs import Bounds, Place, Question
from cloud.placement import DEFAULT_BYTES, STARTS, Known, plan
from protocol.jobs import Cost, Resources

S = 10**9
NOW = 1_000_000 * S
ALL = Question("moments", 1, ("*",), 0, 0, b"\x80")
LATE = Question("moments", 1, ("*",), NOW - 1_000 * S, NOW, b"\x80")
COST = {"moments": Cost(2.0, 5_000_000, 1_000)}
PI = Resources(cores=4, uplink=1_000.0, allow=("*",), oldest=NOW - 4_000 * S, readings=4_000_000, costs=COST)


def of(resources: Resources | None, *, online: bool = True, matching: int = 4, name: str = "pi") -> Known:
    return Known(name, online, 4_000_000, 4, matching, resources)


@pytest.mark.parametrize(
    ("question", "known", "readings", "seconds"),
    [
        pytest.param(ALL, of(PI), 4_000_000, STARTS + 8.0 + 1.0, id="all of it"),
        pytest.param(LATE, of(PI), 1_000_000, STARTS + 2.0 + 1.0, id="a quarter of the time"),
        pytest.param(LATE, of(PI, matching=1), 250_000, STARTS + 0.5 + 1.0, id="and a quarter of the series"),
        pytest.param(ALL, of(None), 4_000_000, STARTS + 2.0 + DEFAULT_BYTES / 125_000, id="nothing measured"),
    ],
)
def test_a_part_costs_what_was_measured_there(question: Question, known: Known, readings: int, seconds: float) -> None:
    [step] = plan(question, [known], Bounds(), NOW).steps
    assert (step.where, step.readings, step.seconds) == ("gateway", readings, round(seconds, 3))


def test_a_loaded_gateway_is_slower_and_the_plan_says_so() -> None:
    loaded = Resources(cores=4, load=8.0, uplink=1_000.0, costs=COST)
    [step] = plan(ALL, [of(loaded)], Bounds(), NOW).steps
    assert step.seconds == STARTS + 16.0 + 1.0
    assert "2.0 times slower, it is loaded" in step.why


def test_the_longest_come_first_and_who_is_away_last() -> None:
    quick = of(PI, matching=1, name="quick")
    found = plan(ALL, [quick, of(PI), of(PI, online=False, name="away")], Bounds(most=1), NOW)
    assert [(step.gateway, step.ends) for step in found.steps] == [("pi", 10.5), ("quick", 15.0), ("away", None)]
    assert (found.seconds, found.bytes) == (15.0, 3_000)
    assert found.places[0] == Place("pi", ("pi",), 10.5)


def test_who_does_not_allow_it_is_not_asked() -> None:
    found = plan(ALL, [of(Resources(allow=("quantiles",)))], Bounds(), NOW)
    assert [(step.where, step.why) for step in found.steps] == [("nowhere", "its tasks.allow does not name moments")]
    assert found.places == []


def test_a_journal_that_does_not_go_back_so_far_is_named() -> None:
    asked = Question("moments", 1, ("*",), NOW - 10_000 * S, NOW, b"\x80")
    [step] = plan(asked, [of(PI)], Bounds(), NOW).steps
    assert (step.readings, "does not go back so far" in step.why) == (4_000_000, True)

"""Where parts are computed, why, and what the plan says it costs."""

from __future__ import annotations

import msgspec
import pytest

from cloud.jobs import Bounds, Place, Question
from cloud.placement import (
    DEFAULT_UPLINK,
    MERGES,
    READING,
    SLOWER,
    STARTING,
    WAITS,
    WORKS,
    Known,
    plan,
)
from protocol.jobs import Cost, Resources

S = 10**9
NOW = 1_000_000 * S
ALL = Question("moments", 1, ("*",), 0, 0, b"\x80")
LATE = Question("moments", 1, ("*",), NOW - 1_000 * S, NOW, b"\x80")
COST = {"moments": Cost(2.0, 5_000_000, 1_000, 4)}
PI = Resources(
    cores=4,
    uplink=1_000.0,
    allow=("*",),
    oldest=NOW - 4_000 * S,
    readings=4_000_000,
    costs=COST,
    starting=0.5,
)


TOLD = msgspec.structs.replace(PI, bytes=8_000_000, blocked=2_000_000, reading=0.5)
SLOW = msgspec.structs.replace(PI, slowed=3.0)
MOMENTS = WORKS["moments"]
UNKNOWN = WAITS + SLOWER * (STARTING + 4 * MOMENTS.seconds) + 4 * MOMENTS.bytes / DEFAULT_UPLINK


def of(resources: Resources | None, *, online: bool = True, matching: int = 4, name: str = "pi") -> Known:
    return Known(name, online, 4_000_000, 4, matching, resources)


@pytest.mark.parametrize(
    ("question", "known", "readings", "seconds"),
    [
        pytest.param(ALL, of(PI), 4_000_000, WAITS + 0.5 + 8.0 + 1.0, id="all of it"),
        pytest.param(LATE, of(PI), 1_000_000, WAITS + 0.5 + 2.0 + 1.0, id="a quarter of the time"),
        pytest.param(LATE, of(PI, matching=1), 250_000, WAITS + 0.5 + 0.5 + 0.25, id="and a quarter of the series"),
        pytest.param(ALL, of(TOLD), 4_000_000, WAITS + 0.5 + 8.0 + 1.0 + 3.0, id="some of it in no blocks"),
        pytest.param(ALL, of(SLOW), 4_000_000, WAITS + (0.5 + 8.0) * 3 + 1.0, id="three times its CPU"),
        pytest.param(ALL, of(None), 4_000_000, UNKNOWN, id="nothing measured"),
    ],
)
def test_a_part_costs_what_was_measured_there(question: Question, known: Known, readings: int, seconds: float) -> None:
    [step] = plan(question, [known], Bounds(), NOW).steps
    assert (step.where, step.readings, step.seconds) == ("gateway", readings, round(seconds, 3))


def test_a_loaded_gateway_is_slower_and_the_plan_says_so() -> None:
    loaded = Resources(cores=4, load=8.0, uplink=1_000.0, costs=COST, starting=0.5)
    [step] = plan(ALL, [of(loaded)], Bounds(), NOW).steps
    assert step.seconds == WAITS + 17.0 + 1.0
    assert "2.0 times slower, it is loaded" in step.why


def test_the_longest_come_first_and_who_is_away_last() -> None:
    quick = of(PI, matching=1, name="quick")
    found = plan(ALL, [quick, of(PI), of(PI, online=False, name="away")], Bounds(most=1), NOW)
    assert [(step.gateway, step.ends) for step in found.steps] == [("pi", 10.5), ("quick", 14.25), ("away", None)]
    assert (found.seconds, found.bytes) == (14.25 + MERGES, 2_250)
    assert found.places[0] == Place("pi", ("pi",), 10.5)


def test_what_earlier_jobs_waited_and_merged_is_waited_again() -> None:
    before = msgspec.structs.replace(PI, costs=COST)
    found = plan(ALL, [of(before)._replace(waiting=0.25)], Bounds(), NOW, merging=0.5)
    assert (found.steps[0].seconds, found.seconds) == (9.75, 10.25)


@pytest.mark.parametrize(
    ("resources", "cost", "how"),
    [
        pytest.param(
            Resources(costs={"quantiles": Cost(3 * WORKS["quantiles"].seconds, 10**6)}), 3, "others", id="work"
        ),
        pytest.param(Resources(reading=2 * READING), 2, "how fast it reads", id="reading"),
        pytest.param(Resources(), SLOWER, "assumed", id="nothing"),
    ],
)
def test_what_never_ran_there_costs_as_much_more_as_all_else_does(resources: Resources, cost: float, how: str) -> None:
    [step] = plan(ALL, [of(resources)], Bounds(), NOW).steps
    assert f"{cost * MOMENTS.seconds:.3g} s a million" in step.why
    assert how in step.why


def test_who_does_not_allow_it_is_not_asked() -> None:
    found = plan(ALL, [of(Resources(allow=("quantiles",)))], Bounds(), NOW)
    assert [(step.where, step.why) for step in found.steps] == [("nowhere", "its tasks.allow does not name moments")]
    assert found.places == []


def test_a_journal_that_does_not_go_back_so_far_is_named() -> None:
    asked = Question("moments", 1, ("*",), NOW - 10_000 * S, NOW, b"\x80")
    [step] = plan(asked, [of(PI)], Bounds(), NOW).steps
    assert (step.readings, "does not go back so far" in step.why) == (4_000_000, True)

"""Who is asked about: the least sure windows, as many as questions and bytes are there for."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.classify.ask import FEWEST, FIRST, KNOWN, MAX_MODELS, Ask

S = 10**9
HOUR = 3600 * S
PLENTY = 1 << 30


def hours(ask: Ask, each: int, number: float, cost: float = 100.0, step: int = 1) -> list[float]:
    """Let windows come evenly, `each` an hour, `step` at once; give the margins of those asked about."""
    rng = np.random.default_rng(1)
    asked: list[float] = []
    for at in range(0, int(each * number), step):
        margins = rng.random(step)
        chosen = ask.feed("state", margins, np.full(step, cost), HOUR + at * HOUR // each)
        asked += margins[chosen].tolist()
    return asked


BUDGETS = {
    # windows an hour, per_hour, bytes_per_hour, bytes of one: asked in four hours, of the least sure share
    "one in ten": (1_000, 100, PLENTY, 100, 400, 0.10),
    "one in twenty": (2_000, 100, PLENTY, 100, 400, 0.05),
    "bytes are what is short": (1_000, 1_000, 5_000, 100, 200, 0.05),
    "all": (100, 1_000, PLENTY, 100, 400, 1.0),
    "one in a thousand": (10_000, 10, PLENTY, 100, 40, 0.001),
}


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS.keys())
def test_the_budget_is_spent_and_goes_to_the_least_sure(budget: tuple[int, int, int, int, int, float]) -> None:
    each, per_hour, bytes_per_hour, cost, expected, share = budget
    asked = hours(Ask(per_hour, bytes_per_hour), each, 4, cost)
    assert 0.85 * expected <= len(asked) <= expected * (1 + FIRST / 4)
    assert np.mean(asked) < min(1.25 * share, 1.0) / 2 + 0.02


def test_never_more_than_what_was_earned_and_the_rest_is_counted() -> None:
    ask = Ask(20, PLENTY)
    ask.feed("state", np.linspace(0.5, 1, FEWEST), np.full(FEWEST, 1.0), 0)
    unsure = np.zeros(100)
    assert len(ask.feed("state", unsure, np.full(100, 1.0), 0)) == 20 * FIRST
    assert ask.left_out == {"questions": 100 - 20 * FIRST}
    assert len(ask.feed("state", unsure, np.full(100, 1.0), HOUR // 2)) == 10
    assert len(ask.feed("state", unsure, np.full(100, 1.0), 100 * HOUR)) == 20  # no more is saved up than of an hour


def test_what_bytes_do_not_pay_is_told_apart() -> None:
    ask = Ask(1_000, 1_000)
    ask.feed("state", np.linspace(0.5, 1, FEWEST), np.full(FEWEST, 40.0), 0)
    assert ask.feed("state", np.array([0.2, 0.1, 0.3]), np.full(3, 40.0), 0).tolist() == [1, 0]
    assert ask.left_out == {"bytes": 1}


def test_before_enough_is_known_nothing_is_asked() -> None:
    ask = Ask(1_000, PLENTY)
    for _ in range(FEWEST):
        assert not len(ask.feed("state", np.zeros(1), np.ones(1), S))
    assert len(ask.feed("state", np.zeros(1), np.ones(1), S)) == 1
    assert ask.left_out == {}


def test_the_least_sure_are_asked_about_first() -> None:
    ask = Ask(30, PLENTY)
    ask.feed("state", np.full(FEWEST, 0.9), np.ones(FEWEST), 0)
    assert ask.feed("state", np.array([0.5, 0.1, 0.4, 0.2]), np.ones(4), 0).tolist() == [1, 3, 2]


def test_another_budget_counts_from_here_on() -> None:
    ask = Ask(1_000, PLENTY)
    hours(ask, 1_000, 1)
    ask.configure(10, PLENTY)
    asked = [len(ask.feed("state", np.zeros(50), np.ones(50), 3 * HOUR + at * HOUR)) for at in range(3)]
    assert asked == [10, 10, 10]


def test_what_is_known_is_bounded() -> None:
    ask = Ask(100, PLENTY)
    for number in range(2 * MAX_MODELS):
        ask.feed(f"m{number}", np.ones(2 * KNOWN), np.ones(2 * KNOWN), S)
    assert len(ask._seen) == MAX_MODELS
    assert max(map(len, ask._seen.values())) == KNOWN


def test_a_clock_that_stands_or_goes_back_earns_nothing() -> None:
    ask = Ask(20, PLENTY)
    ask.feed("state", np.ones(FEWEST), np.ones(FEWEST), HOUR)
    assert len(ask.feed("state", np.zeros(9), np.ones(9), HOUR)) == 2
    assert len(ask.feed("state", np.zeros(9), np.ones(9), 0)) == 0

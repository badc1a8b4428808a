"""A training with a privacy budget: a round is merged with noise and charged, and not begun if it costs too much."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.random import default_rng

from cloud.config.training import Privacy, Training
from cloud.federation import Ask, Federation, private
from cloud.federation.private import BUDGET, Spent
from learning import aggregation, classifier, updates
from learning.aggregation import Offer
from learning.privacy import Ledger, epsilon
from tests.cloud.test_federation import FLEET, SETTINGS, Fleet

COSTS = [epsilon(Ledger(rounds * 2 / 0.1**2, rounds), 1e-5) for rounds in range(4)]
"""Epsilon of so many rounds with the noise of the tests, which is too little to protect anybody."""

TWO = Privacy(noise=0.1, epsilon=(COSTS[2] + COSTS[3]) / 2)
"""Covers two rounds, and no third one."""


def settings(how: Privacy | None = TWO, **changes: Any) -> Training:
    return msgspec.structs.replace(SETTINGS, **({"rule": "mean", "goal": 5, "privacy": how} | changes))


def fleet(of: Training | None = None) -> Fleet:
    return Fleet(of or settings(), rng=default_rng(7))


def spent(of: Fleet) -> tuple[int, float]:
    """Rounds that were charged, and what they cost."""
    ledger = of.training.state.ledger
    return ledger.releases, epsilon(ledger, 1e-5)


def test_a_run_ends_with_a_trial_when_its_budget_is_spent() -> None:
    here = fleet()
    here.begin()
    here.run()
    assert [(one.stage, one.round) for one in here.ended] == [("survey", 0), ("round", 1), ("round", 2), ("trial", 3)]
    assert [(one.ended, one.run) for one in here.rested] == [(BUDGET, 1)]
    assert spent(here) == (2, COSTS[2])


def test_a_budget_that_covers_all_rounds_ends_nothing() -> None:
    here = fleet(settings(rounds=2))
    here.begin()
    here.run()
    assert [(one.ended, one.run) for one in here.rested] == [("", 1)]
    assert spent(here) == (2, COSTS[2])


def test_what_was_spent_outlives_restarts_and_the_next_run_is_not_begun() -> None:
    here = fleet(settings(rounds=1))
    for run in (1, 2):
        here.rested.clear()
        here.begin()
        for _ in range(40):
            here.restart()
            here.run(most=1)
        assert [(one.run, one.ended) for one in here.rested] == [(run, "")]
        assert spent(here) == (run, COSTS[run])
    here.begin()
    assert (here.tasks, here.training.state.stage, spent(here)) == ({}, "rest", (2, COSTS[2]))


def test_a_deadline_without_answers_costs_nothing_and_a_quorum_as_much_as_all() -> None:
    here = fleet(settings(goal=2))
    here.begin()
    here.run(most=5)
    here.now += 61 * 10**9
    here.do(here.training.tick(here.members, here.now))
    assert (here.training.state.round, spent(here)) == (1, (0, 0.0))
    for name in FLEET[:2]:
        here.give(name)
    assert (here.training.state.round, spent(here)) == (2, (1, COSTS[1]))


def test_a_candidate_may_be_tried_without_a_budget_since_nothing_is_learnt() -> None:
    here = fleet()
    here.begin()
    here.run()
    content = here.training.state.candidate
    here.rested.clear()
    here.do(here.training.consider(content, here.members, here.now))
    here.run()
    assert [(one.run, one.ended) for one in here.rested] == [(2, "")]
    assert spent(here) == (2, COSTS[2])


def test_one_gateway_moves_a_round_by_its_clip_at_most() -> None:
    """Twice as long an update, or one that weighs more windows, or a second one of the same round: the same."""
    size = 7
    how = settings(Privacy(noise=0.01, epsilon=1e6, clip=0.5), goal=2)

    def merged(*offers: tuple[str, int, float, int]) -> Any:
        made = [
            Offer(name, windows, updates.encode("f32", np.full(size, value, np.float32), default_rng(1)).payload, stale)
            for name, windows, value, stale in offers
        ]
        admitted, refused = aggregation.admit(private.once_each(made), size)
        assert refused == []
        released, ledger = private.release(how, admitted, Ledger(), default_rng(3))
        assert ledger.releases == 1
        return released

    plain = merged(("barn", 10, 5.0, 0), ("mill", 10, -5.0, 0))
    np.testing.assert_allclose(merged(("barn", 10, 500.0, 0), ("mill", 10, -5.0, 0)), plain, atol=1e-6)
    np.testing.assert_allclose(merged(("barn", 9_999, 5.0, 0), ("mill", 10, -5.0, 2)), plain, atol=1e-6)
    again = merged(("barn", 10, 5.0, 0), ("barn", 10, 5.0, 1), ("mill", 10, -5.0, 0))
    np.testing.assert_allclose(again, plain, atol=1e-6)
    alone = merged(("mill", 10, -5.0, 0))
    assert np.linalg.norm(plain - alone) == pytest.approx(0.5 / how.goal, rel=1e-5)


def test_noise_is_in_what_is_merged_and_another_each_time() -> None:
    models = []
    for seed, how in ((1, TWO), (2, TWO), (1, None)):
        here = Fleet(settings(how, rounds=1), rng=default_rng(seed))
        here.begin()
        here.run()
        models.append(classifier.decode(here.training.state.candidate).vector)
    assert len({model.tobytes() for model in models}) == 3


def test_a_ledger_goes_on_when_settings_change_or_a_training_comes_back() -> None:
    here = fleet(settings(rounds=1))
    here.begin()
    here.run()
    federation = Federation([settings()])
    federation.trainings["state"].state = here.training.state
    gone = Federation([], federation.snapshot())
    assert gone.trainings == {}
    back = Federation([settings(Privacy(noise=5.0, epsilon=COSTS[1] + 1))], Federation([], gone.snapshot()).snapshot())
    found = back.spent("state")
    assert found is not None
    assert (found.rounds, found.spent, found.left > 0) == (1, COSTS[1], True)
    assert Federation([settings(None)], gone.snapshot()).spent("state") is None


def test_why_no_run_begins_is_said() -> None:
    federation = Federation([settings(every=0, fewest=1)])
    assert federation.lacking("state", FLEET) == ""
    federation.trainings["state"].state.ledger = Ledger(2 * 2 / 0.1**2, 2)
    assert federation.lacking("state", FLEET) == (
        f"its privacy budget is spent: epsilon {COSTS[2]:.3g} of {TWO.epsilon:g}, another round would go beyond it"
    )
    assert [one for one in federation.start("state", FLEET, 0) if isinstance(one, Ask)] == []
    assert federation.spent("state") == Spent(TWO.epsilon, 1e-5, COSTS[2], 2, 0)


def test_what_an_operator_should_know_is_said_beforehand() -> None:
    covers, worry = private.beforehand(settings())
    assert covers == f"epsilon {TWO.epsilon:g} (delta 1e-05) covers 2 rounds"
    assert worry.startswith("warning: 5 gateways, fewer than 100: noise on each number of their mean is 0.02 times")
    assert len(private.beforehand(settings(goal=100))) == 1
    assert private.beforehand(settings(None)) == []

"""What the measurement of learning counts on."""

from __future__ import annotations

import numpy as np
import pytest

from learning.models import Batch
from tests.bench.learning import Fold, Way, federate, pooled, softmax

ROUNDS = 4


def fold() -> Fold:
    """Three heaps, told apart by ten gateways of unlike rows."""
    rng = np.random.default_rng(7)
    heaps = 2 * np.eye(3, 6)
    y = [rng.choice(3, 80, p=rng.dirichlet([2, 2, 2])) for _ in range(11)]
    batches = [Batch((heaps[one] + rng.normal(size=(80, 6))).astype(np.float32), one) for one in y]
    return Fold(batches[:-1], batches[-1], 3)


@pytest.mark.parametrize("codec", ["f32", "i8", "sign"])
def test_ten_gateways_learn_what_one_place_would(codec: str) -> None:
    run = federate(fold(), softmax, Way(codec, "mean"), ROUNDS)  # type: ignore[arg-type]  # a codec's name
    assert len(run.accuracy) == ROUNDS
    assert run.accuracy[-1] > pooled(fold(), softmax) - 0.03


def test_two_poisoned_of_ten_change_little() -> None:
    clean = federate(fold(), softmax, Way(), ROUNDS).accuracy[-1]
    assert federate(fold(), softmax, Way(poisoned=True), ROUNDS).accuracy[-1] > clean - 0.03


def test_a_run_can_be_repeated() -> None:
    assert federate(fold(), softmax, Way("topk"), ROUNDS) == federate(fold(), softmax, Way("topk"), ROUNDS)

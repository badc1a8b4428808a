"""What the measurement of a cascade counts on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.bench.cascade import PER_HOUR, Both, cascade


class Right:
    """A larger model that is always right: the class is the first number."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give probabilities."""
        return np.stack([x[:, 0] <= 0, x[:, 0] > 0], axis=1).astype(float)


def folds() -> list[Both]:
    """Give two folds of which the small model has one window in five wrong, and says that it is unsure of those."""
    rng, found = np.random.default_rng(3), []
    for _ in range(2):
        x = rng.normal(size=(500, 4))
        y = (x[:, 0] > 0).astype(np.int64)
        unsure = rng.random(500) < 0.2
        sure = np.where(unsure, 0.45, 0.9 + 0.1 * rng.random(500))
        small = np.where((y == 1)[:, None], np.stack([1 - sure, sure], 1), np.stack([sure, 1 - sure], 1))
        found.append(Both(x, y, small, Right()))
    return found


def test_the_more_is_asked_the_more_is_right_and_what_it_costs_is_counted() -> None:
    found = [cascade(folds(), PER_HOUR * share // 100) for share in (0, 10, 40)]
    none, some, most = ([one[key] for key in ("accuracy", "asked", "bytes")] for one in found)
    assert none[1:] == [0.0, 0.0]
    assert 0.75 < float(str(none[0])) < 0.85 < float(str(some[0])) < 0.93 < float(str(most[0]))
    assert 0.09 < float(str(some[1])) < 0.12
    assert float(str(most[2])) > float(str(some[2])) > 8.0

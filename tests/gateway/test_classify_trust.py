"""Whose word is said, and what is drift: rules over right answers and over numbers."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.classify.drift import BLOCK, REFERENCE, RESTS, Drift
from gateway.classify.trust import FEWEST, MOST, Tally, Trust, Which

MARGIN = 0.02


def answers(right: int, of: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.arange(of) < right


HEADS: dict[str, tuple[float, float, int, Which]] = {
    "it wins": (0.90, 0.93, 200, "personal"),
    "it wins by the margin": (0.50, 0.52, 200, "personal"),
    "it wins by less": (0.90, 0.91, 200, "active"),
    "it loses": (0.90, 0.80, 200, "active"),
    "over too few windows": (0.50, 0.90, FEWEST - 1, "active"),
}


@pytest.mark.parametrize(("before", "after", "windows", "used"), HEADS.values(), ids=HEADS.keys())
def test_a_head_is_used_where_it_wins_on_the_hold_out(before: float, after: float, windows: int, used: Which) -> None:
    trust = Trust()
    trust.offer(before, after, windows, MARGIN)
    assert trust.used == used


LIVE: dict[str, tuple[int, int, int, Which]] = {
    "the version before is better": (100, 70, 90, "previous"),
    "it is a little better": (1000, 899, 900, "active"),
    "it is better by chance": (100, 85, 89, "active"),
    "it is worse": (100, 90, 70, "active"),
    "too few windows say so": (FEWEST - 1, 10, 45, "active"),
}


@pytest.mark.parametrize(("of", "active", "previous", "used"), LIVE.values(), ids=LIVE.keys())
def test_the_version_before_comes_back_where_it_is_better_live(
    of: int, active: int, previous: int, used: Which
) -> None:
    trust = Trust()
    lost = trust.feed({"active": answers(active, of), "previous": answers(previous, of)}, MARGIN)
    assert trust.used == used
    assert lost == (["active"] if used == "previous" else [])
    assert trust.feed({"active": answers(0, 10), "previous": answers(10, 10)}, 1.0) == []  # it is said once


def test_a_head_that_loses_live_is_given_up_for_good() -> None:
    trust = Trust()
    trust.offer(0.8, 0.9, 200, MARGIN)
    assert trust.feed({"active": answers(90, 100), "personal": answers(70, 100)}, MARGIN) == ["personal"]
    assert (trust.used, trust.lost) == ("active", True)
    trust.offer(0.8, 0.99, 200, MARGIN)
    assert trust.used == "active"


def test_while_a_head_is_used_and_does_well_nothing_falls_back() -> None:
    trust = Trust()
    trust.offer(0.7, 0.9, 200, MARGIN)
    right = {"active": answers(70, 100), "personal": answers(95, 100), "previous": answers(90, 100)}
    assert trust.feed(right, MARGIN) == []  # type: ignore[arg-type]  # keys are Which
    assert trust.used == "personal"


def test_a_candidate_in_the_shadow_is_counted_and_changes_nothing() -> None:
    trust = Trust()
    assert trust.feed({"active": answers(10, 100), "shadow": answers(100, 100)}, MARGIN) == []
    assert (trust.used, trust.live["shadow"].accuracy, trust.live["active"].accuracy) == ("active", 1.0, 0.1)


def test_older_windows_count_less() -> None:
    tally = Tally()
    tally.add(answers(MOST, MOST), answers(MOST, MOST))
    assert (tally.windows, tally.right) == (MOST / 2, MOST / 2)
    assert Tally().accuracy is None


# Drift.


def numbers(means: list[float], seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(means)


def fed(drift: Drift, values: np.ndarray[tuple[int], np.dtype[np.float64]], classes: int = 1) -> int | None:
    """Feed windows one by one; give after how many drift was found."""
    which = np.random.default_rng(1).integers(classes, size=len(values))
    for at in range(len(values)):
        if drift.feed(values[at : at + 1], which[at : at + 1]):
            return at + 1
    return None


@pytest.mark.parametrize("by", [0.6, -0.6, 2.0], ids=["up", "down", "far"])
def test_what_moves_is_noticed(by: float) -> None:
    found = fed(Drift(1), numbers([0.0] * 512 + [by] * 512))
    assert found is not None
    assert 512 < found <= 512 + 8 * BLOCK


@pytest.mark.parametrize("seed", range(8))
def test_what_stays_is_not(seed: int) -> None:
    assert fed(Drift(3), numbers([0.0] * 6_000, seed), classes=3) is None


def test_neighbours_that_are_alike_are_no_drift() -> None:
    rng = np.random.default_rng(0)
    slow = np.repeat(rng.normal(size=300), 16) + 0.1 * rng.normal(size=4_800)
    assert fed(Drift(1), slow) is None


def test_another_mix_of_classes_is_no_drift() -> None:
    rng, drift = np.random.default_rng(0), Drift(2)
    values = np.concatenate([rng.normal([0, 5], size=(200, 2)).ravel(), rng.normal(5, size=1_000)])
    classes = np.concatenate([np.tile([0, 1], 200), np.ones(1_000, np.int64)])
    assert not drift.feed(values, classes)


def test_it_learns_first_what_is_normal() -> None:
    drift = Drift(1)
    assert not drift.feed(numbers([0.0] * (REFERENCE - 1)), np.zeros(REFERENCE - 1, np.int64))
    assert drift.learning
    assert drift.feed(numbers([0.0] + [3.0] * 400), np.zeros(401, np.int64))


def test_drift_that_lasts_is_found_again_after_ever_longer() -> None:
    drift, after = Drift(1), list[int]()
    fed(drift, numbers([0.0] * REFERENCE))
    for seed in range(4):
        drift.rest()
        found = fed(drift, numbers([2.0] * 4_000, seed))
        assert found is not None
        after.append(found // BLOCK)
    assert after == [rests + after[0] - RESTS for rests in (RESTS, 2 * RESTS, 4 * RESTS, 8 * RESTS)]


def test_what_was_chance_is_not_found_again() -> None:
    drift = Drift(1)
    fed(drift, numbers([0.0] * REFERENCE))
    drift.rest()
    assert fed(drift, numbers([0.0] * 4_000)) is None


def test_a_number_that_never_changes_is_no_drift_and_then_is() -> None:
    drift = Drift(1)
    assert not drift.feed(np.zeros(1_000), np.zeros(1_000, np.int64))
    assert drift.feed(np.full(300, 0.5), np.zeros(300, np.int64))

"""What is no update comes back with its reason; what is one counts no more than the others, poisoned or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import aggregation, updates
from learning.aggregation import HEAVIEST, RULES, SLACK, Admitted, Limits, Offer, Refused, Rule
from learning.parameters import Flat

SIZE = 50
every_rule = pytest.mark.parametrize("rule", RULES)


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def offer(gateway: str, vector: Flat, windows: int = 100, stale: int = 0) -> Offer:
    return Offer(gateway, windows, updates.encode("f32", vector, rng()).payload, stale)


def around(direction: Flat, count: int, seed: int = 7) -> list[Flat]:
    return [direction + rng(seed + n).normal(0, 0.1, len(direction)).astype(np.float32) for n in range(count)]


def ones() -> Flat:
    return np.ones(SIZE, np.float32)


def admitted(vectors: list[Flat], weights: list[float] | None = None) -> Admitted:
    rows = np.array(vectors, np.float32)
    names = tuple(map(str, range(len(rows))))
    return Admitted(names, rows, np.array(weights or [1.0] * len(rows)), np.linalg.norm(rows, axis=1))


def test_every_offer_comes_back_once_admitted_or_refused() -> None:
    cut = updates.encode("i8", ones(), rng()).payload[:-1]
    offers = [
        offer("good", ones()),
        Offer("cut", 100, cut),
        Offer("wrong size", 100, updates.encode("i8", ones()[1:], rng()).payload),
        Offer("not finite", 100, updates.encode("f32", ones(), rng()).payload[:-4] + b"\xff" * 4),
        offer("far", ones() * np.float32(1e6)),
        offer("empty", ones(), 0),
        offer("boasting", ones(), 1 << 60),
        offer("late", ones(), stale=4),
        offer("early", ones(), stale=-1),
        offer("good too", 2 * ones()),
    ]
    good, refused = aggregation.admit(offers, SIZE, Limits(norm=100, stale=3))
    assert good.gateways == ("good", "good too")
    assert good.vectors.tolist() == [[1.0] * SIZE, [2.0] * SIZE]
    assert good.norms.tolist() == pytest.approx([SIZE**0.5, 2 * SIZE**0.5])
    assert [(item.gateway, item.reason) for item in refused] == [
        ("cut", "update"),
        ("wrong size", "update"),
        ("not finite", "update"),
        ("far", "norm"),
        ("empty", "windows"),
        ("boasting", "windows"),
        ("late", "stale"),
        ("early", "stale"),
    ]
    assert refused[3] == Refused("far", "norm", "of norm 7.07107e+06, at most 100")
    assert "49 numbers, expected 50" in refused[1].detail


def test_no_offers_are_no_fault() -> None:
    none, refused = aggregation.admit([], SIZE)
    assert (none.gateways, none.vectors.shape, none.weights.shape, refused) == ((), (0, SIZE), (0,), [])
    assert aggregation.clip(none) is none


def test_nobody_weighs_more_than_some_times_the_median_and_the_staler_less() -> None:
    offers = [offer("a", ones(), 100), offer("b", ones(), 100), offer("c", ones(), 10**9), offer("d", ones(), 100, 3)]
    good, _ = aggregation.admit(offers, SIZE)
    assert good.weights.tolist() == [100, 100, 100 * HEAVIEST, 50]


def test_longer_vectors_are_shortened_to_some_times_the_median_norm() -> None:
    clipped = aggregation.clip(admitted([ones(), 2 * ones(), -50 * ones()]))
    assert clipped.norms == pytest.approx(np.array([1, 2, 2 * SLACK]) * SIZE**0.5)
    np.testing.assert_allclose(clipped.vectors, np.outer([1, 2, -2 * SLACK], ones()), rtol=1e-6)


OUTLIERS: dict[str, tuple[list[tuple[float, int]], list[int]]] = {  # lengths and how late, and who is refused
    "of ten those who shout": ([(1, 0)] * 7 + [(2.9, 0), (-3.1, 0), (60, 0)], [8, 9]),
    "of three the one": ([(1, 0), (1, 0), (3.1, 0)], [2]),
    "of two nobody": ([(1, 0), (1000, 0)], []),
    "nobody who is alone": ([(1000, 0)], []),
    "nobody where nothing was learnt": ([(0, 0), (0, 0)], []),
    "of three who alone has learnt": ([(0, 0), (0, 0), (1, 0)], [2]),
    "nobody who began with an older version": ([(1, 0), (1, 0), (60, 1)], []),
}


@pytest.mark.parametrize(("said", "out"), OUTLIERS.values(), ids=OUTLIERS.keys())
def test_an_update_much_longer_than_the_median_is_refused(said: list[tuple[float, int]], out: list[int]) -> None:
    offers = [offer(str(number), np.float32(times) * ones(), stale=stale) for number, (times, stale) in enumerate(said)]
    good, refused = aggregation.admit(offers, SIZE)
    assert [(one.gateway, one.reason) for one in refused] == [(str(number), "outlier") for number in out]
    assert good.gateways == tuple(str(number) for number in range(len(said)) if number not in out)
    assert len(good.vectors) == len(good.weights) == len(good.norms) == len(said) - len(out)
    assert aggregation.admit(offers, SIZE, Limits(outlier=float("inf")))[1] == []
    assert aggregation.clip(admitted([ones()]), 1.0).norms.tolist() == pytest.approx([1])
    assert not aggregation.clip(admitted([0 * ones()] * 3)).vectors.any()


def test_a_mean_weighs() -> None:
    got = aggregation.combine("mean", admitted([ones(), 5 * ones()], [3, 1]))
    assert got.tolist() == [2.0] * SIZE


TRIMMED = [  # of how many, how many are cut at each end
    (1, 0),
    (2, 0),
    (3, 1),
    (4, 1),
    (5, 1),
    (10, 1),
    (11, 2),
    (20, 2),
]


@pytest.mark.parametrize(("count", "cut"), TRIMMED)
def test_a_trimmed_mean_cuts_a_tenth_at_each_end_rounded_up(count: int, cut: int) -> None:
    rows = [np.float32(2**n) * ones() for n in range(count)]
    kept = [2.0**n for n in range(cut, count - cut)]
    assert aggregation.combine("trimmed", admitted(rows)) == pytest.approx(np.full(SIZE, np.mean(kept)))


def test_a_trimmed_mean_cuts_number_by_number_and_weighs_the_rest() -> None:
    rows = [np.array(row, np.float32) for row in ([0, 9], [1, 4], [3, 3], [100, -50])]
    got = aggregation.combine("trimmed", admitted(rows, [1, 1, 3, 7]), trim=0.25)
    assert got.tolist() == [(1 * 1 + 3 * 3) / 4, (1 * 4 + 3 * 3) / 4]


def test_a_median_is_that_of_numpy() -> None:
    rows = around(ones(), 7)
    np.testing.assert_array_equal(aggregation.combine("median", admitted(rows)), np.median(rows, axis=0))


@every_rule
def test_honest_updates_give_their_direction(rule: Rule) -> None:
    got = aggregation.combine(rule, aggregation.clip(admitted(around(ones(), 10))))
    assert got == pytest.approx(ones(), abs=0.15)


@pytest.mark.parametrize(
    ("rule", "trim", "times", "survives"),
    [
        ("mean", 0.1, -5, True),
        ("trimmed", 0.1, -5, True),
        ("median", 0.1, -5, True),
        ("mean", 0.1, -2, False),
        ("trimmed", 0.1, -2, False),
        ("trimmed", 0.2, -2, True),
        ("median", 0.1, -2, True),
    ],
)
def test_two_of_ten_that_shout_are_refused_and_two_that_only_lie_take_a_rule(
    rule: Rule, trim: float, times: int, survives: bool
) -> None:
    rows = around(ones(), 8) + [times * row for row in around(ones(), 2, 99)]
    good, refused = aggregation.admit([offer(str(number), row) for number, row in enumerate(rows)], SIZE)
    assert len(refused) == (2 if times == -5 else 0)
    off = float(np.abs(aggregation.combine(rule, aggregation.clip(good), trim=trim) - 1).mean())
    assert (off < 0.15) is survives


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 100), st.sampled_from(RULES))
def test_the_order_changes_rounding_only_and_inputs_are_untouched(count: int, seed: int, rule: Rule) -> None:
    one = admitted(around(ones(), count, seed), rng(seed).uniform(1, 5, count).tolist())
    before = one.vectors.tobytes()
    order = rng(seed).permutation(count)
    other = one._replace(vectors=one.vectors[order], weights=one.weights[order], norms=one.norms[order])
    got, again = (aggregation.combine(rule, aggregation.clip(some)) for some in (one, other))
    np.testing.assert_allclose(got, again, rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32
    assert one.vectors.min(axis=0).min() - 1e-6 <= got.min()
    assert got.max() <= one.vectors.max() + 1e-6
    assert one.vectors.tobytes() == before


def test_an_admission_does_not_depend_on_the_codec() -> None:
    for codec in updates.CODECS:
        payload = updates.encode(codec, ones(), rng(), share=1.0).payload
        good, refused = aggregation.admit([Offer(codec, 1, payload)], SIZE)
        assert (good.gateways, refused) == ((codec,), [])
        np.testing.assert_allclose(good.vectors[0], ones(), rtol=0.01)

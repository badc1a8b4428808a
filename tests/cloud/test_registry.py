"""When a model's next version is due, as a timetable; and what one gateway can do to it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.config import Models
from cloud.registry import NEVER, SETTLE, Registry, before, combined
from cloud.store import Learnt, Published
from cloud.store.answers import VersionView
from learning import baseline, statistics
from learning.baseline import Baseline
from protocol.messages import Moments
from protocol.settings import Duration
from tests.cloud.wire import S

NO_END = Models(min_interval=Duration(600 * S), growth=2.0, refresh=Duration(36_000 * S), expires_after=Duration(0))


def view(number: int, content: str) -> VersionView:
    return VersionView(number, content, "baseline/1", 9, 0, 0, 60)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([(1, "a")], None, id="nothing before"),
        pytest.param([(2, "b"), (1, "a")], 1, id="the one before"),
        pytest.param([(3, "b"), (2, "b"), (1, "a")], 1, id="the same content again"),
        pytest.param([(3, "a"), (2, "b"), (1, "a")], 2, id="back from where it went back to"),
        pytest.param([(1, "a"), (3, "c"), (2, "b")], 2, id="in any order"),
    ],
)
def test_a_model_goes_back_to_the_newest_version_of_other_content(
    versions: list[tuple[int, str]], expected: int | None
) -> None:
    found = before([view(*one) for one in versions])
    assert (found.version if found else None) == expected


class Heard(NamedTuple):
    """At a time in seconds, statistics of so many windows from a gateway."""

    at: int
    gateway: str
    windows: int


def version(at: int, windows: int, number: int, pace: Models = NO_END) -> Published:
    expires = at + pace.expires_after if pace.expires_after else 0
    return Published("t2", number, "d" * 64, "baseline/1", 9, at, expires, windows, b"sealed")


def made(heard: list[Heard], *, until: int, pace: Models = NO_END) -> list[tuple[int, int]]:
    """When (in seconds) versions are made, each as soon as it is due, and of how many windows."""
    registry = Registry(pace)
    waiting = sorted(heard, reverse=True)
    found = []
    while True:
        due = registry.due()
        if waiting and waiting[-1].at * S <= due:
            at, gateway, windows = waiting.pop()
            registry.learnt("t2", gateway, windows, at * S)
        elif due <= until * S:
            assert registry.tick(due - 1) == []
            assert registry.tick(due) == ["t2"]
            registry.published(version(due, registry.weight("t2"), registry.next_version("t2"), pace))
            found.append((due // S, registry.weight("t2")))
        else:
            return found


TIMETABLES = [
    pytest.param([], [], id="nothing was learnt"),
    pytest.param([Heard(5, "a", 0)], [], id="statistics of no windows"),
    pytest.param([Heard(5, "a", 60)], [(7, 60)], id="the first version comes at once"),
    pytest.param([Heard(5, "a", 60), Heard(6, "b", 60)], [(7, 120)], id="what comes together goes together"),
    pytest.param([Heard(5, "a", 60), Heard(9, "b", 60)], [(7, 60), (607, 120)], id="another gateway's first"),
    pytest.param([Heard(5, "a", 60), Heard(900, "b", 60)], [(7, 60), (902, 120)], id="another gateway's first, later"),
    pytest.param([Heard(5, "a", 60), Heard(900, "a", 119)], [(7, 60), (36_007, 119)], id="it grew by less"),
    pytest.param([Heard(5, "a", 60), Heard(900, "a", 120)], [(7, 60), (902, 120)], id="it grew twofold"),
    pytest.param(
        [Heard(5, "a", 60), Heard(40_000, "a", 60)], [(7, 60), (40_002, 60)], id="the same, after the refresh"
    ),
    pytest.param(
        [Heard(60 * minute + 5, "a", 60 << minute) for minute in range(25)],
        [(7, 60), (607, 60 << 10), (1207, 60 << 20), (1807, 60 << 24)],
        id="however fast it grows",
    ),
]


@pytest.mark.parametrize(("heard", "expected"), TIMETABLES)
def test_a_version_is_made_when_it_is_worth_it_and_never_too_soon(
    heard: list[Heard], expected: list[tuple[int, int]]
) -> None:
    assert made(heard, until=100_000) == expected


def test_a_version_that_expires_is_renewed_after_half_of_its_time_though_nothing_changed() -> None:
    pace = msgspec.structs.replace(NO_END, expires_after=Duration(400_000 * S))
    assert made([Heard(5, "a", 60)], until=500_000, pace=pace) == [(7, 60), (200_007, 60), (400_007, 60)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(Heard, st.integers(1, 20_000), st.sampled_from("abcde"), st.integers(0, 1 << 40)),
        max_size=60,
    )
)
def test_whatever_gateways_say_a_version_waits_for_the_interval(heard: list[Heard]) -> None:
    times = [at for at, _ in made(heard, until=100_000)]
    assert all(later - before >= 600 for before, later in pairwise(times))


def test_a_version_that_could_not_be_made_is_tried_again() -> None:
    registry = Registry(NO_END)
    registry.learnt("t2", "a", 60, 1)
    assert registry.tick(1 + SETTLE) == ["t2"]
    assert registry.due() == NEVER
    registry.again("t2", 3 * S)
    assert registry.due() == 3 * S + SETTLE


def test_after_a_restart_it_goes_on_from_the_newest_version() -> None:
    registry = Registry(NO_END)
    registry.published(version(1000 * S, 60, 7))
    registry.learnt("t2", "a", 60, 900 * S)  # in the version already
    assert (registry.versions, registry.next_version("t2"), registry.due()) == ({"t2": 7}, 8, NEVER)
    registry.learnt("t2", "b", 60, 1001 * S)
    assert registry.due() == 1600 * S


def test_models_are_due_each_by_itself() -> None:
    registry = Registry(NO_END)
    registry.learnt("t2", "a", 60, 1)
    registry.learnt("rms", "a", 60, 5 * S)
    assert registry.tick(1 + SETTLE) == ["t2"]
    assert registry.tick(5 * S + SETTLE) == ["rms"]


# What is in a version


def learnt(gateway: str, features: list[str], count: int, mean: float, deviation: float = 1.0) -> Learnt:
    size = len(features)
    scatter = np.eye(size) * deviation**2 * count
    return Learnt(gateway, [Moments(features, count, [mean] * size, scatter.ravel().tolist())])


def means(merged: Baseline) -> dict[tuple[str, ...], tuple[float, float]]:
    return {features: (entry.weight, round(float(entry.mean[0]), 6)) for features, entry in merged.entries.items()}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([("a", 100, 1.0)], (100, 1.0), id="alone a gateway is not capped"),
        pytest.param([("a", 100, 1.0), ("b", 1_000_000, 2.0)], (200, 1.5), id="two count alike"),
        pytest.param([("a", 100, 1.0), ("b", 50, 4.0), ("c", 1 << 39, 1.0)], (250, 1.6), id="the median of three"),
        pytest.param([("a", 100, 1.0), ("b", 0, 1e90)], (100, 1.0), id="nothing learnt counts for nothing"),
    ],
)
def test_no_gateway_counts_for_more_than_the_median_one(
    parts: list[tuple[str, int, float]], expected: tuple[float, float]
) -> None:
    merged = combined([learnt(gateway, ["t"], count, mean) for gateway, count, mean in parts], 1 << 20)
    assert means(merged) == {("t",): expected}


def test_saying_the_same_group_often_does_not_count_more_often() -> None:
    liar = Learnt("liar", [entry for _ in range(50) for entry in learnt("liar", ["t"], 100, 9.0).entries])
    merged = combined([liar, learnt("a", ["t"], 100, 1.0), learnt("b", ["t"], 100, 1.0)], 1 << 20)
    assert means(merged) == {("t",): (300, 3.666667)}


def test_equal_gateways_merge_to_the_statistics_of_all_their_windows() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(4, 50, 3)) @ rng.normal(size=(3, 3)) + 20
    parts = [
        Learnt(f"g{number}", [statistics.pack(["x", "y", "z"], statistics.of(rows))])
        for number, rows in enumerate(vectors)
    ]
    (entry,) = combined(parts, 1 << 20).entries.values()
    whole = vectors.reshape(-1, 3)
    assert entry.weight == len(whole)
    np.testing.assert_allclose(entry.mean, whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(entry.covariance, np.cov(whole.T), rtol=1e-9)


def test_groups_that_most_gateways_have_are_served_first_and_the_rest_left_out() -> None:
    crowd = Learnt("crowd", [entry for n in range(500) for entry in learnt("crowd", [f"a{n:03}"], 100, 1.0).entries])
    parts = [crowd, learnt("a", ["z"], 100, 1.0), learnt("b", ["z"], 100, 1.0)]
    merged = combined(parts, 10_000)
    assert ("z",) in merged.entries
    assert 1 < len(merged.entries) < 200
    assert len(baseline.encode(merged)) <= 10_000


numbers = st.floats(-1e100, 1e100)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, (1 << 40) - 1), numbers, st.floats(0, 1e50)), max_size=6)
)
def test_whatever_was_let_in_merges_to_what_a_gateway_can_read(parts: list[tuple[str, int, float, float]]) -> None:
    said = [
        Learnt(gateway, [Moments(["x", "y"], count, [mean, -mean], [spread, 0.0, 0.0, spread])])
        for gateway, count, mean, spread in parts
    ]
    merged = combined(said, 1 << 20)
    assert baseline.decode(baseline.encode(merged)).entries.keys() == merged.entries.keys()

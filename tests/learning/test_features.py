"""Feature sets are named, versioned, finite, and each feature is what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import features
from learning.features import FEWEST, SETS
from learning.statistics import Vector
from protocol.errors import ModelRefused

CHANNELS = ("x", "y", "z")
every_set = pytest.mark.parametrize("which", SETS)


def windows(count: int = 4, samples: int = 128, channels: int = 3) -> Vector:
    return np.random.default_rng(7).normal(1, 2, (count, samples, channels))


def one(which: str, values: Vector) -> dict[str, float]:
    """The features of one window of one channel, by name."""
    names = features.names(which, ("v",))
    return dict(zip(names, features.extract(which, values.reshape(1, -1, 1))[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("which", "count"), [("statistics/1", 48), ("spectrum/1", 33), ("course/1", 24), ("motion/1", 111)]
)
def test_a_set_has_as_many_features_as_names_and_never_another_number(which: str, count: int) -> None:
    names = features.names(which, CHANNELS)
    assert len(names) == len(set(names)) == count
    got = features.extract(which, windows())
    assert (got.shape, got.dtype.name) == ((4, count), "float32")


GOLDEN = {"statistics/1": -0.0133496, "spectrum/1": -0.4531554, "course/1": -0.0018178, "motion/1": 0.0656450}
"""A digest of each set for ever: another figure is another version."""


@every_set
def test_a_version_says_the_same_for_ever(which: str) -> None:
    got = features.extract(which, np.sin(np.arange(4 * 64 * 2.0) ** 1.3).reshape(4, 64, 2))
    assert float((got * np.cos(np.arange(got.shape[1]))).mean()) == pytest.approx(GOLDEN[which], abs=1e-6)


@every_set
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("samples", [FEWEST, 9, 100])
def test_windows_of_any_size_have_finite_features(which: str, channels: int, samples: int) -> None:
    got = features.extract(which, windows(3, samples, channels))
    assert got.shape == (3, len(features.names(which, tuple(map(str, range(channels))))))
    assert np.isfinite(got).all()


@every_set
@pytest.mark.parametrize("value", [0.0, -3.0, 1e15])
def test_a_constant_has_finite_features(which: str, value: float) -> None:
    assert np.isfinite(features.extract(which, np.full((2, 32, 2), value))).all()


@every_set
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), power=st.integers(-30, 9))
def test_readings_of_any_size_have_finite_features(which: str, seed: int, power: int) -> None:
    values = np.random.default_rng(seed).standard_cauchy((3, 16, 2)) * 10.0**power
    assert np.isfinite(features.extract(which, values)).all()


@every_set
def test_all_windows_at_once_are_as_one_by_one_and_untouched(which: str) -> None:
    whole = windows()
    alone = np.concatenate([features.extract(which, whole[n : n + 1]) for n in range(len(whole))])
    np.testing.assert_allclose(features.extract(which, whole), alone, rtol=1e-5, atol=1e-6)
    assert whole.tobytes() == windows().tobytes()
    assert features.extract(which, whole[:0]).shape == (0, alone.shape[1])


def test_statistics_are_what_their_names_say() -> None:
    values = np.array([0.0, 4, 0, 4, 0, 4, 0, 4])
    got = one("statistics/1", values)
    expected: dict[str, float] = {
        "mean": 2,
        "deviation": 2,
        "least": 0,
        "most": 4,
        "median": 4,
        "lower": 0,
        "upper": 4,
        "off": 2,
    }
    expected |= {"skew": 0, "tails": 1, "change": 4, "bend": 8, "crossings": 1}
    expected |= {"next": -7 / 8, "later": -7 / 8, "trend": 1 / 7}
    assert got == pytest.approx({f"v.{name}": value for name, value in expected.items()}, abs=1e-6)


def test_a_ramp_has_a_trend_and_no_bend() -> None:
    got = one("statistics/1", np.arange(64.0))
    assert got["v.trend"] == pytest.approx(0.586, abs=0.01)
    assert (got["v.change"], got["v.bend"]) == (1, 0)


@pytest.mark.parametrize(("cycles", "octave"), [(2, 5), (4, 4), (16, 2), (50, 0)])
def test_a_swing_is_one_line_in_its_octave(cycles: int, octave: int) -> None:
    got = one("spectrum/1", 7 * np.sin(2 * np.pi * cycles * np.arange(128) / 128))
    assert got["v.line"] == pytest.approx(cycles / 64)
    assert got["v.centre"] == pytest.approx(cycles / 64, abs=0.01)
    assert max(range(7), key=lambda n: got[f"v.octave{n}"]) == octave
    assert got["v.entropy"] < 0.3
    assert got["v.strength"] > 0.6


def test_noise_has_a_higher_entropy_than_a_swing() -> None:
    assert one("spectrum/1", windows(1, 128, 1))["v.entropy"] > 0.8


def test_channels_that_go_together_are_told_from_those_that_go_apart() -> None:
    x = windows(1, 64, 1)[0, :, 0]
    got = features.extract("motion/1", np.stack([x, 2 * x + 5, -x], axis=1)[None])[0]
    names = features.names("motion/1", CHANNELS)
    assert [got[names.index(pair)] for pair in ("x.with.y", "x.with.z", "y.with.z")] == pytest.approx([1, -1, -1])
    assert got[names.index("length.mean")] == pytest.approx(np.sqrt(x**2 + (2 * x + 5) ** 2 + x**2).mean(), rel=1e-5)


def test_a_course_of_eight_samples_is_the_samples_and_of_more_their_means() -> None:
    eight = windows(2, 8, 3)
    assert (features.extract("course/1", eight) == np.float32(eight.transpose(0, 2, 1).reshape(2, 24))).all()
    assert features.extract("course/1", np.arange(20.0).reshape(1, 20, 1)).tolist() == [
        [0.5, 3.0, 5.5, 8.0, 10.5, 13.0, 15.5, 18.0]
    ]


@pytest.mark.parametrize("which", ["motion/2", "", "x" * 999])
def test_a_set_that_is_not_here_is_refused(which: str) -> None:
    for ask in (lambda: features.names(which, CHANNELS), lambda: features.extract(which, windows())):
        with pytest.raises(
            ModelRefused, match="expected one of statistics/1, spectrum/1, course/1, motion/1"
        ) as refused:
            ask()
        assert refused.value.reason == "features"


@pytest.mark.parametrize("shape", [(4, 128), (4, FEWEST - 1, 3), (4, 128, 0)], ids=str)
def test_what_are_no_windows_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelRefused, match="windows of shape"):
        features.extract("statistics/1", np.zeros(shape))

"""Every model keeps the contract; gradients are those of finite differences; results are those of scikit-learn."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import gaussian, regression, spread, statistics
from learning.models import (
    Autoencoder,
    Batch,
    Descent,
    Distance,
    Model,
    Perceptron,
    Ridge,
    Smoothed,
    Softmax,
    Standardiser,
    accuracy,
)
from learning.models.distance import BLOCK, smoothed
from learning.models.perceptron import HEAD
from learning.parameters import FURTHEST, Array, size_of, unflatten
from learning.statistics import Vector
from protocol.errors import ModelRefused

FEATURES, CLASSES = 5, 3


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def rows(count: int = 120, seed: int = 7) -> Vector:
    """Vectors in three heaps, about standard."""
    heaps = np.arange(count)[:, None] % CLASSES == np.arange(FEATURES) % CLASSES
    return np.asarray((rng(seed).normal(size=(count, FEATURES)) + 3.0 * heaps - 1.0) / 1.7)


def of_classes(count: int = 120, seed: int = 7) -> Batch:
    return Batch(rows(count, seed), np.arange(count) % CLASSES)


def of_targets(count: int = 120, seed: int = 7) -> Batch:
    x = rows(count, seed)
    return Batch(x, np.stack([x @ np.arange(FEATURES), x[:, 0] - 2], axis=1) + rng(seed).normal(size=(count, 2)) / 10)


def of_nothing(count: int = 120, seed: int = 7) -> Batch:
    x = rows(count, seed)
    return Batch(10 + x @ rng().normal(size=(FEATURES, FEATURES)))


MODELS: dict[str, tuple[Callable[[], Model], Callable[..., Batch]]] = {
    "standardiser": (lambda: Standardiser(FEATURES), of_nothing),
    "ridge": (lambda: Ridge(FEATURES, 2), of_targets),
    "softmax": (lambda: Softmax(FEATURES, CLASSES, penalty=0.01), of_classes),
    "perceptron": (lambda: Perceptron(FEATURES, 8, CLASSES, rng()), of_classes),
    "distance": (lambda: Distance(FEATURES), of_nothing),
    "smoothed": (lambda: Smoothed(FEATURES), of_nothing),
    "autoencoder": (lambda: Autoencoder(FEATURES, 6, 2, rng()), lambda *how: Batch(of_classes(*how).x)),
}
every_model = pytest.mark.parametrize(("make", "data"), MODELS.values(), ids=MODELS.keys())
Make = Callable[[], Model]
Data = Callable[..., Batch]


@every_model
def test_it_predicts_before_it_has_learnt(make: Make, data: Data) -> None:
    said = make().predict(data().x)
    assert len(said) == len(data().x)
    assert np.isfinite(said).all()
    assert np.isfinite(make().loss(data()))


@every_model
def test_it_learns(make: Make, data: Data) -> None:
    model = make()
    before = model.loss(data(120, 8))
    model.fit(data(), rng())
    assert model.loss(data(120, 8)) < before - 0.01 * abs(before)


@every_model
def test_parameters_are_taken_and_given_and_make_another_the_same(make: Make, data: Data) -> None:
    model, other = make(), make()
    model.fit(data(), rng())
    vector = model.get()
    assert vector.dtype == np.float32
    assert vector.shape == (size_of(model.layout),)
    other.set(vector)
    assert other.layout == model.layout
    assert other.get().tobytes() == vector.tobytes()
    np.testing.assert_array_equal(other.predict(data().x), model.predict(data().x))
    assert other.loss(data()) == model.loss(data())


@every_model
def test_the_vector_it_gives_and_the_one_it_takes_are_not_its_own(make: Make, data: Data) -> None:
    model = make()
    vector = model.get()
    said = model.predict(data().x).tobytes()
    model.get()[:] = 99
    model.set(vector)
    vector[:] = 99
    assert model.predict(data().x).tobytes() == said


@every_model
def test_the_same_chance_gives_the_same_parameters_and_the_batch_is_untouched(make: Make, data: Data) -> None:
    batch, model, other = data(), make(), make()
    before = [None if part is None else part.tobytes() for part in batch]
    model.fit(batch, rng())
    other.fit(batch, rng())
    assert model.get().tobytes() == other.get().tobytes()
    model.predict(batch.x)
    model.loss(batch)
    assert before == [None if part is None else part.tobytes() for part in batch]


@every_model
def test_one_row_is_a_batch(make: Make, data: Data) -> None:
    model, one = make(), data(1)
    model.fit(one, rng())
    assert np.isfinite(model.predict(one.x)).all()
    assert np.isfinite(model.loss(one))


@every_model
def test_float32_vectors_are_vectors_too(make: Make, data: Data) -> None:
    model, batch = make(), data()
    narrow = batch._replace(x=batch.x.astype(np.float32))
    model.fit(narrow, rng())
    assert model.predict(narrow.x) == pytest.approx(model.predict(batch.x), rel=1e-3, abs=1e-3)


@every_model
def test_what_is_no_vector_of_its_own_is_refused_and_changes_nothing(make: Make, data: Data) -> None:
    model = make()
    before = model.predict(data().x).tobytes()
    good = model.get()
    for bad in (good[1:], good.reshape(1, -1), np.where(np.arange(len(good)) == 1, np.nan, good), good.astype(int)):
        with pytest.raises(ModelRefused) as refused:
            model.set(bad)
        assert refused.value.reason == "content"
    assert model.predict(data().x).tobytes() == before


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), power=st.integers(-30, 15))
def test_whatever_it_is_set_to_it_says_something_finite(name: str, seed: int, power: int) -> None:
    make, data = MODELS[name]
    model = make()
    size = size_of(model.layout)
    model.set(np.clip(rng(seed).normal(size=size) * 10.0**power, -FURTHEST, FURTHEST))
    assert np.isfinite(model.predict(data().x)).all()
    assert np.isfinite(model.loss(data()))


DESCENDING = {name: MODELS[name] for name in ("softmax", "perceptron", "autoencoder")}
every_descending = pytest.mark.parametrize(("make", "data"), DESCENDING.values(), ids=DESCENDING.keys())


@every_descending
def test_gradients_are_those_of_finite_differences(make: Callable[[], Any], data: Data) -> None:
    model, batch, step = make(), data(20), 1e-6
    at = rng(3).normal(size=size_of(model.layout))
    loss, slope = model.gradient(at, batch)
    assert slope.dtype == at.dtype
    for place in range(len(at)):
        nudge = np.where(np.arange(len(at)) == place, step, 0)
        measured = (model.gradient(at + nudge, batch)[0] - model.gradient(at - nudge, batch)[0]) / (2 * step)
        assert slope[place] == pytest.approx(measured, rel=1e-5, abs=1e-7)
    model.set(at)
    assert model.loss(batch) == pytest.approx(loss, rel=1e-5)


@every_descending
def test_nothing_makes_it_learn_what_is_not_finite(make: Callable[[], Any], data: Data) -> None:
    model, batch = make(), data()
    model.how = Descent(rate=1e30)
    before = model.get().tobytes()
    with pytest.raises(ModelRefused):
        model.fit(batch, rng())
    assert model.get().tobytes() == before


def test_a_personal_head_leaves_the_body_as_it_was() -> None:
    model = Perceptron(FEATURES, 8, CLASSES, rng(), how=Descent(only=HEAD))
    before = unflatten(model.layout, model.get())
    model.fit(of_classes(), rng())
    after = unflatten(model.layout, model.get())
    assert {name for name in before if before[name].tobytes() != after[name].tobytes()} == set(HEAD)


def test_a_proximal_term_keeps_it_nearer_to_where_it_began() -> None:
    free, held = (Softmax(FEATURES, CLASSES, how=Descent(proximal=proximal)) for proximal in (0.0, 1.0))
    for model in (free, held):
        model.fit(of_classes(), rng())
    assert np.linalg.norm(held.get()) < 0.8 * np.linalg.norm(free.get())


def test_three_heaps_are_told_apart() -> None:
    models: list[Model] = [Softmax(FEATURES, CLASSES), Perceptron(FEATURES, 8, CLASSES, rng())]
    for model in models:
        model.fit(of_classes(600), rng())
        assert accuracy(model, of_classes(120, 9)) > 0.9


def test_a_standardiser_of_a_fleet_is_that_of_all_rows() -> None:
    x, one, fleet = of_nothing().x, Standardiser(FEATURES), Standardiser(FEATURES)
    one.fit(Batch(x), rng())
    fleet.learn(spread.merge_all((spread.of(part) for part in (x[:7], x[7:80], x[80:])), FEATURES))
    np.testing.assert_allclose(fleet.get(), one.get(), rtol=1e-6)
    scaled = one.predict(x)
    assert scaled.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert scaled.std(axis=0) == pytest.approx(1, abs=1e-4)


def test_a_constant_feature_is_0_however_large() -> None:
    model = Standardiser(1)
    model.fit(Batch(np.full((5, 1), 1e9)), rng())
    assert model.predict(np.full((2, 1), 1e9)).tolist() == [[0], [0]]


def test_a_ridge_of_a_fleet_is_that_of_all_rows() -> None:
    batch, one, fleet = of_targets(), Ridge(FEATURES, 2), Ridge(FEATURES, 2)
    assert batch.y is not None
    one.fit(batch, rng())
    parts = [regression.of(batch.x[cut], batch.y[cut]) for cut in (slice(0, 3), slice(3, 60), slice(60, None))]
    fleet.learn(statistics.merge_all(parts, FEATURES + 2))
    np.testing.assert_allclose(fleet.get(), one.get(), rtol=1e-5, atol=1e-6)


def test_t2_is_that_of_numpy_and_as_large_as_chance_allows() -> None:
    x, model = of_nothing(2000).x, Distance(FEATURES)
    model.fit(Batch(x), rng())
    about = x - x.mean(axis=0)
    deviation = x.std(axis=0, ddof=1)
    drawn = np.corrcoef(x.T) * (1 - gaussian.RIDGE) + gaussian.RIDGE * np.eye(FEATURES)
    expected = ((about / deviation) @ np.linalg.inv(drawn) * (about / deviation)).sum(axis=1)
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-2)
    assert (model.predict(x) > gaussian.limit(3, FEATURES)).mean() < 0.01


def test_smoothing_is_the_recursion_whatever_the_block() -> None:
    x, last, slow = rng().normal(size=(2 * BLOCK + 3, 2)), np.zeros(2), []
    for row in x:
        last = 0.3 * row + 0.7 * last
        slow.append(last)
    np.testing.assert_allclose(smoothed(x, 0.3), slow)


def test_a_small_lasting_shift_is_seen_by_mewma_and_not_by_t2() -> None:
    normal = rng().normal(size=(500, 4))
    moved = rng(8).normal(size=(200, 4)) + 0.7
    square, smooth = Distance(4), Smoothed(4, share=0.1)
    for model in (square, smooth):
        model.fit(Batch(normal), rng())
    limit = gaussian.limit(3.5, 4)
    assert (square.predict(moved) > limit).mean() < 0.1
    assert (smooth.predict(moved)[50:] > limit).mean() > 0.9
    np.testing.assert_allclose(Smoothed(4, share=1.0).predict(moved), Distance(4).predict(moved))


def test_an_autoencoder_is_worst_where_it_never_was() -> None:
    model = Autoencoder(FEATURES, 6, 2, rng(), how=Descent(epochs=20))
    model.fit(Batch(rows(400)), rng())
    usual = model.predict(rows(100, 8))
    unusual = model.predict(rows(100, 8)[:, ::-1] * np.array([3, -3, 3, -3, 3]))
    assert np.median(unusual) > 3 * np.median(usual)


def sklearn(module: str) -> Any:
    """A module of scikit-learn, or the reason why there is nothing to compare with."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: it comes with the extra `dev`")
    return importlib.import_module(f"sklearn.{module}")


def test_softmax_is_that_of_scikit_learn() -> None:
    batch, penalty = of_classes(300), 0.05
    model = Softmax(FEATURES, CLASSES, penalty=penalty, how=Descent(epochs=300, rate=1.0, rows=300))
    model.fit(batch, rng())
    peer = sklearn("linear_model").LogisticRegression(C=1 / (penalty * 300), tol=1e-8, max_iter=1000)
    peer.fit(batch.x, batch.y)
    np.testing.assert_allclose(model.predict(batch.x), peer.predict_proba(batch.x), atol=2e-3)
    # neither penalises a bias, and softmax is blind to what is added to all classes alike
    weights = model.parts["weights"] - model.parts["weights"].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(weights, peer.coef_.T - peer.coef_.T.mean(axis=1, keepdims=True), atol=5e-3)


def test_ridge_is_that_of_scikit_learn() -> None:
    batch, model = of_targets(), Ridge(FEATURES, 2, penalty=3.0)
    model.fit(batch, rng())
    peer = sklearn("linear_model").Ridge(alpha=3.0).fit(batch.x, batch.y)
    np.testing.assert_allclose(model.parts["weights"], peer.coef_.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.parts["intercept"], peer.intercept_, rtol=1e-5)


def test_a_perceptron_steps_as_that_of_scikit_learn() -> None:
    """One step of each over all rows, from the same weights."""
    batch = of_classes(60)
    how = Descent(epochs=1, rate=0.1, rows=60)
    model = Perceptron(FEATURES, 8, CLASSES, rng(), penalty=0.6 / 60, how=how)  # theirs is divided by the rows
    network = sklearn("neural_network")
    peer = network.MLPClassifier(
        (8,), solver="sgd", alpha=0.6, batch_size=60, learning_rate_init=0.1, momentum=0, max_iter=1, random_state=7
    )
    peer.partial_fit(batch.x, batch.y, classes=np.arange(CLASSES))
    parts = {name: part.astype(np.float64) for name, part in model.parts.items()}
    peer.coefs_ = [parts["into"].copy(), parts["out"].copy()]
    peer.intercepts_ = [parts["into_bias"].copy(), parts["out_bias"].copy()]
    np.testing.assert_allclose(model.predict(batch.x), peer.predict_proba(batch.x), rtol=1e-5)
    peer.partial_fit(batch.x, batch.y)
    model.fit(batch, rng())
    theirs: list[Array] = [*peer.coefs_, *peer.intercepts_]
    for name, expected in zip(("into", "out", "into_bias", "out_bias"), theirs, strict=True):
        np.testing.assert_allclose(model.parts[name], expected, rtol=1e-4, atol=1e-6)

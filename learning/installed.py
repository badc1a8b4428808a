"""Features and models that others have written: entry points of the groups `fieldgate.features` and `fieldgate.models`.

    [project.entry-points."fieldgate.features"]
    "mine/1" = "mine:features"  # what has `names` and `compute`, as `learning.features.FeatureSet`: a module will do

    [project.entry-points."fieldgate.models"]
    mine = "mine:Mine"          # called with (features, classes, Learning, Generator): a `learning.models.Model`

Rules:

1. Nothing that a message says is imported: a name is looked up among what is installed here. Whoever uses one installs
   it on both sides; a name and version say the same for ever.
2. What is found is tried once against its contract, when it is first asked for: ModelRefused("features") or ("model")
   says what is missing. A model gives the probability of each class, (n, classes).
3. Whatever it raises or gives later that cannot be is ModelRefused too: it costs what it was asked for, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.random import Generator, default_rng

from learning.models.contract import Batch, Model
from learning.parameters import Array, Flat, size_of
from protocol.errors import ModelRefused
from protocol.training import FEATURES, MIN_SAMPLES, MODELS, Learning

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

FEATURE_SETS, MODEL_KINDS = "fieldgate.features", "fieldgate.models"
"""The groups."""

MAX_FEATURES = 4_096
"""Of a set, for any channels."""

CLOSE = 1e-3
"""Probabilities of a window add up to 1 within this."""

OF_A_SET = ("names", "compute")
OF_A_MODEL = ("layout", "get", "set", "fit", "predict", "loss")


class Features(Protocol):
    """A set of features."""

    def names(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """Name the features of these channels."""

    def compute(self, windows: Array) -> Array:
        """Give features, (n, f), of windows, (n, samples, channels) float64, which stay as they are."""


Make = Callable[[int, int, Learning, Generator], Any]


def feature_sets() -> list[str]:
    """Name all sets that may be used here."""
    return [*FEATURES, *sorted(point.name for point in _points(FEATURE_SETS))]


def model_kinds() -> list[str]:
    """Name all kinds of models that may be used here."""
    return [*MODELS, *sorted(point.name for point in _points(MODEL_KINDS))]


@cache
def features(name: str) -> Features:
    """Give the set that is installed under a name; ModelRefused("features") for none, or one without the contract."""
    found = _Set(name, _load(FEATURE_SETS, name, "features", feature_sets))
    _try_set(found)
    return found


@cache
def model_kind(name: str) -> Make:
    """Give what makes a kind of model; ModelRefused("model") for none, or one without the contract."""
    make: Make = _load(MODEL_KINDS, name, "model", model_kinds)
    _try_model(name, make)
    return make


def model(name: str, size: int, classes: int, learning: Learning, rng: Generator) -> Model:
    """Make a model of a kind that is installed, as `model_kind`."""
    return _Kept(name, model_kind(name), size, classes, learning, rng)


def predictor(name: str, size: int, classes: int) -> Predicting:
    """Make what only predicts: `get`, `set`, `fit` and `loss` need not be there. ModelRefused("model")."""
    return Predicting(name, _load(MODEL_KINDS, name, "model", model_kinds), size, classes, Learning(), default_rng(0))


@contextmanager
def guarded(reason: str, who: str) -> Iterator[None]:
    """Whatever a stranger's code raises becomes ModelRefused(reason), which says whose it is."""
    try:
        yield
    except (ModelRefused, MemoryError):
        raise
    except Exception as error:
        raise ModelRefused(reason, f"{who}: {type(error).__name__}: {error}") from error


def sound(said: Any, rows: int, columns: int, reason: str, who: str) -> Array:
    """Give what a stranger's code said if it is (rows, columns) of finite numbers, else ModelRefused(reason)."""
    with guarded(reason, who):
        found = np.asarray(said)
    if found.shape != (rows, columns) or found.dtype.kind not in "fiub":
        raise ModelRefused(reason, f"{who} gave {found.dtype} of shape {found.shape}, expected ({rows}, {columns})")
    if not np.isfinite(found).all():
        raise ModelRefused(reason, f"{who} gave numbers that are not finite")
    return found


class _Set:
    """A set of features that is not ours."""

    def __init__(self, name: str, found: Any) -> None:
        self.name = name
        _has(found, OF_A_SET, "features", name)
        self._found = found

    def names(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """Name the features; ModelRefused("features") for what are no names."""
        with guarded("features", f"names of {self.name}"):
            said = tuple(self._found.names(channels))
        if not all(isinstance(one, str) for one in said) or not 0 < len(set(said)) == len(said) <= MAX_FEATURES:
            raise ModelRefused("features", f"names of {self.name}: expected 1 to {MAX_FEATURES} different texts")
        return said

    def compute(self, windows: Array) -> Array:
        """Give features, (n, f); ModelRefused("features") for what are none."""
        size = len(self.names(tuple(map(str, range(windows.shape[2])))))
        if not len(windows):  # a stranger's reshape need not cope with that
            return np.zeros((0, size))
        with guarded("features", f"compute of {self.name}"):
            said = self._found.compute(windows)
        return sound(said, len(windows), size, "features", f"compute of {self.name}")


class Predicting:
    """What predicts and is not ours."""

    def __init__(self, name: str, make: Any, size: int, classes: int, learning: Learning, rng: Generator) -> None:  # noqa: PLR0917 - as a Make
        self.name, self._classes = name, classes
        with guarded("model", name):
            self._made = make(size, classes, learning, rng)
        _has(self._made, ("predict",), "model", name)

    def predict(self, x: Array) -> Array:
        """Give the probability of each class, (n, classes), for features, (n, d); ModelRefused("model")."""
        with guarded("model", f"predict of {self.name}"):
            said = self._made.predict(x)
        return sound(said, len(x), self._classes, "model", f"predict of {self.name}")


class _Kept(Predicting):
    """A model that is not ours."""

    @property
    def layout(self) -> Any:
        """What the vector is made of."""
        return self._made.layout

    def get(self) -> Flat:
        """Give the parameters."""
        with guarded("model", f"get of {self.name}"):
            vector: Flat = self._made.get()
        return vector

    def set(self, vector: Array) -> None:
        """Take parameters."""
        with guarded("content", f"set of {self.name}"):
            self._made.set(vector)

    def fit(self, batch: Batch, rng: Generator) -> None:
        """Learn."""
        with guarded("model", f"fit of {self.name}"):
            self._made.fit(batch, rng)

    def loss(self, batch: Batch) -> float:
        """Give what `fit` makes smaller."""
        with guarded("model", f"loss of {self.name}"):
            return float(self._made.loss(batch))


def _points(group: str) -> EntryPoints:
    from importlib.metadata import entry_points  # noqa: PLC0415 - 2 MB that a gateway without any does without

    return entry_points(group=group)


def _load(group: str, name: str, reason: str, known: Callable[[], list[str]]) -> Any:
    points = _points(group).select(name=name)
    if not points:
        raise ModelRefused(reason, f"no {name:.64} is installed here, expected one of {', '.join(known())}")
    with guarded(reason, name):
        return next(iter(points)).load()


def _has(found: Any, needs: tuple[str, ...], reason: str, name: str) -> None:
    if missing := [one for one in needs if not hasattr(found, one)]:
        raise ModelRefused(reason, f"{name} has no {', '.join(missing)}")


def _try_set(found: _Set) -> None:
    windows = default_rng(0).normal(size=(3, MIN_SAMPLES, 2))
    before = windows.tobytes()
    whole = found.compute(windows)
    if windows.tobytes() != before:
        raise ModelRefused("features", f"compute of {found.name} changes the windows it is given")
    if not np.allclose(found.compute(windows[:1]), whole[:1], rtol=1e-4, atol=1e-6):
        raise ModelRefused("features", f"compute of {found.name}: a window's features depend on the windows beside it")
    found.compute(np.ones_like(windows))


def _try_model(name: str, make: Make) -> None:
    rng, (size, classes) = default_rng(0), (4, 3)
    batch = Batch(rng.normal(size=(12, size)), np.arange(12) % classes)
    before = batch.x.tobytes()
    one, other = (_Kept(name, make, size, classes, Learning(), default_rng(0)) for _ in range(2))
    _has(one._made, OF_A_MODEL, "model", name)  # noqa: SLF001 - ours
    _expect(np.allclose(one.predict(batch.x).sum(axis=1), 1, atol=CLOSE), f"{name}: predict gives no probabilities")
    one.fit(batch, default_rng(1))
    vector = one.get()
    with guarded("model", f"layout of {name}"):
        sized = vector.dtype == np.float32 and vector.shape == (size_of(one.layout),)
    _expect(sized, f"{name}: get gives no float32 vector of its layout")
    _expect(batch.x.tobytes() == before, f"{name}: fit changes the batch")
    other.set(vector)
    _expect(other.get().tobytes() == vector.tobytes(), f"{name}: get gives another vector than set took")
    _expect(np.array_equal(other.predict(batch.x), one.predict(batch.x)), f"{name}: its vector is not all of it")
    with guarded("model", f"loss of {name}"):
        _expect(bool(np.isfinite(one.loss(batch))), f"{name}: its loss is not finite")


def _expect(kept: bool, otherwise: str) -> None:
    if not kept:
        raise ModelRefused("model", otherwise)

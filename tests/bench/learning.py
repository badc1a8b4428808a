"""Federated averaging of ten gateways in one process, against all rows in one place: `python -m tests.bench.learning`.

Digits (of scikit-learn, where it is installed): 1,797 in the order they were written, so neighbours are of one hand;
each quarter is left out once to test, ten gateways share the rest. With --data DIR also HAPT, which is not part of this
(hapt_acc_users_1-5_10-15.npz): eleven people's acceleration, each left out once, the other ten being a gateway each,
features `motion/1`. Features are standardised by merged spreads. `poisoned`: two of ten flip labels and scale by -5.
`accuracy` is after each round, over all that was left out; `bytes` is one update of one gateway.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from learning import aggregation, features, server, spread, updates
from learning.aggregation import Offer, Rule
from learning.models import Batch, Descent, Model, Perceptron, Softmax, Standardiser, accuracy
from learning.parameters import Flat
from learning.updates import Codec
from tests.bench.rig import say

GATEWAYS = 10
ROUNDS = 10
POISONED = (0, 1)
HIDDEN = 64

Make = Callable[[int, int, Descent], Model]


class Fold(NamedTuple):
    """What each gateway has, what is left out, and how many classes there are."""

    gateways: list[Batch]
    unseen: Batch
    classes: int


class Way(NamedTuple):
    """One way to federate."""

    codec: Codec = "i8"
    rule: Rule = "trimmed"
    poisoned: bool = False


class Run(NamedTuple):
    """Accuracy after each round, and the bytes of one update."""

    accuracy: list[float]
    size: int


WAYS = {
    "f32 mean": Way("f32", "mean"),
    "i8 mean": Way("i8", "mean"),
    "topk mean": Way("topk", "mean"),
    "sign mean": Way("sign", "mean"),
    "i8 trimmed": Way(),
    "i8 trimmed, 2 of 10 poisoned": Way(poisoned=True),
}


def softmax(width: int, classes: int, how: Descent) -> Model:
    """The model to begin with."""
    return Softmax(width, classes, how=how)


def perceptron(width: int, classes: int, how: Descent) -> Model:
    """7,558 parameters for 111 features and 6 classes; all begin alike."""
    return Perceptron(width, HIDDEN, classes, np.random.default_rng(7), how=how)


def measure(data: Path | None) -> Iterator[dict[str, object]]:
    """Every model and way, on every set that is at hand."""
    for name, folds in sets(data):
        for make in (softmax, perceptron):
            about = {"set": name, "model": make.__name__}
            weights = [len(fold.unseen.x) for fold in folds]
            whole = np.average([pooled(fold, make) for fold in folds], weights=weights)
            yield about | {"way": "all in one place", "accuracy": round(float(whole), 4)}
            for way, how in WAYS.items():
                runs = [federate(fold, make, how) for fold in folds]
                each = np.average([run.accuracy for run in runs], axis=0, weights=weights)
                yield about | {"way": way, "accuracy": each.round(4).tolist(), "bytes": max(run.size for run in runs)}


def sets(data: Path | None) -> Iterator[tuple[str, list[Fold]]]:
    """Give the sets that are at hand."""
    if importlib.util.find_spec("sklearn"):
        yield "digits", digits()
    else:
        say("learning", {"set": "digits", "skipped": "scikit-learn is not installed"})
    if data and (data / "hapt_acc_users_1-5_10-15.npz").exists():
        yield "hapt", hapt(data / "hapt_acc_users_1-5_10-15.npz")


def digits() -> list[Fold]:
    """Each quarter left out once, the rest in ten parts."""
    x, y = importlib.import_module("sklearn.datasets").load_digits(return_X_y=True)
    rows = np.arange(len(x))
    folds = []
    for unseen in np.array_split(rows, 4):
        parts = [Batch(x[part], y[part]) for part in np.array_split(np.setdiff1d(rows, unseen), GATEWAYS)]
        folds.append(_standardised(Fold(parts, Batch(x[unseen], y[unseen]), 10)))
    return folds


def hapt(path: Path) -> list[Fold]:
    """Each person left out once, the others a gateway each."""
    data = np.load(path, allow_pickle=False)
    x = features.extract("motion/1", data["windows_q"] * float(data["scale"]))
    people = {int(user): Batch(x[data["user"] == user], data["y"][data["user"] == user]) for user in set(data["user"])}
    folds = [Fold([people[user] for user in sorted(people) if user != out], people[out], 6) for out in sorted(people)]
    return [_standardised(fold) for fold in folds]


def _standardised(fold: Fold) -> Fold:
    width = fold.unseen.x.shape[1]
    scale = Standardiser(width)
    scale.learn(spread.merge_all((spread.of(batch.x) for batch in fold.gateways), width))
    batches = [Batch(scale.predict(batch.x), batch.y) for batch in (*fold.gateways, fold.unseen)]
    return Fold(batches[:-1], batches[-1], fold.classes)


def pooled(fold: Fold, make: Make) -> float:
    """Accuracy of a model that learnt from all rows in one place, in as many passes."""
    how = Descent(epochs=ROUNDS * Descent().epochs)
    model = make(fold.unseen.x.shape[1], fold.classes, how)
    labels = np.concatenate([np.asarray(batch.y) for batch in fold.gateways])
    model.fit(Batch(np.concatenate([batch.x for batch in fold.gateways]), labels), np.random.default_rng(7))
    return accuracy(model, fold.unseen)


def federate(fold: Fold, make: Make, way: Way, rounds: int = ROUNDS) -> Run:
    """Train for some rounds, each: local descent, encode, admit, clip, combine, stretch, step."""
    model = make(fold.unseen.x.shape[1], fold.classes, Descent())
    owed: list[Flat | None] = [None] * len(fold.gateways)
    vector, memory = model.get(), server.nothing(len(model.get()))
    seen, size = [], 0
    for number in range(rounds):
        offers = []
        for who, batch in enumerate(fold.gateways):
            rng = np.random.default_rng([7, number, who])
            bad = way.poisoned and who in POISONED
            delta = _delta(model, vector, _flipped(batch, fold.classes) if bad else batch, rng)
            encoded = updates.encode(way.codec, delta * np.float32(-5 if bad else 1), rng, owed[who])
            owed[who] = encoded.residual
            offers.append(Offer(f"gateway-{who}", len(batch.x), encoded.payload))
            size = max(size, len(encoded.payload))
        admitted, refused = aggregation.admit(offers, len(vector))
        assert all(one.reason == "outlier" for one in refused), refused
        clipped = aggregation.clip(admitted)
        combined = aggregation.combine(way.rule, clipped)
        combined = server.stretched(combined, clipped.norms, clipped.weights)
        vector, memory = server.step(server.Step(), vector, combined, memory)
        model.set(vector)
        seen.append(accuracy(model, fold.unseen))
    return Run(seen, size)


def _delta(model: Model, vector: Flat, batch: Batch, rng: Generator) -> Flat:
    model.set(vector)
    model.fit(batch, rng)
    return model.get() - vector


def _flipped(batch: Batch, classes: int) -> Batch:
    return Batch(batch.x, (np.asarray(batch.y) + 1) % classes)


def main() -> None:
    """Print one JSON object for each set, model and way."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.learning")
    parser.add_argument("--data", type=Path, help="directory of the public sets")
    for figures in measure(parser.parse_args().data):
        say("learning", figures)


if __name__ == "__main__":
    main()

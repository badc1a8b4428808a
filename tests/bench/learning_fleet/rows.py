"""What ten gateways that learn together come to: `python -m tests.bench learning_fleet [--data DIR]`.

Each person's readings are in the journal of one gateway. In turn one person from the third on is left out, to test: of
what each round has made, over all of that person's windows. `central`: the same rows learnt in one place in as many
passes.

| figure | what |
|---|---|
| `round_s` | seconds from the tasks of a round to its end, in the cloud: median and 90th percentile of all rounds |
| `bytes_up` | of a round and a gateway: the answer, and as it was on the wire, with envelope and frame |
| `memory_mb` | of the gateway that needs most: see `fleet.Memory` |
| `time_to_s` | until what was made is right in TARGET of them; paced rounds take 1 s, on two gateways 10 s |
| `bad` | candidates that are random, turned round, of another schema or of an early round, and how many got through |
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from gateway.trainer.dataset import Split, split
from learning import classifier, spread
from learning.classifier import Classifier
from learning.models import Batch
from learning.parameters import Array
from protocol.training import Dataset, Learning
from tests.bench.learning_fleet.fleet import Fleet, Memory, gateway_name, running
from tests.bench.learning_fleet.people import POISONED, People, at_hand
from tests.bench.rig import scratch

Figures = dict[str, object]

ROUNDS = 10
TARGET = 0.90
FOLDS = range(len(POISONED), 11)
LEARNING = Learning("perceptron")

WAYS = {
    "i8": 'codec = "i8"',
    "f32": 'codec = "f32"',
    "topk": 'codec = "topk"',
    "poisoned": 'codec = "i8"\nlabel = "told"',
    "all-paced": "rounds = 4",
    "four-paced": "goal = 4\nstaleness = 40\nrounds = 40",
}
PACED = ("all-paced", "four-paced")
MEASURED = ("i8", "f32", "topk", "poisoned")


def tables(people: People) -> str:
    """Configure a training of each way for each person left out; none begins by itself."""
    return "".join(_table(people.dataset, way, fold) for way in WAYS for fold in FOLDS)


def _table(dataset: Dataset, way: str, fold: int) -> str:
    asked = [gateway_name(person) for person in range(11) if person != fold]
    said = {
        "name": f'"{training(way, fold)}"',
        "channels": str(list(dataset.channels)).replace("'", '"'),
        "label": f'"{dataset.label}"',
        "classes": str(dataset.classes),
        "samples": str(dataset.samples),
        "hop": str(dataset.hop),
        "features": f'"{dataset.features}"',
        "gateways": str(asked).replace("'", '"'),
        "model": f'"{LEARNING.model}"',
        "rounds": str(ROUNDS),
        "fewest": "10",
        "every": '"0s"',
    } | dict(line.split(" = ") for line in WAYS[way].splitlines())
    return "[[training]]\n" + "".join(f"{key} = {value}\n" for key, value in said.items())


def training(way: str, fold: int) -> str:
    """Name a training."""
    return f"person-{fold}-{way}"


class Run(NamedTuple):
    """A training: right answers on the person left out after each round, its seconds and bytes, and when it ended."""

    accuracy: list[float]
    seconds: list[float]
    bytes_up: float
    bytes_wire: float
    at: list[float]  # s after the survey

    @property
    def time_to(self) -> float | None:
        """Say after how many seconds the target was met."""
        return next((at for at, right in zip(self.at, self.accuracy, strict=True) if right >= TARGET), None)


async def run(fleet: Fleet, way: str, fold: int) -> Run:
    """Run one training to its end."""
    name = training(way, fold)
    before = (await fleet.ask("/v1/stats"))["bytes_received"]
    stages = await fleet.train(name)
    wire = (await fleet.ask("/v1/stats"))["bytes_received"] - before
    unseen = fleet.people.examples(fold)
    rounds = [stage for stage in stages if stage["stage"] == "round"]
    number = rounds[-1]["run"]
    models = [classifier.decode(fleet.bases[name][number, stage["round"] + 1]) for stage in rounds]
    answers = [stage["answered"] for stage in stages]
    envelope = (wire - sum(stage["bytes_up"] for stage in stages)) / sum(map(len, answers))
    bytes_up = float(np.mean([stage["bytes_up"] / len(stage["answered"]) for stage in rounds]))
    return Run(
        [model.accuracy(unseen.x, unseen.y) for model in models],
        [stage["seconds"] for stage in rounds],
        bytes_up,
        bytes_up + envelope,
        [(stage["ended"] - stages[0]["ended"]) / 1e9 for stage in rounds],
    )


def central(people: People, fold: int) -> float:
    """Learn from the same rows in one place, in as many passes; how many answers are right."""
    parts = [people.examples(person) for person in range(11) if person != fold]
    merged = spread.merge_all((spread.of(part.x) for part in parts), parts[0].x.shape[1])
    how = Learning(LEARNING.model, epochs=ROUNDS * LEARNING.epochs)
    model = classifier.begin(people.dataset, how, merged, np.random.default_rng(0))
    found: Split = split(parts, 0.2, people.dataset.samples // people.dataset.hop)
    batch = Batch(model.standardise(found.learnt.x), found.learnt.y)
    unseen = people.examples(fold)
    return model.fitted(batch, np.random.default_rng(0)).accuracy(unseen.x, unseen.y)


def measure(data: Path | None, sets: tuple[str, ...] = ("digits", "hapt")) -> Iterator[Figures]:
    """Measure every set that is at hand."""
    people = [found for found in at_hand(data) if found.name in sets]
    if not people:
        yield {"skipped": "scikit-learn is not installed, and --data has no HAPT"}
    for found in people:
        with scratch() as directory:
            yield {"set": found.name, **asyncio.run(_measure(directory, found))}


async def _measure(directory: Path, people: People) -> Figures:
    async with running(directory, people, tables) as fleet:
        runs = {way: [await run(fleet, way, fold) for fold in FOLDS] for way in MEASURED}
        memory = max((Memory.of(gateway.pid) for gateway in fleet.gateways), key=lambda one: one.both)
        through = {kind: await got_through(fleet, found) for kind, found in bad(fleet).items()}
        fold = next((fold for fold, one in zip(FOLDS, runs["i8"], strict=True) if one.time_to is not None), None)
        ear = asyncio.create_task(fleet.eavesdrop(range(11)))  # in each of these rounds only some are asked
        paced = {} if fold is None else {way: await run(fleet, way, fold) for way in PACED}
        ear.cancel()
    seconds = np.concatenate([one.seconds for of_way in runs.values() for one in of_way])
    return {
        "parameters": len(classifier.decode(fleet.bases[training("i8", FOLDS[0])][1, 1]).vector),
        "rounds": len(seconds),
        "round_s": dict(zip(("p50", "p90"), np.percentile(seconds, [50, 90]).round(3).tolist(), strict=True)),
        "central": round(float(np.mean([central(people, fold) for fold in FOLDS])), 4),
        "accuracy": {way: _mean([one.accuracy for one in of_way]) for way, of_way in runs.items()},
        "bytes_up": {way: _bytes(of_way) for way, of_way in runs.items()},
        "memory_mb": memory._asdict(),
        "time_to_s": {way: one.time_to for way, one in paced.items()},
        "bad": through,
    }


def bad(fleet: Fleet) -> dict[str, list[bytes]]:
    """Make candidates of what the first training made, five of each kind."""
    bases = fleet.bases[training("i8", FOLDS[0])]
    good = classifier.decode(bases[1, ROUNDS + 1])
    rng = np.random.default_rng(7)
    size, scale = len(good.vector), float(good.vector.std())
    other = [msgspec.structs.replace(good.dataset, samples=good.dataset.samples * factor) for factor in (2, 4, 8)]
    return {
        "random": [_with(good, scale * rng.normal(size=size)) for _ in range(5)],
        "turned round": [_with(good, -factor * good.vector) for factor in (1, 0.5, 2, 5, 10)],
        "other schema": [b"junk", bases[1, 2][:-1], *(_of(good, dataset) for dataset in other)],
        "stale": [bases[1, number] for number in range(1, 6)],
    }


def _with(good: Classifier, vector: Array) -> bytes:
    return classifier.encode(good.with_vector(vector.astype(np.float32)))


def _of(good: Classifier, dataset: Dataset) -> bytes:
    return classifier.encode(Classifier(dataset, good.learning, good.standardiser, good.net))


async def got_through(fleet: Fleet, candidates: list[bytes]) -> str:
    """Push candidates; say how many of them were promoted."""
    name, promoted = training("i8", FOLDS[0]), 0
    for candidate in candidates:
        fleet.stages[name] = []
        if await fleet.post(f"/v1/models?model={name}", candidate) == 200:
            await fleet.tried(name)
            [view] = [one for one in (await fleet.ask("/v1/trainings"))["trainings"] if one["name"] == name]
            promoted += view["verdict"] == "promoted"
    return f"{promoted} of {len(candidates)}"


def _mean(rows: list[list[float]]) -> list[float]:
    mean: list[float] = np.mean(rows, axis=0).round(4).tolist()
    return mean


def _bytes(runs: list[Run]) -> dict[str, int]:
    return {
        "answer": round(float(np.mean([one.bytes_up for one in runs]))),
        "wire": round(float(np.mean([one.bytes_wire for one in runs]))),
    }

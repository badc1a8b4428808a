"""What the measurement of a fleet that learns counts on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from cli import series
from cloud.config import parse
from gateway.trainer.dataset import Column, examples
from learning import classifier, spread, updates
from protocol.tasks import Task
from protocol.training import Dataset, Given, Learning, Trained
from tests.bench.learning_fleet import rows
from tests.bench.learning_fleet.odd import SCALE, poisoned
from tests.bench.learning_fleet.people import DEVICE, PEOPLE, POISONED, People, Run, join_windows

DATASET = Dataset(("x", "y"), "label", 3, samples=8, hop=4)


def people() -> People:
    rng = np.random.default_rng(1)
    return People("some", DATASET, [[Run(rng.normal(size=(20, 2)), label) for label in (0, 2)] for _ in range(PEOPLE)])


def test_windows_that_follow_each_other_are_put_together_and_others_are_not() -> None:
    samples = np.arange(24.0).reshape(12, 2)
    windows = np.stack([samples[0:4], samples[2:6], samples[8:12], samples[8:12]])
    about = np.array([[1, 1, 5], [1, 1, 5], [1, 1, 5], [1, 2, 0]])
    runs = join_windows(windows, about)
    assert [(run.samples.tolist(), run.label) for run in runs] == [
        (samples[0:6].tolist(), 5),
        (samples[8:12].tolist(), 5),
        (samples[8:12].tolist(), 0),
    ]


def test_what_a_gateway_imports_is_what_its_trainer_makes_examples_of(tmp_path: Path) -> None:
    people().write(3, tmp_path / "some.npz")
    read = {
        one.name.removeprefix(f"{DEVICE}/"): Column(one.time, one.value) for one in series.read(tmp_path / "some.npz")
    }
    found, expected = examples(DATASET, read), people().examples(3)
    assert found.y.tolist() == expected.y.tolist() == [0] * 4 + [2] * 4
    np.testing.assert_array_equal(found.x, expected.x)


def test_only_the_poisoned_are_told_wrong_labels() -> None:
    told = [people().columns(person)["told"].value.tolist() for person in range(PEOPLE)]
    assert told == [[1.0, 0.0] if person in POISONED else [0.0, 2.0] for person in range(PEOPLE)]


def test_every_training_can_be_configured_and_leaves_one_person_out() -> None:
    config = parse(f'data = "here"\n[bus]\nurl = "mqtt://127.0.0.1:1"\n{rows.tables(people())}')
    assert len(config.training) == len(rows.WAYS) * len(rows.FOLDS)
    assert {(len(one.gateways), one.every, one.fewest) for one in config.training} == {(10, 0, 10)}


def test_a_poisoned_update_is_turned_round_and_scaled() -> None:
    begun = classifier.begin(DATASET, Learning(), spread.of(people().examples(0).x), np.random.default_rng(1))
    update = np.linspace(-1, 1, len(begun.vector), dtype=np.float32)
    trained = Trained(updates.encode("f32", update, np.random.default_rng(1)).payload, 8, 2, {"base": 0.5})
    task = Task("some.1.1", 1, "barn", "train", 1, b"", msgspec.msgpack.encode(Given(classifier.encode(begun))))
    sent = msgspec.msgpack.decode(poisoned(task, msgspec.msgpack.encode(trained)), type=Trained)
    np.testing.assert_allclose(updates.decode(sent.payload, len(update)), SCALE * update, atol=0.1)

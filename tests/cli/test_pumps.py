"""Pumps that are made up: what they say, and that their state can be told from how they shake."""

from __future__ import annotations

import json

import numpy as np

from cli import pumps
from cli.devices import Devices
from gateway.trainer.dataset import Column, examples
from learning import classifier, spread
from learning.models import Batch
from protocol.training import Dataset, Learning

COUNT = 4
DATASET = Dataset(("x", "y"), "state", len(pumps.STATES), samples=50, hop=25, features="motion/1")


def devices() -> Devices:
    return Devices(COUNT, pumps.RATE, {"any": [0.0]}, topic="", start=0, name="hall.pump", dialect="pumps")


def test_a_pump_says_all_of_a_measurement_at_once_and_the_same_again() -> None:
    topic, payload = devices().message(9)
    assert (topic, devices().message(9)) == ("pumps/hall/pump-2", (topic, payload))
    said = json.loads(payload)
    assert list(said) == ["time", "x", "y", "state"]
    assert said["time"] == devices().due(9)


def test_states_can_be_learnt_from_how_pumps_shake() -> None:
    made = [examples(DATASET, columns(pump)) for pump in range(COUNT)]
    *known, unseen = made
    x, y = np.concatenate([one.x for one in known]), np.concatenate([one.y for one in known])
    rng = np.random.default_rng(1)
    begun = classifier.begin(DATASET, Learning("perceptron", 32, epochs=20), spread.of(x), rng)
    learnt = begun.fitted(Batch(begun.standardise(x), y), rng)
    assert set(y) == set(range(len(pumps.STATES)))
    assert learnt.accuracy(unseen.x, unseen.y) > 0.8


def columns(pump: int, seconds: int = 120) -> dict[str, Column]:
    said = [json.loads(devices().message(turn * COUNT + pump)[1]) for turn in range(seconds * pumps.RATE)]
    time = np.array([one["time"] for one in said])
    return {name: Column(time, np.array([one[name] for one in said], np.float64)) for name in ("x", "y", "state")}

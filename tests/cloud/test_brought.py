"""An ONNX file that is pushed is told which windows it is for, or refused with what, where and what to do."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud.brought import brought
from learning import features, onnx
from protocol.errors import ModelRefused
from tests.cloud.test_federation import SETTINGS, Fleet, pushed
from tests.gateway.pump_onnx import RIGHT, WRONG
from tests.learning.onnx_files import linear

DATASET = SETTINGS.dataset
SIZE = len(features.names(DATASET.features, DATASET.channels))
WHOLE = {
    "fieldgate.channels": "x, y",
    "fieldgate.label": "state",
    "fieldgate.classes": "3",
    "fieldgate.samples": "16",
    "fieldgate.features": "statistics/1",
}
TRAININGS = {"state": DATASET}


def file(metadata: dict[str, str] | None = None, *, size: int = SIZE, classes: int = 3) -> bytes:
    return linear(np.random.default_rng(0).normal(size=(size, classes)), np.zeros(classes), metadata=metadata)


@pytest.mark.parametrize("name", ["state", "state.next"])
@pytest.mark.parametrize("said", [{}, WHOLE], ids=["nothing in the file", "the same in the file"])
def test_it_is_for_the_windows_of_its_training(name: str, said: dict[str, str]) -> None:
    content = brought(file(said), name, TRAININGS)
    assert (onnx.proven(content).dataset, onnx.decode(content).model) == (DATASET, file(said))


def test_without_a_training_the_file_says_it() -> None:
    assert onnx.decode(brought(file(WHOLE), "mine", {})).dataset == DATASET
    other = onnx.decode(brought(file(WHOLE | {"fieldgate.hop": "16", "author": "me"}), "mine", TRAININGS)).dataset
    assert other == msgspec.structs.replace(DATASET, hop=16)


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "two that contradict": (
        file({"fieldgate.samples": "64"}),
        "state",
        r"dataset: fieldgate.samples is '64' in its metadata_props, and 16 in \[\[training\]\] state: export it",
    ),
    "other channels": (file({"fieldgate.channels": "y,x"}), "state", r"fieldgate.channels is \('y', 'x'\)"),
    "nobody": (
        file({"fieldgate.channels": "x"}),
        "mine",
        "dataset: nobody says .*: there is no .* mine, and its metadata_props have no fieldgate.label",
    ),
    "a word that is none": (
        file(WHOLE | {"fieldgate.classes": "many"}),
        "mine",
        "dataset: metadata_props: .*classes",
    ),
    "no number of samples": (file(WHOLE | {"fieldgate.samples": "x"}), "mine", "dataset: metadata_props: "),
    "a key that is none": (
        file({"fieldgate.sample": "16"}),
        "state",
        "fieldgate.sample in its metadata_props: expected",
    ),
    "a dataset that cannot be": (file(WHOLE | {"fieldgate.samples": "2"}), "mine", "content: params: samples: 2"),
    "features that are not here": (file(WHOLE | {"fieldgate.features": "x/1"}), "mine", "features: no x/1"),
    "another number of features": (file(size=SIZE + 1), "state", "shape: inputs"),
    "another number of classes": (file(classes=2), "state", r"expected one of float \(n, 3\)"),
    "what is damaged": (file()[:-3], "state", "content: no ONNX file: it is cut off"),
}


@pytest.mark.parametrize(("content", "name", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_told_is_refused(content: bytes, name: str, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        brought(content, name, TRAININGS)


def test_what_is_no_onnx_is_left_as_it_is() -> None:
    assert brought(b"\x81\xa6schema", "state", TRAININGS) == b"\x81\xa6schema"


def test_without_the_runtime_the_cloud_takes_it_and_gateways_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert onnx.decode(brought(file(size=SIZE + 1), "state", TRAININGS)).dataset == DATASET
    with pytest.raises(ModelRefused, match="content: no ONNX file"):
        brought(file()[:-3], "state", TRAININGS)


# What becomes of it in a training.


def test_it_is_tried_and_promoted_where_it_is_better_and_a_run_of_its_trainings_own_may_follow() -> None:
    fleet = Fleet()
    assert pushed(fleet, WRONG) == "promoted"  # nothing is in force
    assert pushed(fleet, RIGHT) == "promoted"
    assert pushed(fleet, WRONG) in ("below", "worse")
    assert fleet.training.state.active == RIGHT
    assert [len(kept) > 0 for kept in fleet.kept.values()] == [True] * len(fleet.members)
    fleet.rested.clear()
    fleet.begin()
    fleet.run()
    verdict: Any = fleet.rested[0].verdict
    assert verdict.active == pytest.approx(1.0, abs=0.2)  # it was compared with
    assert [ended.stage for ended in fleet.ended[-5:]] == ["survey", *["round"] * 3, "trial"]

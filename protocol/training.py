"""What a training asks of a gateway, and what it gets: the parameters and answers of the tasks `survey` and `train`.

A training goes in rounds. The survey (round 0) says how much each gateway has and how its features spread; each round
after it sends a model out and gets updates back, with what the model is worth on readings it has not learnt from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, TypeVar

import msgspec

from protocol.errors import TaskRefused
from protocol.settings import Contradiction

VERSION = 1
"""Of both tasks."""

MAX_CHANNELS = 16
MAX_CLASSES = 64
MIN_SAMPLES, MAX_SAMPLES = 8, 65_536
"""In a window: fewer have no spectrum to speak of."""
FEATURES = ("statistics/1", "spectrum/1", "course/1", "motion/1")
"""Sets of features that `learning.features` has; others are installed (`learning.installed`)."""
FEATURE_SET = re.compile(r"[a-z][a-z0-9_.-]{0,31}/[1-9][0-9]{0,3}")
"""What a set may be called: its name and version."""
MODELS = ("softmax", "perceptron")
"""Kinds of models that `learning.classifier` has; others are installed."""
MAX_HIDDEN = 256
"""So that a model of the most features fits a task, `protocol.tasks.MAX_TASK`."""
MAX_WINDOWS = 200_000
"""Of raw readings: features of all of them are in memory at once."""


class Dataset(msgspec.Struct, frozen=True):
    """Which raw readings become which vectors.

    A sample is one reading of each channel of a device at one event time; a window is `samples` of them without a gap.
    """

    channels: tuple[str, ...]  # measurements
    label: str  # measurement whose newest value, a whole number from 0, is the class of what comes with it
    classes: int
    samples: int
    hop: int  # samples from one window's beginning to the next one's
    features: str = "statistics/1"  # of learning.features
    devices: str = "*"  # pattern of names
    newest: int = 20_000  # windows a device, at most


class Learning(msgspec.Struct, frozen=True):
    """What learns, and how; the defaults are those measured in `learning.models.descent`."""

    model: str = "softmax"
    hidden: int = 64  # of a perceptron
    epochs: int = 5
    rate: float = 0.1
    rows: int = 16
    penalty: float = 0.0


class Survey(msgspec.Struct, frozen=True):
    """Parameters of the task `survey`."""

    dataset: Dataset


class Surveyed(msgspec.Struct, frozen=True):
    """Answer of the task `survey`: windows of each class, and the spread of each feature over all of them."""

    windows: tuple[int, ...]
    spread: bytes  # a State, of learning.spread


class Train(msgspec.Struct, frozen=True):
    """Parameters of the task `train`; its content is a Given."""

    training: str
    round: int
    learn: bool = True  # False: only say what the models are worth
    codec: Literal["f32", "i8", "topk", "sign"] = "i8"
    holdout: float = 0.2  # share of each device's windows, the newest, that is not learnt from
    seed: int = 0
    counted: str = ""  # job of this gateway's newest update that was counted: what others owed is owed still
    refused: str = ""  # why its last update was refused, if it was


class Given(msgspec.Struct, frozen=True):
    """Models that a training round goes out with, each as learning.classifier has it; b"" is none."""

    base: bytes  # to learn from, and a candidate itself
    active: bytes = b""  # what was promoted last


class Trained(msgspec.Struct, frozen=True):
    """Answer of the task `train`."""

    payload: bytes  # learning.updates: what learning changed
    windows: int  # learnt from
    held_out: int  # windows that the scores are made of
    scores: dict[str, float]  # share of right answers there: "base", "active", "local" (after learning), "personal"
    loss: float = 0.0  # after learning, over what was learnt from


SCORES = ("base", "active", "local", "personal")


class LeanTrained(msgspec.Struct, frozen=True, array_like=True):
    """The same in fewer bytes: right answers are counted, in the order of SCORES. A new field comes at the end."""

    payload: bytes
    windows: int
    held_out: int
    right: tuple[int | None, ...]  # None: nobody asked that
    loss: float = 0.0


_ARRAYS = {*(bytes([0x90 | size]) for size in range(16)), b"\xdc", b"\xdd"}
"""First bytes of a msgpack array."""


def pack_trained(trained: Trained, *, lean: bool) -> bytes:
    """Give the answer's bytes; `lean` for who reads them."""
    if not lean:
        return msgspec.msgpack.encode(trained)
    scores = [trained.scores.get(name) for name in SCORES]
    right = tuple(None if score is None else round(score * trained.held_out) for score in scores)
    return msgspec.msgpack.encode(LeanTrained(trained.payload, trained.windows, trained.held_out, right, trained.loss))


def read_trained(content: bytes) -> Trained:
    """Read either form; TaskRefused("params") for what is none."""
    if content[:1] not in _ARRAYS:
        return read(content, Trained)
    found = read(content, LeanTrained)
    counted = zip(SCORES, found.right, strict=False)
    scores = {name: right / max(found.held_out, 1) for name, right in counted if right is not None}
    return Trained(found.payload, found.windows, found.held_out, scores, found.loss)


T = TypeVar("T")


def read(data: bytes, kind: type[T]) -> T:
    """Read parameters, content or an answer; TaskRefused("params") for whatever is none."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TaskRefused("params", str(error)) from error


def check_dataset(dataset: Dataset) -> None:
    """TaskRefused("params") for a dataset that cannot be."""
    for key, value, expectation in dataset_contradictions(dataset):
        raise TaskRefused("params", f"{key}: {value!r}, expected {expectation}")


def dataset_contradictions(dataset: Dataset) -> Iterator[Contradiction]:
    """Say what is wrong with a dataset."""
    sizes = (
        ("channels", len(dataset.channels), 1, MAX_CHANNELS),
        ("classes", dataset.classes, 1, MAX_CLASSES),
        ("samples", dataset.samples, MIN_SAMPLES, MAX_SAMPLES),
        ("hop", dataset.hop, 1, MAX_SAMPLES),
        ("newest", dataset.newest, 1, MAX_WINDOWS),
    )
    for key, value, least, most in sizes:
        if not least <= value <= most:
            yield key, value, f"{least} to {most}"
    if len(set(dataset.channels)) < len(dataset.channels):
        yield "channels", list(dataset.channels), "each measurement once"
    if dataset.label in dataset.channels:
        yield "label", dataset.label, "another measurement than a channel's"
    if not FEATURE_SET.fullmatch(dataset.features):
        yield "features", dataset.features, f"a name and version, such as {FEATURES[0]}"

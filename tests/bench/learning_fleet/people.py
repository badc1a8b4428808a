"""Sets of labelled readings, one person or part a gateway, as files that `journal import` takes.

`hapt`: raw acceleration of eleven people, 50 Hz. The set has it as windows that overlap by half; where one follows
another they are put together again, and where not there is a gap of a minute. Not part of this.
`digits`, of scikit-learn: an image is scanned, one row of it and one column at a time, by eight sensors across (`a0` to
`a7`) and eight down (`d0` to `d7`): eight samples. Part by part in the order they were written, so neighbours are of
one hand.

Labels are readings too: `label`, and `told`, which is wrong (the next class) on the gateways that are POISONED.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.trainer.dataset import Column, Examples, examples
from protocol.training import Dataset

HAPT = "hapt_acc_users_1-5_10-15.npz"
PEOPLE = 11
POISONED = (0, 1)
DEVICE = "phone"
EPOCH = 1_780_000_000 * 10**9
STEP = 20 * 10**6
GAP = 60 * 10**9

Values = NDArray[np.float64]


class Run(NamedTuple):
    """Samples without a gap, shape (n, channels), and their class."""

    samples: Values
    label: int


class People(NamedTuple):
    """A set: what is made of its readings, and the runs of each gateway."""

    name: str
    dataset: Dataset
    runs: list[list[Run]]

    def write(self, person: int, path: Path) -> None:
        """Write one person's readings as `journal import` takes them."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, column in self.columns(person).items():
            arrays[f"{DEVICE}/{name}|t"], arrays[f"{DEVICE}/{name}|v"] = column.time, column.value
        np.savez_compressed(path, allow_pickle=False, **arrays)

    def columns(self, person: int) -> dict[str, Column]:
        """Give one person's readings by measurement."""
        at, times, begins = EPOCH, [], []
        for run in self.runs[person]:
            begins.append(at)
            times.append(at + STEP * np.arange(len(run.samples), dtype=np.int64))
            at = int(times[-1][-1]) + GAP
        time, samples = np.concatenate(times), np.concatenate([run.samples for run in self.runs[person]])
        columns = {name: Column(time, samples[:, place]) for place, name in enumerate(self.dataset.channels)}
        label = np.array([run.label for run in self.runs[person]], np.float64)
        told = (label + 1) % self.dataset.classes if person in POISONED else label
        begin = np.array(begins, np.int64)
        return columns | {"label": Column(begin, label), "told": Column(begin, told)}

    def examples(self, person: int) -> Examples:
        """Give what a gateway makes of one person's readings."""
        return examples(self.dataset, self.columns(person))


def hapt(data: Path) -> People:
    """Eleven people's acceleration, in g."""
    found = np.load(data / HAPT, allow_pickle=False)
    windows = found["windows_q"].astype(np.float64) * float(found["scale"])
    about = np.stack([found["user"], found["experiment"], found["y"]], axis=1)
    runs = [join_windows(windows[about[:, 0] == user], about[about[:, 0] == user]) for user in np.unique(about[:, 0])]
    return People("hapt", Dataset(("x", "y", "z"), "label", 6, 128, 64, "motion/1"), runs)


def join_windows(windows: Values, about: NDArray[np.generic]) -> list[Run]:
    """Put windows together, (n, samples, channels), where the last half of one is the first of the next.

    `about`, (n, 3), must be the same then; its last column is the label.
    """
    half = windows.shape[1] // 2
    follows = (about[1:] == about[:-1]).all(axis=1) & (windows[1:, :half] == windows[:-1, half:]).all(axis=(1, 2))
    cuts = np.flatnonzero(~follows) + 1
    parts = zip(np.split(windows, cuts), np.split(about, cuts), strict=True)
    return [Run(np.concatenate([part[0], *part[1:, half:]]), int(which[0, 2])) for part, which in parts]


def digits() -> People:
    """1,797 digits, scanned, in eleven parts."""
    found = importlib.import_module("sklearn.datasets").load_digits()
    scans = np.concatenate([found.images, found.images.transpose(0, 2, 1)], axis=2)
    runs = [Run(scan, int(label)) for scan, label in zip(scans, found.target, strict=True)]
    parts = [list(map(runs.__getitem__, part)) for part in np.array_split(np.arange(len(runs)), PEOPLE)]
    channels = tuple(f"{side}{place}" for side in "ad" for place in range(8))
    return People("digits", Dataset(channels, "label", 10, 8, 8, "statistics/1"), parts)


def at_hand(data: Path | None) -> list[People]:
    """Give the sets that are here."""
    found = [digits()] if importlib.util.find_spec("sklearn") else []
    return found + ([hapt(data)] if data and (data / HAPT).exists() else [])

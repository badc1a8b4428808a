"""Drift noticed on gateways begins a training by itself: `python -m tests.bench.drift --data DIR`.

Gas sensors that age: batches of the set named in `gas_drift*.npz`, which is not part of this, in the order of months.
Batches 1 to 3 are known at first where there are later ones, else 1 and 2; half of their rows come live, then each
later batch does. Of what comes live one window in ten has a label. GATEWAYS in one process share the rows; each has its
own classifiers and the trainer's tasks, and the cloud's federation is the real one, with `on_drift` and nothing else
that begins a run. A row is a window: 16 sensors, 8 numbers each (`course/1`).

`frozen` is the accuracy of the first model over a batch, `live` that of whatever was in force when each row came, and
`last` that of the last half of the batch; `noticed` is after how many windows of a batch each run began.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.config.training import Training as Settings
from cloud.federation import Ask, Federation, Instruction, Promote
from gateway.classify import Classify
from gateway.records import ModelRecord, Readings
from gateway.tasks.told import Told
from gateway.trainer import SurveyTask, TrainTask
from learning import classifier, features
from protocol.errors import TaskRefused
from protocol.identity import Signer
from protocol.manifest import Manifest, digest_of, seal
from protocol.messages import Cover, PartBody
from protocol.settings import Duration
from protocol.tasks import Task
from tests.bench.rig import say

GATEWAYS = 3
SENSORS, NUMBERS = 16, 8
LIVE = 1 / 2
LABELLED = 0.1
SEED = 7
CHANNELS = tuple(f"s{number}" for number in range(SENSORS))
NAMES = [*(f"nose/{channel}" for channel in CHANNELS), "nose/gas"]
STEP = 10**9
SETTINGS = Settings(
    "gas",
    CHANNELS,
    "gas",
    6,
    NUMBERS,
    NUMBERS,
    "course/1",
    newest=400,
    epochs=5,
    holdout=0.15,
    rounds=5,
    every=Duration(0),
)


class Rows:
    """Windows and their classes, of batches."""

    def __init__(self, directory: Path) -> None:
        parts = [np.load(path, allow_pickle=False) for path in sorted(directory.glob("gas_drift*.npz"))]
        x, y, batch = (np.concatenate([part[key] for part in parts]) for key in ("X", "y", "batch"))
        self.x = x.reshape(-1, SENSORS, NUMBERS).transpose(0, 2, 1).astype(np.float64)
        self.y, self.batch = y.astype(np.int64), batch.astype(np.int64)
        self._rng = np.random.default_rng(SEED)

    @property
    def later(self) -> list[int]:
        """Batches that nothing is known of at first."""
        known = 3 if self.batch.max() > 3 else 2
        return [int(one) for one in np.unique(self.batch) if one > known]

    def of(self, batches: Sequence[int]) -> NDArray[np.int64]:
        """Give the rows of batches, mixed: within one they are sorted by gas."""
        return self._rng.permutation(np.flatnonzero(np.isin(self.batch, batches)))


class Gateway:
    """One gateway: its journal, its trainer, and what it says of windows."""

    def __init__(self, name: str) -> None:
        self.name, self.names, self.shared = name, NAMES, ()
        self.classify = Classify(0.02)
        self.right: list[bool] = []
        self._records: list[Readings] = []
        self._tasks: dict[str, Any] = {"survey": SurveyTask(), "train": TrainTask()}
        self._kept = b""

    @property
    def position(self) -> int:
        """See `gateway.tasks.Past`."""
        return len(self._records)

    @property
    def held(self) -> tuple[int, int]:
        """See `gateway.tasks.Past`."""
        return 0, len(self._records) * NUMBERS * STEP

    def batches(self, patterns: Sequence[str], start: int = 0, end: int = 0, *, after: int = 0) -> Iterator[Readings]:
        """See `gateway.tasks.Past`."""
        assert not start
        assert not end
        assert all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in NAMES)
        yield from self._records[after:]

    def told(self, model: str) -> Sequence[Told]:  # noqa: ARG002 - nobody is asked
        """See `gateway.tasks.Past`."""
        return ()

    def take(self, window: NDArray[np.float64], label: int) -> bool:
        """Record a window, and classify it if there is a model; say whether that is drift."""
        first = len(self._records) * NUMBERS
        time = (first + np.arange(NUMBERS, dtype=np.int64)) * STEP
        values = np.column_stack([window, np.full(NUMBERS, float(label))])
        series = np.tile(np.arange(SENSORS + 1, dtype=np.int32), NUMBERS)
        self._records.append(Readings(series, np.repeat(time, SENSORS + 1), values.ravel()))
        self.classify.feed(self._records[-1])
        return any(word.outcome == "drifted" for word in self.classify.step(1).words)

    def answer(self, task: Task) -> PartBody:
        """Compute what the cloud asks for."""
        about = (Cover(), task.job, task.attempt, task.name, task.version)
        try:
            found = self._tasks[task.name](task, self, self._kept)
        except TaskRefused as refused:
            return PartBody(*about, "refused", refused.reason)
        self._kept = found.keep
        return PartBody(*about, "done", "", found.content)


class Fleet:
    """Gateways and the cloud's federation over them."""

    def __init__(self) -> None:
        self.gateways = {f"nose-{number}": Gateway(f"nose-{number}") for number in range(GATEWAYS)}
        self.federation = Federation([SETTINGS])
        self.now, self.versions = 0, list[bytes]()
        self._signer = Signer.from_seed(bytes(32))

    def train(self, decided: list[Instruction]) -> None:
        """Carry out what was decided until nothing is left to do."""
        while decided:
            self.now += 1
            one = decided.pop(0)
            if isinstance(one, Ask):
                gateway = self.gateways[one.task.gateway]
                decided += self.federation.part(gateway.name, gateway.answer(one.task), self.gateways, self.now)
            elif isinstance(one, Promote):
                self._apply(one.content)

    def _apply(self, content: bytes) -> None:
        self.versions.append(content)
        about = Manifest("gas", len(self.versions), len(content), digest_of(content), classifier.SCHEMA, 1)
        record = ModelRecord(self.now, seal(about, self._signer), content)
        for gateway in self.gateways.values():
            gateway.classify.use({"gas": record}, NAMES)

    def said(self, window: NDArray[np.float64]) -> int:
        """Give what the newest version says of a window."""
        return int(_says(self.versions[-1], window[None])[0])

    def live(self, rows: Rows, which: NDArray[np.int64], labelled: NDArray[np.bool_]) -> tuple[list[bool], list[int]]:
        """Let rows come; give which of them the version in force got right, and after how many a run began."""
        right, noticed, names = list[bool](), list[int](), list(self.gateways)
        for at, row in enumerate(which.tolist()):
            self.now += 1
            right.append(self.said(rows.x[row]) == rows.y[row])
            name = names[at % len(names)]
            if self.gateways[name].take(rows.x[row], int(rows.y[row]) if labelled[at] else -1):
                self.federation.note_drift("gas", name, self.now)
            if decided := self.federation.tick(names, self.now):
                noticed.append(at + 1)
                self.train(decided)
        return right, noticed


def _says(content: bytes, windows: NDArray[np.float64]) -> NDArray[np.int64]:
    model = classifier.decode(content)
    return np.asarray(model.predict(features.extract(SETTINGS.features, windows)).argmax(axis=1))


def measure(data: Path) -> Iterator[dict[str, object]]:
    """The known batches, then each later one."""
    rows, fleet = Rows(data), Fleet()
    first = rows.of([one for one in np.unique(rows.batch).tolist() if one not in rows.later])
    cut = round(len(first) * (1 - LIVE))
    for at, row in enumerate(first[:cut].tolist()):
        fleet.gateways[f"nose-{at % GATEWAYS}"].take(rows.x[row], int(rows.y[row]))
    fleet.train(fleet.federation.start("gas", list(fleet.gateways), 1))
    begun = fleet.versions[0]
    rng = np.random.default_rng(SEED)
    for name, which in [("known", first[cut:]), *((f"batch {one}", rows.of([one])) for one in rows.later)]:
        right, noticed = fleet.live(rows, which, rng.random(len(which)) < LABELLED)
        frozen = (_says(begun, rows.x[which]) == rows.y[which]).mean()
        verdict = fleet.federation.last("gas")
        yield {
            "rows": name,
            "windows": len(which),
            "frozen": round(float(frozen), 3),
            "live": round(float(np.mean(right)), 3),
            "last": round(float(np.mean(right[len(right) // 2 :])), 3),
            "noticed": noticed,
            "versions": len(fleet.versions),
            "verdict": verdict.verdict.word if verdict else "",
        }


def main() -> None:
    """Print one JSON object for the known batches, and one for each later one."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.drift")
    parser.add_argument("--data", type=Path, required=True, help="directory of the public sets")
    for figures in measure(parser.parse_args().data):
        say("drift", figures)


if __name__ == "__main__":
    main()

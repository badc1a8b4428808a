"""Accuracy against bytes of a cascade: `python -m tests.bench.cascade`.

The small model is a softmax that has learnt from what FEW of the ten gateways have, as when a fleet begins; the larger
one a support vector machine of scikit-learn that has learnt from all ten. Choice, encoding and bytes are the product's:
`classify.ask`, `gateway.cascade`, frames as they go up, `cloud.unpack`. Sets and folds are those of
`tests.bench.learning`; windows of what was left out come in its order, PER_HOUR an hour of virtual time. `bytes` are
frames up per classified window, `each` per question.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cloud.unpack import unpack
from gateway.cascade import Cascade
from gateway.classify import Said
from gateway.classify.line import Version, margins
from gateway.clock import Clock
from gateway.config import Cascade as Settings
from gateway.config import Duration, GatewayConfig, Size, Source
from gateway.segment import OsFiles
from learning.models import Batch, Descent, Softmax
from learning.models.softmax import probabilities
from protocol.cascade import narrow, read_features, read_questions
from protocol.frame import chain_after, message
from protocol.manifest import digest_of
from protocol.messages import LANES, Kind, PartBody, QuestionsBody
from tests.bench.learning import Fold, sets
from tests.bench.rig import say

PER_HOUR = 400
SHARES = (5, 10, 20)
FEW = 2
HOUR = 3600 * 10**9
LANE = LANES.index("results")


class Large(Protocol):
    """What is asked."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the probability of each class, (n, classes)."""


class Both(NamedTuple):
    """What the models say of what was left out of one fold, and what it is."""

    x: NDArray[np.float64]  # (n, d), in deviations
    y: NDArray[np.int64]
    small: NDArray[np.float64]  # (n, classes)
    large: Large


class Ticking(Clock):
    """Virtual time."""

    at = HOUR

    def now(self) -> int:
        """Give it."""
        return self.at


class Uplink:
    """Takes questions as frames, and gives what the cloud reads of them."""

    def __init__(self) -> None:
        self.bytes, self.seq, self.chain = 0, 0, 0
        self.asked: list[QuestionsBody] = []

    def ask(self, body: QuestionsBody) -> None:
        """Send a frame."""
        self.seq += 1
        data = message(Kind.QUESTIONS, body, lane=LANE, seq=self.seq, chain_before=self.chain)
        self.bytes += len(data)
        [(frames, _)] = unpack(data)
        self.chain = chain_after(frames[0].content, self.chain)
        assert isinstance(frames[0].holds, PartBody)
        self.asked.append(read_questions(frames[0].holds.content))


class Vectors:
    """A support vector machine as one that is asked."""

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
        self._found = importlib.import_module("sklearn.svm").SVC(C=5.0).fit(x, y)

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the probability of each class, (n, classes)."""
        return probabilities(self._found.decision_function(x))


def learnt(fold: Fold) -> Both:
    """Let both models learn."""
    some, whole = _joined(fold.gateways[:FEW]), _joined(fold.gateways)
    small = Softmax(whole.x.shape[1], fold.classes, how=Descent())
    small.fit(some, np.random.default_rng(7))
    x = np.asarray(fold.unseen.x)
    return Both(x, np.asarray(fold.unseen.y), small.predict(x), Vectors(whole.x, np.asarray(whole.y)))


def _joined(parts: list[Batch]) -> Batch:
    return Batch(np.concatenate([one.x for one in parts]), np.concatenate([np.asarray(one.y) for one in parts]))


def cascade(folds: list[Both], per_hour: int) -> dict[str, object]:
    """Let windows pass; give accuracy, the share that was asked about, and bytes."""
    clock, uplink, right, windows = Ticking(), Uplink(), 0, 0
    settings = Settings(per_hour, Size(1 << 30), Duration(60 * 10**9))
    config = GatewayConfig("bench", "", (Source("s/{device}/{measurement}"),), cascade=settings)
    ways = Cascade(config, OsFiles(), clock, ask=uplink.ask, publish=lambda _: None)
    for number, fold in enumerate(folds):
        version = Version(number + 1, digest_of(str(number).encode()), b"", None)  # type: ignore[arg-type]  # nobody asks it here
        for row in range(len(fold.y)):
            clock.at += HOUR // PER_HOUR
            ways.consider("model", version, _said(fold, row))
            ways.tick(clock.at)
        chosen = fold.small.argmax(axis=1)
        clock.at += HOUR // 60
        ways.tick(clock.at)
        for body in uplink.asked:
            said = fold.large.predict(read_features(body, fold.x.shape[1], in_deviations=True))
            chosen[body.start] = said.argmax(axis=1)
        uplink.asked = []
        right, windows = right + int((chosen == fold.y).sum()), windows + len(fold.y)
    asked = ways.standing().asked.get("model", 0)
    about: dict[str, object] = {"accuracy": round(right / windows, 4), "asked": round(asked / windows, 3)}
    return about | {"bytes": round(uplink.bytes / windows, 1), "each": round(uplink.bytes / max(asked, 1))}


def _said(fold: Both, row: int) -> Said:
    shares = fold.small[row : row + 1]
    chosen, share = shares.argmax(axis=1).tolist(), shares.max(axis=1).tolist()
    seen = narrow(fold.x[row : row + 1].astype(np.float32))
    return Said(["pump-1"], [row], [row], chosen, share, 1, "active", margins(shares), seen)


def measure(data: Path | None) -> Iterator[dict[str, object]]:
    """Every budget on every set that is at hand."""
    for name, folds in sets(data):
        both = [learnt(fold) for fold in folds]
        yield {"set": name, "way": "small only"} | cascade(both, 0)
        for share in SHARES:
            yield {"set": name, "way": f"cascade at {share} %"} | cascade(both, PER_HOUR * share // 100)
        each, right = cascade(both, 100 * PER_HOUR)["each"], [_large(fold) for fold in both]
        about = {"accuracy": round(float(np.concatenate(right).mean()), 4), "asked": 1.0}
        yield {"set": name, "way": "large only"} | about | {"bytes": each, "each": each}


def _large(fold: Both) -> NDArray[np.bool_]:
    return np.asarray(fold.large.predict(fold.x).argmax(axis=1) == fold.y)


def main() -> None:
    """Print one JSON object for each set and way."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cascade")
    parser.add_argument("--data", type=Path, help="directory of the public sets")
    for figures in measure(parser.parse_args().data):
        say("cascade", figures)


if __name__ == "__main__":
    main()

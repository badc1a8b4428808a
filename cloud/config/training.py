"""`[[training]]`: a model that gateways learn together; what may be said of it, and what contradicts itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Literal

from protocol.errors import ModelRefused
from protocol.settings import NAME, Contradiction, Duration, Section, written
from protocol.training import FEATURES, MAX_HIDDEN, MODELS, Dataset, Learning, dataset_contradictions


class Privacy(Section, frozen=True):
    """`[training.privacy]`: noise that hides what one gateway has learnt, and how much may be told of it in all."""

    noise: float  # its deviation, in times of `clip`
    epsilon: float  # over all rounds of all runs, for ever
    delta: float = 1e-5
    clip: float = 1.0  # the longest update; a longer one is shortened to it


class Training(Section, frozen=True):
    """A model that gateways learn together, each from its own readings. The rules are in `cloud/federation`."""

    name: str  # of the training, and of the model it makes
    channels: tuple[str, ...]  # measurements of a device that make a sample together
    label: str  # measurement whose value, a whole number from 0, is the class
    classes: int
    samples: int  # in a window
    hop: int = 0  # samples from one window to the next; 0: half of `samples`
    features: str = "statistics/1"  # or a set that is installed
    devices: str = "*"
    gateways: tuple[str, ...] = ("*",)
    newest: int = 20_000  # windows of a device that count
    model: str = "softmax"  # or a kind that is installed
    hidden: int = 64
    epochs: int = 5
    rate: float = 0.1
    batch: int = 16
    penalty: float = 0.0
    codec: Literal["f32", "i8", "topk", "sign"] = "i8"
    holdout: float = 0.2  # share of each device's windows, the newest, that nobody learns from
    rounds: int = 10
    goal: int = 0  # answers that end a round; 0: all that were asked
    fewest: int = 1  # gateways that must be there, or no run begins
    deadline: Duration = Duration(3600 * 10**9)
    staleness: int = 2  # rounds that an answer may be late
    rule: Literal["mean", "trimmed", "median"] = "trimmed"
    trim: float = 0.1  # by the rule `trimmed`: share that is cut from each end
    outlier: float = 3.0  # an update so many times as long as the median one is refused
    stretch: float = 2.0  # what was merged may be made so many times as long
    server_rate: float = 1.0
    momentum: float = 0.0
    margin: float = 0.005  # of accuracy: so much better than what is in force
    worse_share: float = 0.2  # of gateways may lose more than `worse_by`
    worse_by: float = 0.05
    every: Duration = Duration(86400 * 10**9)  # a new run so long after the last; "0s": only when asked for
    on_drift: float = 0.3  # share of the gateways there that, saying their data have drifted, begin a run; 0: none
    seed: int = 0
    privacy: Privacy | None = None

    @property
    def dataset(self) -> Dataset:
        """What a gateway makes of its readings."""
        hop = self.hop or max(self.samples // 2, 1)
        made = (self.channels, self.label, self.classes, self.samples, hop)
        return Dataset(*made, self.features, self.devices, self.newest)

    @property
    def quorum(self) -> int:
        """How many gateways it takes: to begin, and to judge."""
        return max(self.goal, self.fewest, 1)

    @property
    def learning(self) -> Learning:
        """What learns, and how."""
        return Learning(self.model, self.hidden, self.epochs, self.rate, self.batch, self.penalty)

    def chosen(self, gateways: Iterable[str]) -> list[str]:
        """Give those that take part, by name."""
        patterns = self.gateways
        return sorted(name for name in gateways if any(fnmatchcase(name, pattern) for pattern in patterns))


def training_contradictions(trainings: Iterable[Training], *, bus: bool) -> Iterator[Contradiction]:
    """Say what is wrong with trainings; `bus`: whether there is one."""
    names: set[str] = set()
    for number, training in enumerate(trainings):
        if not bus:
            yield "bus.url", None, "the broker over which [[training]] reaches its gateways"
        yield from _training_contradictions(f"training[{number}]", training, names)
        names.add(training.name)


def _training_contradictions(key: str, training: Training, others: set[str]) -> Iterator[Contradiction]:
    if not NAME.fullmatch(training.name) or training.name in others:
        yield f"{key}.name", training.name, "1 to 63 of letters, digits, '.', '_', '-', and no other training's name"
    for name, value, expectation in dataset_contradictions(training.dataset):
        yield f"{key}.{name}", value, expectation
    for name, value, ours in (("features", training.features, FEATURES), ("model", training.model, MODELS)):
        if value not in ours and (expectation := _expected(name, value)):
            yield f"{key}.{name}", value, expectation
    bounds = (
        ("hidden", training.hidden, 1, MAX_HIDDEN),
        ("epochs", training.epochs, 1, 100),
        ("batch", training.batch, 1, 100_000),
        ("rounds", training.rounds, 1, 10_000),
        ("goal", training.goal, 0, 1_000_000),
        ("fewest", training.fewest, 1, 10_000),
        ("staleness", training.staleness, 0, 100),
        ("holdout", training.holdout, 0.01, 0.9),
        ("worse_share", training.worse_share, 0.0, 1.0),
        ("worse_by", training.worse_by, 0.0, 1.0),
        ("margin", training.margin, -1.0, 1.0),
        ("on_drift", training.on_drift, 0.0, 1.0),
        ("penalty", training.penalty, 0.0, 10.0),
        ("rate", training.rate, 1e-6, 10.0),
        ("trim", training.trim, 0.0, 0.49),
        ("outlier", training.outlier, 1.0, 1e6),
        ("stretch", training.stretch, 1.0, 100.0),
        ("server_rate", training.server_rate, 1e-6, 10.0),
        ("momentum", training.momentum, 0.0, 0.999),
    )
    for name, value, least, most in bounds:
        if not least <= value <= most:
            yield f"{key}.{name}", value, f"{least} to {most}"
    if training.deadline < 10**9:
        yield f"{key}.deadline", written(training.deadline), "at least 1s"
    if training.privacy is not None:
        yield from _privacy_contradictions(key, training, training.privacy)


def _privacy_contradictions(key: str, training: Training, how: Privacy) -> Iterator[Contradiction]:
    if training.rule != "mean":
        yield (
            f"{key}.rule",
            training.rule,
            '"mean" with [training.privacy]: how far one gateway moves others is unknown',
        )
    if training.goal < 1:
        yield f"{key}.goal", training.goal, "at least 1 with [training.privacy]: the sum of updates is divided by it"
    bounds = (
        ("noise", how.noise, 0.01, 1e4),
        ("epsilon", how.epsilon, 1e-3, 1e6),
        ("delta", how.delta, 1e-15, 0.1),
        ("clip", how.clip, 1e-6, 1e4),
    )
    wrong = [(name, value, f"{least} to {most}") for name, value, least, most in bounds if not least <= value <= most]
    for name, value, expectation in wrong:
        yield f"{key}.privacy.{name}", value, expectation
    if not wrong and (needed := _of_one_round(how)) > how.epsilon:
        yield f"{key}.privacy.epsilon", how.epsilon, f"at least {needed:.3g}, what one round costs with this noise"


def _of_one_round(how: Privacy) -> float:
    from learning import privacy  # noqa: PLC0415 - `check` loads numpy only where there is privacy to speak of

    asked = privacy.Privacy(how.clip, how.noise, how.epsilon, how.delta, privacy.EXCHANGED)
    return privacy.epsilon(privacy.charged(asked, privacy.Ledger()), how.delta)


def _expected(key: str, name: str) -> str:
    """Say what is expected of something that others have written, "" if it is here and keeps its contract."""
    from learning import installed  # noqa: PLC0415 - `check` loads numpy, and theirs, only where it is named

    of_sets = (installed.feature_sets, installed.features)
    known, find = of_sets if key == "features" else (installed.model_kinds, installed.model_kind)
    if name not in known():
        return f"one of {', '.join(known())}"
    try:
        find(name)
    except ModelRefused as refused:
        return f"one that keeps its contract: {refused.detail}"
    return ""

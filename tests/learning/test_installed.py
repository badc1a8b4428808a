"""What others have written is found by its name, tried once against its contract, and learns as our own does."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud.config import parse
from learning import features, installed
from learning.models import Model
from learning.predictor import predictor
from protocol.errors import ConfigurationRefused, ModelRefused
from protocol.training import Learning
from tests.cloud.test_config import trained
from tests.cloud.test_federation import FLEET, SETTINGS, Fleet
from tests.learning import test_models

PAGE = (Path(__file__).parents[2] / "docs" / "learning.md").read_text()


def block(first: str) -> str:
    """Give the example of the page that begins with this line."""
    blocks: list[str] = re.findall(r"```\w+\n(.*?)```", PAGE, re.DOTALL)
    return next(one for one in blocks if one.startswith(first))


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution: its modules' text by name, and its entry points by group."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for cached in (installed.features, installed.model_kind):
        cached.cache_clear()

    def put(modules: dict[str, str], **groups: dict[str, str]) -> None:
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        info = tmp_path / "mine-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
        lines = [
            f"[fieldgate.{group}]\n" + "\n".join(f"{k} = {v}" for k, v in own.items()) for group, own in groups.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))

    yield put
    for name in ("mine", "broken"):
        sys.modules.pop(name, None)
    for cached in (installed.features, installed.model_kind):
        cached.cache_clear()


@pytest.fixture
def mine(install: Install) -> None:
    """Install what the page shows."""
    points = {
        group: dict(re.findall(r'^"?([\w/]+)"? = "(.+)"$', rest, re.MULTILINE))
        for group, rest in re.findall(
            r'entry-points\."fieldgate\.(\w+)"\]\n(.*?)(?:\n\n|\Z)', block("# pyproject"), re.DOTALL
        )
    }
    assert points == {"features": {"mine/1": "mine"}, "models": {"nearest": "mine:Nearest"}}
    install({"mine": block("# mine.py")}, **points)


def test_the_example_is_short() -> None:
    assert sum(bool(line) for line in block("# mine.py").splitlines()) <= 25


def nearest() -> Model:
    return installed.model("nearest", test_models.FEATURES, test_models.CLASSES, Learning(), np.random.default_rng(0))


OF_ALL = test_models.every_model.mark
CHECKS = [check for check in vars(test_models).values() if OF_ALL in getattr(check, "pytestmark", [])]


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_kind_of_model_that_is_installed_keeps_the_contract_of_all(check: Callable[..., None]) -> None:
    assert len(CHECKS) >= 5
    check(nearest, test_models.of_classes)


@pytest.mark.usefixtures("mine")
def test_gateways_learn_together_with_what_is_installed() -> None:
    fleet = Fleet(msgspec.structs.replace(SETTINGS, features="mine/1", model="nearest"))
    fleet.begin()
    fleet.run()
    assert [ended.answered for ended in fleet.ended] == [tuple(FLEET)] * 5  # survey, three rounds, trial
    assert fleet.promoted[0].verdict.candidate > 0.9


def test_a_gateway_without_it_says_what_is_missing(install: Install) -> None:
    install({})
    fleet = Fleet(msgspec.structs.replace(SETTINGS, features="mine/1"))
    fleet.begin()
    assert fleet.answer(FLEET[0]).reason == "features"


@pytest.mark.usefixtures("mine")
def test_a_set_that_is_installed_is_used_by_its_name_and_a_predictor_too() -> None:
    assert features.names("mine/1", ("x", "y")) == ("x.range", "x.power", "y.range", "y.power")
    windows = np.arange(32.0).reshape(1, 8, 4)
    assert features.extract("mine/1", windows).tolist()[0][:2] == [28.0, float(np.square(windows[0, :, 0]).mean())]
    assert predictor("nearest", 5, 3).predict(np.zeros((2, 5), np.float32)).tolist() == [[pytest.approx(1 / 3)] * 3] * 2


@pytest.mark.usefixtures("mine")
def test_a_configuration_may_name_what_is_installed_and_nothing_else() -> None:
    config = parse(trained(features='"mine/1"', model='"nearest"'), "")
    assert (config.training[0].features, config.training[0].model) == ("mine/1", "nearest")
    with pytest.raises(ConfigurationRefused, match=r"features = 'mine/2': expected one of .*course/1, .*mine/1"):
        parse(trained(features='"mine/2"'), "")
    with pytest.raises(ConfigurationRefused, match=r"model = 'os': expected one of softmax, perceptron, nearest"):
        parse(trained(model='"os"'), "")


SET = """
import numpy as np
calls = 0
def names(channels):
    return channels
def compute(windows):
    return windows.mean(axis=1)
"""
SETS = {
    "no names": ("del names", "bad/1 has no names"),
    "a module that does not load": ("raise ValueError('no licence')", "bad/1: ValueError: no licence"),
    "a name twice": ("names = lambda channels: ('a', 'a')", "expected 1 to 4096 different texts"),
    "no name": ("names = lambda channels: ()", "expected 1 to 4096 different texts"),
    "another shape": (
        "compute = lambda windows: windows[:, 0, :1]",
        r"gave float64 of shape \(3, 1\), expected \(3, 2\)",
    ),
    "numbers that are none": ("compute = lambda windows: np.log(-windows.std(axis=1))", "RuntimeWarning|not finite"),
    "what it raises": ("compute = lambda windows: windows.men()", "compute of bad/1: AttributeError"),
    "windows changed": ("def compute(windows):\n    windows[:] = 1\n    return windows[:, 0]", "changes the windows"),
    "by what is beside it": (
        "compute = lambda windows: windows[:, 0] - windows.mean()",
        "depend on the windows beside",
    ),
}


@pytest.mark.parametrize(("change", "message"), SETS.values(), ids=SETS.keys())
def test_a_set_without_the_contract_is_refused_by_name(install: Install, change: str, message: str) -> None:
    install({"broken": f"{SET}\n{change}\n"}, features={"bad/1": "broken"})
    with pytest.raises(ModelRefused, match=message) as refused:
        features.names("bad/1", ("x",))
    assert refused.value.reason == "features"
    with pytest.raises(ConfigurationRefused, match=r"expected one that keeps its contract: "):
        parse(trained(features='"bad/1"'), "")


MORE = """
def fit(self, batch, rng):
    self.more = 1
def predict(self, x):
    return np.roll(np.tile([1, 0, 0], (len(x), 1)), hasattr(self, "more"), axis=1)
Nearest.fit, Nearest.predict = fit, predict
"""
MODELS: dict[str, tuple[str, str]] = {
    "no fit": ("del Nearest.fit", "bad has no fit"),
    "no probabilities": ("Nearest.predict = lambda self, x: np.ones((len(x), 3))", "predict gives no probabilities"),
    "another shape": ("Nearest.predict = lambda self, x: np.ones((len(x), 1))", r"expected \(12, 3\)"),
    "half of it": ("Nearest.get = lambda self: self.vector[::2]", "no float32 vector of its layout"),
    "a vector of its own": (
        "Nearest.set = lambda self, vector: Held.set(self, vector * 0)",
        "another vector than set took",
    ),
    "more than its vector": (
        MORE,
        "its vector is not all of it",
    ),
    "the batch changed": ("def fit(self, batch, rng):\n    batch.x[:] = 0\nNearest.fit = fit", "fit changes the batch"),
    "what it raises": ("Nearest.fit = lambda self, batch, rng: batch.z", "fit of bad: AttributeError"),
    "an endless loss": ("Nearest.loss = lambda self, batch: np.inf", "its loss is not finite"),
}


@pytest.mark.parametrize(("change", "message"), MODELS.values(), ids=MODELS.keys())
def test_a_kind_of_model_without_the_contract_is_refused_by_name(install: Install, change: str, message: str) -> None:
    install({"broken": f"{block('# mine.py')}\n{change}\n"}, models={"bad": "broken:Nearest"})
    with pytest.raises(ModelRefused, match=message) as refused:
        installed.model("bad", 5, 3, Learning(), np.random.default_rng(0))
    assert refused.value.reason == "model"
    with pytest.raises(ConfigurationRefused, match=r"expected one that keeps its contract: "):
        parse(trained(model='"bad"'), "")


def test_what_fails_later_is_refused_too(install: Install) -> None:
    late = "compute = lambda windows: windows.mean(axis=1) / (windows.shape[1] < 9)"
    install({"broken": f"{SET}\nnp.seterr(all='ignore')\n{late}\n"}, features={"late/1": "broken"})
    assert features.names("late/1", ("x",)) == ("x",)
    with pytest.raises(ModelRefused, match="compute of late/1 gave numbers that are not finite"):
        features.extract("late/1", np.ones((2, 9, 1)))


def test_memory_that_is_used_up_is_not_taken_for_the_strangers_fault() -> None:
    def all_of_it() -> Any:
        raise MemoryError

    with pytest.raises(MemoryError), installed.guarded("model", "greedy"):
        all_of_it()

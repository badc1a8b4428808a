"""`fieldgate cloud`: options over files over defaults, and enrolling gateways."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from cli import main
from cli.reach import load
from cloud.tokens import Tokens
from gateway import config as gateway_config
from protocol.errors import ConfigurationRefused
from tests.cloud.dask_cluster import certify

LOADED = [
    ("nothing said", None, {}, ("127.0.0.1:8480", "fieldgate-cloud")),
    ("options alone", None, {"listen": "127.0.0.1:1", "data": Path("d")}, ("127.0.0.1:1", "d")),
    ("a file", 'data = "f"\nlisten = "127.0.0.1:2"\n', {}, ("127.0.0.1:2", "f")),
    ("an option over a file", 'data = "f"\nlisten = "127.0.0.1:2"\n', {"data": Path("d")}, ("127.0.0.1:2", "d")),
]


@pytest.mark.parametrize(("text", "options", "expected"), [row[1:] for row in LOADED], ids=[row[0] for row in LOADED])
def test_options_win_over_the_file_and_the_file_over_defaults(
    tmp_path: Path, text: str | None, options: dict[str, str | Path], expected: tuple[str, str]
) -> None:
    path = None
    if text is not None:
        path = tmp_path / "cloud.toml"
        path.write_text(text)
    settings = load(path, **options)  # type: ignore[arg-type] # a table of both kinds
    assert (settings.listen, settings.data) == expected


def test_a_wrong_option_is_refused_as_a_wrong_key_is(tmp_path: Path) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text('data = "d"\n')
    for file in (path, None):
        with pytest.raises(ConfigurationRefused) as refused:
            load(file, listen="nowhere")
        assert (refused.value.key, refused.value.value) == ("listen", "nowhere")


def test_a_gateway_is_enrolled_with_a_configuration_that_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "cloud data"
    assert main.run(["cloud", "gateways", "add", "pump-7", "--data", str(data)]) == 0
    said = capsys.readouterr().out
    text = dedent("\n".join(line for line in said.splitlines() if line.startswith("    ") or not line))
    settings = gateway_config.parse(text)
    assert settings.name == tomllib.loads(text)["name"] == "pump-7"
    assert Path(settings.uplink.token_file).read_text().strip()
    assert Path(settings.uplink.token_file).stat().st_mode & 0o777 == 0o600
    assert settings.models.public_key == Tokens.open(data).signer().public.hex()
    assert settings.score


def test_a_directory_in_which_no_cloud_was_yet_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for name in ("pump-7", "pump-8"):
        assert main.run(["cloud", "gateways", "add", name, "--data", str(tmp_path)]) == 0
        said.append(capsys.readouterr().err)
    assert said == [f"{tmp_path}: no cloud was here yet; one that runs elsewhere is named by CONFIG or --data\n", ""]


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    assert main.run(["cloud", "gateways", "add", "no/name", "--data", str(tmp_path)]) == 78


PRIVATE = """
data = "d"
[bus]
url = "mqtt://a"
[[training]]
name = "pumps"
channels = ["x"]
label = "state"
classes = 2
samples = 16
goal = 10
rule = "mean"
[training.privacy]
noise = 16
epsilon = 4
"""


def test_check_says_what_a_privacy_budget_covers_and_that_there_are_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text(PRIVATE)
    assert main.run(["cloud", "check", str(path)]) == 0
    covers, worry = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  privacy")]
    assert covers == "  privacy   pumps: epsilon 4 (delta 1e-05) covers 47 rounds"
    assert worry.startswith("  privacy   pumps: warning: 10 gateways, fewer than 100: noise on each number")


@pytest.mark.parametrize(
    ("large", "why"),
    [("nope", "one that is installed (there is none), or a path"), ("./nope.fg", "a readable file (No such file")],
)
def test_check_refuses_a_larger_model_that_is_not_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], large: str, why: str
) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text(f'data = "d"\n[bus]\nurl = "mqtt://127.0.0.1:1"\n[[cascade]]\nmodel = "s"\nlarge = "{large}"\n')
    assert main.run(["cloud", "check", str(path)]) == 78
    assert why in capsys.readouterr().err


def test_check_says_that_a_cluster_is_not_reached(
    tmp_path: Path,
    free_port: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    monkeypatch.setattr("cloud.compute.dask.REACH_S", 0.5)
    files = "".join(f'{key} = "{path}"\n' for key, path in certify(tmp_path / "tls").items())
    path = tmp_path / "cloud.toml"
    path.write_text(f'data = "d"\n[compute]\nscheduler = "tls://127.0.0.1:{free_port()}"\n{files}')
    assert main.run(["cloud", "check", str(path)]) == 1
    assert "  merges    nowhere: " in capsys.readouterr().out

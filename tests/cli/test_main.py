"""The command itself: what it prints, how it ends, and what it leaves unloaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli import main
from protocol import __version__
from protocol.errors import CloudRefused, ConfigurationRefused, JournalUnusable

ROOT = Path(__file__).parents[2]
GATEWAY = """\
name = "barn"
data = "/var/lib/fieldgate"

[[source]]
topic = "sensors/{device}/{measurement}"
"""


@pytest.fixture
def gateway_file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(GATEWAY)
    return path


def in_a_process(*arguments: str) -> tuple[int, str, set[str]]:
    """Run the command in its own interpreter; give exit code, output, and the modules it had loaded."""
    program = f"""
import sys, json
from cli.main import run
code = run({list(arguments)!r})
print("\\n" + json.dumps([code, sorted(sys.modules)]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    output, _, last = done.stdout.rstrip().rpartition("\n")
    code, modules = json.loads(last)
    return code, output.strip(), set(modules)


HEAVY = {"numpy", "aiohttp", "mqtt5", "aiomqtt", "lz4", "cryptography", "iotcore", "sqlite3", "asyncio"}


def test_the_version_is_said_without_loading_anything_heavy() -> None:
    code, output, modules = in_a_process("--version")
    assert (code, output) == (0, f"fieldgate {__version__}")
    assert not modules & (HEAVY | {"msgspec"})


def test_a_gateway_is_checked_without_loading_anything_heavy(gateway_file: Path) -> None:
    code, output, modules = in_a_process("gateway", "check", str(gateway_file))
    assert (code, output.splitlines()[0]) == (0, f"{gateway_file}: good")
    assert not modules & HEAVY


def test_a_cloud_is_checked_without_loading_anything_heavy(tmp_path: Path) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text('data = "/var/lib/fieldgate-cloud"\n')
    code, output, modules = in_a_process("cloud", "check", str(path))
    assert (code, output.splitlines()[0]) == (0, f"{path}: good")
    assert not modules & HEAVY


def test_help_lists_every_command_and_loads_none() -> None:
    _, output, modules = in_a_process("--help")
    assert [name for name in main.COMMANDS if f"  {name} " not in output] == []
    assert not {module for module, _ in main.COMMANDS.values()} & modules


def commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [path, *(leaf for name, one in found if one is not None for leaf in commands(one, (*path, name)))]


@pytest.mark.parametrize("path", commands(main.fieldgate), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*path, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: {' '.join(('fieldgate', *path))} ")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["gateway", "check", "/nowhere.toml"], "'/nowhere.toml' does not exist"),
        (["gateway", "check"], "Missing argument 'CONFIG'"),
        (["--nonsense"], "No such option"),
        (["simulate", "--broker", "http://x", "--devices", "1", "--rate", "1"], "expected mqtt://host:port"),
        (["simulate", "--broker", "mqtt://u:p@x", "--devices", "1", "--rate", "1"], "--password-file"),
        (["demo", "--gateways", "0"], "0 is not in the range"),
        (["gateway", "init", "--name", "a/b"], "letters, digits"),
        (
            [
                "simulate",
                "--broker",
                "mqtt://x",
                "--devices",
                "1",
                "--rate",
                "1",
                "--dialect",
                "shelly",
                "--topic",
                "x",
            ],
            "has topics of its own",
        ),
    ],
    ids=["command", "file", "argument", "option", "scheme", "password on the command line", "range", "name", "topic"],
)
def test_wrong_usage_ends_with_2(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    assert why in capsys.readouterr().err


def test_a_refused_configuration_says_file_key_value_expectation_and_suggestion(
    gateway_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway_file.write_text(GATEWAY + '\n[[window]]\nsice = "10s"\n')
    assert main.run(["gateway", "check", str(gateway_file)]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "fieldgate: configuration refused",
        f"  file          {gateway_file}",
        "  key           window[0].sice",
        "  value         '10s'",
        "  expected      one of hop, late, lateness, revise_for, series, size",
        "  did you mean  size",
    ]


@pytest.mark.parametrize(
    ("content", "key"),
    [(b"\xff\xfe", "(file)"), (b"name = ", "(syntax)"), (b'name = "g"\ndata = "d"\nsource = []\n', "source")],
    ids=["not text", "not TOML", "nothing to listen to"],
)
def test_a_file_that_is_no_configuration_ends_with_78(
    gateway_file: Path, content: bytes, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway_file.write_bytes(content)
    assert main.run(["gateway", "check", str(gateway_file)]) == 78
    assert f"  key           {key}" in capsys.readouterr().err.splitlines()


ERRORS = [
    ("ours", JournalUnusable("the disk is full"), 1, "fieldgate: the disk is full"),
    ("with data", CloudRefused(401, "no such token"), 1, "fieldgate: no such token"),
    (
        "the system's",
        FileNotFoundError(2, "No such file or directory", "/x"),
        1,
        "fieldgate: /x: No such file or directory",
    ),
    ("in a group", ExceptionGroup("g", [ExceptionGroup("h", [JournalUnusable("full")])]), 1, "fieldgate: full"),
    (
        "refused in a group",
        ExceptionGroup("g", [ConfigurationRefused("k", 1, "2")]),
        78,
        "fieldgate: configuration refused\n  key           k\n  value         1\n  expected      2",
    ),
]


@pytest.mark.parametrize(("error", "code", "text"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_an_expected_error_is_a_line_and_no_traceback(
    error: Exception, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main.fieldgate, "main", fail)
    assert main.run(["x"]) == code
    assert capsys.readouterr().err.rstrip() == text


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ExceptionGroup("g", [JournalUnusable("full"), ZeroDivisionError()])], ids=repr
)
def test_an_unexpected_error_is_not_hidden(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main.fieldgate, "main", fail)
    with pytest.raises(type(error)):
        main.run(["x"])


def test_a_reader_that_has_gone_is_no_error_with_a_traceback() -> None:
    command = [sys.executable, "-m", "cli.main", "--help"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (1, b"")

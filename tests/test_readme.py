"""The README does what it says: its commands run as printed, its configurations are good, its links lead somewhere.

A fenced block says what it is: `sh` is run, in one shell, in an empty directory; `sh long` takes long, needs a network,
or never ends, and is only parsed: its syntax, its make targets, and that each `fieldgate` command and option exists.
`toml` is checked by `gateway check` or `cloud check`; a fragment is completed first.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import pytest

from cli.cloud import Shown
from cli.main import fieldgate, run
from cloud.config import CloudConfig
from gateway.config import GatewayConfig

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")


class Block(NamedTuple):
    """One fenced block: the line it begins on, its language, further words, and what it holds."""

    line: int
    language: str
    words: frozenset[str]
    content: str


def blocks(text: str) -> list[Block]:
    found = []
    for match in re.finditer(r"^```([^\n]*)\n(.*?)^```\s*$", text, re.MULTILINE | re.DOTALL):
        language, *words = match[1].split() or [""]
        found.append(Block(text.count("\n", 0, match.start()) + 1, language, frozenset(words), match[2]))
    return found


BLOCKS = blocks(TEXT)
SHELL = [block for block in BLOCKS if block.language in ("sh", "bash", "console")]
RUN = [block for block in SHELL if "long" not in block.words]
TOML = [block for block in BLOCKS if block.language == "toml"]
PROSE = re.sub(r"^```.*?^```", lambda fence: "\n" * fence[0].count("\n"), TEXT, flags=re.MULTILINE | re.DOTALL)
SPANS = [
    (PROSE.count("\n", 0, match.start()) + 1, " ".join(match[1].split()))
    for match in re.finditer(r"(?<!`)`(fieldgate [^`]+)`(?!`)", PROSE)
]


def line_of(block: Block) -> str:
    return f"line {block.line}"


@pytest.fixture(scope="session")
def path_with_fieldgate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which `fieldgate` is this tree's."""
    directory = tmp_path_factory.mktemp("bin")
    command = directory / "fieldgate"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -P -m cli.main "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return f"{directory}:{os.environ['PATH']}"


@pytest.mark.parametrize("block", RUN, ids=line_of)
def test_a_command_runs_as_printed(block: Block, tmp_path: Path, path_with_fieldgate: str) -> None:
    script = f"set -eu\n{block.content}"
    environment = os.environ | {"PATH": path_with_fieldgate, "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", SHELL, ids=line_of)
def test_a_shell_block_is_shell_and_names_what_exists(block: Block) -> None:
    subprocess.run(["bash", "-n", "-c", block.content], check=True, capture_output=True)
    for words in commands(block.content):
        check_exists(words)


@pytest.mark.parametrize(("line", "span"), SPANS, ids=[f"line {line}: {span}" for line, span in SPANS])
def test_a_command_named_in_the_text_exists(line: int, span: str) -> None:
    assert line
    check_exists(shlex.split(span))


def commands(script: str) -> Iterator[list[str]]:
    """Give the simple commands of a script as words, without comments, variables set in front, and what joins them."""
    for line in script.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*_words(line), ";"]:
            if set(word) <= set(";&|()"):
                if words:
                    yield words
                words = []
            elif words or not re.fullmatch(r"\w+=.*", word):
                words.append(word)


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def check_exists(words: list[str]) -> None:
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
    elif Path(words[0]).name == "fieldgate":
        check_command(words[1:])


def check_command(words: list[str]) -> None:
    """Walk down the groups by the words that name them; every option must be one of the command's."""
    command: click.Command = fieldgate
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        known = command.list_commands(click.Context(command))
        name = "show" if isinstance(command, Shown) and rest[0] not in known else rest.pop(0)
        assert name in known, f"{name} is none of {', '.join(known)}"
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    context = click.Context(command)
    options = {text for parameter in command.get_params(context) for text in parameter.opts}
    assert [word for word in rest if word.startswith("-") and word.split("=")[0] not in options] == []


@pytest.mark.parametrize("block", TOML, ids=line_of)
def test_a_configuration_is_good(block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "printed.toml"
    side, text = completed(block.content)
    path.write_text(text)
    code = run([side, "check", str(path)])
    assert code == 0, capsys.readouterr().err


def completed(text: str) -> tuple[str, str]:
    """Say whose configuration this is, and add the keys that a fragment leaves out."""
    keys = set(tomllib.loads(text))
    cloud, gateway = (
        {item.encode_name for item in msgspec.structs.fields(kind)} for kind in (CloudConfig, GatewayConfig)
    )
    if keys & (cloud - gateway) and not keys & (gateway - cloud):
        return "cloud", ("" if "data" in keys else 'data = "d"\n') + text
    missing = [line for key, line in (("name", 'name = "g"\n'), ("data", 'data = "d"\n')) if key not in keys]
    source = "" if "source" in keys else '\n[[source]]\ntopic = "s/{device}/{measurement}"\n'
    return "gateway", "".join(missing) + text + source


LINKS = sorted({link for link in re.findall(r"\]\(([^)#\s]+)", TEXT) if "://" not in link})


@pytest.mark.parametrize("link", LINKS)
def test_a_link_into_the_project_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_first_screen_has_the_two_commands() -> None:
    first = "\n".join(TEXT.splitlines()[:40])
    assert [command for command in ("make demo", "make test") if command not in first] == []


# The reading itself, on a README that is wrong.


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("make demo   # a comment\nmake test\n", [["make", "demo"], ["make", "test"]]),
        (
            "A=1 fieldgate demo --seconds \\\n  5 && make x | cat",
            [["fieldgate", "demo", "--seconds", "5"], ["make", "x"], ["cat"]],
        ),
        ("", []),
    ],
    ids=["comments", "joined, continued and piped", "nothing"],
)
def test_commands_are_found_in_scripts(script: str, expected: list[list[str]]) -> None:
    assert list(commands(script)) == expected


@pytest.mark.parametrize(
    "words",
    [
        ["fieldgate", "nonsense"],
        ["fieldgate", "demo", "--nonsense"],
        ["fieldgate", "gateway", "nonsense"],
        ["make", "nonsense"],
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_found(words: list[str]) -> None:
    with pytest.raises(AssertionError):
        check_exists(words)


@pytest.mark.parametrize(
    ("text", "side"),
    [('listen = "127.0.0.1:1"', "cloud"), ("[[window]]\nsize = '1s'", "gateway"), ('data = "x"', "gateway")],
    ids=["cloud", "gateway", "either"],
)
def test_a_fragment_is_completed_for_its_side(text: str, side: str, tmp_path: Path) -> None:
    found, whole = completed(text)
    path = tmp_path / "f.toml"
    path.write_text(whole)
    assert (found, run([found, "check", str(path)])) == (side, 0)


def test_blocks_are_found_with_their_language_words_and_line() -> None:
    text = "a\n```sh long\nx\n```\n\n```\ny\n```\n```toml\nz = 1\n```\n"
    assert blocks(text) == [
        Block(2, "sh", frozenset({"long"}), "x\n"),
        Block(6, "", frozenset(), "y\n"),
        Block(9, "toml", frozenset(), "z = 1\n"),
    ]

"""`fieldgate gateway replay`: what a configuration makes of a journal, and where it differs from another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import main
from gateway import config as gateway_config
from gateway.journal import Journal
from gateway.segment import OsFiles

SOURCE = '[[source]]\ntopic = "s/{device}/{measurement}"\n'
TEN_SECONDS = '[[window]]\nsize = "10s"\n'
BEGIN = 1_700_000_000
"""The data's first second; it ends a window of 10 s."""


def configuration(directory: Path, name: str, pipeline: str = TEN_SECONDS) -> Path:
    path = directory / f"{name}.toml"
    path.write_text(f'name = "g"\ndata = {json.dumps(str(directory / "data"))}\n{SOURCE}{pipeline}')
    return path


@pytest.fixture
def recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Two minutes of two series, a reading a second: 20, but a/hot is 90 in one window and 70 in another."""
    hot = {range(50, 60): 90, range(80, 90): 70}
    lines = [
        f"{BEGIN + second},20,{next((value for when, value in hot.items() if second in when), 20)}"
        for second in range(121)
    ]
    file = tmp_path / "a.csv"
    file.write_text("\n".join(["time,cold,hot", *lines]) + "\n")
    run("gateway", "journal", "import", file, "--config", configuration(tmp_path, "recorded"))
    capsys.readouterr()
    return tmp_path


def run(*words: object) -> int:
    return main.run([str(word) for word in words])


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """Run `gateway replay ... --json` and give what it printed."""
    assert run("gateway", "replay", *words, "--json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    found: dict[str, Any] = json.loads(said.out)
    return found


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@contextmanager
def writing(directory: Path) -> Iterator[Journal]:
    """Hold a journal open as a running gateway does, lock included."""
    settings = gateway_config.parse((directory / "recorded.toml").read_text())
    journal = Journal.open(OsFiles(), directory / "data" / "journal", settings.journal, about=dict)
    try:
        yield journal
    finally:
        journal.close()


def test_windows_are_printed_as_csv_and_what_became_of_the_readings_beside_it(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    b = configuration(recorded, "b", '[[window]]\nsize = "60s"\nseries = "*/hot"\n')
    assert run("gateway", "replay", recorded / "data", "--config", b) == 0
    said = capsys.readouterr()
    header, *windows = said.out.splitlines()
    assert header == "series,definition,start,revision,count,mean,deviation,minimum,maximum,first,last"
    assert [line.split(",")[0:5] for line in windows] == [
        ["a/hot", "0", f"{start}000000000", "0", count] for start, count in ((BEGIN - 20, "40"), (BEGIN + 40, "60"))
    ]
    read, *rest = said.err.splitlines()
    assert read.startswith("read      242 readings of 2 series in ")
    assert read.endswith(" readings/s")
    assert rest == [
        "windows   2 of 100 readings, 21 readings in open windows",
        "removed   no_window 121",
        "late      0",
        "scored    0 windows of groups, by detectors",
        "alerts    none",
    ]


def test_the_same_configuration_makes_no_difference(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = recorded / "recorded.toml"
    assert run("gateway", "replay", recorded / "data", "--config", a, "--diff", a) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "windows   10 s: only in A 0, only in B 0, changed 0, same 24",
        "equal     A and B make the same of these readings",
    ]
    assert said.err.startswith("read      242 readings")


def test_another_cleaning_changes_windows_and_removes_others(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    b = configuration(recorded, "b", TEN_SECONDS + '[[clean]]\nseries = "*/hot"\nmax = 80.0\n[[clean]]\nscale = 2.0\n')
    found = printed(capsys, recorded / "data", "--config", b, "--diff", recorded / "recorded.toml")
    changed = {"mean": 23, "minimum": 23, "maximum": 23, "first": 23, "last": 23}
    assert found["shapes"] == {"10 s": {"only_a": 1, "only_b": 0, "changed": 23, "columns": changed, "same": 0}}
    assert (found["equal"], found["removed"], found["late"]) == (False, {"range": {"a": 0, "b": 10}}, {})
    assert (found["a"]["removed"], found["b"]["removed"]) == ({}, {"range": 10})
    assert (found["readings"], found["a"]["windows"], found["b"]["windows"]) == (242, 24, 23)


def test_windows_of_another_size_are_on_their_side_only(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = configuration(recorded, "b", '[[window]]\nsize = "20s"\nhop = "10s"\n')
    assert run("gateway", "replay", recorded / "data", "--config", b, "--diff", recorded / "recorded.toml") == 0
    assert capsys.readouterr().out.splitlines() == [
        "windows   10 s: only in A 24, only in B 0, changed 0, same 0",
        "windows   20 s, every 10 s: only in A 0, only in B 24, changed 0, same 0",
    ]


def test_a_journal_that_is_being_written_is_read_as_it_stands_and_left_as_it_is(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = printed(capsys, recorded / "data", "--config", recorded / "recorded.toml")
    with writing(recorded):
        newest = max((recorded / "data" / "journal").glob("*.seg"))
        newest.write_bytes(newest.read_bytes() + b"half of a rec")
        before = files(recorded / "data")
        beside = printed(capsys, recorded / "data", "--config", recorded / "recorded.toml")
        assert files(recorded / "data") == before
    for rate in ("seconds", "readings_per_second"):
        del alone[rate], beside[rate]
    assert beside == alone


def test_an_empty_journal_is_said_to_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, "recorded")
    with writing(tmp_path) as journal:
        journal.log.roll(1)
    assert run("gateway", "replay", tmp_path / "data", "--config", path) == 1
    assert capsys.readouterr().err.endswith("this journal is empty: nothing has been recorded yet\n")


RULES = {limit: f'{TEN_SECONDS}[[rule]]\nwhen = "value > {limit}"\n' for limit in (60, 80)}


def test_alerts_are_said_to_a_person_beside_the_windows(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = configuration(recorded, "b", RULES[60])
    assert run("gateway", "replay", recorded / "data", "--config", b) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 + 24
    assert said.err.splitlines()[:2] == [
        "2023-11-14T22:14:10Z  value > 60  a/hot  90 beyond 60",
        "2023-11-14T22:14:40Z  value > 60  a/hot  70 beyond 60",
    ]
    assert said.err.splitlines()[-1] == "alerts    value > 60 2"


def test_alerts_or_windows_alone_are_printed_as_csv(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = configuration(recorded, "b", RULES[80])
    assert run("gateway", "replay", recorded / "data", "--config", b, "--alerts") == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header == "start,rule,series,score,threshold,revision,version,stamp"
    assert line.startswith(f"{BEGIN + 50}000000000,value > 80,a/hot,90.0,80.0,0,0,")
    assert run("gateway", "replay", recorded / "data", "--config", b, "--windows") == 0
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), "beyond" in said.err) == (1 + 24, False)


def test_another_limit_shows_as_the_alerts_that_only_one_side_raises(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (configuration(recorded, f"below-{limit}", text) for limit, text in RULES.items())
    assert run("gateway", "replay", recorded / "data", "--config", b, "--diff", a) == 0
    assert capsys.readouterr().out.splitlines() == [
        "- 2023-11-14T22:14:40Z  value > 60  a/hot  70 beyond 60",
        "alerts    value > 60 -> value > 80: only in A 1, only in B 0, in both 1",
        "windows   10 s: only in A 0, only in B 0, changed 0, same 24",
    ]


def test_another_threshold_of_a_detector_shows_the_same_way(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = recorded / "b.csv"
    spike = [f"{BEGIN + second},{7 if second // 10 == 40 else second % 7}" for second in range(500)]
    file.write_text("\n".join(["time,x", *spike]) + "\n")
    assert run("gateway", "journal", "import", file, "--config", recorded / "recorded.toml") == 0
    capsys.readouterr()
    score = TEN_SECONDS + '[[score]]\nname = "odd"\nseries = "b/x"\nwarmup = 20\n'
    a, b = (configuration(recorded, f"at-{limit}", f"{score}threshold = {limit}.0\n") for limit in (30, 6))
    found = printed(capsys, recorded / "data", "--config", b, "--diff", a)
    assert (found["rules"], found["a"]["alerts"], found["b"]["alerts"]) == (
        {"odd": {"only_a": 0, "only_b": 1, "both": 0}},
        {},
        {"odd": 1},
    )
    [alert] = found["alerts"]
    assert alert.pop("score") > 6
    assert alert == {
        "only": "b",
        "time": "2023-11-14T22:20:00Z",
        "rule": "odd",
        "series": ["b/x"],
        "threshold": 6.0,
        "version": 0,
    }
    assert found["a"]["scored"] == found["b"]["scored"] > 0


@pytest.mark.parametrize("refused", ["--config", "--diff"])
def test_a_configuration_that_is_refused_is_explained(
    recorded: Path, capsys: pytest.CaptureFixture[str], refused: str
) -> None:
    bad = configuration(recorded, "bad", '[[window]]\nsize = "ten"\n')
    files_ = {"--config": recorded / "recorded.toml", "--diff": recorded / "recorded.toml"} | {refused: bad}
    words = [word for pair in files_.items() for word in pair]
    assert run("gateway", "replay", recorded / "data", *words) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert str(bad) in said.err


@pytest.mark.parametrize("more", [["--windows", "--json"], ["--alerts", "--diff", "recorded.toml"]], ids=" ".join)
def test_csv_is_not_chosen_together_with_what_has_none(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.chdir(recorded)
    assert run("gateway", "replay", "data", "--config", "recorded.toml", *more) == 2
    assert "not with --diff or --json" in capsys.readouterr().err

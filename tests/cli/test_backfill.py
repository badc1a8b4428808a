"""Importing a file into a gateway's journal, and replaying it, by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli import main
from cli.series import NAB

CONFIG = """\
name = "g"
data = {data}

[[source]]
topic = "sensors/{{device}}/{{measurement}}"

[[window]]
size = "10s"

[[clean]]
series = "*/hot"
max = 100.0
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(data=json.dumps(str(tmp_path / "data"))))
    return path


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def imported(file: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main.run(["gateway", "journal", "import", str(file), "--config", str(config), "--json"]) == 0
    done: dict[str, object] = json.loads(capsys.readouterr().out)
    return done


def replayed(data: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main.run(["gateway", "replay", str(data), "--config", str(config), "--json"]) == 0
    totals: dict[str, object] = json.loads(capsys.readouterr().out)
    del totals["seconds"], totals["readings_per_second"]
    return totals


def test_readings_of_a_file_are_recorded_cleaned_and_windowed(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{1700000000 + second},{second},{200 if second == 3 else 50}" for second in range(25)]
    done = imported(write(tmp_path / "boiler.csv", ["time,cold,hot", *rows]), config, capsys)
    assert done == {"series": 2, "readings": 50, "windows": 4, "late": 0, "removed": {"range": 1}, "refused": 0}
    assert main.run(["gateway", "replay", str(tmp_path / "data"), "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "series,definition,start,revision,count,mean,deviation,minimum,maximum,first,last",
        "boiler/cold,0,1700000000000000000,0,10,4.5,2.872281312942505,0.0,9.0,0.0,9.0",
        "boiler/hot,0,1700000000000000000,0,9,50.0,0.0,50.0,50.0,50.0,50.0",
        "boiler/cold,0,1700000010000000000,0,10,14.5,2.872281312942505,10.0,19.0,10.0,19.0",
        "boiler/hot,0,1700000010000000000,0,10,50.0,0.0,50.0,50.0,50.0,50.0",
    ]
    assert said.err.splitlines()[1:] == [
        "windows   4 of 39 readings, 10 readings in open windows",
        "removed   range 1",
        "late      0",
        "scored    0 windows of groups, by detectors",
        "alerts    none",
    ]


def test_a_second_import_goes_on_where_the_first_ended(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(tmp_path / "1.csv", ["time,series,value", *(f"{1700000000 + at},d/a,{at}" for at in range(15))])
    second = write(tmp_path / "2.csv", ["time,series,value", *(f"{1700000015 + at},d/a,{at}" for at in range(15))])
    assert imported(first, config, capsys)["windows"] == 1
    assert imported(second, config, capsys)["windows"] == 1
    totals = replayed(tmp_path / "data" / "journal", config, capsys)
    assert (totals["readings"], totals["series"], totals["windows"], totals["damaged"]) == (30, 1, 2, 0)


def test_a_replay_gives_the_same_windows_every_time(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = imported(NAB, config, capsys)
    once, twice = (replayed(tmp_path / "data", config, capsys) for _ in range(2))
    assert once == twice
    assert once["windows"] == done["windows"]


def test_series_beyond_the_bound_are_counted_not_recorded(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text("max_series = 1\n" + config.read_text())
    done = imported(write(tmp_path / "d.csv", ["time,a,b", "1700000000,1,2", "1700000001,1,2"]), config, capsys)
    assert (done["readings"], done["refused"]) == (2, 2)


def test_a_directory_without_a_journal_is_said_to_be_none(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["gateway", "replay", str(tmp_path), "--config", str(config)]) == 1
    assert "no journal here" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_leaves_no_trace(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "d.npz"
    np.savez(bad, x=np.ones(3))
    assert main.run(["gateway", "journal", "import", str(bad), "--config", str(config)]) == 1
    assert "expected arrays named" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()

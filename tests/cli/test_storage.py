"""`journal|spool stat|verify|repair`: what is kept, what is damaged, and what is done about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli import main
from cli.gateway import load
from gateway import recovery
from gateway.segment import OsFiles, layout
from gateway.spool import MARKS
from protocol.messages import JOURNAL_LANE, LANES

CONFIG = """\
name = "g"
data = {data}

[[source]]
topic = "sensors/{{device}}/{{measurement}}"

[[window]]
size = "10s"

[journal]
segment_bytes = "16KiB"
"""


@pytest.fixture
def config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Give the configuration of a gateway that has recorded 20,000 readings."""
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(data=json.dumps(str(tmp_path / "data"))))
    rows = [f"{1700000000 + second},{second % 97}.5,{(second * second) % 89}" for second in range(10_000)]
    (tmp_path / "boiler.csv").write_text("\n".join(["time,cold,hot", *rows]) + "\n")
    assert main.run(["gateway", "journal", "import", str(tmp_path / "boiler.csv"), "--config", str(path)]) == 0
    capsys.readouterr()
    return path


def asked(store: str, what: str, config: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    assert main.run(["gateway", store, what, str(config), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def said(store: str, what: str, config: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main.run(["gateway", store, what, str(config)]) == code
    return capsys.readouterr().out


def journal(config: Path) -> list[Path]:
    return sorted((config.parent / "data" / "journal").glob("*.seg"))


def damage(path: Path, number: int) -> tuple[int, int, int]:
    """Damage a file's record, counted from 0; give its sequence and bytes."""
    data = bytearray(path.read_bytes())
    at, header = list(layout.walk(bytes(data), JOURNAL_LANE, layout.first_of(path.name) or 0))[number]
    data[at + 40] ^= 1
    path.write_bytes(data)
    return header.seq, at, at + header.size


def test_stat_says_what_is_kept(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked("journal", "stat", config, capsys)
    files = journal(config)
    assert len(files) > 1
    assert found["files"] == len(files)
    assert found["bytes"] == sum(path.stat().st_size for path in files)
    assert (found["oldest"], found["records"]) == (1, found["newest"])
    assert 0 < found["oldest_stamp"] <= found["newest_stamp"]
    assert [one["position"] for one in found["checkpoints"]] == [found["newest"]]
    assert (found["to_replay"], found["set_aside"]) == (0, [])
    text = said("journal", "stat", config, capsys)
    assert f"records      {found['records']}, 1 to {found['newest']}" in text

    spool = asked("spool", "stat", config, capsys)
    assert list(spool["lanes"]) == list(LANES)
    assert len(spool["epoch"]) == 16
    telemetry = spool["lanes"]["telemetry"]
    assert telemetry["queued"] == telemetry["records"] > 0
    assert spool["queued"] == sum(lane["queued"] for lane in spool["lanes"].values())
    assert "telemetry" in said("spool", "stat", config, capsys)


@pytest.mark.parametrize("store", ["journal", "spool"])
def test_what_is_whole_is_called_good_and_nothing_is_repaired(
    store: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(store, "verify", config, capsys)
    assert found["records"] > 0
    assert found["damage"] == []
    assert "all good" in said(store, "verify", config, capsys)
    assert said(store, "repair", config, capsys) == "nothing is damaged\n"


def test_a_damaged_record_is_named_and_stays_where_it_is(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = journal(config)[0]
    seq, begin, end = damage(path, 2)
    before = path.read_bytes()
    found = asked("journal", "verify", config, capsys, code=1)
    (one,) = found["damage"]
    assert (one["what"], one["file"], one["bytes"], one["records"]) == ("records", path.name, [begin, end], [seq, seq])
    text = said("journal", "verify", config, capsys, code=1)
    assert f"{path.name}, bytes {begin} to {end}, records {seq} to {seq}\n  records that cannot be read" in text
    assert "to do: " in text
    assert asked("journal", "repair", config, capsys)["left"] == found["damage"]
    assert path.read_bytes() == before


def test_a_torn_end_and_a_damaged_checkpoint_are_set_aside_by_repair_only(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = journal(config)[-1]
    with newest.open("ab") as file:
        file.write(b"torn")
    (checkpoint,) = (config.parent / "data" / "checkpoints").glob("*.fg")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    size = newest.stat().st_size
    found = asked("journal", "verify", config, capsys, code=1)
    assert [one["what"] for one in found["damage"]] == ["tail", "checkpoint"]
    assert newest.stat().st_size == size, "verify only reads"
    done = asked("journal", "repair", config, capsys)
    aside = [Path(name) for name in done["set_aside"]]
    assert (done["torn_bytes"], done["left"]) == (4, [])
    assert [path.name for path in aside] == [f"{newest.name}.{size - 4}.damaged", "checkpoint.damaged"]
    assert aside[0].read_bytes() == b"torn"
    assert asked("journal", "verify", config, capsys)["damage"] == []
    assert len(asked("journal", "stat", config, capsys)["set_aside"]) == 2
    assert "set aside" in said("journal", "stat", config, capsys)


def test_files_of_a_spool_that_were_mixed_up_are_named_and_put_right(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home,) = (config.parent / "data" / "spool").glob("0*")
    (telemetry,) = (home / "telemetry").glob("*.seg")
    telemetry.rename(telemetry.with_name(layout.segment_name(77)))
    (home / MARKS).write_bytes(b"no marks")
    found = asked("spool", "verify", config, capsys, code=1)
    assert [(one["what"], one["file"]) for one in found["damage"]] == [
        ("place", f"telemetry/{layout.segment_name(77)}"),
        ("marks", MARKS),
    ]
    asked("spool", "repair", config, capsys)
    assert telemetry.exists()
    assert [one["what"] for one in asked("spool", "verify", config, capsys, code=1)["damage"]] == ["marks"]


def test_all_is_seen_beside_a_running_gateway_and_nothing_repaired(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = recovery.recover(load(config), OsFiles(), 0, lambda: 7)
    try:
        for store in ("journal", "spool"):
            assert asked(store, "stat", config, capsys)["bytes"] > 0
            assert asked(store, "verify", config, capsys)["damage"] == []
            assert main.run(["gateway", store, "repair", str(config)]) == 1
            assert "in use by another process" in capsys.readouterr().err
    finally:
        opened.journal.close()
        opened.spool.close()


@pytest.mark.parametrize("store", ["journal", "spool"])
@pytest.mark.parametrize("what", ["stat", "verify", "repair"])
def test_a_gateway_that_has_not_run_has_none(
    store: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(data=json.dumps(str(tmp_path / "data"))))
    assert main.run(["gateway", store, what, str(path)]) == 1
    assert f"no {store} here" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()

"""Anomalies in a recording are found by `journal import` and `replay`, with the defaults: the way to try a detector."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cli import main
from gateway import config, recovery
from gateway.journal import Journal
from gateway.records import Alerts, Outputs
from gateway.segment import OsFiles
from tests.bench.detectors import rate, watch

S = 10**9
BEGIN = 1_700_000_000
FILE = """\
name = "g"
data = {data}

[[source]]
topic = "sensors/{{device}}/{{measurement}}"

[[window]]
size = "1s"
revise_for = "0s"

[[score]]
by = "device"
"""


@pytest.fixture
def values() -> np.ndarray:
    """Two series that follow each other for 1,000 s, but for 100 s from 700 on."""
    rng = np.random.default_rng(7)
    one = rng.normal(20, 1, 1000)
    other = 2 * one + rng.normal(0, 0.2, 1000)
    other[700:800] += 3
    return np.stack([one, other], axis=1)


@pytest.fixture
def gateway(tmp_path: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE.format(data=json.dumps(str(tmp_path / "data"))))
    rows = [f"{BEGIN + at},{one!r},{other!r}" for at, (one, other) in enumerate(values.tolist())]
    (tmp_path / "pump.csv").write_text("\n".join(["time,flow,load", *rows]) + "\n")
    done = main.run(["gateway", "journal", "import", str(tmp_path / "pump.csv"), "--config", str(path), "--json"])
    assert (done, json.loads(capsys.readouterr().out)["readings"]) == (0, 2000)
    return path


def replayed(path: Path) -> Iterator[Outputs]:
    settings = config.parse(path.read_text())
    journal = Journal.open(OsFiles(), Path(settings.data) / "journal", settings.journal, about=dict)
    try:
        for _, _, [outputs] in recovery.rerun(journal, settings.pipeline):
            yield outputs
    finally:
        journal.close()


def test_an_event_that_no_single_series_shows_is_alerted_once_and_told_window_by_window(gateway: Path) -> None:
    told, over = [], {}
    for outputs in replayed(gateway):
        told += [alert for item in outputs.items if isinstance(item, Alerts) for alert in item.alerts]
        over.update({verdicts.start // S - BEGIN: bool(verdicts.over[0]) for verdicts in outputs.verdicts})
    assert [alert.start // S - BEGIN for alert in told if alert.start >= (BEGIN + 700) * S] == [700]
    assert len(told) <= 3  # of 640 windows, one in 2,150 of which is unlikely enough
    assert min(over) == 360
    assert np.mean([over[at] for at in range(700, 800)]) > 0.95
    assert np.mean([over[at] for at in range(360, 700)]) < 0.01


def test_the_bench_sees_what_a_replay_of_the_same_recording_sees(gateway: Path, values: np.ndarray) -> None:
    seen = watch(["pump/flow", "pump/load"], (BEGIN + np.arange(1000)) * S, values, config.Score(by="device"))
    over = {v.start // S - BEGIN for outputs in replayed(gateway) for v in outputs.verdicts if v.over[0]}
    assert set(np.flatnonzero(seen.over[:999]).tolist()) == over - {999}


RATED = {
    "nothing said": ([], (-1.0, 0, 0)),
    "at the beginning of the span": ([400], (1.0, 1, 0)),
    "once is enough": ([400, 420, 499], (1.0, 1, 0)),
    "in the part that does not count": ([10, 149], (-1.0, 0, 0)),
    "before any span": ([200], (-1.11, 0, 1)),
    "long after one": ([999], (-1.11, 0, 1)),
}


@pytest.mark.parametrize(("alerts", "expected"), RATED.values(), ids=RATED.keys())
def test_alerts_are_rated_as_nab_rates_them(alerts: list[int], expected: tuple[float, int, int]) -> None:
    mask = np.zeros(1000, bool)
    mask[alerts] = True
    points, found, false = rate(mask, [(400, 499)])
    assert (found, false) == expected[1:]
    assert points == pytest.approx(expected[0], abs=1e-3)


def test_a_late_alert_earns_less_and_one_just_behind_the_span_costs_less() -> None:
    early, late, behind = (rate(np.arange(1000) == at, [(400, 499)])[0] for at in (400, 480, 510))
    assert early > late > 0 > behind > -1.11

"""score inside derive: what its outputs are, what survives a restart, and a model that comes in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gateway.config import Duration, PipelineConfig, Rule, Score, Time, Window, pipeline_text
from gateway.derive import Derive
from gateway.records import (
    Alerts,
    ClockRecord,
    Closed,
    ConfigurationRecord,
    Definitions,
    Learnt,
    ModelRecord,
    Outputs,
    Readings,
    ReadingsRecord,
    Record,
    Swapped,
    TickRecord,
)
from learning import baseline
from learning.baseline import SCHEMA, Baseline, Entry
from protocol.columns import decode_state, encode_state
from protocol.identity import Signer
from protocol.manifest import Manifest, digest_of, seal
from protocol.messages import Alert

S = 10**9
NAMES = ["a/x", "b/x", "a/y"]
NORMAL = np.random.default_rng(7).normal(0, 1, (500, 3))
CONFIG = PipelineConfig(
    window=(Window(size=Duration(S)),),
    score=(
        Score(warmup=30, threshold=6.0, share=Duration(60 * S)),
        Score(name="whole", by="all", warmup=30, threshold=6.0),
    ),
    rule=(Rule(when="value > 20", name="high"),),
    time=Time(idle=Duration(5 * S)),
)


def record(at: int, *values: float, names: list[str] | None = None) -> ReadingsRecord:
    """One reading of series 0, 1, ... at a second, arrived then."""
    series = np.arange(len(values), dtype=np.int32)
    readings = Readings(series, np.full(len(values), at * S, np.int64), np.array(values))
    return ReadingsRecord(at * S, readings, names or [])


def normal(begin: int, end: int) -> Iterator[Record]:
    for at in range(begin, end):
        yield record(at, *NORMAL[at].tolist(), names=NAMES if at == 0 else None)


def model(version: int, mean: float, content: bytes = b"") -> ModelRecord:
    entry = Entry(100.0, np.array([mean]), np.eye(1))
    content = content or baseline.encode(Baseline({("x",): entry, ("y",): entry}))
    manifest = Manifest("score", version, size=len(content), digest=digest_of(content), schema=SCHEMA, created=S)
    return ModelRecord(7 * S, seal(manifest, Signer.from_seed(bytes(32))), content)


def alerts(outputs: Outputs) -> list[Alert]:
    return [alert for item in outputs.items if isinstance(item, Alerts) for alert in item.alerts]


def after(*records: Record, config: PipelineConfig = CONFIG) -> Derive:
    derive = Derive(config)
    for one in records:
        derive.feed(one)
    return derive


def test_of_one_record_windows_come_before_alerts_and_these_before_what_was_learnt() -> None:
    derive = after(*normal(0, 39), record(39, 99.0, 0.0, 0.0))
    outputs = derive.feed(record(40, 0.0, 0.0, 0.0))  # ten seconds after the warm-up
    assert [type(item) for item in outputs.items] == [Closed, Alerts, Learnt, Learnt]
    assert [(alert.rule, alert.series, alert.start // S) for alert in alerts(outputs)] == [
        ("score", [0], 39),
        ("high", [0], 39),
        ("whole", [0, 2, 1], 39),
    ]
    assert [(verdicts.rule, verdicts.series.tolist()) for verdicts in outputs.verdicts] == [
        ("score", [0, 1, 2]),
        ("whole", [0]),
    ]


def test_totals_tell_what_was_scored_and_raised() -> None:
    derive = after(*normal(0, 40), record(40, 99.0, 0.0, 0.0), record(41, 0.0, 0.0, 0.0))
    totals = derive.totals
    assert (totals.alerts, totals.raised) == (3, {"score": 1, "high": 1, "whole": 1})
    assert (totals.scored, totals.shadow, totals.unscored) == (11 * 4, {}, {})
    assert totals.counts()["alerts"] == 3


def test_an_alert_of_an_unsynchronised_boot_names_its_clock_as_its_window_does() -> None:
    derive = after(ClockRecord(0, "boot-7", 0, synchronised=False), record(0, 99.0, names=["a/x"]))
    outputs = derive.feed(record(1, 0.0))
    assert [(type(item), item.domain) for item in outputs.items if isinstance(item, Closed | Alerts)] == [
        (Closed, "boot-7"),
        (Alerts, "boot-7"),
    ]


def test_a_tick_scores_what_waits_for_a_silent_device() -> None:
    derive = after(*normal(0, 40), *(record(at, 99.0) for at in (40, 41)))
    assert derive.due() <= 46 * S
    assert [
        (alert.rule, alert.missing) for alert in alerts(derive.feed(TickRecord(46 * S))) if alert.rule == "whole"
    ] == [("whole", [2, 1])]


def test_a_model_scores_between_two_windows_and_alerts_bear_its_version() -> None:
    derive = after(*normal(0, 3))
    assert derive.feed(model(3, 50.0)).items == [Swapped("score", 3, derive_digest(3, 50.0), 7 * S)]
    assert {(alert.rule, alert.version) for alert in alerts(derive.feed(record(3, 0.0, 0.0, 0.0)))} == {("score", 3)}
    assert derive.totals.unusable == {}


def derive_digest(version: int, mean: float) -> str:
    return digest_of(model(version, mean).content)


def test_a_model_that_cannot_be_read_is_not_used_and_counted_and_the_one_before_goes_on() -> None:
    derive = after(*normal(0, 3), model(3, 50.0), model(4, 0.0, b"garbage"))
    assert derive.totals.unusable == {"content": 1}
    assert {alert.version for alert in alerts(derive.feed(record(3, 0.0, 0.0, 0.0)))} == {3}


def test_windows_that_vanish_with_their_definition_are_scored_before_it_does() -> None:
    derive = after(*normal(0, 40), record(40, 99.0, 0.0, 0.0))
    changed = PipelineConfig(window=(Window(size=Duration(2 * S)),), score=CONFIG.score, rule=CONFIG.rule)
    outputs = derive.feed(ConfigurationRecord(41 * S, pipeline_text(changed)))
    assert {alert.rule for alert in alerts(outputs)} == {"score", "high", "whole"}
    assert [type(item) for item in outputs.items if not isinstance(item, Learnt)] == [Closed, Alerts, Definitions]
    assert derive.progress().warming == 4


def test_a_model_stays_when_the_configuration_changes() -> None:
    derive = after(*normal(0, 3), model(3, 50.0))
    derive.feed(ConfigurationRecord(4 * S, pipeline_text(PipelineConfig(window=CONFIG.window, score=CONFIG.score[:1]))))
    assert {alert.version for alert in alerts(derive.feed(record(4, 0.0, 0.0, 0.0)))} == {3}


RECORDS = [
    *normal(0, 35),
    model(2, 0.5),
    *(record(at, 30.0, 0.0, 0.0) for at in range(35, 38)),
    record(38, 1.0),
    TickRecord(44 * S),
    ConfigurationRecord(45 * S, pipeline_text(PipelineConfig(window=CONFIG.window, score=CONFIG.score[:1]))),
    *normal(45, 60),
    TickRecord(200 * S),
]


@pytest.mark.parametrize("cut", range(0, len(RECORDS), 3))
def test_a_checkpoint_at_any_record_goes_on_bit_for_bit(cut: int) -> None:
    through, first = Derive(CONFIG), after(*RECORDS[:cut])
    expected = [through.feed(one).items for one in RECORDS][cut:]
    second = Derive.restore(decode_state(encode_state(first.snapshot())))
    assert repr([second.feed(one).items for one in RECORDS[cut:]]) == repr(expected)
    assert encode_state(second.snapshot()) == encode_state(through.snapshot())


def test_a_checkpoint_of_before_there_was_score_warms_up_anew() -> None:
    state: dict[str, Any] = after(*normal(0, 40)).snapshot()
    del state["score"]
    derive = Derive.restore(decode_state(encode_state(state)))
    assert derive.progress() == (4, 0, 0, 30)
    derive.feed(record(40, 0.0, 0.0, 0.0))
    derive.feed(record(41, 0.0, 0.0, 0.0))
    assert derive.progress().seen == 2

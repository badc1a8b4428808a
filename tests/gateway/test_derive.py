"""One record in, its outputs out; a crash is answered by replay, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Clean, PipelineConfig, Score, Window, digest, pipeline_text
from gateway.config import Duration as Ns
from gateway.derive import Derive
from gateway.records import (
    NEVER,
    Alerts,
    ClockRecord,
    Closed,
    ConfigurationRecord,
    Definitions,
    DropsRecord,
    Learnt,
    ModelRecord,
    Output,
    Outputs,
    Readings,
    ReadingsRecord,
    Record,
    Tally,
    TickRecord,
)
from learning import baseline
from protocol.columns import decode_state, encode_state
from protocol.identity import Signer
from protocol.manifest import Manifest, digest_of, seal
from protocol.messages import Alert, SeriesDefinition, WindowDefinition

S = 10**9
CONFIG = PipelineConfig(window=(Window(size=Ns(S)),), clean=(Clean(series="*/t", max=100.0),))


def readings(stamp: int, *rows: tuple[int, float, float], names: tuple[str, ...] = ()) -> ReadingsRecord:
    """Rows are (series, seconds, value)."""
    series, seconds, values = zip(*rows, strict=True) if rows else ((), (), ())
    columns = Readings(
        np.array(series, np.int32),
        np.array([round(at * S) for at in seconds], np.int64),
        np.array(values, np.float64),
    )
    return ReadingsRecord(stamp, columns, list(names), Tally(messages=len(rows), decoded=len(rows)))


def windows(outputs: Outputs) -> list[tuple[int, int, int, float]]:
    """Every closed row as (series, start in seconds, count, mean)."""
    return [
        (int(row[0]), int(row[1]) // S, int(row[2]), float(row[3]))
        for item in outputs.items
        if isinstance(item, Closed)
        for row in zip(item.rows.series, item.rows.start, item.rows.count, item.rows.mean, strict=True)
    ]


def closes(derive: Derive) -> bool:
    totals = derive.totals
    return totals.recorded == totals.windowed + sum(totals.removed.values()) + totals.late + derive.pending


def test_definitions_come_before_the_windows_that_refer_to_them() -> None:
    derive = Derive(CONFIG)
    outputs = derive.feed(readings(3 * S, (0, 1.0, 5.0), (0, 2.5, 6.0), names=("pump/t",)))
    definitions, closed = outputs.items
    assert definitions == Definitions(
        [SeriesDefinition(0, "pump/t")], [WindowDefinition(0, digest(CONFIG.window[0], CONFIG.clean), S, S)]
    )
    assert isinstance(closed, Closed)
    assert windows(outputs) == [(0, 1, 1, 5.0)]
    assert closes(derive)


def test_a_series_is_announced_once() -> None:
    derive = Derive(CONFIG)
    derive.feed(readings(S, (0, 1.0, 5.0), names=("pump/t",)))
    outputs = derive.feed(readings(S, (0, 1.1, 5.0), (1, 1.1, 9.0), names=("fan/t",)))
    assert outputs.items == [Definitions([SeriesDefinition(1, "fan/t")], [])]


def test_what_cleaning_removes_is_counted_by_reason() -> None:
    derive = Derive(CONFIG)
    outputs = derive.feed(readings(S, (0, 1.0, 500.0), (0, 1.1, float("nan")), (0, 1.2, 5.0), names=("pump/t",)))
    assert outputs.removed == {"range": 1, "non_finite": 1}
    assert derive.totals.removed == {"range": 1, "non_finite": 1}
    assert closes(derive)


def test_a_tick_closes_the_windows_of_an_idle_device() -> None:
    derive = Derive(CONFIG)
    assert derive.due() == NEVER
    derive.feed(readings(S, (0, 1.0, 5.0), names=("pump/t",)))
    due = derive.due()
    assert S < due < NEVER
    outputs = derive.feed(TickRecord(due))
    assert windows(outputs) == [(0, 1, 1, 5.0)]
    assert derive.due() == NEVER
    assert closes(derive)


def test_an_unsynchronised_boot_names_the_clock_domain() -> None:
    derive = Derive(CONFIG)
    derive.feed(ClockRecord(5, "boot-7", 5, synchronised=False))
    outputs = derive.feed(readings(S, (0, 1.0, 5.0), (0, 2.0, 5.0), names=("pump/t",)))
    assert [item.domain for item in outputs.items if isinstance(item, Closed)] == ["boot-7"]


def test_a_change_of_configuration_announces_the_new_windows() -> None:
    derive = Derive(CONFIG)
    derive.feed(readings(S, (0, 1.0, 5.0), names=("pump/t",)))
    changed = PipelineConfig(window=(Window(size=Ns(2 * S)),))
    outputs = derive.feed(ConfigurationRecord(2 * S, pipeline_text(changed)))
    assert windows(outputs) == [(0, 1, 1, 5.0)]  # its definition is gone, so it is stated
    assert outputs.items[-1] == Definitions([], [WindowDefinition(1, digest(changed.window[0], ()), 2 * S, 2 * S)])
    assert closes(derive)


def test_the_number_of_a_window_definition_never_gets_another_meaning() -> None:
    derive = Derive(CONFIG)
    derive.feed(readings(S, (0, 1.0, 5.0), names=("pump/t",)))
    other = PipelineConfig(window=(Window(size=Ns(2 * S)), *CONFIG.window), clean=CONFIG.clean)
    announced = []
    for stamp, config in enumerate((other, CONFIG, other), 2):
        derive = Derive.restore(decode_state(encode_state(derive.snapshot())))
        outputs = derive.feed(ConfigurationRecord(stamp * S, pipeline_text(config)))
        announced.append([item.id for item in outputs.items[-1].windows])  # type: ignore[union-attr]
    assert announced == [[1, 0], [0], [1, 0]]
    derive.feed(readings(10 * S, (0, 10.0, 6.0)))
    rows = [item.rows for item in derive.feed(TickRecord(200 * S)).items if isinstance(item, Closed)]
    stated = [row for part in rows for row in zip(part.definition.tolist(), (part.start // S).tolist(), strict=True)]
    assert stated == [(1, 10), (0, 10)]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_a_definition_that_comes_back_states_its_windows_under_its_number_by_the_next_revision(cut: int) -> None:
    other = PipelineConfig(clean=CONFIG.clean)
    records: list[Record] = [
        readings(S, (0, 0.1, 5.0), names=("pump/t",)),
        *(ConfigurationRecord(S + at, pipeline_text(config)) for at, config in enumerate((other, CONFIG), 1)),
        readings(S + 3, (0, 0.5, 7.0)),
        readings(2 * S, (0, 1.5, 7.0)),
    ]
    derive, stated = Derive(CONFIG), []
    for number, record in enumerate(records, 1):
        rows = [item.rows for item in derive.feed(record).items if isinstance(item, Closed)]
        stated += [(*part.definition, *part.start, *part.revision, *part.count, *part.mean) for part in rows]
        if number == cut:
            derive = Derive.restore(decode_state(encode_state(derive.snapshot())))
    assert stated == [(0, 0, 0, 1, 5.0), (0, 0, 1, 2, 6.0)]
    assert closes(derive)


def equal(one: Any, two: Any) -> bool:
    return encode_state({"": one}) == encode_state({"": two})


STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(0, 2), st.floats(0, 30), st.floats(-200, 200)), max_size=6),
        st.integers(0, 8),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 12))
def test_replay_from_a_checkpoint_is_bit_equal_to_never_having_stopped(steps: list[Any], cut: int) -> None:
    records: list[Record] = [readings(0, names=("a/t", "a/u", "b/t"))]
    now = 0
    for step in steps:
        now += step * S if isinstance(step, int) else 1
        records.append(TickRecord(now) if isinstance(step, int) else readings(now, *step))
    through, first = Derive(CONFIG), Derive(CONFIG)
    expected = [through.feed(record) for record in records]
    got = [first.feed(record) for record in records[:cut]]
    second = Derive.restore(decode_state(encode_state(first.snapshot())))
    got += [second.feed(record) for record in records[cut:]]
    assert list(map(windows, got)) == list(map(windows, expected))
    assert equal(second.snapshot(), through.snapshot())
    assert closes(second)


@pytest.mark.parametrize("hop", [S, S // 4], ids=["tumbling", "hopping"])
def test_accounting_counts_a_reading_once(hop: int) -> None:
    derive = Derive(PipelineConfig(window=(Window(size=Ns(S), hop=Ns(hop), late="drop"),)))
    derive.feed(readings(S, *((0, at / 10, 1.0) for at in range(50)), names=("a/t",)))
    assert closes(derive)
    derive.feed(readings(2 * S, (0, 0.05, 1.0)))
    assert derive.totals.late == 1
    assert closes(derive)


@pytest.mark.parametrize(
    ("clock", "domain"),
    [(ClockRecord(S, "boot-1", 0, synchronised=True), ""), (ClockRecord(S, "boot-1", 0, synchronised=False), "boot-1")],
    ids=["UTC", "a clock that is not believed"],
)
def test_what_the_broker_drops_is_an_alert_of_no_series_in_our_own_time(clock: ClockRecord, domain: str) -> None:
    derive = Derive(PipelineConfig())
    derive.feed(clock)
    assert derive.feed(DropsRecord(2 * S, 30)).items == [Alerts([Alert([], 2 * S, 0, 2 * S, 30.0, "broker")], domain)]
    assert derive.feed(DropsRecord(3 * S, 40)).items == []
    again = Derive.restore(decode_state(encode_state(derive.snapshot())))
    due = again.due()
    assert again.feed(TickRecord(due)).items == [Alerts([Alert([], due, 0, due, 10.0, "broker")], domain)]
    assert (again.drops, again.totals.alerts, again.totals.raised) == (40, 2, {"broker": 2})


def test_a_checkpoint_of_before_there_were_such_alerts_is_read() -> None:
    state = Derive(PipelineConfig()).snapshot()
    del state["bursts"]
    assert (Derive.restore(state).drops, Derive.restore(state).due()) == (0, NEVER)


def configuration(stamp: int, *names: str) -> ConfigurationRecord:
    return ConfigurationRecord(stamp, pipeline_text(PipelineConfig(score=tuple(Score(name=name) for name in names))))


def introduced(outputs: Outputs) -> list[Output]:
    return [item for item in outputs.items if isinstance(item, Learnt)]


def test_a_score_that_is_new_is_told_of_before_it_has_learnt_anything() -> None:
    derive = Derive(PipelineConfig())
    assert introduced(derive.feed(configuration(S, "pumps"))) == [Learnt("pumps", S, [])]
    assert introduced(derive.feed(configuration(2 * S, "fans", "pumps"))) == [Learnt("fans", 2 * S, [])]
    assert introduced(derive.feed(configuration(3 * S, "fans"))) == []


def test_a_score_that_comes_back_is_told_of_with_the_model_that_scores_again() -> None:
    content = baseline.encode(baseline.Baseline({}))
    said = Manifest("pumps", 4, len(content), digest_of(content), baseline.SCHEMA, 0)
    derive = Derive(PipelineConfig())
    derive.feed(configuration(S, "pumps"))
    derive.feed(ModelRecord(2 * S, seal(said, Signer.from_seed(bytes(32))), content))
    derive.feed(configuration(3 * S))
    assert introduced(derive.feed(configuration(4 * S, "pumps"))) == [Learnt("pumps", 4 * S, [], version=4)]

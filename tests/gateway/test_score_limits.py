"""[[rule]]: timetables of windows of ten seconds, each (start, readings)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import PipelineConfig, Rule, Window, parse
from gateway.records import NEVER
from gateway.score import Scoring
from protocol.columns import decode_state, encode_state
from protocol.errors import ConfigurationRefused
from protocol.messages import Alert, WindowRows
from protocol.settings import Duration

S = 10**9
TEN = (Window(size=Duration(10 * S)),)


class Windowed(NamedTuple):
    """A window of a series: when it starts (s), and its readings."""

    start: int
    readings: tuple[float, ...]
    series: int = 0
    revision: int = 0
    definition: int = 0


def rows(*windows: Windowed) -> WindowRows:
    columns = [
        (
            *(
                w.series,
                w.definition,
                w.start * S,
                w.revision,
                len(w.readings),
                np.mean(w.readings),
                np.std(w.readings),
            ),
            *(min(w.readings), max(w.readings), w.readings[0], w.readings[-1]),
        )
        for w in sorted(windows, key=lambda w: (w.definition, w.start, w.series))
    ]
    dtypes = ("i4", "i4", "i8", "i4", "i8", "f4", "f4", "f8", "f8", "f8", "f8")
    return WindowRows(
        *(np.array(column, dtype) for column, dtype in zip(zip(*columns, strict=True), dtypes, strict=True))
    )


def passed(_: int, series: np.ndarray) -> np.ndarray:
    return np.full(len(series), NEVER)


def scoring(*rules: Rule, names: Sequence[str] = ("a/x",), windows: tuple[Window, ...] = TEN) -> Scoring:
    made = Scoring(PipelineConfig(window=windows, rule=rules))
    made.define(names)
    return made


def alerts(when: str, *table: tuple[int, tuple[float, ...]]) -> list[tuple[int, float]]:
    """Feed windows one by one; give (start, score) of each alert."""
    stage = scoring(Rule(when=when))
    said = [alert for start, values in table for alert in fed(stage, Windowed(start, values))]
    return [(alert.start // S, alert.score) for alert in said]


def fed(stage: Scoring, *windows: Windowed) -> list[Alert]:
    return stage.feed(rows(*windows), passed, 1000 * S).alerts


TABLES = {
    "any reading beyond, told once": (
        "value > 80",
        [(0, (70.0, 81.0)), (10, (82.0, 90.0)), (20, (85.0,))],
        [(0, 81.0)],
    ),
    "at the limit is not beyond": ("value > 80", [(0, (80.0,))], []),
    "again after it has ended": (
        "value > 80",
        [(0, (81.0,)), (10, (80.0,)), (20, (79.0, 84.0))],
        [(0, 81.0), (20, 84.0)],
    ),
    "below": ("value < -5.5", [(0, (-5.0, -6.0)), (10, (0.0,))], [(0, -6.0)]),
    "for: every reading, from the first window's start to the newest's end": (
        "value > 80 for 30s",
        [(0, (81.0,)), (10, (82.0,)), (20, (83.0, 85.0)), (30, (99.0,))],
        [(20, 83.0)],
    ),
    "for: one reading that is not ends it": (
        "value > 80 for 30s",
        [(0, (81.0,)), (10, (82.0, 79.0)), (20, (83.0,)), (30, (84.0,)), (40, (85.0,))],
        [(40, 85.0)],
    ),
    "for: a silence does not end it": ("value > 80 for 60s", [(0, (81.0,)), (50, (82.0,))], [(50, 82.0)]),
    "for: below takes the largest": ("value < 5 for 20s", [(0, (1.0, 4.0)), (10, (2.0, 3.0))], [(10, 3.0)]),
    "rate, per second between means": (
        "rate > 0.5",
        [(0, (1.0, 3.0)), (10, (7.0,)), (20, (13.0,)), (30, (13.0,)), (50, (25.0,))],
        [(20, 0.6), (50, 0.6)],
    ),
    "a falling rate": ("rate < -1", [(0, (0.0,)), (10, (-20.0,))], [(10, -2.0)]),
    "a rate for a time": (
        "rate > 0.5 for 20s",
        [(0, (0.0,)), (10, (6.0,)), (20, (12.0,)), (30, (18.0,))],
        [(20, 0.6)],
    ),
    "the first window has no rate": ("rate > -1000", [(0, (5.0,))], []),
    "a window out of its order is not judged": ("value > 80", [(10, (1.0,)), (0, (99.0,)), (10, (99.0,))], []),
}


@pytest.mark.parametrize(("when", "table", "expected"), TABLES.values(), ids=TABLES.keys())
def test_a_rule_alerts(
    when: str, table: list[tuple[int, tuple[float, ...]]], expected: list[tuple[int, float]]
) -> None:
    got = alerts(when, *table)
    assert [start for start, _ in got] == [start for start, _ in expected]
    assert [score for _, score in got] == pytest.approx([score for _, score in expected], rel=1e-6)


def test_an_alert_of_a_rule_says_all_of_it() -> None:
    stage = scoring(Rule(when="value > 80", name="hot", series="b/*"), names=("a/x", "b/x"))
    assert fed(stage, Windowed(0, (99.0,)), Windowed(0, (99.0, 1.0), series=1)) == [
        Alert([1], 0, 0, 1000 * S, 99.0, "hot", 0, 80.0, [1.0], [])
    ]


def test_a_rule_without_a_name_is_called_by_its_text() -> None:
    assert [alert.rule for alert in fed(scoring(Rule(when="value > 80")), Windowed(0, (99.0,)))] == ["value > 80"]


def test_a_revision_is_not_judged_and_a_late_window_is_counted() -> None:
    stage = scoring(Rule(when="value > 80"))
    fed(stage, Windowed(10, (1.0,)))
    outcome = stage.feed(rows(Windowed(0, (99.0,)), Windowed(10, (99.0,), revision=1)), passed, 0)
    assert (outcome.alerts, outcome.left_out) == ([], {"late": 1})


def test_only_windows_of_the_size_asked_for_are_judged() -> None:
    windows = (*TEN, Window(size=Duration(60 * S)))
    stage = scoring(Rule(when="value > 80", window=Duration(60 * S)), windows=windows)
    said = fed(stage, Windowed(0, (99.0,)), Windowed(0, (99.0,), definition=1))
    assert len(said) == 1
    stage = scoring(Rule(when="value > 80"), windows=windows)
    assert len(fed(stage, Windowed(0, (99.0,), definition=1))) == 0


def test_the_same_rule_goes_on_under_another_configuration_and_another_one_begins_anew() -> None:
    stage = scoring(Rule(when="value > 80"), Rule(when="value > 90"))
    fed(stage, Windowed(0, (99.0,)))
    none = WindowRows._make(column[:0] for column in rows(Windowed(0, (1.0,))))
    changed = PipelineConfig(window=TEN, rule=(Rule(when="value > 85"), Rule(when="value > 80")))
    stage.configure(changed, none, 0)
    assert [alert.rule for alert in fed(stage, Windowed(10, (99.0,)))] == ["value > 85"]


RULES = tuple(
    Rule(when=when)
    for when in ("value > 1", "value < -1 for 20s", "rate > 0.1", "rate < -0.1 for 20s", "value > 0 for 1s")
)
tables = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12), st.lists(st.floats(-3, 3) | st.just(0.0), min_size=1, max_size=3)),
    max_size=30,
    unique_by=lambda one: one[:2],
)


@settings(max_examples=60, deadline=None)
@given(tables, st.data())
def test_neither_splits_nor_restarts_change_anything(
    table: list[tuple[int, int, list[float]]], data: st.DataObject
) -> None:
    names = ("a/x", "a/y", "b/x", "b/y")
    windows = [Windowed(10 * at, tuple(values), series) for series, at, values in sorted(table, key=lambda one: one[1])]
    whole, split = scoring(*RULES, names=names), scoring(*RULES, names=names)
    expected = fed(whole, *windows) if windows else []
    got: list[Alert] = []
    while windows:
        cut = data.draw(st.integers(1, len(windows)))
        got += fed(split, *windows[:cut])
        windows = windows[cut:]
        state = decode_state(encode_state(split.snapshot()))
        split = scoring(*RULES, names=names)
        split.restore(state)
    key = lambda alert: (alert.start, alert.rule, alert.series)  # noqa: E731 - one line says it
    assert sorted(got, key=key) == sorted(expected, key=key)
    assert encode_state(split.snapshot()) == encode_state(whole.snapshot())


FILE = 'name = "g"\ndata = "d"\n[[source]]\ntopic = "s/{device}/{measurement}"\n'
REFUSED = {
    "two detectors of one name": ("[[score]]\n[[score]]\n", "score[1].name"),
    "a rule named like a detector": ('[[score]]\n[[rule]]\nwhen = "value > 1"\nname = "score"\n', "rule[0].name"),
    "two rules that say the same": ('[[rule]]\nwhen = "value > 1"\n' * 2, "rule[1].name"),
    "a name that no model can have": ('[[score]]\nname = "a b"\n', "score[0].name"),
    "a size that no window has": ('[[score]]\nwindow = "7s"\n', "score[0].window"),
    "a rule for such a size": ('[[rule]]\nwhen = "value > 1"\nwindow = "7s"\n', "rule[0].window"),
    "a warm-up of one window": ("[[score]]\nwarmup = 1\n", "score[0].warmup"),
    "less memory than warm-up": ("[[score]]\nwarmup = 10\nmemory = 9\n", "score[0].memory"),
    "no threshold": ("[[score]]\nthreshold = 0\n", "score[0].threshold"),
    "a threshold beyond all measure": ("[[score]]\nthreshold = 31.0\n", "score[0].threshold"),
    "a threshold that is no number": ("[[score]]\nthreshold = nan\n", "score[0].threshold"),
    "a negative hold": ("[[score]]\nhold = -1\n", "score[0].hold"),
    "a negative patience": ("[[score]]\npatience = -1\n", "score[0].patience"),
    "an unknown statistic": ('[[score]]\nstatistic = "median"\n', "score[0].statistic"),
    "a rule without a limit": ('[[rule]]\nwhen = "value >"\n', "rule[0].when"),
    "a rule about something else": ('[[rule]]\nwhen = "mean > 1"\n', "rule[0].when"),
    "a rule with another comparison": ('[[rule]]\nwhen = "value >= 1"\n', "rule[0].when"),
    "a rule for a time without a unit": ('[[rule]]\nwhen = "value > 1 for 30"\n', "rule[0].when"),
    "a limit that nothing reaches": ('[[rule]]\nwhen = "value > 1e200"\n', "rule[0].when"),
    "a name too long to go with every alert": (f'[[rule]]\nwhen = "value > 1"\nname = "{"n" * 129}"\n', "rule[0].name"),
    "more than 64 of them": ("".join(f'[[rule]]\nwhen = "value > {n}"\n' for n in range(65)), "score"),
}


@pytest.mark.parametrize(("text", "key"), REFUSED.values(), ids=REFUSED.keys())
def test_what_contradicts_itself_is_refused_with_its_key(text: str, key: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        parse(FILE + text)
    assert refused.value.key == key


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("value > 80", ("value", True, 80.0, 0)),
        ("  value<-5.5 ", ("value", False, -5.5, 0)),
        ("rate > 1e-3 for 1.5m", ("rate", True, 1e-3, 90 * S)),
        ("value > +.5 for 500ms", ("value", True, 0.5, S // 2)),
    ],
)
def test_what_a_rule_says_is_read(when: str, expected: tuple[str, bool, float, int]) -> None:
    assert tuple(parse(f'{FILE}[[rule]]\nwhen = "{when}"\n').rule[0].condition) == expected


def test_the_defaults_are_accepted() -> None:
    assert len(parse(FILE + '[[score]]\n[[rule]]\nwhen = "value > 1"\n').pipeline.score) == 1

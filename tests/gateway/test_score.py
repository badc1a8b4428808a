"""score: timetables of windows, one a second unless said; what is normal is learnt, what is not is alerted once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.config import PipelineConfig, Score, Window
from gateway.records import NEVER, Learnt
from gateway.score import Outcome, Progress, Scoring, detector, groups, learner, waiting
from learning.baseline import Baseline, Entry
from learning.statistics import MAX_FEATURES, covariance, merge, of, unpack
from protocol.columns import decode_state, encode_state
from protocol.messages import Alert, WindowRows
from protocol.settings import Duration

S = 10**9
NORMAL = np.random.default_rng(7).normal(0, 1, (3000, 8))
QUICK: dict[str, Any] = {"warmup": 50, "memory": 1000, "threshold": 5.0, "hold": 10, "patience": 100}


def seconds(number: float) -> Duration:
    return Duration(round(number * S))


def closed(values: Mapping[int, float], start: int, *, definition: int = 0, revision: int = 0) -> WindowRows:
    """Windows of one start: series to value, for every statistic."""
    series = np.array(sorted(values), np.int32)
    value = np.array([values[one] for one in sorted(values)])
    count = len(series)
    with np.errstate(over="ignore"):
        mean = value.astype(np.float32)
    return WindowRows(
        series,
        np.full(count, definition, np.int32),
        np.full(count, start * S, np.int64),
        np.full(count, revision, np.int32),
        np.ones(count, np.int64),
        mean,
        mean,
        value,
        value,
        value,
        value,
    )


def join(parts: Sequence[WindowRows]) -> WindowRows:
    return WindowRows(*map(np.concatenate, zip(*parts, strict=True)))


class Bench:
    """A Scoring over some series; `marks` says how far (s) the windows of each have been stated."""

    def __init__(self, *scores: Score, names: Sequence[str] = ("a/x",), windows: Sequence[Window] = ()) -> None:
        self.config = PipelineConfig(window=tuple(windows) or (Window(size=seconds(1)),), score=scores)
        self.names = list(names)
        self.scoring = Scoring(self.config)
        self.scoring.define(self.names)
        self.marks: dict[int, float] = {}
        self.outcome = Outcome(0)

    def passed(self, _: int, series: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([seconds(self.marks.get(one, -1)) for one in series.tolist()], np.int64)

    def feed(self, now: float, *rows: WindowRows) -> list[Alert]:
        self.outcome = self.scoring.feed(join(rows), self.passed, seconds(now))
        return self.outcome.alerts

    def close(self, start: int, *values: float, **more: Any) -> list[Alert]:
        """Windows of series 0, 1, ... that start together, at their end."""
        return self.feed(start + 1, closed(dict(enumerate(values)), start, **more))

    def normal(self, begin: int, end: int, *, level: float = 0.0) -> list[Alert]:
        """Normal windows of all series."""
        width = len(self.names)
        return [alert for at in range(begin, end) for alert in self.close(at, *(level + NORMAL[at, :width]).tolist())]

    def tick(self, now: float) -> Outcome:
        return self.scoring.tick(self.passed, seconds(now))

    @property
    def due(self) -> float:
        return self.scoring.due() / S

    def restart(self) -> None:
        state = decode_state(encode_state(self.scoring.snapshot()))
        self.scoring = Scoring(self.config)
        self.scoring.define(self.names)
        self.scoring.restore(state)

    def configure(self, now: float, *scores: Score) -> Outcome:
        self.config = PipelineConfig(window=self.config.window, score=scores)
        none = WindowRows._make(column[:0] for column in closed({0: 0.0}, 0))
        return self.scoring.configure(self.config, none, seconds(now))


def quick(**more: Any) -> Score:
    return Score(**(QUICK | more))


def times(alerts: Sequence[Alert]) -> list[int]:
    return [alert.start // S for alert in alerts]


# One series


def test_one_series_is_alerted_with_its_deviations_and_what_the_alert_says_is_whole() -> None:
    edge = Bench(quick())
    assert edge.normal(0, 300) == []
    [alert] = edge.close(300, 9.0)
    spread = NORMAL[:300, 0].std()
    assert alert.score == pytest.approx((9.0 - NORMAL[:300, 0].mean()) / spread, rel=0.02)
    assert alert == Alert(
        series=[0],
        start=300 * S,
        revision=0,
        stamp=301 * S,
        score=alert.score,
        rule="score",
        version=0,
        threshold=5.0,
        contributions=[1.0],
        missing=[],
    )


def test_nothing_is_alerted_while_a_group_warms_up() -> None:
    edge = Bench(quick())
    assert edge.normal(0, 49) == []
    assert edge.close(49, 1e6) == []
    assert edge.scoring.progress() == Progress(warming=0, scoring=1, seen=0, needed=0)
    assert times(edge.close(50, 1e6)) == [50]


def test_progress_tells_the_least_and_what_it_needs() -> None:
    edge = Bench(quick(), quick(name="whole", by="device", warmup=20), names=["a/x", *(f"b/{n}" for n in range(7))])
    assert edge.scoring.progress() == Progress(warming=10, scoring=0, seen=0, needed=20)
    edge.normal(0, 20)
    assert edge.scoring.progress() == Progress(warming=9, scoring=1, seen=20, needed=28)  # four for each of seven
    edge.normal(20, 50)
    assert edge.scoring.progress() == Progress(warming=0, scoring=10, seen=0, needed=0)


def test_one_event_makes_one_alert_and_ends_after_hold_windows_without_an_outlier() -> None:
    edge = Bench(quick(hold=10))
    edge.normal(0, 200)
    values = {0: 9.0, 1: 9.0, 6: 9.0, 16: 9.0, 27: 9.0}  # the last is ten windows without one later
    alerts = [alert for at in range(30) for alert in edge.close(200 + at, values.get(at, float(NORMAL[at, 0])))]
    assert times(alerts) == [200, 227]


def test_hold_of_zero_alerts_every_outlier() -> None:
    edge = Bench(quick(hold=0))
    edge.normal(0, 200)
    assert times([alert for at in range(3) for alert in edge.close(200 + at, 9.0)]) == [200, 201, 202]


def test_a_single_outlier_does_not_poison_what_was_learnt() -> None:
    calm, struck = Bench(quick()), Bench(quick())
    for edge, value in ((calm, 0.0), (struck, 1e30)):
        edge.normal(0, 300)
        edge.close(300, value)
        edge.normal(301, 320)
    [one], [other] = calm.close(320, 9.0), struck.close(320, 9.0)
    assert other.score == pytest.approx(one.score, rel=0.2)


def test_an_outlier_while_warming_up_does_not_poison_either() -> None:
    edge = Bench(quick())
    edge.normal(0, 20)
    edge.close(20, 1e30)
    edge.normal(21, 300)
    assert times(edge.close(300, 9.0)) == [300]


@pytest.mark.parametrize("first", [85.0, -127.0, 1e30])
def test_a_sensors_first_word_may_be_nonsense(first: float) -> None:
    edge = Bench(quick())
    edge.close(0, first)
    edge.normal(1, 100)
    [alert] = edge.close(100, 9.0)
    assert alert.score == pytest.approx(9, rel=0.2)


def test_an_event_is_not_learnt_as_long_as_patience_lasts() -> None:
    edge = Bench(quick(patience=100))
    edge.normal(0, 300)
    assert times(edge.normal(300, 390, level=12.0)) == [300]
    assert edge.outcome.verdicts[0].over.tolist() == [True]
    assert edge.normal(390, 420) == []
    assert edge.outcome.verdicts[0].over.tolist() == [False]
    assert times(edge.close(420, 9.0)) == [420]


def test_a_change_that_lasts_is_alerted_once_more_and_then_learnt() -> None:
    edge = Bench(quick(patience=100))
    edge.normal(0, 300)
    assert times(edge.normal(300, 1000, level=12.0)) == [300, 401]
    assert edge.outcome.verdicts[0].over.tolist() == [False]
    assert edge.normal(1000, 1300, level=12.0) == []


def test_what_comes_and_goes_is_learnt() -> None:
    edge = Bench(quick(hold=0, threshold=5.0))
    spiky = [30.0 if at % 20 == 0 else float(NORMAL[at, 0]) for at in range(1000)]
    alerts = [alert for at, value in enumerate(spiky) for alert in edge.close(at, value)]
    assert times(alerts) == list(range(60, 60 + 20 * len(alerts), 20))
    assert len(alerts) < 15  # of 47: by then they are nothing new


def test_an_outlier_scores_with_the_windows_around_it() -> None:
    """An event is one thing, also where a single window of it looks normal."""
    edge = Bench(quick(patience=1000))
    edge.normal(0, 300)
    edge.normal(300, 340, level=12.0)
    edge.close(340, 0.0)
    assert edge.outcome.verdicts[0].over.tolist() == [True]


def test_learning_does_not_depend_on_the_threshold() -> None:
    strict, lax = Bench(quick(threshold=2.0)), Bench(quick(threshold=30.0))
    for edge in (strict, lax):
        edge.normal(0, 300)
        edge.normal(300, 330, level=6.0)
    assert strict.scoring.snapshot()["detectors"][0]["learners"]["1"]["covariance"].tobytes() == (
        lax.scoring.snapshot()["detectors"][0]["learners"]["1"]["covariance"].tobytes()
    )


@pytest.mark.parametrize("statistic", ["mean", "deviation", "minimum", "maximum", "first", "last"])
def test_the_statistic_asked_for_is_scored(statistic: Any) -> None:
    edge = Bench(quick(statistic=statistic))
    edge.normal(0, 100)
    rows = closed({0: 0.0}, 100)
    [alert] = edge.feed(101, rows._replace(**{statistic: getattr(rows, statistic) + 20}))
    assert alert.score > 15


@pytest.mark.parametrize("value", [1e39, -1e39], ids=["beyond float32", "below it"])
def test_a_mean_that_is_infinite_is_as_if_it_were_missing(value: float) -> None:
    edge = Bench(quick())
    edge.normal(0, 100)
    assert edge.close(100, value) == []
    assert edge.outcome.verdicts == []
    assert times(edge.close(101, 9.0)) == [101]


def test_values_at_the_edge_of_what_passes_cleaning_are_only_unusual() -> None:
    edge = Bench(quick(statistic="maximum"))
    for at in range(60):
        edge.close(at, 1e150 if at % 2 else -1e150)
    assert edge.close(60, 0.0) == []
    assert all(np.isfinite(part).all() for part in edge.scoring.snapshot()["detectors"][0]["learners"]["1"].values())


def test_a_constant_that_leaps_beyond_all_measure_is_only_unusual() -> None:
    edge = Bench(quick(statistic="maximum"))
    for at in range(100):
        edge.close(at, 0.0)
    [alert] = edge.close(100, 1e150)
    assert np.isfinite(alert.score)


def test_windows_older_than_memory_fade() -> None:
    edge = Bench(quick(memory=100))
    for at in range(900):
        edge.close(at, (5.0 if at < 300 else 1.0) * float(NORMAL[at, 0]))
    [alert] = edge.close(900, 9.0)
    assert alert.score == pytest.approx(9, rel=0.2)


# Groups


def test_a_broken_correlation_is_alerted_though_each_series_is_within_its_range() -> None:
    edge = Bench(quick(by="device"), names=["a/x", "a/y"])
    for at in range(200):
        edge.close(at, NORMAL[at, 0], NORMAL[at, 0] + 0.1 * NORMAL[at, 1])
    assert edge.close(200, 1.5, 1.5) == []
    [alert] = edge.close(201, 1.5, -1.5)
    assert (alert.series, alert.missing) == ([0, 1], [])
    assert alert.contributions == pytest.approx([0.5, 0.5], abs=0.05)


def test_contributions_name_the_member_that_is_off() -> None:
    edge = Bench(quick(by="device"), names=["a/x", "a/y", "a/z"])
    edge.normal(0, 300)
    [alert] = edge.close(300, 0.0, 9.0, 0.0)
    assert np.argmax(alert.contributions) == 1
    assert alert.contributions[1] > 0.95
    assert sum(alert.contributions) == pytest.approx(1, abs=1e-3)


def test_a_threshold_lets_as_many_normal_windows_pass_for_one_series_as_for_eight() -> None:
    """At 2 deviations 4.6 % of normal windows are beyond; the level of many is never."""
    share = {}
    for width in (1, 3, 8):
        edge = Bench(quick(by="device", threshold=2.0, memory=3000, warmup=500), names=[f"a/{n}" for n in range(width)])
        over = []
        for at in range(2500):
            edge.close(at, *NORMAL[at, :width])
            over += [bool(verdicts.over[0]) for verdicts in edge.outcome.verdicts]
        share[width] = np.mean(over)
    assert share == pytest.approx(dict.fromkeys((1, 3, 8), 0.0455), abs=0.012)


def test_members_that_are_constant_or_equal_do_no_harm_and_are_alerted_when_they_change() -> None:
    edge = Bench(quick(by="device"), names=["a/same", "a/still", "a/x"])
    for at in range(200):
        assert edge.close(at, NORMAL[at, 0], 7.0, NORMAL[at, 0]) == []
    [alert] = edge.close(200, 0.0, 7.5, 0.0)
    assert np.argmax(alert.contributions) == 1
    edge.normal(201, 230)
    assert np.isfinite(alert.score)


def test_features_are_in_the_order_of_measurements_whichever_came_first() -> None:
    edge = Bench(quick(by="device"), names=["a/z", "a/x"])
    edge.normal(0, 100)
    assert edge.close(100, 9.0, 0.0)[0].series == [1, 0]


def test_groups_of_all_devices_and_sizes_are_scored_in_one_call() -> None:
    names = ["a/x", "b/x", "b/y", "c/x", "c/y", "d/x"]
    edge = Bench(quick(by="device"), names=names)
    edge.normal(0, 100)
    alerts = edge.close(100, 9.0, 0.0, 9.0, 0.0, 0.0, 9.0)
    assert [alert.series for alert in alerts] == [[0], [5], [1, 2]]
    assert [verdicts.series.tolist() for verdicts in edge.outcome.verdicts] == [[0, 5], [1, 3]]


def test_a_series_that_joins_makes_another_group_that_begins_anew() -> None:
    edge = Bench(quick(by="device"), names=["a/x", "b/x"])
    edge.normal(0, 100)
    edge.names.append("a/y")
    edge.scoring.define(["a/y"])
    assert edge.scoring.progress() == Progress(warming=1, scoring=1, seen=0, needed=50)
    assert [alert.series for alert in edge.close(100, 9.0, 9.0, 0.0)] == [[1]]
    edge.normal(101, 150)
    assert [alert.series for alert in edge.close(150, 9.0, 0.0, 0.0)] == [[0, 2]]


def test_only_series_that_match_in_windows_of_the_size_asked_for_are_scored() -> None:
    windows = (Window(size=seconds(1)), Window(series="a/*", size=seconds(2)))
    edge = Bench(quick(series="*/x", window=seconds(2)), names=["a/x", "a/y", "b/x"], windows=windows)
    for at in range(0, 200, 2):
        edge.feed(at + 2, *(closed(dict.fromkeys(range(3), 0.1 * NORMAL[at, 0]), at, definition=d) for d in (0, 1)))
    off = dict.fromkeys(range(3), 9.0)
    assert [alert.series for alert in edge.feed(202, closed(off, 200), closed(off, 200, definition=1))] == [[0]]


# Missing members


def test_a_missing_member_is_named_and_the_others_are_scored_without_it() -> None:
    edge = Bench(quick(by="device", hold=0), names=["a/x", "a/y", "a/z"])
    edge.normal(0, 300)
    assert edge.feed(301, closed({0: 1.0, 2: -1.0}, 300)) == []
    [alert] = edge.feed(302, closed({0: 9.0, 2: 0.0}, 301))
    assert (alert.series, alert.missing, alert.contributions[1]) == ([0, 1, 2], [1], 0.0)
    assert alert.score > 7


def test_a_member_may_be_missing_though_the_rest_expects_it_elsewhere() -> None:
    """Were its mean put in its place, the correlation would look broken."""
    edge = Bench(quick(by="device"), names=["a/x", "a/y"])
    for at in range(300):
        edge.close(at, NORMAL[at, 0], NORMAL[at, 0] + 0.01 * NORMAL[at, 1])
    assert edge.feed(301, closed({0: 2.5}, 300)) == []


def test_skip_leaves_windows_with_missing_members_out_and_counts_them() -> None:
    edge = Bench(quick(by="device", missing="skip"), names=["a/x", "a/y"])
    edge.normal(0, 100)
    assert edge.feed(101, closed({0: 99.0}, 100)) == []
    assert (edge.outcome.left_out, edge.outcome.verdicts) == ({"missing": 1}, [])
    assert times(edge.close(101, 9.0, 0.0)) == [101]


def test_a_member_that_seldom_speaks_is_known_for_what_it_says() -> None:
    edge = Bench(quick(by="device", hold=0, memory=3000), names=["a/often", "a/seldom"])
    alerts = []
    for at in range(1500):
        both = {0: NORMAL[at, 0], 1: 100 + NORMAL[at, 1]}
        alerts += edge.feed(at + 1, closed(both if at % 20 == 0 else {0: both[0]}, at))
    assert alerts == []
    [alert] = edge.feed(1501, closed({0: 0.0, 1: 109.0}, 1500))
    assert np.argmax(alert.contributions) == 1


def test_a_member_that_has_said_little_is_not_judged_yet() -> None:
    edge = Bench(quick(by="device", hold=0), names=["a/x", "a/y"])
    for at in range(100):
        edge.feed(at + 1, closed({0: NORMAL[at, 0]}, at))
    for at in range(100, 109):
        assert edge.close(at, float(NORMAL[at, 0]), 1000.0 * at) == []


# Order


def test_a_window_that_is_not_later_than_the_last_one_is_late_and_a_revision_is_not_scored() -> None:
    edge = Bench(quick())
    edge.normal(0, 100)
    edge.close(101, 0.0)
    assert edge.close(100, 99.0) == []
    assert edge.outcome.left_out == {"late": 1}
    assert edge.close(101, 99.0) == []
    assert edge.outcome.left_out == {"late": 1}
    assert edge.close(101, 99.0, revision=1) == []
    assert (edge.outcome.left_out, edge.outcome.verdicts) == ({}, [])


def test_windows_of_several_starts_in_one_call_are_scored_in_their_order() -> None:
    edge, other = Bench(quick(share=None)), Bench(quick(share=None))
    edge.normal(0, 120)
    other.feed(120, *(closed({0: NORMAL[at, 0]}, at) for at in range(120)))
    assert encode_state(edge.scoring.snapshot()) == encode_state(other.scoring.snapshot())


# Groups that span devices


def spanning(**more: Any) -> Bench:
    edge = Bench(quick(by="all", grace=seconds(5), **more), names=["a/x", "b/x"])
    for at in range(100):
        edge.close(at, *NORMAL[at, :2].tolist())
    return edge


def test_a_group_that_spans_devices_is_scored_when_its_last_member_is_here() -> None:
    edge = spanning()
    assert edge.feed(101, closed({0: 9.0}, 100)) == []
    assert edge.due == 106
    [alert] = edge.feed(103, closed({1: 0.0}, 100))
    assert (alert.series, alert.start, alert.stamp, alert.missing) == ([0, 1], 100 * S, 103 * S, [])
    assert edge.scoring.due() > 1000 * S


def test_a_group_does_not_wait_for_what_can_no_longer_come() -> None:
    edge = spanning()
    edge.feed(101, closed({0: 9.0}, 100))
    edge.marks[1] = 100.9
    assert edge.tick(102).alerts == []
    edge.marks[1] = 101
    [alert] = edge.tick(103).alerts
    assert (alert.stamp, alert.missing) == (103 * S, [1])


def test_a_group_waits_no_longer_than_the_grace_of_its_first_member() -> None:
    edge = spanning()
    edge.feed(101, closed({0: 9.0}, 100))
    assert edge.tick(105.9).alerts == []
    [alert] = edge.tick(106).alerts
    assert alert.missing == [1]
    assert edge.feed(107, closed({1: 99.0}, 100)) == []
    assert edge.outcome.left_out == {"late": 1}


def test_starts_that_wait_are_scored_in_their_order() -> None:
    edge = spanning()
    edge.feed(101, closed({0: 9.0}, 100))
    edge.feed(102, closed({0: 0.0}, 101))
    edge.marks[1] = 101
    edge.feed(103, closed({1: 0.0}, 101))
    assert [verdicts.start // S for verdicts in edge.outcome.verdicts] == [100, 101]


def test_devices_may_be_apart_and_starts_are_scored_in_their_order_all_the_same() -> None:
    edge = spanning()
    edge.feed(102, closed({0: 0.0}, 101))
    edge.marks[0] = 102
    edge.feed(103, closed({1: 9.0}, 100))
    assert [
        (verdicts.start // S, alert.missing)
        for verdicts, alert in zip(edge.outcome.verdicts, edge.outcome.alerts, strict=True)
    ] == [(100, [0])]
    edge.feed(104, closed({1: 0.0}, 101))
    assert [verdicts.start // S for verdicts in edge.outcome.verdicts] == [101]


def test_when_too_many_starts_wait_the_earliest_is_scored_with_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "MAX_WAITING", 3)
    edge = spanning()
    for at in range(100, 103):
        assert edge.feed(101, closed({0: 9.0}, at)) == []
    assert [(alert.start // S, alert.missing) for alert in edge.feed(101, closed({0: 9.0}, 103))] == [(100, [1])]
    assert waiting.MAX_WAITING >= 3


def test_a_change_of_configuration_scores_what_waits() -> None:
    edge = spanning()
    edge.feed(101, closed({0: 9.0}, 100))
    assert times(edge.configure(102, *edge.config.score).alerts) == [100]
    assert edge.close(101, 0.0, 0.0) == []
    assert len(edge.outcome.verdicts) == 1  # it has not forgotten


# Bounds


def test_features_beyond_the_bound_are_left_out_and_their_windows_counted() -> None:
    names = [f"a/{n:03}" for n in range(MAX_FEATURES + 2)]
    edge = Bench(quick(by="device"), names=names)
    edge.close(0, *[1.0] * len(names))
    assert edge.outcome.left_out == {"features": 2}
    assert edge.scoring.progress() == Progress(1, 0, 1, 4 * MAX_FEATURES)


def test_a_group_that_grows_gives_its_place_back() -> None:
    small = learner.Learner(1, quick())
    rows = [small.add(("x",)) for _ in range(20)]
    small.drop(rows[7])
    assert (rows, small.add(("x",))) == (list(range(20)), 7)
    edge = Bench(quick(by="device"), names=["a/0"])
    for number in range(40):
        edge.scoring.define([f"b{number}/x"])
        edge.scoring.define([f"b{number}/y"])
    assert len(edge.scoring._detectors[0]._learners[1].known) == 8


def test_groups_beyond_the_bound_are_left_out_and_their_windows_counted() -> None:
    made = groups.Groups(quick(by="device"), (Window(),), limit=29)
    assert made.define(["a/x", "a/y", "b/x", "b/y", "c/x"]) == [0, 1]
    assert (made.members, made.of.tolist()) == ([[0, 1], [2]], [[0, 0, 1, groups.TOO_MANY_GROUPS, -3]])


# The fleet's model


def model(mean: float, variance: float) -> Baseline:
    return Baseline({("x",): Entry(1000.0, np.array([mean]), np.array([[variance]]))})


def test_the_model_scores_what_is_warming_up_and_its_alerts_bear_its_version() -> None:
    edge = Bench(quick(), names=["a/x", "a/other"])
    edge.scoring.use("score", model(5.0, 4.0), 3)
    [alert] = edge.close(0, 25.0, 25.0)
    assert (alert.series, alert.version, alert.contributions) == ([0], 3, [1.0])
    assert alert.score == pytest.approx(10, rel=1e-3)
    assert edge.close(1, 25.0, 25.0) == []  # the same event


def test_the_model_runs_in_the_shadow_of_what_has_been_learnt() -> None:
    edge = Bench(quick())
    edge.normal(0, 60)
    edge.scoring.use("score", model(50.0, 4.0), 3)
    assert edge.normal(60, 80) == []
    assert edge.outcome.shadow == {}  # an event that goes on
    assert edge.scoring.snapshot()["detectors"][0]["shadow"] == 1
    [alert] = edge.close(80, 50.0)
    assert alert.version == 0


def test_a_model_of_another_name_or_other_features_changes_nothing() -> None:
    edge = Bench(quick())
    edge.scoring.use("other", model(0.0, 1.0), 1)
    edge.scoring.use("score", Baseline({("y",): Entry(9.0, np.zeros(1), np.eye(1))}), 1)
    assert edge.close(0, 1e6) == []


def test_a_series_that_appears_later_is_scored_by_the_model_at_once() -> None:
    edge = Bench(quick())
    edge.scoring.use("score", model(0.0, 1.0), 2)
    edge.names.append("b/x")
    edge.scoring.define(["b/x"])
    assert [(alert.series, alert.version) for alert in edge.close(0, 0.0, 9.0)] == [([1], 2)]


def test_a_strangers_model_with_an_impossible_covariance_does_no_harm() -> None:
    edge = Bench(quick(by="device"), names=["a/x", "a/y"])
    wild = np.array([[0.0, 1e308], [1e308, 1e-300]])
    edge.scoring.use("score", Baseline({("x", "y"): Entry(2.0, np.array([1e308, -1e308]), wild)}), 1)
    [alert] = edge.close(0, 1.0, 1.0)
    assert np.isfinite(alert.score)


# What is shared


def shared(outcome: Outcome) -> list[Learnt]:
    return outcome.learnt


def test_the_first_statistics_go_soon_after_the_warm_up_then_every_share_if_there_is_news() -> None:
    edge = Bench(quick(share=seconds(600)))
    edge.normal(0, 49)
    assert edge.scoring.due() == NEVER
    edge.normal(49, 50)
    assert edge.due == 60
    assert [learnt.entries[0].count for learnt in shared(edge.tick(60))] == [50]
    assert edge.scoring.due() == NEVER
    edge.normal(60, 70)
    assert edge.due == 61 + 600
    [learnt] = shared(edge.tick(661))
    assert (learnt.model, learnt.stamp, learnt.entries[0].features, learnt.entries[0].count) == (
        "score",
        661 * S,
        ["x"],
        60,
    )


def test_a_feed_tells_what_is_due_as_a_tick_would() -> None:
    edge = Bench(quick())
    edge.normal(0, 50)
    edge.close(70, 0.0)
    assert len(edge.outcome.learnt) == 1


def test_features_that_are_new_are_told_soon_and_more_groups_of_the_same_wait() -> None:
    edge = Bench(quick(share=seconds(600)), names=["a/x"])
    edge.normal(0, 50)
    edge.tick(60)
    dues = []
    for at, name in ((60, "b/x"), (120, "b/y")):
        edge.names.append(name)
        edge.scoring.define([name])
        edge.normal(at, at + 50)
        dues.append(edge.due)
    assert dues == [61 + 600, 170 + 10]  # x was told before, y is new


def test_what_is_due_to_be_told_survives_a_change_of_configuration() -> None:
    edge = Bench(quick())
    edge.normal(0, 50)
    edge.configure(55, quick(threshold=7.0))
    assert edge.due == 60
    assert len(edge.tick(60).learnt) == 1


def test_nothing_is_shared_with_a_share_of_zero() -> None:
    edge = Bench(quick(share=Duration(0)))
    edge.normal(0, 100)
    assert edge.scoring.due() == NEVER


def test_what_is_shared_is_merged_over_groups_with_the_same_features() -> None:
    names = ["a/x", "a/y", "b/y", "b/x", "c/x"]
    edge = Bench(quick(by="device", warmup=100, share=seconds(60)), names=names)
    for at in range(100):
        edge.close(at, *(NORMAL[at, :5] + [0, 5, 9, 4, 0]).tolist())
    [learnt] = shared(edge.tick(1000))
    assert [(entry.features, entry.count) for entry in learnt.entries] == [(["x", "y"], 200), (["x"], 100)]
    values = NORMAL[:100] + np.array([0, 5, 9, 4, 0, 0, 0, 0])
    whole, got = merge(of(values[:, [0, 1]]), of(values[:, [3, 2]])), unpack(learnt.entries[0])
    np.testing.assert_allclose(got.mean, whole.mean, rtol=0.03)
    np.testing.assert_allclose(covariance(got), covariance(whole), rtol=0.05, atol=0.05)


def test_groups_that_span_devices_share_whole_names() -> None:
    edge = spanning()
    [learnt] = shared(edge.tick(5000))
    assert [entry.features for entry in learnt.entries] == [["a/x", "b/x"]]


def test_statistics_tell_alerts_shadow_and_version() -> None:
    edge = Bench(quick())
    edge.scoring.use("score", model(50.0, 1.0), 4)
    edge.close(0, 0.0)
    edge.normal(1, 60)
    edge.close(60, 20.0)
    [learnt] = shared(edge.tick(5000))
    assert (learnt.alerts, learnt.shadow, learnt.version) == (2, 0, 4)


# Configuration


def test_another_threshold_judges_the_next_window_by_what_was_learnt_before() -> None:
    edge = Bench(quick(threshold=30.0))
    edge.normal(0, 100)
    assert edge.close(100, 9.0) == []
    edge.configure(101, quick(threshold=5.0))
    assert times(edge.close(101, 9.0)) == [101]


@pytest.mark.parametrize(
    "other", [quick(statistic="maximum"), quick(name="other")], ids=["another statistic", "another name"]
)
def test_another_statistic_or_name_begins_anew(other: Score) -> None:
    edge = Bench(quick())
    edge.normal(0, 100)
    edge.configure(100, other)
    assert edge.scoring.progress().warming == 1
    assert edge.close(100, 99.0) == []


def test_without_detectors_nothing_is_done() -> None:
    edge = Bench()
    assert (edge.close(0, 1.0), edge.scoring.due(), edge.scoring.progress()) == ([], NEVER, Progress(0, 0, 0, 0))


# Any order of calls

ALL = (quick(warmup=4, hold=2), quick(name="b", by="device", warmup=3, hold=1), quick(name="c", by="all", warmup=2))
NAMES = ("a/x", "a/y", "b/x", "b/y", "c/x")
devices = st.lists(
    st.tuples(st.sampled_from([(0, 1), (2, 3), (4,)]), st.integers(0, 40), st.floats(-3, 3) | st.just(50.0)),
    max_size=40,
    unique_by=lambda one: one[:2],
)
"""A device's windows of one start, in any order of starts."""


def batches(parts: Sequence[tuple[tuple[int, ...], int, float]]) -> list[WindowRows]:
    return [closed({one: value + one for one in series}, start) for series, start, value in parts]


def ordered(rows: Sequence[WindowRows]) -> WindowRows:
    """As the window stage gives them: by start, then series."""
    whole = join(rows)
    order = np.lexsort((whole.series, whole.start))
    return WindowRows._make(column[order] for column in whole)


@settings(max_examples=60, deadline=None)
@given(devices, st.data())
def test_any_split_of_the_same_windows_gives_the_same_alerts_and_state(parts: Any, data: st.DataObject) -> None:
    parts = sorted(parts, key=lambda one: one[1])  # each device's windows in the order of their starts
    whole, split = Bench(*ALL, names=NAMES), Bench(*ALL, names=NAMES)
    rows, expected, got = batches(parts), list[Alert](), list[Alert]()
    if rows:
        expected = whole.feed(50, ordered(rows))
    while rows:
        cut = data.draw(st.integers(1, len(rows)))
        got += split.feed(50, ordered(rows[:cut]))
        rows = rows[cut:]
    key = lambda alert: (alert.start, alert.rule, alert.series)  # noqa: E731 - one line says it
    expected += whole.tick(100).alerts
    got += split.tick(100).alerts
    assert sorted(expected, key=key) == sorted(got, key=key)
    assert encode_state(whole.scoring.snapshot()) == encode_state(split.scoring.snapshot())


@settings(max_examples=60, deadline=None)
@given(devices, st.data())
def test_a_snapshot_at_any_step_goes_on_bit_for_bit(parts: Any, data: st.DataObject) -> None:
    first, second = Bench(*ALL, names=NAMES), Bench(*ALL, names=NAMES)
    for edge in (first, second):
        edge.scoring.use("score", model(0.0, 1.0), 1)
    for now, rows in enumerate(batches(parts)):
        if data.draw(st.booleans()):
            second.restart()
            second.scoring.use("score", model(0.0, 1.0), 1)
        first.marks = second.marks = dict.fromkeys(range(5), now)
        assert first.feed(now, rows) == second.feed(now, rows)
        assert first.outcome.left_out == second.outcome.left_out
        assert first.scoring.due() == second.scoring.due()
    assert encode_state(first.scoring.snapshot()) == encode_state(second.scoring.snapshot())


def test_a_group_is_scored_among_others_as_it_is_alone() -> None:
    width = 40
    together = Bench(quick(), names=[f"d{n}/x" for n in range(width)])
    alone = [Bench(quick(), names=[f"d{n}/x"]) for n in range(width)]
    values = np.random.default_rng(3).standard_t(3, (200, width))
    for at in range(200):
        alerts = together.close(at, *values[at].tolist())
        expected = [(n, alert.score) for n, edge in enumerate(alone) for alert in edge.close(at, float(values[at, n]))]
        assert [(alert.series[0], alert.score) for alert in alerts] == expected


def test_names_that_come_one_by_one_make_the_same_groups_as_all_at_once() -> None:
    whole, single = Bench(*ALL, names=NAMES), Bench(*ALL, names=NAMES[:1])
    for name in NAMES[1:]:
        single.scoring.define([name])
    for edge in (whole, single):
        for at in range(30):
            edge.close(at, *NORMAL[at, :5].tolist())
    assert encode_state(whole.scoring.snapshot()) == encode_state(single.scoring.snapshot())

"""Configuration B against configuration A: outputs in, differences out."""

from __future__ import annotations

import numpy as np

from cli.replay.diff import Diff
from gateway.config import Duration, PipelineConfig, Rule, Window
from gateway.records import Alerts, Closed, Definitions, Output, Outputs
from protocol.messages import WINDOW_DTYPES, Alert, SeriesDefinition, WindowDefinition, WindowRows

S = 10**9
A = PipelineConfig(window=(Window(size=Duration(S)),), rule=(Rule("value > 1", name="high"),))
B = PipelineConfig(window=(Window(size=Duration(2 * S)), Window(size=Duration(S))), rule=A.rule)
KNOWN = Definitions([], [WindowDefinition(0, "", S, S)]), Definitions([], [WindowDefinition(1, "", S, S)])


def closed(definition: int, series: int, *starts: int) -> Closed:
    columns = {name: np.ones(len(starts), dtype) for name, dtype in WINDOW_DTYPES.items()}
    columns["definition"][:], columns["series"][:] = definition, series
    columns["start"] = np.array(starts) * S
    return Closed(WindowRows(**columns))


def raised(*seconds: int) -> Alerts:
    return Alerts([Alert([1], second * S, 0, 0, 2.0, "high") for second in seconds])


def outputs(*items: Output, removed: dict[str, int] | None = None, late: int = 0, windowed: int = 0) -> Outputs:
    return Outputs(list(items), removed or {}, late, windowed)


def test_a_series_named_before_the_journal_begins_or_in_it_is_the_same_on_both_sides() -> None:
    diff = Diff(A, B, ["d/a"])
    new = Definitions([SeriesDefinition(1, "d/b")], [])
    assert diff.feed([outputs(KNOWN[0], new), outputs(KNOWN[1], new)]) == []
    assert diff.feed([outputs(closed(0, 0, 1, 2), closed(0, 1, 1)), outputs(closed(1, 1, 1))]) == []
    assert diff.feed([outputs(), outputs(closed(1, 0, 1))]) == []
    assert (diff.finish(), diff.names) == ([], ["d/a", "d/b"])
    assert diff.summary(10)["shapes"] == {
        "1 s": {"only_a": 1, "only_b": 0, "changed": 0, "columns": {}, "same": 2},
        "2 s": {"only_a": 0, "only_b": 0, "changed": 0, "columns": {}, "same": 0},
    }


def test_differences_are_summed_up() -> None:
    diff = Diff(A, B, ["d/a", "d/b"])
    diff.feed([outputs(KNOWN[0]), outputs(KNOWN[1])])
    diff.feed(
        [
            outputs(raised(1, 50), removed={"range": 3, "time": 1}, windowed=5),
            outputs(raised(1), removed={"range": 4, "time": 1}, late=1, windowed=2),
        ]
    )
    assert [(one.side, one.alert.start // S) for one in diff.finish()] == [(0, 50)]
    found = diff.summary(10)
    assert {key: found[key] for key in ("equal", "rules", "removed", "late", "early")} == {
        "equal": False,
        "rules": {"high": {"only_a": 1, "only_b": 0, "both": 1}},
        "removed": {"range": {"a": 3, "b": 4}},
        "late": {"a": 0, "b": 1},
        "early": {"windows": 0, "alerts": 0},
    }
    assert [(found[side]["alerts"], found[side]["pending"]) for side in "ab"] == [({"high": 2}, 1), ({"high": 1}, 2)]


def test_sides_that_state_the_same_at_other_times_are_equal() -> None:
    diff = Diff(A, A, ["d/a", "d/b"])
    diff.feed([outputs(KNOWN[0], closed(0, 0, 1), raised(1)), outputs(KNOWN[0])])
    diff.feed([outputs(), outputs(closed(0, 0, 1), raised(1))])
    assert diff.finish() == []
    assert diff.summary(1)["equal"]

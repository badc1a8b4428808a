"""What many batches come to, and which are still to be played."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import tally
from tests.faults.kills import cloud_kill, gateway_kill
from tests.faults.plan import Scenario
from tests.faults.run import missing
from tests.faults.tally import Result

PLAN = {"one": Scenario(gateway_kill, 5, 3, 1, 1.0), "two": Scenario(cloud_kill, 5, 1, 1, 1.0)}


def result(seed: int, **more: object) -> Result:
    return {
        "version": "a",
        "scenario": "one",
        "seed": seed,
        "cycles": 5,
        "lost": 0,
        "duplicated": 0,
        "reordered": 0,
        "broker_lost": 2,
        "accounting": {"closed": True, "recorded": 10, "wrong": []},
        "times": {"ready_s": [0.5, 1.5]},
        "failpoints": {"journal.sync": 1},
        "resets": 3,
        "good": True,
        "seconds": 7.4,
        **more,
    }


def test_batches_add_up() -> None:
    assert tally.together([result(1), result(2, lost=1, good=False, times={"ready_s": [2.5]})]) == {
        "cycles": 10,
        "lost": 1,
        "duplicated": 0,
        "reordered": 0,
        "broker_lost": 4,
        "accounting": {"closed": True, "recorded": 20},
        "ready_s": {"n": 3, "p50": 1.5, "p99": 2.48, "max": 2.5},
        "failpoints": {"journal.sync": 2},
        "resets": 6,
        "batches": 2,
        "seconds": 15,
        "failed_seeds": [2],
    }


def test_a_batch_that_said_nothing_leaves_the_accounting_open() -> None:
    failed = {"version": "a", "scenario": "one", "seed": 2, "good": False, "failed": "late", "seconds": 1.0}
    found = tally.together([result(1), failed])
    assert (found["cycles"], found["accounting"], found["failed_seeds"]) == (5, {"closed": False, "recorded": 10}, [2])
    assert tally.together([])["accounting"] == {"closed": False}


def test_the_newest_result_of_a_version_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "RESULTS", tmp_path / "results" / "results.jsonl")
    assert tally.known("a") == {}
    for kept in (result(1, good=False), result(1), result(2, version="b")):
        tally.keep(kept)
    assert tally.known("a") == {("one", 1): result(1)}


def test_what_is_missing_comes_in_turns_and_what_was_not_good_again() -> None:
    assert missing(PLAN, 7, {}) == [("one", 7), ("two", 7), ("one", 8), ("one", 9)]
    done = {("one", 7): result(7), ("one", 8): result(8, good=False), ("two", 7): result(7)}
    assert missing(PLAN, 7, done) == [("one", 8), ("one", 9)]
    assert missing({}, 7, {}) == []

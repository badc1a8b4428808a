"""What a cloud says of its trainings, as lines, and as the rounds of a demonstration."""

from __future__ import annotations

from typing import Any

from cli.demo.rounds import Rounds
from cli.trainings import lines

STAGE: dict[str, Any] = {
    "training": "pumps",
    "run": 2,
    "round": 1,
    "stage": "round",
    "answered": ["barn", "mill"],
    "late": [],
    "refused": {},
    "accuracy": 0.5,
    "bytes_up": 8_000,
    "seconds": 0.25,
    "ended": 7,
}
SURVEY = STAGE | {"stage": "survey", "round": 0, "accuracy": None, "refused": {"shed": "few"}, "ended": 6}
LAST = STAGE | {"stage": "trial", "round": 2, "accuracy": 0.9, "late": ["mill"], "ended": 8}
RESTS: dict[str, Any] = {
    "name": "pumps",
    "run": 2,
    "stage": "rest",
    "round": 2,
    "rounds": 1,
    "waiting": [],
    "verdict": "promoted",
    "accuracy": 0.9,
    "before": 0.8,
    "history": [SURVEY | {"run": 1}, SURVEY, STAGE, LAST],
}
RUNS = RESTS | {"stage": "round", "round": 1, "waiting": ["mill"], "history": []}


def test_a_training_is_told_with_the_stages_of_its_last_run() -> None:
    assert list(lines({"trainings": [RESTS]})) == [
        "pumps  run 2 ended: promoted, 90.0 % right; what was in force: 80.0 %",
        "  survey    2 answered, 8,000 bytes, 0.25 s; refused: shed (few)",
        "  round 1   2 answered, 8,000 bytes, 0.25 s, 50.0 % right before it",
        "  trial     2 answered, 8,000 bytes, 0.25 s, 90.0 % right before it; late: mill",
    ]


def test_a_budget_is_told_and_that_it_ended_a_run() -> None:
    budget = {"epsilon": 4.0, "delta": 1e-05, "spent": 3.871, "rounds": 7, "left": 0}
    ended = RESTS | {"ended": "budget", "privacy": budget, "history": []}
    assert list(lines({"trainings": [ended, ended | {"ended": "", "privacy": budget | {"left": 2}}]})) == [
        "pumps  run 2 ended: budget, promoted, 90.0 % right; what was in force: 80.0 %",
        "  privacy   epsilon 3.87 of 4 spent in 7 rounds (delta 1e-05), no more",
        "pumps  run 2 ended: promoted, 90.0 % right; what was in force: 80.0 %",
        "  privacy   epsilon 3.87 of 4 spent in 7 rounds (delta 1e-05), 2 more",
    ]


def test_a_run_that_goes_on_says_for_whom_it_waits() -> None:
    assert list(lines({"trainings": [RUNS, RUNS | {"stage": "trial", "waiting": []}]})) == [
        "pumps  run 2, round 1 of 1: waiting for mill",
        "pumps  run 2, trial: waiting for nobody",
    ]


def test_no_training_and_no_run_are_said_in_words() -> None:
    assert list(lines({"trainings": []})) == ["no trainings: the cloud's configuration has no [[training]]"]
    assert list(lines({"trainings": [RESTS | {"run": 0, "verdict": "", "history": []}]})) == ["pumps  has not begun"]


def test_a_demonstration_tells_each_stage_once_and_scores_a_round_by_the_one_after_it() -> None:
    rounds = Rounds()
    rounds.feed([RUNS | {"history": [SURVEY, STAGE]}])
    assert [one["accuracy"] for one in rounds.rounds] == [None]
    assert len(list(rounds.news())) == 2
    rounds.feed([RESTS])
    assert [line.split(": ", 1)[1][:9] for line in rounds.news()] == ["survey   ", "trial    ", "run 2 end"]
    assert rounds.rounds == [
        {
            "run": 2,
            "round": 1,
            "bytes_up": 8_000,
            "seconds": 0.25,
            "answered": ["barn", "mill"],
            "late": [],
            "refused": {},
            "accuracy": 0.9,
        }
    ]
    rounds.feed([RESTS])
    assert list(rounds.news()) == []

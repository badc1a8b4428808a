"""What a cloud says of its jobs, as lines; and what a command line asks for."""

from __future__ import annotations

from typing import Any

import pytest

from cli.jobs.show import MAX_SHOWN, bar, lines, result, spec, steps, whole

S = 10**9
PART: dict[str, Any] = {"gateway": "barn", "state": "done", "reason": "", "attempts": 1}
JOB: dict[str, Any] = {
    "id": "moments-7",
    "state": "done",
    "reason": "deadline",
    "series": ["*/x"],
    "from": 0,
    "to": 0,
    "held": [S, 61 * S],
    "began": 5 * S,
    "parts": 2,
    "done": 1,
    "lost": 0,
    "complete": 0.5,
    "readings": 1_200,
    "bytes": 3_000,
    "cpu_s": 0.25,
    "seconds": 6.0,
    "predicted_s": 2.0,
    "each": [PART, PART | {"gateway": "mill", "state": "open", "attempts": 0}],
    "result": {"groups": {"pump/x": {"count": 3, "mean": 1.25}}},
}


def test_a_job_says_how_complete_it_is_and_who_is_missing() -> None:
    assert list(whole(JOB)) == [
        "moments-7  done (deadline)",
        "  series    */x",
        "  asked for all that is held",
        "  found     1970-01-01 00:00:01 UTC to 1970-01-01 00:01:01 UTC",
        "  complete  50.0 %: 1 of 2 gateways",
        "  cost      1,200 readings, 0.25 s of CPU, 3,000 bytes up",
        "  took      6.0 s; the plan said 2.0 s",
        "  mill                 open: away, 0 attempts",
        "",
        "pump/x  count 3  mean 1.25",
    ]


def test_all_jobs_are_a_line_each_and_progress_is_a_bar() -> None:
    [line] = lines({"jobs": [JOB]})
    assert line == "moments-7                    done (deadline)        1 of 2 gateways, 1970-01-01 00:00:05 UTC"
    assert list(lines({"jobs": []})) == ["no jobs yet: begin one with `fieldgate cloud jobs run WORK`"]
    assert bar(JOB) == f"[{'#' * 15}{'.' * 15}] 1 of 2, 1,200 readings, 6.0 s"


def test_standing_jobs_come_first_with_their_next_run_and_what_is_lacking() -> None:
    one: dict[str, Any] = {"name": "hourly", "work": "moments", "every": 3600 * S, "over": 90 * S, "next": 7 * S}
    standing = [one | {"passed": 0, "lacking": ""}, one | {"passed": 2, "lacking": "busy: 64 jobs run already"}]
    first, second, _ = lines({"jobs": [], "standing": standing})
    assert first == "hourly                       moments every 1h over 90s, next 1970-01-01 00:00:07 UTC"
    assert second == f"{first}, 2 passed over; busy: 64 jobs run already"


def test_a_part_of_windows_says_so() -> None:
    told = list(whole(JOB | {"each": [PART | {"from": "windows"}], "result": None}))
    assert told[-1] == "  barn                 from windows stored here: of cleaned readings, means in single precision"


def test_a_plan_says_where_and_why() -> None:
    step = {"gateway": "barn", "where": "gateway", "why": "because", "readings": 10, "seconds": 1.5, "bytes": 20}
    told = list(steps({"steps": [step | {"ends": 1.5}, step | {"ends": None}], "seconds": 1.5, "bytes": 40}))
    assert [line.endswith("because") for line in told] == [True, True, False]
    assert "ends    1.5 s" in told[0]
    assert "ends        -" in told[1]
    assert told[2] == "2 parts, 40 bytes up, over after 1.5 s"


def test_a_long_result_is_cut() -> None:
    told = list(result({"shares": [0.5], "groups": {f"g{number}": [number] for number in range(MAX_SHOWN + 5)}}))
    assert (told[0], told[1], told[-1]) == ("shares: [0.5]", "g0  [0]", "... and 5 more: --json has all")


def test_only_what_was_said_is_sent() -> None:
    said = {"series": ("*/x",), "gateways": (), "last": "1h", "priority": None}
    assert spec("quantiles", said, ("shares=[0.5]", "by=gateway")) == {
        "work": "quantiles",
        "series": ("*/x",),
        "last": "1h",
        "params": {"shares": [0.5], "by": "gateway"},
    }
    with pytest.raises(ValueError, match="KEY=VALUE"):
        spec("moments", {}, ("by",))

"""Standing jobs on a clock that is set: which runs are due, and that none begins twice. Timetables, and chance."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.config.standing import Standing
from cloud.jobs import Run, Timetable
from cloud.jobs.state import NEVER
from cloud.jobs.timetable import AHEAD, MAX_REMEMBERED, Begun
from protocol.settings import Duration

S = 10**9
MINUTE = 60 * S
HOUR = 60 * MINUTE


def job(name: str = "hourly", *, every: int = HOUR, over: int = 0, wait: int = MINUTE, catch_up: int = 1) -> Standing:
    return Standing(
        name=name,
        work="moments",
        every=Duration(every),
        over=Duration(over),
        wait=Duration(wait),
        catch_up=catch_up,
    )


def run(table: Timetable, now: int) -> list[str]:
    """Begin what is due, and say which runs those are."""
    due = table.tick(now)
    for one in due:
        table.note(one)
    return [one.id for one in due]


def test_a_run_is_due_when_its_interval_has_ended_and_what_comes_late_has_come() -> None:
    table = Timetable([job()])
    assert run(table, 10 * HOUR + 30 * MINUTE) == ["hourly.36000"], "a new job begins with the newest interval"
    assert table.due() == 11 * HOUR + MINUTE
    assert run(table, 11 * HOUR + MINUTE - 1) == []
    assert run(table, 11 * HOUR + MINUTE) == ["hourly.39600"]
    assert run(table, 11 * HOUR + 30 * MINUTE) == []
    assert run(table, 12 * HOUR + MINUTE) == ["hourly.43200"]


def test_a_run_asks_for_the_time_up_to_the_end_of_its_interval() -> None:
    spec = Run(job(over=2 * HOUR), 10 * HOUR).spec
    assert (spec.start, spec.end, spec.deadline) == (8 * HOUR, 10 * HOUR, f"{10 * MINUTE}ns")
    assert Run(job(every=MINUTE, wait=0), 10 * HOUR).spec.deadline == f"{MINUTE}ns"


@pytest.mark.parametrize(
    ("catch_up", "begun", "passed"),
    [
        pytest.param(1, ["hourly.50400"], 3, id="the newest"),
        pytest.param(3, ["hourly.43200", "hourly.46800", "hourly.50400"], 1, id="the newest three, oldest first"),
        pytest.param(9, ["hourly.39600", "hourly.43200", "hourly.46800", "hourly.50400"], 0, id="all there are"),
    ],
)
def test_what_ended_while_nobody_looked_is_made_up_for_within_a_bound(
    catch_up: int, begun: list[str], passed: int
) -> None:
    table = Timetable([job(catch_up=catch_up)])
    assert run(table, 10 * HOUR + MINUTE) == ["hourly.36000"]
    table = Timetable([job(catch_up=catch_up)], table.snapshot())
    assert run(table, 14 * HOUR + 30 * MINUTE) == begun
    assert table.begun == {"hourly": Begun(14 * HOUR, passed)}


def test_a_restart_runs_nothing_twice_and_what_has_not_begun_is_due_still() -> None:
    table = Timetable([job()])
    [due] = table.tick(10 * HOUR + MINUTE)
    again = Timetable([job()], table.snapshot())
    assert again.tick(10 * HOUR + MINUTE) == [due]
    again.note(due)
    assert run(Timetable([job()], again.snapshot()), 11 * HOUR) == []


def test_another_interval_goes_on_after_the_last_run() -> None:
    table = Timetable([job()])
    run(table, 11 * HOUR + MINUTE)
    table = Timetable([job(every=4 * HOUR)], table.snapshot())
    assert run(table, 11 * HOUR + 30 * MINUTE) == []
    assert run(table, 12 * HOUR + MINUTE) == ["hourly.43200"]


def test_a_clock_that_is_set_back_runs_nothing_twice_and_one_that_leapt_does_not_stop_it() -> None:
    table = Timetable([job()])
    run(table, 10 * HOUR + MINUTE)
    assert run(table, 8 * HOUR + MINUTE) == []
    assert run(table, 11 * HOUR + MINUTE) == ["hourly.39600"]
    table = Timetable([job()])
    run(table, 12 * HOUR + 2 * AHEAD)
    assert run(table, 12 * HOUR + MINUTE) == ["hourly.43200"]


def test_what_is_put_off_is_due_later() -> None:
    table = Timetable([job()])
    table.put_off(11 * HOUR)
    assert (run(table, 10 * HOUR + MINUTE), table.due()) == ([], 11 * HOUR)
    assert run(table, 11 * HOUR) == ["hourly.36000"]


def test_nothing_configured_is_never_due_and_what_older_versions_kept_is_nothing() -> None:
    assert Timetable([]).due() == NEVER
    assert Timetable([job()], b"\x01").begun == {}


def test_a_job_that_leaves_the_configuration_is_remembered_within_a_bound() -> None:
    kept = {f"job-{number}": Begun(number * HOUR) for number in range(1, MAX_REMEMBERED + 10)}
    table = Timetable([], msgspec.msgpack.encode(kept))
    found = Timetable([], table.snapshot()).begun
    assert (len(found), min(begun.end for begun in found.values())) == (MAX_REMEMBERED, 10 * HOUR)


@given(
    every=st.integers(10, 5_000),
    catch_up=st.integers(1, 5),
    steps=st.lists(st.tuples(st.integers(0, 20_000), st.booleans()), max_size=30),
)
def test_runs_only_go_on_and_each_is_aligned_whatever_restarts(
    every: int, catch_up: int, steps: list[tuple[int, bool]]
) -> None:
    jobs = [job(every=every * S, wait=0, catch_up=catch_up)]
    table, now, ends = Timetable(jobs), 100_000 * S, list[int]()
    for step, restart in steps:
        now += step * S
        due = table.tick(now)
        assert len(due) <= catch_up
        ends += [one.end for one in due]
        for one in due:
            table.note(one)
        assert not table.tick(now)
        table = Timetable(jobs, table.snapshot()) if restart else table
    assert ends == sorted(set(ends))
    assert all(end % (every * S) == 0 and end <= now for end in ends)
    if ends:
        assert now - ends[-1] < every * S
        assert table.begun["hourly"].passed + len(ends) == (ends[-1] - ends[0]) // (every * S) + 1

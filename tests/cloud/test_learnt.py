"""What jobs that have ended tell of those to come."""

from __future__ import annotations

import pytest

from cloud.jobs import Job, Part, Place, Question, Terms, learnt
from cloud.jobs.state import CLOUD, DONE, FAILED

S = 10**9
LINK = 1_000.0


def part(
    wall: float, cpu: float = 0.5, size: int = 0, *, began: int = 10 * S, outcome: str = DONE, site: str = "pi"
) -> Part:
    ended = began + round(wall * S)
    return Part(Place("pi", ("pi",)), outcome, site=site, size=size, seconds=cpu, began=began, ended=ended)


def job(number: int, part: Part, work: str = "moments", merging: float = 1.0, state: str = DONE) -> Job:
    question = Question(work, 1, ("*",), 0, 0, b"\x80")
    ended = part.ended + round(merging * S)
    return Job(f"{work}-{number}", question, Terms(), 0, {"pi": part}, state, ended=ended)


@pytest.mark.parametrize(
    ("parts", "waited"),
    [
        pytest.param([], None, id="no job"),
        pytest.param([part(2.0)], 1.5, id="what was no computing"),
        pytest.param([part(2.0, size=1_000)], 0.5, id="nor sending"),
        pytest.param([part(2.0, cpu=3.0)], 0.0, id="never less than nothing"),
        pytest.param([part(2.0), part(9.0), part(2.5)], 2.0, id="the median"),
        pytest.param([part(2.0, began=0)], None, id="an attempt that was over"),
        pytest.param([part(2.0, outcome="lost")], None, id="no answer"),
        pytest.param([part(2.0, site=CLOUD)], None, id="made of windows in the cloud"),
        pytest.param([part(40.0, cpu=30.0)], None, id="a long one"),
        pytest.param([part(9.0)] * learnt.SAMPLES + [part(2.0)] * learnt.SAMPLES, 1.5, id="the newest"),
    ],
)
def test_a_gateway_waits_as_long_as_it_has(parts: list[Part], waited: float | None) -> None:
    jobs = {str(number): job(number, one) for number, one in enumerate(parts)}
    assert learnt.waiting(learnt.recent(jobs), "pi", LINK, 1.0) == waited
    assert learnt.waiting(learnt.recent(jobs), "barn", LINK, 1.0) is None


def test_what_a_busy_machine_makes_of_its_cpu_time_is_no_waiting() -> None:
    assert learnt.waiting([job(1, part(2.0))], "pi", LINK, 3.0) == 0.5


def test_merging_takes_what_it_has_taken_for_the_same_work_or_else_for_any() -> None:
    jobs = [job(1, part(2.0), "moments", 1.0), job(2, part(2.0), "spectrum", 3.0)]
    found = [learnt.merging(jobs, work) for work in ("moments", "spectrum", "ridge")]
    assert (found, learnt.merging([], "ridge")) == ([1.0, 3.0, 2.0], None)


def test_only_jobs_with_a_result_tell_and_the_newest_of_them() -> None:
    jobs = {str(number): job(number, part(2.0)) for number in range(learnt.RECENT + 1)}
    jobs["failed"] = job(99, part(2.0), state=FAILED)
    assert [one.id for one in learnt.recent(jobs)] == [f"moments-{number}" for number in range(learnt.RECENT, 0, -1)]

"""Which task runs next, and which is refused, and why."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.records import NEVER
from gateway.tasks.queue import MAX_ANSWERED, MAX_WAITING, Cancel, Instruction, Queue, Run, Say, Terms
from protocol.identity import Signer
from protocol.tasks import Task, seal

SIGNER = Signer.from_seed(bytes(range(32)))
STRANGER = Signer.from_seed(bytes(32))
TERMS = Terms("barn", SIGNER.public, ("moments", "train*"))
MOMENTS = Task("daily-1", 1, "barn", "moments", 1, b"\x80")


def task(**changes: Any) -> Task:
    return msgspec.structs.replace(MOMENTS, **changes)


def fed(queue: Queue, task: Task, now: int = 0) -> list[Instruction]:
    return queue.feed(task.job, seal(task, SIGNER), now)


def test_a_task_runs_at_once_when_nothing_else_does() -> None:
    queue = Queue(TERMS)
    assert fed(queue, MOMENTS) == [Run(MOMENTS)]
    assert queue.ended(MOMENTS, "done", "", 1) == []
    assert (queue.running, queue.waiting, queue.answered) == (None, 0, 1)


def test_others_wait_and_run_in_the_order_they_came() -> None:
    queue = Queue(TERMS)
    second, third = task(job="b"), task(job="c")
    assert (fed(queue, MOMENTS), fed(queue, second), fed(queue, third)) == ([Run(MOMENTS)], [], [])
    assert queue.ended(MOMENTS, "done", "", 1) == [Run(second)]
    assert queue.ended(second, "failed", "crash", 1) == [Say(second, "failed", "crash"), Run(third)]
    assert queue.refused == {"crash": 1}


def test_a_later_attempt_replaces_one_that_waits_and_waits_behind_one_that_runs() -> None:
    queue = Queue(TERMS)
    waiting, again = task(job="b"), task(job="b", attempt=2)
    fed(queue, MOMENTS)
    assert (fed(queue, waiting), fed(queue, again), fed(queue, waiting)) == ([], [], [])
    assert fed(queue, task(attempt=2)) == []
    assert queue.ended(MOMENTS, "done", "", 1) == [Run(again)]
    assert queue.ended(again, "done", "", 1) == [Run(task(attempt=2))]


def test_what_was_answered_is_not_run_again_when_the_broker_says_it_again() -> None:
    queue = Queue(TERMS)
    fed(queue, MOMENTS)
    assert fed(queue, MOMENTS) == []
    queue.ended(MOMENTS, "done", "", 1)
    assert fed(queue, MOMENTS) == []
    assert fed(queue, task(attempt=2)) == [Run(task(attempt=2))]


def test_a_stranger_is_not_answered() -> None:
    queue = Queue(TERMS)
    assert queue.feed("daily-1", seal(MOMENTS, STRANGER), 0) == []
    assert queue.feed("daily-1", seal(task(gateway="mill"), SIGNER), 0) == []
    assert queue.feed("another", seal(MOMENTS, SIGNER), 0) == []
    assert queue.refused == {"signature": 1, "gateway": 1}
    assert Queue(TERMS._replace(public_key=b"")).feed("daily-1", seal(MOMENTS, SIGNER), 0) == []


def test_what_is_not_allowed_is_refused_and_a_pattern_allows() -> None:
    queue = Queue(TERMS)
    sample, train = task(name="sample"), task(job="b", name="train_more")
    assert fed(queue, sample) == [Say(sample, "refused", "forbidden")]
    assert fed(queue, train) == [Run(train)]


def test_what_comes_or_begins_after_its_deadline_is_refused() -> None:
    queue = Queue(TERMS)
    late, soon = task(job="late", deadline=10), task(job="soon", deadline=20)
    assert fed(queue, late, 10) == [Say(late, "refused", "late")]
    fed(queue, MOMENTS, 10)
    assert fed(queue, soon, 10) == []
    assert queue.ended(MOMENTS, "done", "", 20) == [Say(soon, "refused", "late")]


def test_what_runs_beyond_its_deadline_is_stopped() -> None:
    queue = Queue(TERMS)
    slow, behind = task(job="slow", deadline=20), task(job="b")
    assert fed(queue, slow, 10) == [Run(slow)]
    assert fed(queue, behind, 10) == []
    assert (queue.due(), queue.tick(19)) == (20, [])
    assert queue.tick(20) == [Cancel(slow)]
    assert (queue.due(), queue.tick(21), queue.stopping) == (NEVER, [], True)
    assert queue.ended(slow, "failed", "stopped", 21) == [Say(slow, "failed", "deadline"), Run(behind)]


def test_what_was_done_although_it_was_being_stopped_is_not_said_twice() -> None:
    queue = Queue(TERMS)
    slow = task(deadline=20)
    fed(queue, slow)
    queue.tick(20)
    assert queue.ended(slow, "failed", "deadline", 21) == [Say(slow, "failed", "deadline")]
    assert fed(queue, slow, 21) == []


def test_a_task_that_is_taken_back_is_stopped_without_an_answer() -> None:
    queue = Queue(TERMS)
    behind = task(job="b")
    fed(queue, MOMENTS)
    fed(queue, behind)
    assert queue.feed("unknown", b"", 1) == []
    assert queue.feed("daily-1", b"", 1) == [Cancel(MOMENTS)]
    assert queue.feed("b", b"", 1) == []
    assert queue.ended(MOMENTS, "failed", "stopped", 2) == []
    assert (queue.running, queue.waiting, queue.refused) == (None, 0, {})


def test_beyond_its_bound_a_task_is_refused() -> None:
    queue = Queue(TERMS)
    fed(queue, MOMENTS)
    for number in range(MAX_WAITING):
        assert fed(queue, task(job=f"job-{number}")) == []
    over = task(job="over")
    assert fed(queue, over) == [Say(over, "refused", "busy")]
    assert fed(queue, task(job="job-0", attempt=2)) == []
    assert queue.waiting == MAX_WAITING


def test_so_many_answers_are_remembered() -> None:
    queue = Queue(TERMS)
    for number in range(MAX_ANSWERED + 1):
        fed(queue, task(job=f"job-{number}"))
        queue.ended(task(job=f"job-{number}"), "done", "", 1)
    assert fed(queue, task(job="job-1")) == []
    assert fed(queue, task(job="job-0")) == [Run(task(job="job-0"))]

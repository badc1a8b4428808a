"""Work over a fleet is a task: it reads what is asked for, says how complete it is, and sends raw readings of no series
that is not shared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway import config
from gateway.journal import Journal
from gateway.past import JournalPast
from gateway.records import Readings, ReadingsRecord
from gateway.segment import OsFiles
from gateway.tasks import Answer
from gateway.tasks.work import OfWork
from gateway.worker import find
from learning.work import registry
from protocol.errors import TaskRefused
from protocol.jobs import Question
from protocol.tasks import Task

NAMES = ["pump/flow", "pump/heat", "mill/flow"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a data directory: 100 readings of three series in turn, one a nanosecond, whose value is their time."""
    journal = Journal.open(OsFiles(), tmp_path / "journal", config.Journal(), about=dict)
    time = np.arange(1, 101)
    readings = Readings(((time - 1) % 3).astype(np.int32), time, time.astype(np.float64))
    journal.append(ReadingsRecord(1, readings, NAMES))
    journal.commit()
    journal.close()
    return tmp_path


def asked(name: str, question: Question, data: Path, shared: tuple[str, ...] = ()) -> Answer:
    past = JournalPast(data, shared=shared)
    try:
        return find(name, 1)(Task("j", 1, "barn", name, 1, msgspec.msgpack.encode(question)), past, b"")
    finally:
        past.close()


def result(name: str, question: Question, answer: Answer) -> dict[str, Any]:
    work = registry.find(name)
    return work.result(answer.content, registry.read_params(work, question.params, question.limit))


def test_an_answer_says_what_was_asked_for_and_what_was_found(data: Path) -> None:
    question = Question(("*/flow",), 31, 1_000)
    answer = asked("moments", question, data)
    assert (answer.readings, answer.asked, answer.held) == (47, (31, 1_000), (31, 101))
    groups = result("moments", question, answer)["groups"]
    assert {name: group["count"] for name, group in groups.items()} == {"mill/flow": 23, "pump/flow": 24}
    assert groups["pump/flow"]["mean"] == np.arange(31, 101, 3).mean()


def test_where_nothing_is_the_part_is_that_of_nothing(data: Path) -> None:
    question = Question(("kiln/*",))
    answer = asked("quantiles", question, data)
    assert (answer.readings, answer.held, result("quantiles", question, answer)["groups"]) == (0, (0, 0), {})


REFUSED: dict[str, Question | bytes] = {
    "no question": b"\xc1",
    "no series": Question(()),
    "a range that is none": Question(("*",), 5, 5),
    "parameters that are none": Question(("*",), params=msgspec.msgpack.encode({"by": "device"})),
    "fewer than no readings": Question(("*",), limit=-1),
}


@pytest.mark.parametrize("question", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_asked_is_refused(data: Path, question: Question | bytes) -> None:
    packed = question if isinstance(question, bytes) else msgspec.msgpack.encode(question)
    past = JournalPast(data)
    with pytest.raises(TaskRefused) as refused:
        find("moments", 1)(Task("j", 1, "barn", "moments", 1, packed), past, b"")
    past.close()
    assert refused.value.reason == "params"


def test_raw_readings_are_sampled_of_shared_series(data: Path) -> None:
    question = Question(("pump/*",), limit=5)
    answer = asked("sample", question, data, ("*/flow", "pump/heat"))
    series = result("sample", question, answer)["series"]
    assert sum(len(one["time"]) for one in series.values()) == 5
    assert set(series) <= {"pump/flow", "pump/heat"}


@pytest.mark.parametrize("shared", [(), ("mill/*",), ("pump/flow",)])
def test_raw_readings_of_a_series_that_is_not_shared_are_refused_whole(data: Path, shared: tuple[str, ...]) -> None:
    with pytest.raises(TaskRefused, match="private: raw readings of pump/"):
        asked("sample", Question(("pump/*",), limit=5), data, shared)


def test_a_series_that_is_not_shared_is_refused_where_it_has_no_reading_in_the_range_too(data: Path) -> None:
    with pytest.raises(TaskRefused, match="private"):
        asked("sample", Question(("pump/*",), 1_000, limit=5), data)


def test_work_that_does_not_say_that_it_sends_no_readings_is_given_none_that_are_not_shared(data: Path) -> None:
    class Silent:
        name, version, params = "silent", 1, Question
        given = 0

        def map(self, batches: Iterator[Any], params: object) -> bytes:
            del params
            self.given += sum(len(batch.time) for batch in batches)
            return b""

    silent = Silent()
    past = JournalPast(data)
    question = msgspec.msgpack.encode(Question(("*",), params=msgspec.msgpack.encode({"series": ["*"]})))
    with pytest.raises(TaskRefused, match="private"):
        OfWork(silent)(Task("j", 1, "barn", "silent", 1, question), past, b"")  # type: ignore[arg-type]
    past.close()
    assert silent.given == 0

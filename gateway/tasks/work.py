"""Work over a fleet (`learning.work`) as a task: its Question asks for series and time, its answer has the work's part.

How complete it is, the answer says: the event times asked for, those of the earliest and the latest reading found, and
how many there were. What the journal has dropped, nobody finds.

| reason | why |
|---|---|
| params | not what a Question or the work's own parameters should be |
| private | the answer would have raw readings in it of a series that `tasks.share` does not name |
| others | the work's own |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import msgspec

from gateway.tasks.contract import Answer, Past
from learning.work import Batch, Work, registry
from protocol.errors import TaskRefused
from protocol.jobs import Question
from protocol.tasks import Task

MAX_PATTERNS = 1000


class OfWork:
    """A computation that does one kind of work."""

    def __init__(self, work: Work) -> None:
        self.version = work.version
        self._work = work

    def __call__(self, task: Task, past: Past, kept: bytes) -> Answer:  # noqa: ARG002 - it keeps nothing
        """Give the part of what is asked for."""
        question = _read(task.params)
        params = registry.read_params(self._work, question.params, question.limit)
        seen = _Seen(past, question, raw=registry.sends_readings(self._work))
        content = self._work.map(seen.batches(), params)
        return Answer(content, seen.rows, (question.start, question.end), past.held)


class _Seen:
    """What the work is given, counted; raw readings of a series that is not shared are not given to work that sends."""

    def __init__(self, past: Past, question: Question, *, raw: bool) -> None:
        self.rows = 0
        self._past, self._question, self._raw = past, question, raw
        self._checked = 0  # of the names

    def batches(self) -> Iterator[Batch]:
        """Give all of it."""
        question, past = self._question, self._past
        for readings in past.batches(question.series, question.start, question.end):
            if self._raw:
                self._check()
            self.rows += readings.rows
            yield Batch(past.names, *readings)
        if self._raw:
            self._check()

    def _check(self) -> None:
        names, self._checked = self._past.names[self._checked :], len(self._past.names)
        for name in names:
            if _any(name, self._question.series) and not _any(name, self._past.shared):
                raise TaskRefused("private", f"raw readings of {name} are not shared: `tasks.share`")


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _read(packed: bytes) -> Question:
    try:
        question = msgspec.msgpack.decode(packed, type=Question)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TaskRefused("params", str(error)) from error
    if not 0 < len(question.series) <= MAX_PATTERNS:
        raise TaskRefused("params", f"{len(question.series)} patterns of series, expected 1 to {MAX_PATTERNS}")
    if question.start < 0 or 0 < question.end <= question.start or question.limit < 0:
        raise TaskRefused("params", f"no such range: [{question.start}, {question.end}), {question.limit} readings")
    return question

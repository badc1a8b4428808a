"""`moments`: count, mean, deviation, least and greatest value of each series over a range of event time."""

from __future__ import annotations

import msgspec

from gateway.tasks.contract import Answer, Past
from learning import summary
from protocol.errors import TaskRefused
from protocol.tasks import Task


class Params(msgspec.Struct, frozen=True):
    """Which readings: patterns of series names, event times in [start, end); 0 is without bound."""

    series: tuple[str, ...] = ("*",)
    start: int = 0
    end: int = 0


class Moments:
    """See `learning.summary`."""

    version = 1

    def __call__(self, task: Task, past: Past, kept: bytes) -> Answer:  # noqa: ARG002 - it keeps nothing
        """Summarise."""
        try:
            params = msgspec.msgpack.decode(task.params, type=Params)
        except msgspec.MsgspecError as error:
            raise TaskRefused("params", str(error)) from error
        merged, rows = summary.nothing(), 0
        for batch in past.batches(params.series, params.start, params.end):
            merged = summary.merge(merged, summary.of(past.names, batch.series, batch.value))
            rows += batch.rows
        return Answer(summary.encode(merged), rows, (params.start, params.end), past.held)


moments = Moments()

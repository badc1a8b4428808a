"""The live page's stream: server-sent events with the fleet, alerts, models, and the windows that a viewer chose.

    event: fleet      {"gateways": [...]}          at once, when somebody comes or goes, and every second
    event: windows    {"rows": [...]}              after each commit
    event: alert      an alert, as /v1/alerts has it    after the commit that stored it first
    event: model      {"model", "version", "outcome", "reason"}, and "gateway" but for "published"
    event: training   a stage that ended, as /v1/trainings has it
    event: job        a job that changed, as /v1/jobs has it
    event: skipped    {"rows": n}                  the viewer was too slow; the store has them

A viewer that does not read loses rows, alerts and words about models, counted as rows, and never slows a commit: what
waits for it is bounded by MAX_EVENTS.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from cloud.fleet import Fleet
from cloud.store import News, Stored
from cloud.store.answers import JobView, StageView

MAX_EVENTS = 256
MAX_ROWS = 1000
"""Rows in one event: a backlog that arrives at once is for the store, not for the eye."""
FLEET_S = 1.0
FIELDS = ("revision", "count", "mean", "deviation", "minimum", "maximum")


@dataclass(slots=True, eq=False)
class Viewer:
    """One page that watches. `series` are the store's numbers, sorted."""

    series: NDArray[np.int64]
    events: deque[bytes] = field(default_factory=deque)
    skipped: int = 0
    wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: bytes, rows: int = 0) -> None:
        """Queue an event; when too many wait, it is left out and counted."""
        if len(self.events) >= MAX_EVENTS:
            self.skipped += rows
        else:
            self.events.append(event)
        self.wanted.set()

    def take(self) -> bytes:
        """Give all that waits."""
        if self.skipped:
            self.events.append(_event("skipped", {"rows": self.skipped}))
            self.skipped = 0
        joined = b"".join(self.events)
        self.events.clear()
        self.wanted.clear()
        return joined


class Live:
    """All viewers."""

    def __init__(self, fleet: Fleet, *, most: int) -> None:
        self.fleet = fleet
        self.most = most
        self._viewers: set[Viewer] = set()
        self._closing = False

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    def publish(self, stored: list[Stored]) -> None:
        """Show committed rows to those who chose their series."""
        for viewer in self._viewers:
            for part in stored if len(viewer.series) else ():
                chosen = np.flatnonzero(np.isin(part.series, viewer.series))
                if part.utc and len(chosen):
                    viewer.skipped += max(0, len(chosen) - MAX_ROWS)
                    rows = list(_rows(part, chosen[-MAX_ROWS:]))
                    viewer.put(_event("windows", {"rows": rows}), len(rows))

    def news(self, news: News) -> None:
        """Show alerts that were stored, and what became of models."""
        for alert in news.raised if self._viewers else ():
            self._show("alert", alert)
        for report in news.reports if self._viewers else ():
            about = {"model": report.model, "version": report.version, "gateway": report.gateway}
            self._show("model", about | {"outcome": report.outcome, "reason": report.reason})

    def published(self, model: str, version: int) -> None:
        """Show that a version of a model was published."""
        self._show("model", {"model": model, "version": version, "outcome": "published", "reason": ""})

    def stage(self, ended: StageView) -> None:
        """Show that a stage of a training has ended."""
        self._show("training", ended)

    def job(self, changed: JobView) -> None:
        """Show how a job stands."""
        self._show("job", changed)

    def fleet_changed(self) -> None:
        """Show the fleet now."""
        if self._viewers:
            event = self._fleet_event()
            for viewer in self._viewers:
                viewer.put(event)

    def close(self) -> None:
        """End all streams."""
        self._closing = True
        for viewer in self._viewers:
            viewer.wanted.set()

    async def serve(self, request: web.Request, series: list[int]) -> web.StreamResponse:
        """Stream to one viewer until it goes or the cloud closes."""
        if len(self._viewers) >= self.most:
            raise web.HTTPServiceUnavailable(text=f"{self.most} pages watch already", headers={"Retry-After": "10"})
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        viewer = Viewer(np.unique(np.asarray(series, np.int64)))
        self._viewers.add(viewer)
        try:
            await response.prepare(request)
            due = 0.0
            while not self._closing:
                now = asyncio.get_running_loop().time()
                if now >= due:
                    viewer.put(self._fleet_event())
                    due = now + FLEET_S
                if waiting := viewer.take():
                    await response.write(waiting)
                await self._wait(viewer, due)
        except ConnectionError:
            pass  # the page was closed
        finally:
            self._viewers.discard(viewer)
        return response

    async def _wait(self, viewer: Viewer, due: float) -> None:
        """Until there is something to show, or it is time to show the fleet."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await viewer.wanted.wait()

    def _show(self, name: str, data: Any) -> None:
        event = _event(name, data)
        for viewer in self._viewers:
            viewer.put(event, 1)

    def _fleet_event(self) -> bytes:
        return _event("fleet", {"gateways": self.fleet.views()})


def _rows(part: Stored, chosen: NDArray[np.intp]) -> Iterator[dict[str, Any]]:
    columns = [part.series[chosen], part.start[chosen], part.size[chosen]]
    columns += [getattr(part.rows, name)[chosen] for name in FIELDS]
    names = ("series", "start", "size", *FIELDS)
    for values in zip(*(column.tolist() for column in columns), strict=True):
        yield dict(zip(names, values, strict=True))


def _event(name: str, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))

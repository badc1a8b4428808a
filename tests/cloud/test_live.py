"""What a watching page hears, and that a slow one loses rows without slowing anybody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientResponse

from cloud.fleet import Fleet
from cloud.live import MAX_EVENTS, MAX_ROWS, Live, Viewer
from cloud.store import News, Stored
from cloud.store.answers import ReportView
from protocol.messages import Kind
from tests.cloud.wire import DEADLINE_S, S, Served, Wire, window_rows, windows_body
from tests.waiting import until


async def events(answer: ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """Parse server-sent events."""
    while True:
        async with asyncio.timeout(DEADLINE_S):
            name, data = await answer.content.readline(), await answer.content.readline()
        if not name:
            return
        await answer.content.readline()
        yield name.decode().removeprefix("event: ").strip(), json.loads(data.removeprefix(b"data: "))


async def test_a_viewer_hears_of_the_fleet_at_once_and_again_when_somebody_comes(served: Served, wire: Wire) -> None:
    async with served.client.get("/v1/live") as answer:
        assert answer.content_type == "text/event-stream"
        stream = events(answer)
        assert await anext(stream) == ("fleet", {"gateways": []})
        await served.greet(wire)
        async for name, body in stream:
            assert name == "fleet"
            if body["gateways"]:
                break
        assert [(gateway["name"], gateway["online"]) for gateway in body["gateways"]] == [("barn", True)]


async def test_a_viewer_sees_the_chosen_series_and_no_others(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    async with served.client.get("/v1/live?series=2") as answer:
        stream = events(answer)
        await anext(stream)
        await socket.send(
            wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 4), (1, 0, 0, 5), (1, 10, 1, 6)))
        )
        rows = [body["rows"] async for name, body in _first(stream, "windows")]
    first: dict[str, float] = {"series": 2, "start": 0, "size": 10 * S, "revision": 0, "count": 5}
    first |= {"mean": 5.0, "deviation": 0.0, "minimum": 4.0, "maximum": 6.0}
    assert rows == [
        [first, first | {"start": 10 * S, "revision": 1, "count": 6, "mean": 6.0, "minimum": 5.0, "maximum": 7.0}]
    ]


async def _first(stream: AsyncIterator[tuple[str, Any]], wanted: str) -> AsyncIterator[tuple[str, Any]]:
    async for name, body in stream:
        if name == wanted:
            yield name, body
            return


async def test_a_viewer_that_leaves_is_forgotten(served: Served) -> None:
    async with served.client.get("/v1/live") as answer:
        await anext(events(answer))
        assert served.api.live.viewers == 1
    await until(lambda: served.api.live.viewers == 0, "the viewer is forgotten")


async def test_closing_ends_the_streams(served: Served) -> None:
    async with served.client.get("/v1/live") as answer:
        stream = events(answer)
        await anext(stream)
        served.api.live.close()
        assert [name async for name, _ in stream if name != "fleet"] == []


@pytest.mark.parametrize("settings", ["[limits]\nviewers = 1\n"])
async def test_beyond_the_limit_the_answer_is_503(served: Served) -> None:
    async with served.client.get("/v1/live"):
        status, body = await served.get("/v1/live")
    assert (status, body["error"]["what"]) == (503, "1 pages watch already")


def test_a_viewer_that_does_not_read_loses_rows_and_is_told_how_many() -> None:
    viewer = Viewer(np.array([1]))
    for number in range(MAX_EVENTS + 3):
        viewer.put(b"%d\n" % number, rows=10)
    assert viewer.take() == b"".join(b"%d\n" % number for number in range(MAX_EVENTS)) + (
        b'event: skipped\ndata: {"rows":30}\n\n'
    )
    assert viewer.take() == b""


def test_words_about_alerts_and_models_are_bounded_too_and_missed_as_rows() -> None:
    live = Live(Fleet(), most=1)
    viewer = Viewer(np.array([1]))
    live._viewers.add(viewer)
    report = ReportView("barn", "t2", 1, "refused", "expired", "", 5, 6)
    for _ in range(MAX_EVENTS):
        live.news(News(reports=[report]))
    live.published("t2", 2)
    said = viewer.take().split(b"\n\n")
    told = {"model": "t2", "version": 1, "gateway": "barn", "outcome": "refused", "reason": "expired"}
    assert said[0].startswith(b"event: model\ndata: ")
    assert json.loads(said[0].partition(b"data: ")[2]) == told
    assert said[MAX_EVENTS:] == [b'event: skipped\ndata: {"rows":1}', b""]


async def test_a_backlog_that_arrives_at_once_is_shown_by_its_newest_rows(served: Served) -> None:
    viewer = Viewer(np.array([5]))
    served.api.live._viewers.add(viewer)
    rows = window_rows(*((0, start, 0, 1) for start in range(MAX_ROWS + 2)))
    stored = Stored(True, np.full(rows.rows, 5), rows.start, np.full(rows.rows, S), rows)
    served.api.live.publish([stored, stored._replace(utc=False)])
    windows, skipped = viewer.take().split(b"\n\n")[:2]
    starts = [row["start"] // S for row in json.loads(windows.partition(b"data: ")[2])["rows"]]
    assert starts == list(range(2, MAX_ROWS + 2))
    assert skipped == b'event: skipped\ndata: {"rows":2}'


async def test_the_fleet_is_shown_while_windows_stream_without_a_pause(
    served: Served, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.live.FLEET_S", 0.02)
    socket = await served.begin(wire)
    async with served.client.get("/v1/live?series=2") as answer:
        fleets = windows = 0
        async for name, _ in events(answer):
            fleets += name == "fleet"
            windows += name == "windows"
            if fleets > 3 and windows > 3:
                break
            await socket.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((1, windows, 0, 4))))

"""The page before a cloud that answers less, or nonsense: what is told is shown, and nothing breaks."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from cloud.app import PAGES
from tests.browser import Page

NOW = time.time_ns()
GATEWAY = {
    "name": "barn",
    "online": True,
    "last_seen": NOW,
    "lag_s": 0.2,
    "epoch": "07",
    "version": "0.1",
    "series": 1,
    "windows": 1,
    "readings": 20,
    "bytes": 400,
    "frames": {"received": 2, "duplicate": 0, "quarantined": 0},
}
SERIES = {"id": 1, "gateway": "barn", "name": "press/temperature", "last": None}
WINDOW = {"start": NOW - 10**10, "size": 10**9, "domain": "", "revision": 0, "mean": 42, "minimum": 41, "maximum": 43}
OLD_ALERT = {
    "gateway": "barn",
    "series": [1],
    "names": ["press/temperature"],
    "start": NOW - 10**10,
    "revision": 0,
    "stamp": NOW - 10**9,
    "score": 8.25,
    "rule": "limit",
    "version": 0,
    "domain": "",
    "stored": NOW,
}
NONSENSE: list[Any] = [
    None,
    7,
    {},
    {"gateway": "barn"},
    {"gateway": "barn", "start": 1e300},
    {"gateway": ["barn"], "start": NOW},
]
BARE = {"gateway": "shed", "start": NOW - 10**11, "series": [9, "x", None], "names": None, "contributions": [None]}
ODD = {"gateway": "pier", "start": NOW - 10**12, "score": "high", "threshold": {}, "rule": None, "missing": "all"}
MODELS = [None, {}, {"name": "bearing"}, {"name": "m", "version": 3, "versions": [None], "gateways": [{}, None]}]
WHY = "[...document.querySelectorAll('.alerts .list .what')].map((row) => row.innerText)"


class Told:
    """What this cloud answers, by address."""

    def __init__(self, gateway: dict[str, Any], alerts: list[Any], models: list[Any] | None) -> None:
        self.gateways = [gateway]
        self.answers: dict[str, Any] = {
            "gateways": {"gateways": self.gateways},
            "series": {"series": [SERIES], "next": None},
            "windows": {"windows": [WINDOW], "next": None},
            "alerts": {"alerts": alerts, "next": None},
            "ledger": {"ledger": []},
        }
        if models is not None:
            self.answers["models"] = {"models": models, "reports": []}
            self.answers |= {"trainings": {"trainings": []}, "jobs": {"jobs": []}}  # they come with the models
        self.events = [("fleet", {"gateways": self.gateways}), *(("alert", one) for one in alerts)]
        self.asked: set[str] = set()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_static("/web/", PAGES)
        app.router.add_get("/v1/live", self._live)
        app.router.add_get("/v1/{name}", self._answer)
        return app

    async def _page(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGES / "index.html")

    async def _answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked.add(name)
        if name not in self.answers:
            raise web.HTTPNotFound
        return web.json_response(self.answers[name])

    async def _live(self, _request: web.Request) -> web.Response:
        text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in self.events)
        return web.Response(text=text, content_type="text/event-stream")


@pytest.fixture
async def told(request: pytest.FixtureRequest) -> Told:
    told: Told = request.param
    return told


@pytest.fixture
async def address(told: Told) -> AsyncIterator[str]:
    async with TestClient(TestServer(told.app())) as client:
        yield str(client.make_url("/"))


@pytest.mark.parametrize("told", [Told(GATEWAY, [OLD_ALERT], None)], indirect=True, ids=["before models"])
async def test_a_cloud_without_models_is_shown_and_not_asked_for_them(told: Told, address: str, page: Page) -> None:
    await page.open(address)
    assert await page.shows(f"{WHY}.length && {WHY}") == ["press/temperature barn\nlimit: 8.250"]
    await page.shows("document.querySelector('.charts .mean dd')?.textContent === '42.00'")
    assert await page.ask("document.querySelector('.totals').innerText.includes('Alerts')") is False
    assert ("models" in told.asked, page.complaints) == (False, [])


NEW_GATEWAY = GATEWAY | {"models": {"m": 2}, "alerts": None, "shadow": 1}


@pytest.mark.parametrize("told", [Told(NEW_GATEWAY, [*NONSENSE, ODD, BARE], MODELS)], indirect=True, ids=["nonsense"])
async def test_fields_that_lack_or_are_nonsense_break_nothing(told: Told, address: str, page: Page) -> None:
    await page.open(address)
    assert await page.shows(f"{WHY}.length && {WHY}") == [
        "series 9 shed\nscore: \u2013",
        "a series pier\nscore: \u2013",
    ]
    await page.ask("document.querySelectorAll('.alerts .list button')[1].click()")
    await page.shows("document.querySelector('.past') !== null")
    await page.shows("document.querySelector('.models .notes')?.innerText.includes('m 3')")
    assert ("models" in told.asked, page.complaints) == (True, [])

"""What the cloud's tests share: a gateway that makes frames by hand, a clock that is set, and a served cloud."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from cloud.api import Api
from cloud.app import API, PAGES, create_app
from cloud.config import parse
from tests.browser import Page, chromium, new_page
from tests.cloud.wire import Clock, Served, Wire


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings() -> str:
    """TOML that a test adds to its cloud."""
    return ""


@pytest.fixture
def built() -> bool:
    """Whether the page's parts are there."""
    return True


@pytest.fixture
async def served(tmp_path: Path, clock: Clock, settings: str, built: bool) -> AsyncIterator[Served]:
    """A cloud behind a real HTTP server, with a token for the gateway `barn`."""
    config = parse(f'data = "{tmp_path}/data"\n{settings}')
    pages = tmp_path / "web"
    pages.mkdir()
    if built:
        (pages / "vendor").mkdir()
        (pages / "index.html").write_text("<title>page</title>")
        (pages / "app.js").write_text("1")
    app = create_app(config, clock=clock, pages=pages)
    api: Api = app[API]
    token = api.tokens.issue("barn")
    async with TestClient(TestServer(app)) as client:
        yield Served(api, client, token, clock)


@pytest.fixture(scope="session")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A browser, where one is installed and the page's parts are built."""
    if not (PAGES / "vendor" / "uplot.js").is_file():
        pytest.skip("the page's parts are not built here (pip install -e .)")
    with chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def page(devtools: str) -> AsyncIterator[Page]:
    async with new_page(devtools) as page:
        yield page


@pytest.fixture
async def cloud(tmp_path: Path, settings: str) -> AsyncIterator[Served]:
    """A cloud with the real page; its clock stands at now, because the page looks at the last minutes."""
    clock = Clock(time.time_ns())
    app = create_app(parse(f'data = "{tmp_path}/data"\n{settings}'), clock=clock)
    async with TestClient(TestServer(app)) as client:
        yield Served(app[API], client, app[API].tokens.issue("barn"), clock)

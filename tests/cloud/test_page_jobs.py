"""Jobs on the page: how far they are, who is missing, and what came of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cloud.jobs import Place, Question, Terms
from protocol.messages import Cover, PartBody
from tests.browser import Page
from tests.cloud.test_page import address, report
from tests.cloud.wire import S, Served, Wire

RESULTS: dict[str, Any] = {
    "moments": {"groups": {"p/t": {"count": 3, "mean": 2.5, "deviation": 0.5, "minimum": 2.0, "maximum": 3.0}}},
    "quantiles": {"shares": [0.0, 0.5, 1.0], "groups": {"p/t": {"count": 3, "values": [1.0, 2.0, 5.0]}}},
    "histogram": {"edges": [0.0, 1.0], "groups": {"p/t": [4, 10, 2]}},
    "spectrum": {"frequencies": [0.0, 1.0, 2.0], "groups": {"p/t": {"density": [0.0, 2.0, 1.0]}}},
}

CARDS = "[...document.querySelectorAll('.jobs .card')].map((card) => card"
SVGS = f"{CARDS}.querySelectorAll('svg').length).join()"
STANDS = f"{CARDS}.querySelector('.about').textContent)"
NOTES = "document.querySelector('.jobs .notes').textContent.trim()"
CELLS = "[...document.querySelectorAll('.jobs td')].map((cell) => cell.textContent.trim())"


@pytest.fixture
def settings() -> str:
    return '[bus]\nurl = "mqtt://127.0.0.1:9"\n'


def begin(cloud: Served, work: str, at: int) -> str:
    dispatch = cloud.api.dispatch
    assert dispatch is not None
    asked = Question(work, 1, ("*/t",), 0, 0, b"\x80")
    places = [Place(name, (name,), 2.0) for name in ("barn", "mill")]
    dispatch.jobs.present(["barn", "mill"], at)
    dispatch.jobs.submit(f"{work}-1", asked, places, Terms(deadline=at + 60 * S), at, predicted=4.0)
    return f"{work}-1"


def end(cloud: Served, job: str, at: int) -> None:
    """Barn answers, mill does not, and the deadline comes."""
    dispatch = cloud.api.dispatch
    assert dispatch is not None
    work = job.partition("-")[0]
    dispatch.jobs.part("barn", PartBody(Cover(), job, 1, work, 1, "done", content=b"+" * 2_000, readings=1_234), at)
    dispatch.jobs.tick(at + 61 * S)
    dispatch.jobs.merged(job, msgspec.json.encode(RESULTS[work]), "", at + 61 * S)


async def test_a_job_shows_how_far_it_is_and_what_came_of_it(cloud: Served, wire: Wire, page: Page) -> None:
    now = cloud.clock.now
    for number, work in enumerate(RESULTS):
        end(cloud, begin(cloud, work, now + number * S), now + number * S)
    await report(cloud, wire)
    await page.open(address(cloud))
    assert await page.shows(f"{SVGS} === '1,1,1,0'")
    assert await page.ask(STANDS) == ["Done, at its deadline."] * 4
    assert await page.ask(NOTES) == "mill: no answer"
    assert (await page.ask(CELLS))[:2] == ["p/t", "3"]
    cloud.clock.now += 100 * S
    job = begin(cloud, "more", cloud.clock.now)
    dispatch = cloud.api.dispatch
    assert dispatch is not None
    cloud.api.live.job(dispatch.view(job))
    assert await page.shows(f"{STANDS}[0] === 'Waiting for 2 gateways.'")

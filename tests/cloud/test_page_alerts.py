"""Alerts and models on the page, as somebody sees them: a real browser, a real cloud, frames over a real socket."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from protocol.messages import Alert, AlertsBody, Cover, Kind, ReportBody, StatisticsBody
from tests.browser import Page
from tests.cloud.wire import S, Served, Socket, Wire, definitions, windows_body

NAMES = [f"press/{name}" for name in ("temperature", "vibration", "current", "pressure", "speed")]
AGO = 30

ROWS = "[...document.querySelectorAll('.alerts .list button')]"
CARDS = "[...document.querySelectorAll('.charts .card .name')].map((name) => name.textContent)"
FLAGGED = """[...document.querySelectorAll('.charts .card')].map((card) => {
  const canvas = card.querySelector('canvas');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let red = 0;
  for (let i = 0; i < pixels.length; i += 4)
    if (pixels[i + 3] > 120 && pixels[i] - pixels[i + 2] > 60) red += 1;
  return red;
})"""  # pixels of flags and their poles: redder than blue, as nothing else in a chart is
FLAGS = f"({FLAGGED}).map((red) => red > 100)"
KEY = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{}', bubbles: true }}))"
LIVE = "document.querySelector('[role=status]').textContent === 'Live'"
MODELS = "[...document.querySelectorAll('.models tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"


async def begin(cloud: Served, wire: Wire) -> Socket:
    """A gateway connects and reports two minutes of windows of five series."""
    socket = await cloud.greet(wire)
    await socket.send(wire.frame("definitions", Kind.DEFINITIONS, definitions(NAMES, size=S)))
    now = cloud.clock.now // S
    rows = [(series, now - ago, 0, 40 + ago % 7) for series in range(len(NAMES)) for ago in range(120, 1, -1)]
    await socket.send(wire.frame("telemetry", Kind.WINDOWS, windows_body(*rows)))
    await socket.receipt("telemetry", 1)
    return socket


def alert(cloud: Served, *series: int, ago: int = AGO, **changes: Any) -> Alert:
    """An alert about a window that began so many seconds ago, the last series contributing most."""
    start = (cloud.clock.now // S - ago) * S
    shares = [0.1] * (len(series) - 1) + [0.9]
    raised = Alert([*series], start, 0, start + S, 8.25, "bearing", threshold=6.0, contributions=shares)
    return msgspec.structs.replace(raised, **changes)


async def hand(wire: Wire, socket: Socket, *alerts: Alert, domain: str = "") -> None:
    await socket.send(wire.frame("alerts", Kind.ALERTS, AlertsBody(Cover(), list(alerts), domain)))
    await socket.receipt("alerts", wire.seq["alerts"])


async def say(wire: Wire, socket: Socket, *bodies: ReportBody | StatisticsBody) -> None:
    for body in bodies:
        kind = Kind.REPORT if isinstance(body, ReportBody) else Kind.STATISTICS
        await socket.send(wire.frame("results", kind, body))
    await socket.receipt("results", wire.seq["results"])


def clock(ns: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(ns // S))


async def test_an_alert_that_arrives_is_listed_in_words_and_drawn(cloud: Served, wire: Wire, page: Page) -> None:
    socket = await begin(cloud, wire)
    await page.open(address(cloud))
    await page.shows(f"{LIVE} && {CARDS}.length === 3")
    raised = alert(cloud, 0, 1, missing=[1])
    await hand(wire, socket, raised)
    assert await page.shows(f"{ROWS}[0]?.innerText") == (
        f"{clock(raised.start)}\npress/vibration and 1 more barn\n"
        "bearing: score 8.250 against a threshold of 6, 90\u00a0% of it from press/vibration; "
        "press/vibration was missing; learnt here"
    )
    assert await page.shows(f"{FLAGS}.join() === 'true,true,false'")
    assert (await page.ask("window.violations"), page.complaints) == ([], [])


async def test_an_alert_about_the_gateway_itself_says_so_and_leaves_the_charts(
    cloud: Served, wire: Wire, page: Page
) -> None:
    socket = await begin(cloud, wire)
    await page.open(address(cloud))
    await page.shows(f"{LIVE} && {CARDS}.length === 3")
    raised = alert(cloud, rule="broker", score=1500.0, threshold=0.0, contributions=[])
    await hand(wire, socket, raised)
    assert await page.shows(f"{ROWS}[0]?.innerText") == (
        f"{clock(raised.start)}\nthe gateway barn\nits broker dropped 1,500 messages"
    )
    await page.ask(f"{ROWS}[0].click()")
    assert await page.shows(f"{ROWS}[0].getAttribute('aria-pressed') === 'true' && {CARDS}.length") == 3
    assert await page.ask(f"{FLAGS}.join()") == "false,false,false"


async def test_an_alert_that_was_stored_before_is_there(cloud: Served, wire: Wire, page: Page) -> None:
    socket = await begin(cloud, wire)
    await hand(wire, socket, alert(cloud, 0), alert(cloud, 1, ago=AGO - 1, version=3))
    await page.open(address(cloud))
    await page.shows(f"{ROWS}.length === 2 && {FLAGS}.join() === 'true,true,false'")
    assert await page.ask(f"{ROWS}.map((row) => row.querySelector('.why').innerText)") == [
        "bearing: score 8.250 against a threshold of 6; judged by the shared model, version 3",
        "bearing: score 8.250 against a threshold of 6; learnt here",
    ]


async def test_choosing_an_alert_shows_its_series_first_and_keeps_the_others(
    cloud: Served, wire: Wire, page: Page
) -> None:
    socket = await begin(cloud, wire)
    await hand(wire, socket, alert(cloud, 3, 4))
    await page.open(address(cloud))
    await page.shows(f"{ROWS}.length === 1 && {CARDS}.length === 3")
    await page.ask(f"{ROWS}[0].click()")
    shown = [NAMES[at] for at in (4, 3, 0, 1, 2)]
    assert await page.shows(f"{CARDS}.length === 5 && {CARDS}") == shown
    assert await page.shows(f"{FLAGS}.join() === 'true,true,false,false,false'")
    assert await page.ask(f"{ROWS}[0].getAttribute('aria-pressed')") == "true"


async def test_an_old_alert_is_shown_at_its_time_and_one_comes_back_to_now(
    cloud: Served, wire: Wire, page: Page
) -> None:
    socket = await begin(cloud, wire)
    old = cloud.clock.now // S - 86_400
    rows = [(4, old + at, 0, 300 + at) for at in range(-60, 60)]
    await socket.send(wire.frame("telemetry", Kind.WINDOWS, windows_body(*rows)))
    await hand(wire, socket, alert(cloud, 4, ago=86_400))
    await page.open(address(cloud))
    await page.shows(f"{ROWS}.length === 1 && {CARDS}.length === 3")
    await page.ask(f"{ROWS}[0].click()")
    mean = "document.querySelector('.charts .card .mean dd').textContent"
    await page.shows(f"{mean} === '300.0' && {FLAGS}[0]")
    assert await page.ask("location.hash.includes('end=')")
    await page.ask("document.querySelector('.past button').click()")
    await page.shows(f"{mean} === '42.00' && document.querySelector('.past') === null")


async def test_the_list_is_one_stop_for_tab_and_arrows_move_in_it(cloud: Served, wire: Wire, page: Page) -> None:
    socket = await begin(cloud, wire)
    await hand(wire, socket, *(alert(cloud, 0, ago=ago) for ago in range(30, 50)))
    await page.open(address(cloud))
    await page.shows(f"{ROWS}.length === 20")
    assert await page.ask(f"{ROWS}.map((row) => row.tabIndex).join()") == ",".join(["0", *["-1"] * 19])
    await page.ask(f"{ROWS}[0].focus()")
    for key, at in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", 19), ("ArrowDown", 19), ("Home", 0)):
        await page.ask(KEY.format(key))
        assert await page.ask(f"{ROWS}.indexOf(document.activeElement)") == at, key


async def test_a_new_alert_moves_no_chart_and_many_are_told_in_one_sentence(
    cloud: Served, wire: Wire, page: Page
) -> None:
    socket = await begin(cloud, wire)
    await page.open(address(cloud))
    await page.shows(f"{LIVE} && {CARDS}.length === 3 && document.querySelector('.alerts .empty') !== null")
    place = "document.querySelector('.charts').getBoundingClientRect().top"
    before = await page.ask(place)
    await page.ask("""
        (() => { window.told = [];
                 const live = document.querySelector('section [aria-live]');
                 new MutationObserver(() => window.told.push(live.textContent))
                   .observe(live, { childList: true, characterData: true, subtree: true }); })()
    """)
    await hand(wire, socket, alert(cloud, 0, ago=99))
    await page.shows(f"{ROWS}.length === 1")
    await hand(wire, socket, *(alert(cloud, 1, ago=ago) for ago in range(30, 60)))
    await page.shows(f"{ROWS}.length === 31")
    assert await page.ask(place) == before
    told = await page.shows("window.told.length > 1 && window.told")
    assert told[0].startswith("New alert: press/temperature of barn. ")
    assert told[1:] == ["30 new alerts, the newest: press/vibration of barn"]


async def test_without_alerts_it_says_how_one_gets_them(cloud: Served, wire: Wire, page: Page) -> None:
    await begin(cloud, wire)
    await page.open(address(cloud))
    text = await page.shows(f"{LIVE} && document.querySelector('.alerts .empty').innerText")
    assert "No alerts yet" in text
    assert "[[score]]" in text
    assert "No models yet" in await page.ask("document.querySelector('.models').innerText")


async def test_it_shows_who_runs_which_version_and_what_was_refused(cloud: Served, wire: Wire, page: Page) -> None:
    socket = await begin(cloud, wire)
    await page.open(address(cloud))
    await page.shows(LIVE)
    learnt = StatisticsBody(Cover(), "bearing", cloud.clock.now, alerts=12, shadow=5, version=2)
    await say(wire, socket, ReportBody(Cover(), "bearing", 2, "applied", stamp=cloud.clock.now), learnt)
    assert await page.shows(f"{MODELS}.length && {MODELS}[0][4] === '5' && {MODELS}") == [
        ["barn", "bearing", "2", "12", "5"]
    ]
    refused = ReportBody(Cover(), "bearing", 3, "refused", "expired", stamp=cloud.clock.now)
    await say(wire, socket, refused)
    assert await page.shows("document.querySelector('.models .worry')?.closest('li').innerText") == (
        f"barn refused bearing 3: expired, {clock(cloud.clock.now)}"
    )
    assert page.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1280, "light")])
async def test_alerts_and_models_fit(cloud: Served, wire: Wire, page: Page, width: int, scheme: str) -> None:
    socket = await begin(cloud, wire)
    long = "a-rather-long-name-of-a-model-that-somebody-chose"
    await say(wire, socket, ReportBody(Cover(), long, 2, "refused", "schema", stamp=cloud.clock.now))
    await hand(wire, socket, alert(cloud, 0, 1, 2, missing=[0, 1, 2], rule=long), alert(cloud, 2, ago=86_400))
    await page.open(address(cloud), width=width, scheme=scheme)
    await page.shows(f"{ROWS}.length === 2 && document.querySelector('.models .worry') !== null")
    await page.ask(f"{ROWS}[1].click()")
    await page.shows("document.querySelector('.past') !== null")
    assert await page.ask("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.card, .list')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert await page.ask(wide) == 0


def address(cloud: Served) -> str:
    return str(cloud.client.make_url("/"))

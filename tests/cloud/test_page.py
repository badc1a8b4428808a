"""The page, as somebody sees it: a real browser, a real cloud, frames over a real socket."""

from __future__ import annotations

import time

import pytest

from cloud.app import PAGES
from cloud.federation import Ended, Rest, Verdict
from cloud.store.answers import StageView
from learning.privacy import Ledger
from protocol.frame import message as frame_of
from protocol.messages import Cover, Kind, Loss, LossesBody
from tests.browser import Page
from tests.cloud.wire import Served, Socket, Wire, definitions, windows_body

HOSTILE = "<img src=x onerror=document.title='taken'>/t"
NAMES = ["press/temperature", HOSTILE]

CARD = "document.querySelector('.charts .card:nth-child({})')"
MEAN = CARD + "?.querySelector('.mean dd').textContent"
NAME = CARD + "?.querySelector('.name').textContent"
INKED = """(() => {{
  const canvas = {}?.querySelector('canvas');
  if (!canvas) return 0;
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let inked = 0;
  for (let i = 0; i < pixels.length; i += 4)
    if (pixels[i + 3] > 200 && pixels[i + 2] - pixels[i] > 100) inked += 1;
  return inked;
}})()"""  # pixels of the line: much bluer than red, in both schemes, as no axis and no grid is

POINT_AT_THE_LEFT = """(() => {
  const over = document.querySelector('.charts .card .u-over');
  const box = over.getBoundingClientRect();
  const at = { bubbles: true, clientX: box.left + 1, clientY: box.top + 20 };
  over.dispatchEvent(new MouseEvent('mousemove', at));
  return true;
})()"""


def address(cloud: Served, path: str = "/") -> str:
    return str(cloud.client.make_url(path))


async def report(cloud: Served, wire: Wire) -> Socket:
    """A gateway connects, defines its series and reports two minutes of windows."""
    socket = await cloud.greet(wire)
    await socket.send(wire.frame("definitions", Kind.DEFINITIONS, definitions(NAMES, size=1_000_000_000)))
    await tell(cloud, wire, socket, *((series, ago, 40 + ago % 7) for series in (0, 1) for ago in range(120, 1, -1)))
    return socket


async def tell(cloud: Served, wire: Wire, socket: Socket, *rows: tuple[int, int, int]) -> None:
    """Rows of (series, seconds ago, value)."""
    now = cloud.clock.now // 1_000_000_000
    body = windows_body(*((series, now - ago, 0, value) for series, ago, value in rows))
    await socket.send(wire.frame("telemetry", Kind.WINDOWS, body))
    await socket.receipt("telemetry", wire.seq["telemetry"])


async def test_a_window_that_is_stored_is_drawn(cloud: Served, wire: Wire, page: Page) -> None:
    await report(cloud, wire)
    await page.open(address(cloud))
    assert await page.shows(NAME.format(1)) == "press/temperature"
    assert await page.shows(f"{INKED.format(CARD.format(1))} > 100")
    assert await page.shows(f"{MEAN.format(1)} === '42.00'")  # two seconds ago: 40 + 2
    assert await page.shows("document.querySelector('.totals').innerText.includes('1 / 1')")
    assert await page.shows("document.querySelector('.ledgers').innerText.includes('telemetry')")


async def test_a_window_that_arrives_later_appears_without_a_reload(cloud: Served, wire: Wire, page: Page) -> None:
    socket = await report(cloud, wire)
    await page.open(address(cloud))
    await page.shows(f"{MEAN.format(1)} === '42.00'")
    await page.shows("document.querySelector('[role=status]').textContent === 'Live'")
    await tell(cloud, wire, socket, (0, 1, 77))
    await page.shows(f"{MEAN.format(1)} === '77.00'")


async def test_history_is_drawn_behind_what_is_live_and_pointing_tells_its_values(
    cloud: Served, wire: Wire, page: Page
) -> None:
    socket = await report(cloud, wire)
    await page.open(address(cloud))
    for ago in (1, 0):
        await tell(cloud, wire, socket, (0, ago, 77))
    await page.shows(f"{MEAN.format(1)} === '77.00'")
    oldest = time.strftime("%H:%M:%S", time.localtime(cloud.clock.now // 1_000_000_000 - 120))
    await page.shows(f"{POINT_AT_THE_LEFT} && {CARD.format(1)}.querySelector('.now').innerText.includes('{oldest}')")


async def test_a_longer_time_is_read_and_drawn_when_asked_for(cloud: Served, wire: Wire, page: Page) -> None:
    await report(cloud, wire)
    await page.open(address(cloud, "/#minutes=1"))
    await page.shows(f"{MEAN.format(1)} === '42.00'")
    await page.ask("document.querySelector('.range input[value=\"5\"]').click()")
    oldest = time.strftime("%H:%M:%S", time.localtime(cloud.clock.now // 1_000_000_000 - 120))
    await page.shows(f"{POINT_AT_THE_LEFT} && {CARD.format(1)}.querySelector('.now').innerText.includes('{oldest}')")


async def test_the_content_security_policy_holds_and_nothing_complains(cloud: Served, wire: Wire, page: Page) -> None:
    await report(cloud, wire)
    await page.open(address(cloud))
    await page.shows(f"{MEAN.format(2)} === '42.00'")
    assert (await page.ask("window.violations"), page.complaints) == ([], [])


async def test_a_hostile_device_name_is_only_text(cloud: Served, wire: Wire, page: Page) -> None:
    await report(cloud, wire)
    await page.open(address(cloud))
    assert await page.shows(NAME.format(2)) == HOSTILE
    assert await page.ask("[document.title, document.images.length]") == ["Fieldgate", 0]


async def test_a_series_is_found_by_the_filter_and_its_chart_removed(cloud: Served, wire: Wire, page: Page) -> None:
    await report(cloud, wire)
    await page.open(address(cloud))
    await page.shows("document.querySelectorAll('.picker input[type=checkbox]').length === 2")
    await page.ask("""
        (() => { const filter = document.querySelector('input[type=search]');
                 filter.value = 'BARN temp';
                 filter.dispatchEvent(new Event('input', { bubbles: true })); })()
    """)
    await page.shows("document.querySelectorAll('.picker input[type=checkbox]').length === 1")
    await page.ask("document.querySelector('.picker input[type=checkbox]').click()")
    assert await page.shows(f"document.querySelectorAll('.plot canvas').length === 1 && {NAME.format(1)}") == HOSTILE


async def test_a_lost_connection_is_announced(cloud: Served, wire: Wire, page: Page) -> None:
    await report(cloud, wire)
    await page.open(address(cloud))
    await page.shows("document.querySelector('[role=status]').textContent === 'Live'")
    cloud.api.live.close()
    await page.shows("document.querySelector('[role=status]').textContent.startsWith('Connection lost')")


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (320, "dark"), (700, "light"), (1280, "dark")])
async def test_nothing_sticks_out(cloud: Served, wire: Wire, page: Page, width: int, scheme: str) -> None:
    socket = await report(cloud, wire)
    ago = cloud.clock.now - 3600 * 1_000_000_000
    loss = Loss("telemetry", 2, 123_456, "spool_full", ago, cloud.clock.now)
    await socket.send(wire.frame("results", Kind.LOSSES, LossesBody(Cover(), [loss])))
    await socket.receipt("results", 1)
    await page.open(address(cloud), width=width, scheme=scheme)
    await page.shows(f"{INKED.format(CARD.format(2))} > 100")
    await page.shows("document.querySelector('.ledgers').innerText.includes('123,455 frames dropped, spool_full')")
    assert await page.ask("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.card')].filter((card) => card.scrollWidth > card.clientWidth).length"
    assert await page.ask(wide) == 0


async def test_what_is_missing_what_waits_and_what_is_odd_is_told_in_words(
    cloud: Served, wire: Wire, page: Page
) -> None:
    socket = await report(cloud, wire)
    counts = {"broker": 40, "frames.alerts.damaged": 1}
    loss = Loss("telemetry", 2, 3, "damaged", 0, cloud.clock.now)
    await socket.send(wire.frame("results", Kind.LOSSES, LossesBody(Cover(), [loss], counts)))
    await socket.receipt("results", 1)
    wire.seq |= {"telemetry": 3, "alerts": 7}
    later = {"alerts": cloud.clock.now - 180 * 1_000_000_000}
    await socket.send(frame_of(Kind.HELLO, wire.hello(since=later, reason="the data directory was copied")))
    await socket.receive()
    await page.open(address(cloud))
    await page.shows(
        "document.querySelector('.ledgers').innerText.includes('2 frames dropped, damaged, spooled before')"
    )
    text = await page.ask("document.querySelector('.ledgers').innerText")
    for words in (
        "the data directory was copied",
        "Its broker dropped 40 messages, of this or other clients.",
        "alerts: 1 frame lost with an earlier epoch, damaged",
    ):
        assert words in text
    row = "[...document.querySelectorAll('.ledgers tbody tr')].find((row) => row.innerText.startsWith('alerts'))"
    cells = await page.ask(f"[...{row}.cells].map((cell) => cell.innerText)")
    assert [cells[0], *cells[4:]] == ["alerts", "0", "0", "7", "3\u00a0min"]
    fleet = await page.ask("document.querySelector('section[aria-labelledby=fleet]').innerText")
    assert "its broker dropped 40 messages" in fleet


@pytest.mark.parametrize("settings", ['listen = "0.0.0.0:8480"'], ids=["beyond this machine"])
async def test_it_asks_for_the_token_and_takes_it(cloud: Served, wire: Wire, page: Page) -> None:
    await report(cloud, wire)
    await page.open(address(cloud))
    await page.shows("document.querySelector('.sign-in input[name=token]') !== null")
    token = cloud.api.tokens.token_file("admin").read_text().strip()
    await page.ask(f"document.querySelector('[name=token]').value = '{token}'")
    await page.ask("document.querySelector('.sign-in button').click()")
    assert await page.shows(NAME.format(1)) == "press/temperature"


@pytest.mark.parametrize("path", ["index.html", *sorted(path.name for path in PAGES.glob("*.js"))])
def test_no_file_of_the_page_holds_what_the_policy_forbids(path: str) -> None:
    text = (PAGES / path).read_text("utf-8")
    found = [
        word for word in ("innerHTML", "insertAdjacentHTML", "style=", "onclick=", "eval(", "<style") if word in text
    ]
    assert found == []


LEARNS = """
[bus]
url = "mqtt://127.0.0.1:1"
[[training]]
name = "pumps"
channels = ["x"]
label = "state"
classes = 2
samples = 16
"""


@pytest.mark.parametrize("settings", [LEARNS], ids=["a training"])
async def test_a_stage_that_ends_is_told_and_so_is_who_was_refused(cloud: Served, wire: Wire, page: Page) -> None:
    await report(cloud, wire)
    trainings = cloud.api.trainings
    assert trainings is not None
    await page.open(address(cloud))
    assert await page.shows("document.querySelector('.trainings')?.innerText.includes('No run yet.')")
    [line] = trainings.federation._lines.values()
    ended = Ended("pumps", 1, 3, "round", ("barn",), (), {"mill": "few"}, 0.875, 7_800, 0.25, 1)
    line.history.append(ended)
    line.training.state.run = 1
    cloud.api.live.stage(StageView("pumps", 1, 3, "round", ["barn"], [], {"mill": "few"}, 0.875, 7_800, 0.25, 1))
    text = "document.querySelector('.trainings').innerText"
    for told in ("round 3", "87.5 %", "kB", "round 3: mill was refused, few"):
        assert await page.shows(f"{text}.includes('{told}')")


PRIVATE = LEARNS + 'goal = 2\nrule = "mean"\n[training.privacy]\nnoise = 5\nepsilon = 2\n'


@pytest.mark.parametrize("settings", [PRIVATE], ids=["a training with a budget"])
async def test_what_is_spent_of_a_privacy_budget_is_told_and_that_it_ended_a_run(
    cloud: Served, wire: Wire, page: Page
) -> None:
    await report(cloud, wire)
    trainings = cloud.api.trainings
    assert trainings is not None
    [line] = trainings.federation._lines.values()
    line.training.state.ledger = Ledger(5 / (2 * 5**2), 5)
    line.last = Rest("pumps", 0, Verdict("promoted", 0.75, None, 0.0, 2), "budget")
    await page.open(address(cloud))
    text = "document.querySelector('.trainings')?.innerText"
    assert await page.shows(f"{text}.includes('ended: budget, promoted, 75.0 % right')")
    assert await page.shows(
        f"{text}.includes('epsilon 1.91 of 2 spent in 5 rounds (delta 0.00001), no more is covered')"
    )

"""The uplink against a real aiohttp server, with a real spool on the disk; each connection follows a script."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
from aiohttp import WSMessage, WSMsgType, web
from aiohttp.test_utils import TestServer

from gateway import config
from gateway.budget import DAY_NS, DECLARE_NS, Spent
from gateway.segment import OsFiles
from gateway.spool import Spool
from gateway.uplink import Meter, Uplink, conversation, link, uplink
from gateway.uplink.failure import LONGEST_S, MOST_RETRY_AFTER_S, Failure, answered, back_off
from gateway.uplink.line import closed
from protocol import frame
from protocol.columns import encode_windows
from protocol.errors import CloudRefused, CloudUnavailable, ConfigurationRefused, JournalUnusable
from protocol.messages import (
    LANES,
    WINDOW_DTYPES,
    AlertsBody,
    Cover,
    DefinitionsBody,
    Hello,
    Kind,
    LaneHead,
    Loss,
    LossesBody,
    Mark,
    Receipt,
    Refusal,
    Welcome,
    WindowRows,
    WindowsBody,
)
from protocol.settings import Size
from tests.faults.proxy import NONE, Fault, proxy_to
from tests.waiting import until

DEADLINE_S = 20.0
S = 10**9
TODAY = 20_000 * DAY_NS
SLOW = 10**9
"""Seconds: a back-off that only `wake` ends within a test."""


class Chance(Random):
    """Chance that always gives the low end, or that never lets a back-off end by itself."""

    def __init__(self, changed: asyncio.Event, *, slow: bool = False) -> None:
        super().__init__(0)
        self.slow, self.changed = slow, changed
        self.longest: list[float] = []  # of each back-off, which begins right after

    @property
    def asked(self) -> int:
        return len(self.longest)

    def uniform(self, a: float, b: float) -> float:
        self.longest.append(b)
        self.changed.set()
        return float(SLOW) if self.slow else a


class Watched:
    """The spool, through the uplink's port; says when something is released."""

    def __init__(self, spool: Spool, changed: asyncio.Event) -> None:
        self.heads, self.chains, self.read = spool.heads, spool.chains, spool.read
        self.spool, self.changed = spool, changed

    def release(self, lane: str, upto: int) -> None:
        self.spool.release(lane, upto)
        self.changed.set()


class Session:
    """One connection at the cloud's end."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, cloud: Cloud) -> None:
        self.socket, self.request, self.cloud = socket, request, cloud

    async def say(self, kind: Kind, body: Welcome | Receipt | Refusal) -> None:
        await self.socket.send_bytes(frame.message(kind, body))

    async def hello(self) -> Hello:
        held = frame.decode(await self.socket.receive_bytes())
        hello = frame.load(held.kind, held.body)
        assert isinstance(hello, Hello)
        self.cloud.hellos.append(hello)
        return hello

    async def welcome(self, fork: str = "") -> None:
        await self.hello()
        await self.say(Kind.WELCOME, Welcome(self.cloud.marks(), fork=fork))

    async def frames(self) -> list[str]:
        """Take one message of frames; "" ends it: the gateway has closed."""
        message = await self.socket.receive()
        if message.type is not WSMsgType.BINARY:
            return []
        taken = [(LANES[head.lane], head.seq) for head, _ in frame.split(message.data)]
        self.cloud.arrived += taken
        return [f"{lane} {seq}" for lane, seq in taken]

    async def commit(self) -> None:
        self.cloud.committed |= set(self.cloud.arrived)
        self.cloud.changed.set()
        await self.say(Kind.RECEIPT, Receipt(self.cloud.marks()))

    async def serve(self) -> None:
        await self.welcome()
        while await self.frames():
            await self.commit()


Script = Callable[[Session], Awaitable[None]]


class Cloud:
    """A server that follows one script per connection; the last one is used again.

    An int is an HTTP answer; None hangs up without one.
    """

    def __init__(self, *scripts: Script | int | None, headers: dict[str, str] | None = None) -> None:
        self.scripts = list(scripts)
        self.headers = headers or {}
        self.connections = 0
        self.hellos: list[Hello] = []
        self.arrived: list[tuple[str, int]] = []
        self.committed: set[tuple[str, int]] = set()
        self.tokens: list[str] = []
        self.changed = asyncio.Event()
        self.ended = asyncio.Event()
        app = web.Application()
        app.router.add_get("/v1/uplink", self.connect)
        self.server = TestServer(app)

    def marks(self) -> dict[str, Mark]:
        upto = {lane: max([seq for name, seq in self.committed if name == lane], default=0) for lane in LANES}
        return {lane: Mark(seq) for lane, seq in upto.items()}

    async def connect(self, request: web.Request) -> web.StreamResponse:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        self.tokens.append(request.headers.get("Authorization", ""))
        if script is None:
            assert request.transport is not None
            request.transport.abort()
        if script is None or isinstance(script, int):
            return web.Response(status=script or 200, headers=self.headers)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            await script(Session(socket, request, self))
        except (TypeError, ConnectionError):  # the gateway has closed in the middle of the script
            pass
        finally:
            self.ended.set()
        return socket


async def nobody(_reason: str) -> None:
    pass


def window(definition: int) -> WindowRows:
    """Give one row of a definition: 0 is of 10 s, 1 of 10 min."""
    row = WindowRows(*(np.zeros(1, dtype) for dtype in WINDOW_DTYPES.values()))
    return row._replace(definition=np.array([definition], np.int32))


class World:
    """A cloud, a spool and an uplink between them."""

    def __init__(
        self, directory: Path, cloud: Cloud, *, slow: bool = False, port: int = 0, max_per_day: Size | None = None
    ) -> None:
        epochs = count(100)
        self.cloud, self.changed = cloud, cloud.changed
        self.chance = Chance(self.changed, slow=slow)
        self.spool = Spool.open(OsFiles(), directory, config.Spool(), new_epoch=lambda: next(epochs))
        self.states: list[tuple[bool, str]] = []
        self.gone: list[tuple[str, int, int]] = []
        self.disk_full = False
        self.now = TODAY
        url = cloud.server.make_url("/")
        settings = config.Uplink(
            url=str(url.with_port(port or url.port)), max_in_flight=Size(1 << 20), max_per_day=max_per_day
        )
        self.uplink = Uplink(
            settings,
            "secret",
            Watched(self.spool, self.changed),
            self.hello,
            rng=self.chance,
            on_fork=self.fork,
            on_gone=lambda *gone: self.gone.append(gone),
            on_state=self.state,
            meter=Meter(OsFiles(), directory / "uplink.json", lambda: self.now, lambda: {0: 10 * S, 1: 600 * S}),
        )

    def hello(self) -> Hello:
        return Hello("g", self.spool.epoch, self.spool.heads())

    async def fork(self, reason: str) -> None:
        if self.disk_full:
            self.disk_full = False
            raise JournalUnusable(reason)
        self.spool.begin_epoch(0)

    def state(self, connected: bool, why: str) -> None:
        self.states.append((connected, why))
        self.changed.set()

    def put(self, *lanes: str) -> None:
        bodies = {
            "definitions": (Kind.DEFINITIONS, DefinitionsBody(Cover())),
            "alerts": (Kind.ALERTS, AlertsBody(Cover(), [])),
            "results": (Kind.LOSSES, LossesBody(Cover())),
            "telemetry": (Kind.WINDOWS, WindowsBody(Cover(), 0, b"")),
            "fine": (Kind.WINDOWS, WindowsBody(Cover(), 1, encode_windows(window(0)), stamp=TODAY)),
            "coarse": (Kind.WINDOWS, WindowsBody(Cover(), 1, encode_windows(window(1)), stamp=TODAY)),
        }
        appended = []
        for lane in lanes:
            kind, body = bodies[lane]
            lane = lane if lane in LANES else "telemetry"  # noqa: PLW2901 - which windows, not which lane
            appended.append((lane, self.spool.append(lane, kind, frame.dump(body), Cover(), 0)))
        self.spool.commit()
        for lane, seq in appended:
            self.uplink.appended(lane, seq)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for what other tasks do, with a deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while not done():
                self.changed.clear()
                await self.changed.wait()

    async def until_stored(self, *frames: str) -> None:
        await self.until(lambda: {f"{lane} {seq}" for lane, seq in self.cloud.committed} == set(frames))


@contextlib.asynccontextmanager
async def world(
    directory: Path,
    cloud: Cloud,
    *,
    slow: bool = False,
    lanes: tuple[str, ...] = (),
    port: int = 0,
    max_per_day: Size | None = None,
) -> AsyncIterator[World]:
    async with cloud.server:
        here = World(directory, cloud, slow=slow, port=port, max_per_day=max_per_day)
        here.put(*lanes)
        task = asyncio.create_task(here.uplink.run())
        try:
            yield here
        finally:
            assert not task.done()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert not here.uplink.connected
            here.spool.close()


async def test_what_waits_goes_up_definitions_first_and_is_released_when_receipted(tmp_path: Path) -> None:
    cloud = Cloud(Session.serve)
    async with world(tmp_path, cloud, lanes=("telemetry", "alerts", "definitions", "telemetry", "results")) as here:
        await here.until_stored("definitions 1", "alerts 1", "results 1", "telemetry 1", "telemetry 2")
        await here.until(lambda: here.uplink.receipted == 5)
        assert cloud.arrived[0] == ("definitions", 1)
        assert (here.uplink.sent, here.uplink.connected) == (5, True)
        assert {lane: here.spool.frames(lane) for lane in LANES} == dict.fromkeys(LANES, 0)
        assert cloud.hellos == [Hello("g", 100, cloud.hellos[0].lanes)]
        assert cloud.hellos[0].lanes["telemetry"] == LaneHead(1, 3, cloud.hellos[0].lanes["telemetry"].chain)
        assert cloud.tokens == ["Bearer secret"]


async def test_what_is_appended_while_connected_goes_up_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, Cloud(Session.serve)) as here:
        await here.until(lambda: here.uplink.connected)
        here.put("telemetry")
        await here.until_stored("telemetry 1")
        here.put("alerts", "telemetry")
        await here.until_stored("telemetry 1", "alerts 1", "telemetry 2")
        assert here.states == [(True, f"connected to {here.uplink.url}")]


async def test_more_than_one_window_and_one_message_goes_up(tmp_path: Path) -> None:
    async with world(tmp_path, Cloud(Session.serve), lanes=("telemetry",) * 3000) as here:
        await here.until(lambda: len(here.cloud.committed) == 3000)
        assert [seq for _, seq in here.cloud.arrived] == list(range(1, 3001))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "the cloud answers 401: the token is wrong"),
        (403, "the cloud answers 403: the token is another gateway's"),
        (404, "the cloud answers 404: is this the cloud's address?"),
        (413, "the cloud answers 413"),
        (429, "the cloud answers 429"),
        (500, "the cloud answers 500"),
        (503, "the cloud answers 503"),
    ],
)
async def test_a_refusal_is_told_and_wake_tries_again_at_once(tmp_path: Path, status: int, reason: str) -> None:
    cloud = Cloud(status, Session.serve)
    async with world(tmp_path, cloud, slow=True, lanes=("alerts",)) as here:
        await here.until(lambda: bool(here.states))
        assert here.states == [(False, reason)]
        assert cloud.committed == set()
        await here.until(lambda: here.chance.asked > 0)
        here.uplink.wake()
        await here.until_stored("alerts 1")


async def test_a_busy_cloud_is_left_alone_as_long_as_it_says(tmp_path: Path) -> None:
    cloud = Cloud(429, 429, Session.serve, headers={"Retry-After": "0"})
    async with world(tmp_path, cloud, lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
        assert [why for connected, why in here.states if not connected] == ["the cloud answers 429"] * 2


async def test_why_the_cloud_is_away_is_logged_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = Cloud(500, 500, 503, 503, 500, Session.serve)
    async with world(tmp_path, cloud, lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"uplink: the cloud answers {status}" for status in (500, 503, 500)]


@pytest.mark.parametrize("slow", [False, True], ids=["by the next attempt", "by the probe that cuts a back-off short"])
async def test_a_cloud_that_is_away_at_start_is_found_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool
) -> None:
    monkeypatch.setattr(uplink, "PROBE_S", 0.01)
    cloud = Cloud(Session.serve)
    await cloud.server.start_server()
    port = cloud.server.port
    here = World(tmp_path, cloud, slow=slow)
    await cloud.server.close()
    here.put("alerts")
    task = asyncio.create_task(here.uplink.run())
    await here.until(lambda: len(here.states) > (0 if slow else 2))
    assert not any(connected for connected, _ in here.states)
    again = Cloud(Session.serve)
    again.changed = here.changed
    again.server = TestServer(again.server.app, port=port)
    async with again.server:
        here.cloud = again
        await here.until_stored("alerts 1")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    here.spool.close()


async def test_a_connection_that_hangs_is_given_up_as_soon_as_the_link_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink, "TRY_S", 0.01)
    monkeypatch.setattr("gateway.delivery.delivery.QUIET_NS", 10**6)
    cloud = Cloud(Session.serve)
    await cloud.server.start_server()
    async with (
        proxy_to(cloud.server.port or 0) as proxy,
        world(tmp_path, cloud, slow=True, lanes=("alerts",), port=proxy.port) as here,
    ):
        await here.until(lambda: here.uplink.receipted == 1)
        proxy.turn(Fault(mute=True))  # what is in flight stays so, as behind a link that was away
        proxy.refuse()
        here.put("alerts")
        await until(lambda: proxy.swallowed, "the receipt is lost")
        await until(lambda: here.uplink.delivery.quiet < time.monotonic_ns() - 3 * 10**8, "and tries are refused")
        proxy.turn(NONE)
        await proxy.open()
        await here.until(lambda: here.spool.frames("alerts") == 0)
        assert here.chance.asked == 0, "no back-off"
        connected = f"connected to {here.uplink.url}"
        assert here.states == [(True, connected), (False, "the link was away and is back"), (True, connected)]


async def silent(session: Session) -> None:
    """Take frames, and never receipt them."""
    await session.welcome()
    while await session.frames():
        pass


def _all(arrived: list[tuple[str, int]], number: int) -> bool:
    return len(arrived) == number


async def test_a_cloud_that_dies_before_it_has_receipted_anything_is_found_each_time_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    async def answers(url: str, within_s: float) -> bool:
        told.append(await link.answers(url, within_s))
        return told[-1]

    monkeypatch.setattr(uplink, "PROBE_S", 0.01)
    monkeypatch.setattr(uplink, "answers", answers)
    cloud = Cloud(silent, silent, silent, Session.serve)
    await cloud.server.start_server()
    async with (
        proxy_to(cloud.server.port or 0) as proxy,
        world(tmp_path, cloud, slow=True, lanes=("alerts",), port=proxy.port) as here,
    ):
        for death in range(1, 4):
            await until(partial(_all, cloud.arrived, death), "a frame arrives")
            proxy.shut()
            await until(lambda: told and not told[-1], "its port is tried")
            told.clear()
            await proxy.open()
        await here.until_stored("alerts 1")
        assert here.chance.longest == [0.5, 1.0, 2.0]


async def test_a_back_off_grows_with_failures_of_one_kind_and_begins_anew_with_another(tmp_path: Path) -> None:
    away = (None, None)  # aiohttp asks once more
    cloud = Cloud(*away, *away, *away, goodbye, 503, *away, 500, Session.serve)
    async with world(tmp_path, cloud, lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
        assert here.chance.longest == [0.5, 1.0, 2.0, 0.5, 1.0, 0.5, 0.5]


async def test_a_back_off_begins_anew_after_a_receipt(tmp_path: Path) -> None:
    async def once(session: Session) -> None:
        await session.welcome()
        await session.frames()
        await session.commit()

    async with world(tmp_path, Cloud(503, 503, once, 503, Session.serve), lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
        await here.until(lambda: here.chance.asked == 4)
        here.put("telemetry")
        await here.until_stored("alerts 1", "telemetry 1")
        assert here.chance.longest == [0.5, 1.0, 0.5, 1.0]


async def test_frames_without_a_receipt_are_sent_again_on_the_next_connection(tmp_path: Path) -> None:
    async def breaks(session: Session) -> None:
        await session.welcome()
        await session.frames()
        assert session.request.transport is not None
        session.request.transport.abort()

    cloud = Cloud(breaks, breaks, Session.serve)
    async with world(tmp_path, cloud, lanes=("definitions", "telemetry")) as here:
        await here.until_stored("definitions 1", "telemetry 1")
        assert cloud.arrived == [("definitions", 1), ("telemetry", 1)] * 3
        await here.until(lambda: here.uplink.receipted == 2)
        assert here.uplink.sent == 6


async def half(session: Session) -> None:
    await session.hello()
    await session.socket.send_bytes(frame.message(Kind.WELCOME, Welcome({}))[:-3])
    await session.frames()


async def half_a_receipt(session: Session) -> None:
    await session.welcome()
    await session.frames()
    await session.socket.send_bytes(frame.message(Kind.RECEIPT, Receipt({"alerts": Mark(1)}))[:-3])
    await session.frames()


async def half_a_message(session: Session) -> None:
    """A WebSocket message that announces 100 bytes, brings 10, and ends."""
    await session.welcome()
    assert session.request.transport is not None
    session.request.transport.write(b"\x82\x64" + b"x" * 10)
    session.request.transport.close()


async def text(session: Session) -> None:
    await session.welcome()
    await session.socket.send_str("hello")
    await session.frames()


async def rubbish(session: Session) -> None:
    await session.hello()
    await session.socket.send_bytes(b"\x00" * 64)
    await session.frames()


async def too_much(session: Session) -> None:
    await session.welcome()
    await session.socket.send_bytes(b"\x00" * (1 << 20))
    await session.frames()


async def no_welcome(session: Session) -> None:
    await session.hello()
    await session.say(Kind.RECEIPT, Receipt({}))
    await session.frames()


async def beyond(session: Session) -> None:
    await session.welcome()
    await session.say(Kind.RECEIPT, Receipt({"alerts": Mark(99)}))
    while await session.frames():
        pass


async def goodbye(session: Session) -> None:
    await session.welcome()
    await session.socket.close(code=1001)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (half, "the cloud's answer is no frame: short"),
        (half_a_receipt, "the cloud's answer is no frame: short"),
        (half_a_message, "the connection ended"),
        (text, "the connection ended"),
        (rubbish, "the cloud's answer is no frame: magic"),
        (too_much, "the connection ended"),
        (no_welcome, "Receipt where a welcome belongs"),
        (beyond, "a receipt of alerts 99, which does not exist"),
        (goodbye, "the connection ended"),
    ],
)
async def test_a_cloud_that_misbehaves_is_left_and_tried_again(tmp_path: Path, script: Script, reason: str) -> None:
    async with world(tmp_path, Cloud(script, Session.serve), lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
        assert next(why for connected, why in here.states if not connected).startswith(reason)


async def test_a_cloud_that_never_welcomes_us_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "WELCOME_WITHIN_S", 0.05)

    async def silent(session: Session) -> None:
        await session.hello()
        await session.frames()

    async with world(tmp_path, Cloud(silent, Session.serve), lanes=("alerts",)) as here:
        await here.until(lambda: bool(here.states))
        assert here.states[0] == (False, "no welcome within 0.05 s")
        monkeypatch.setattr(conversation, "WELCOME_WITHIN_S", DEADLINE_S)
        await here.until_stored("alerts 1")


async def test_a_cloud_that_takes_frames_and_never_receipts_them_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.delivery.delivery.SILENCE_NS", 10**6)

    async with world(tmp_path, Cloud(silent, silent, Session.serve), lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
        assert here.cloud.arrived.count(("alerts", 1)) >= 3


async def test_a_fork_begins_a_new_epoch_and_says_everything_again(tmp_path: Path) -> None:
    async def forks(session: Session) -> None:
        await session.welcome(fork="frame 1 is another here")
        await session.serve()

    async with world(tmp_path, Cloud(forks), lanes=("definitions", "telemetry")) as here:
        await here.until_stored("definitions 1", "telemetry 1")
        assert [hello.epoch for hello in here.cloud.hellos] == [100, 101] == [100, here.spool.epoch]
        assert here.cloud.connections == 1


async def test_a_disk_that_refuses_the_new_epoch_leaves_the_old_one_to_be_tried_again(tmp_path: Path) -> None:
    async def forks(session: Session) -> None:
        await session.welcome(fork="cloned")
        await session.serve()

    async with world(tmp_path, Cloud(forks), lanes=("alerts",)) as here:
        here.disk_full = True
        await here.until_stored("alerts 1")
        assert here.states[0] == (False, "no new epoch: cloned")
        assert [hello.epoch for hello in here.cloud.hellos] == [100, 100, 101]


async def test_a_spool_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    async def serves(session: Session) -> None:
        await session.serve()

    class Busy(OsFiles):
        left = 0

        def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
            if self.left:
                self.left -= 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().read(path, offset, size)

    async with world(tmp_path, Cloud(serves)) as here:
        for log in here.spool._logs.values():
            log.files = files = Busy()
            files.left = 1
        here.put("alerts")
        await here.until_stored("alerts 1")
        assert any("cannot be read" in why for _, why in here.states)


async def test_a_cloud_that_has_more_than_we_sent_begins_a_new_epoch(tmp_path: Path) -> None:
    async def knows_more(session: Session) -> None:
        await session.hello()
        await session.say(Kind.WELCOME, Welcome({"telemetry": Mark(7)}))
        await session.serve()

    async with world(tmp_path, Cloud(knows_more), lanes=("telemetry",)) as here:
        await here.until_stored("telemetry 1")
        assert here.spool.epoch == 101


async def test_a_cloud_that_refuses_every_epoch_is_left(tmp_path: Path) -> None:
    async def forks(session: Session) -> None:
        await session.welcome(fork="no")
        await session.welcome(fork="no")
        await session.frames()

    async with world(tmp_path, Cloud(forks, Session.serve), lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
        assert here.states[0] == (False, "the cloud refuses a new epoch")


async def test_a_refusal_ends_the_connection_with_its_reason(tmp_path: Path) -> None:
    async def refuses(session: Session) -> None:
        await session.welcome()
        await session.say(Kind.REFUSAL, Refusal("store: full"))
        await session.frames()

    async with world(tmp_path, Cloud(refuses, Session.serve), lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
        assert (False, "the cloud ends it: store: full") in here.states


async def test_frames_that_the_cloud_misses_and_we_dropped_are_declared_lost(tmp_path: Path) -> None:
    async with world(tmp_path, Cloud(503, Session.serve), slow=True, lanes=("telemetry",) * 3) as here:
        await here.until(lambda: here.chance.asked > 0)
        here.spool._logs["telemetry"].roll(0)
        here.put("telemetry")
        assert here.spool._logs["telemetry"].drop_before(4)[0] == 3
        here.uplink.wake()
        await here.until(lambda: ("telemetry", 4) in here.cloud.committed)
        assert here.gone == [("telemetry", 1, 3)]


async def test_an_answer_of_a_kind_from_the_future_is_passed_by(tmp_path: Path) -> None:
    async def newer(session: Session) -> None:
        await session.welcome()
        message = bytearray(frame.message(Kind.RECEIPT, Receipt({})))
        message[3] = 99
        await session.socket.send_bytes(bytes(message))
        while await session.frames():
            await session.commit()

    async with world(tmp_path, Cloud(newer), lanes=("alerts",)) as here:
        await here.until_stored("alerts 1")
        assert [connected for connected, _ in here.states] == [True]


async def test_cancelling_closes_the_connection(tmp_path: Path) -> None:
    cloud = Cloud(Session.serve)
    async with world(tmp_path, cloud) as here:
        await here.until(lambda: here.uplink.connected)
        assert not cloud.ended.is_set()
    async with asyncio.timeout(DEADLINE_S):
        await cloud.ended.wait()


# A metered link.


def spent(directory: Path, size: int) -> None:
    (directory / "uplink.json").write_bytes(msgspec.json.encode(Spent(TODAY // DAY_NS, size)))


async def test_when_the_budget_is_short_finer_windows_are_withheld_and_declared(tmp_path: Path) -> None:
    spent(tmp_path, 10**8 // 20)  # more than an hour's share at midnight, but an hour's share of all
    cloud = Cloud(Session.serve)
    lanes = ("fine", "fine", "coarse", "alerts", "results", "fine", "fine", "telemetry")
    async with world(tmp_path, cloud, lanes=lanes, max_per_day=Size(10**8)) as here:
        await here.until_stored("alerts 1", "results 1", "telemetry 3", "telemetry 6")
        assert here.uplink.meter.losses() == []
        here.now += DECLARE_NS
        lost = [Loss("telemetry", first, last, "budget", TODAY, TODAY) for first, last in ((1, 2), (4, 5))]
        assert here.uplink.meter.losses() == lost


async def test_a_day_whose_budget_is_spent_has_no_connection_and_the_next_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.uplink.meter.LOOK_S", 0.01)
    monkeypatch.setattr(conversation, "LOOK_S", 0.01)
    spent(tmp_path, 10**8)
    cloud = Cloud(Session.serve)
    async with world(tmp_path, cloud, lanes=("alerts",), max_per_day=Size(10**8)) as here:
        await asyncio.sleep(0)
        assert cloud.connections == 0
        here.now += DAY_NS
        await here.until_stored("alerts 1")
        assert here.uplink.meter.budget is not None
        here.uplink.meter.spend(10**8)
        await here.until(lambda: here.states[-1] == (False, "what may be sent today has been sent"))
        here.put("alerts")
        here.now += DAY_NS
        await here.until_stored("alerts 1", "alerts 2")


async def test_what_went_up_is_counted_and_outlives_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path, Cloud(Session.serve), max_per_day=Size(10**8)) as here:
        here.put("alerts", "telemetry")
        await here.until(lambda: here.uplink.receipted == 2)
    here.uplink.meter.close()
    kept = msgspec.json.decode((tmp_path / "uplink.json").read_bytes(), type=Spent)
    assert kept.day == TODAY // DAY_NS
    assert 500 < kept.bytes < 5_000, "a request, a hello, two frames, and their headers"


def test_certificates_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    settings = config.Uplink(url="https://cloud", ca_file=str(tmp_path / "none.pem"))
    spool = Spool.open(OsFiles(), tmp_path, config.Spool(), new_epoch=lambda: 1)
    with pytest.raises(ConfigurationRefused, match="ca_file"):
        Uplink(
            settings,
            "secret",
            spool,
            lambda: Hello("g", 1, {}),
            rng=Random(0),
            on_fork=nobody,
            on_gone=lambda *_: None,
            meter=Meter(OsFiles(), tmp_path / "uplink.json", lambda: 0, dict),
        )
    spool.close()


class High(Random):
    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - the low end is what is not taken
        return b


@pytest.mark.parametrize(
    ("failure", "failures", "seconds", "patient"),
    [
        (CloudUnavailable("x"), 1, 0.5, False),
        (CloudUnavailable("x"), 2, 1.0, False),
        (CloudUnavailable("x"), 7, 32.0, False),
        (CloudUnavailable("x"), 8, LONGEST_S, False),
        (CloudUnavailable("x"), 10**6, LONGEST_S, False),
        (CloudUnavailable("x", 30.0), 1, 30.5, True),
        (CloudUnavailable("x", 1e9), 1, MOST_RETRY_AFTER_S + 0.5, True),
        (CloudUnavailable("x", -1.0), 1, 0.5, True),
        (CloudRefused(401, "x"), 1, LONGEST_S, False),
    ],
)
def test_the_longest_back_off_by_failure(failure: Failure, failures: int, seconds: float, patient: bool) -> None:
    assert back_off(failure, failures, High(0)) == (seconds, patient)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (answered(429, {"Retry-After": "7"}), ("the cloud answers 429", 7.0)),
        (answered(503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), ("the cloud answers 503", None)),
        (answered(302, {}), (302, "the cloud answers 302")),
        (closed(WSMessage(WSMsgType.CLOSE, 1009, "")), (413, "the cloud finds a message too large")),
        (closed(WSMessage(WSMsgType.CLOSE, 1001, "")), ("the connection ended (close 1001)", None)),
    ],
    ids=["429", "503 with a date", "302", "1009", "1001"],
)
def test_what_an_answer_means(failure: Failure, expected: tuple[object, ...]) -> None:
    told = (
        (failure.reason, failure.retry_after_s)
        if isinstance(failure, CloudUnavailable)
        else (failure.status, failure.reason)
    )
    assert told == expected

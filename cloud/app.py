"""Start reading here: how a gateway's frame becomes a row, and who runs when.

    gateway ──WebSocket──▶ ingest ▶ unpack ▶ store (ledger, rows: one transaction) ─▶ receipt back
                                               │ after the commit
                                               ├▶ registry ▶ publish ──MQTT──▶ models back to gateways
                                               ├▶ fleet ▶ live ▶ the page
    reader ──HTTP──▶ api ▶ fleet, store ◀──────┘

| owns | what |
|---|---|
| `store` | one thread, one connection, the transaction |
| `ingest` | a task per connection, and one that commits for it |
| `live` | a queue per viewer |
| `trainings`, `dispatch`, `cascade` | likewise: a task each to decide and to say (`leases`) |
| `publish` | when `[bus]` is configured: the broker's connection, and a task each to make, give and answer |
| this file | opening, the retention task, and the end |

Order of the end: no new connections; gateways are told; what they sent is committed; streams end; the store closes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from cloud.api import Api
from cloud.bus import connect
from cloud.cascade import Cascade
from cloud.config import CloudConfig
from cloud.dispatch import Dispatch
from cloud.firstrun import describe_first_run, describe_page
from cloud.fleet import Fleet
from cloud.ingest import Ingest
from cloud.live import Live
from cloud.metrics import Counters, Metrics
from cloud.publish import Publish
from cloud.standing import check as check_standing
from cloud.store import News, Store
from cloud.store.sqlite import SqliteStore
from cloud.tokens import FIRST_GATEWAY, Tokens
from cloud.trainings import Trainings
from protocol.errors import ConfigurationRefused, StoreUnavailable
from protocol.identity import Signer
from protocol.mqtt import MqttBus
from protocol.notify import Notify, Sight, Work

log = logging.getLogger("fieldgate.cloud")

EXPIRE_EVERY_S = 600.0
SHUTDOWN_S = 5.0
MAX_BODY = 16 << 20
"""Bytes of what is sent to the API: an ONNX file. What else is sent is bounded where it is read."""
PAGES = Path(__file__).parent / "web"

API = web.AppKey("api", Api)
STORE = web.AppKey("store", Store)


class Ready(NamedTuple):
    """What `run` says once it listens: the page's address, and what to tell the operator."""

    url: str
    text: str


def create_app(config: CloudConfig, *, clock: Callable[[], int] = time.time_ns, pages: Path = PAGES) -> web.Application:
    """Make one cloud: its keys and tokens if there are none, its parts, its routes. It opens its store when started."""
    check_standing(config.job)
    tokens = Tokens.open(Path(config.data))
    store = open_store(config, clock)
    fleet, counters = Fleet(), Counters()
    live = Live(fleet, most=config.limits.viewers)
    learns = _learning(config, Around(store, fleet, live, counters, tokens.signer(), clock))
    bounds = {"most": config.limits.gateways, "max_pending": int(config.store.max_pending)}
    ingest = Ingest(store, fleet, live, counters, clock, on_news=learns.on_news, **bounds)
    metrics = Metrics(counters, fleet, lambda: live.viewers, lambda: learns.publish.registry.versions)
    bus = connect(config.bus) if config.bus else None
    reached = (learns.publish, learns.dispatch) if bus is not None else (None, None)
    parts = (store, tokens, fleet, live, ingest, counters, metrics)
    api = Api(*parts, not config.loopback, pages, reached[0], learns.trainings, reached[1])
    app = web.Application(client_max_size=MAX_BODY)
    app[API], app[STORE] = api, store
    api.add_to(app)
    app.cleanup_ctx.append(lambda _app: _opened(config, api, clock, learns, bus))
    app.on_shutdown.append(lambda _app: _shut(api))
    return app


class Around(NamedTuple):
    """What all that goes over the bus stands on."""

    store: Store
    fleet: Fleet
    live: Live
    counters: Counters
    signer: Signer
    clock: Callable[[], int]


class Learning(NamedTuple):
    """What goes over the bus: models, trainings, jobs."""

    publish: Publish
    trainings: Trainings
    dispatch: Dispatch
    cascade: Cascade

    def on_news(self, gateway: str, news: News) -> None:
        """Tell all of them what a commit brought."""
        self.publish.on_news(gateway, news)
        self.trainings.on_news(gateway, news)
        if news.parts:
            self.dispatch.look()
            self.cascade.look()


def _learning(config: CloudConfig, around: Around) -> Learning:
    store, fleet, live, counters, signer, clock = around

    def on_state(connected: bool, why: str) -> None:
        trainings.on_state(connected, why)
        dispatch.on_state(connected, why)
        cascade.on_state(connected, why)

    publish = Publish(store, live, counters, signer=signer, settings=config.models, clock=clock, on_state=on_state)
    trainings = Trainings(
        store,
        config.training,
        signer=signer,
        clock=clock,
        members=lambda: [view.name for view in fleet.views() if view.online],
        promote=publish.promote,
        tell=live.stage,
    )
    dispatch = Dispatch(
        store,
        fleet,
        config.compute,
        config.labels,
        signer=signer,
        clock=clock,
        tell=live.job,
        standing=config.job,
        show=live.publish,
    )
    cascade = Cascade(store, config.cascade, signer=signer, clock=clock, counters=counters)
    return Learning(publish, trainings, dispatch, cascade)


def open_store(config: CloudConfig, clock: Callable[[], int]) -> SqliteStore:
    """Make the store that `store.url` names, unopened."""
    path = urlsplit(config.store.url).path or str(Path(config.data) / "fieldgate.db")
    return SqliteStore(Path(path), clock, max_pending=int(config.store.max_pending))


async def run(
    config: CloudConfig,
    *,
    on_ready: Callable[[Ready], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. ConfigurationRefused if the address or the store cannot be had."""
    stop = stop or _stop_signal()
    app = create_app(config)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    host, port = config.address
    try:
        try:
            await runner.setup()
            await web.TCPSite(runner, host, port).start()
        except StoreUnavailable as error:
            raise ConfigurationRefused("store.url", config.store.url, f"a store that opens ({error})") from error
        except OSError as error:
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror  # asyncio's has the address in it
            raise ConfigurationRefused("listen", config.listen, f"an address that is free and ours ({why})") from error
        if on_ready is not None:
            on_ready(_ready(config, app[API].tokens, runner.addresses[0][1]))
        await _attended(app[API], stop)
    finally:
        await runner.cleanup()


async def _attended(api: Api, stop: asyncio.Event) -> None:
    """Wait for `stop`, and let systemd know meanwhile how the cloud fares."""
    notify = Notify(os.environ, os.getpid())
    async with asyncio.TaskGroup() as tasks:
        attending = tasks.create_task(notify.attend(lambda: _look(api)), name="notify")
        await stop.wait()
        notify.stopping()
        attending.cancel()


def _look(api: Api) -> Sight:
    """Say how the cloud fares. A store that refuses is no stall: /readyz says so, and gateways are told to wait."""
    counts = api.counters
    store = Work("store", api.ingest.room.used > 0, counts.commits + counts.refused, "frames wait for a commit")
    return Sight(f"gateways connected: {api.fleet.online}, windows stored: {counts.windows_stored:,}", [store])


def _ready(config: CloudConfig, tokens: Tokens, port: int) -> Ready:
    host = config.address[0]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}/"
    guarded = not config.loopback
    text = describe_page(url, os.environ, guarded=guarded, token_file=str(tokens.token_file("admin").absolute()))
    if tokens.fresh:
        token_file = str(tokens.token_file(FIRST_GATEWAY).absolute())
        public = (tokens.signer().public.hex(), config.bus.url if config.bus else "")
        text += "\n\n" + describe_first_run(config.public_url or url, FIRST_GATEWAY, token_file, *public)
    return Ready(url, text)


async def _opened(
    config: CloudConfig, api: Api, clock: Callable[[], int], learns: Learning, bus: MqttBus | None
) -> AsyncIterator[None]:
    await api.store.open()
    try:
        api.fleet.begin(await api.store.gateways())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_beside(_expire_for_ever(config, api.store, clock), "expire"))
            if bus is None:
                log.info("publish: there is no [bus]: what gateways learn is kept, and no models are made of it")
            else:
                await stack.enter_async_context(_beside(bus.run(), "bus"))
                await stack.enter_async_context(_beside(learns.publish.run(bus), "publish"))
                await stack.enter_async_context(_beside(learns.trainings.run(bus), "trainings"))
                await stack.enter_async_context(_beside(learns.dispatch.run(bus), "jobs"))
                await stack.enter_async_context(_beside(learns.cascade.run(bus), "cascade"))
            yield
    finally:
        await api.store.close()


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Run a task while the context is open; an error that ends it is logged at once, and raised at the end."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_end)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _tell_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s: ended", task.get_name(), exc_info=error)


async def _expire_for_ever(config: CloudConfig, store: Store, clock: Callable[[], int]) -> None:
    if config.store.retention is None:
        return
    while True:
        try:
            await _expire(store, clock() - config.store.retention)
        except StoreUnavailable as error:
            log.warning("store: could not expire: %s", error)
        await asyncio.sleep(EXPIRE_EVERY_S)


async def _expire(store: Store, before: int) -> None:
    after = 0
    while after := await store.expire(before, after):
        log.debug("store: looked at the series up to %d", after)


async def _shut(api: Api) -> None:
    api.live.close()
    await api.ingest.close()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _not_reloaded)
    return stop


def _not_reloaded() -> None:
    log.warning("cloud: SIGHUP: another configuration takes a restart, for which gateways wait; tokens are read anyway")

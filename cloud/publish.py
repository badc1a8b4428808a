"""Models out: a version is made when the registry says so, and given to every gateway that has the model.

    commit ──news──▶ registry ──due──▶ merge ▶ sign ▶ store ▶ fieldgate/v1/{gateway}/models/{model}, retained

Rules:

1. A version is in the store before anybody hears of it, so its number is never used again, whatever happens.
2. A gateway has a model when it has sent statistics or a report of it. What waits to be published is a set of such
   pairs: at most MAX_MODELS a gateway. When the bus comes back all of it is published anew: a broker may forget.
3. Bus or store away: the cloud runs on, and tries again every RETRY_S or as soon as the bus is there.
4. A content that `learning.baseline` would refuse is not published.
5. A pin (`pins`) is in the store before it counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from cloud.chunks import Chunks
from cloud.config import Models
from cloud.live import Live
from cloud.metrics import Counters
from cloud.pins import ALL, Pin, Pins
from cloud.registry import NEVER, Registry, before, combined
from cloud.store import Learnt, News, Published, Store
from learning import baseline, reading, scorer
from protocol.bus import Bus, OnState, untold
from protocol.errors import BrokerUnavailable, ModelRefused, StoreUnavailable
from protocol.identity import Signer
from protocol.manifest import Manifest, digest_of, read_sealed, seal
from protocol.topics import topic

log = logging.getLogger("fieldgate.publish")

RETRY_S = 5.0
PINS = "pins"
NO_PARTS = 1 << 62
"""What of answers to tasks the pins have handled: they have no part in them."""
LOOK_S = 60.0
"""At least so often it is looked whether something is due: a clock may be set."""


class Publish:
    """Makes and gives out models; `on_news` tells it what was committed."""

    def __init__(
        self,
        store: Store,
        live: Live,
        counters: Counters,
        *,
        signer: Signer,
        settings: Models,
        clock: Callable[[], int],
        on_state: OnState = untold,
    ) -> None:
        self.registry = Registry(settings)
        self.pins = Pins()
        self._models_of: dict[str, set[str]] = {}  # by gateway
        self.counters = counters
        self._store, self._signer, self._live = store, signer, live
        self._settings, self._clock, self._also = settings, clock, on_state
        self._chunks = Chunks(store, counters, self._models_of.__contains__, most=int(settings.chunk))
        self._sealed: dict[str, bytes] = {}  # the newest manifest, by model
        self._waiting: dict[tuple[str, str], None] = {}  # (gateway, model) whose manifest is to be published, in order
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._making = asyncio.Lock()
        self._told = (False, "")

    def on_news(self, gateway: str, news: News) -> None:
        """Take what a commit brought."""
        now = self._clock()
        for model, windows in news.learnt.items():
            self._know(gateway, model)
            self.registry.learnt(model, gateway, windows, now)
            self._changed.set()
        for report in news.reports:
            self._know(gateway, report.model)

    def look(self) -> None:
        """Look again at what is due."""
        self._changed.set()

    async def run(self, bus: Bus) -> None:
        """Make and give out models until cancelled."""
        bus.on_state = self._on_state
        await self._begin()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._make_for_ever(), name="publish-make")
            tasks.create_task(self._give_for_ever(bus), name="publish-give")
            tasks.create_task(self._chunks.run(bus), name="chunks")

    async def roll_back(self, model: str, version: int | None = None) -> tuple[int, int]:
        """Publish an earlier version's content as the next version; give the next version and the earlier one.

        Without a version it is the one before (`registry.before`). ModelRefused if its content is not kept.
        """
        now = self._clock()
        versions = [old for view in await self._store.models() if view.name == model for old in view.versions]
        old = before(versions) if version is None else next((one for one in versions if one.version == version), None)
        if old is None:
            raise ModelRefused("version", f"{model} has no {'version before' if version is None else version}")
        content = await self._store.content(old.digest)
        if content is None:
            raise ModelRefused("version", f"the content of {model} {old.version} is not kept any more")
        return await self._publish(model, content, now, old.schema, old.windows), old.version

    async def content(self, model: str) -> bytes | None:
        """Give the content of a model's newest version; None if it is not kept."""
        newest = self._sealed.get(model)
        return await self._store.content(read_sealed(newest).digest) if newest is not None else None

    async def push(self, model: str, content: bytes, gateways: Iterable[str]) -> int:
        """Publish a classifier or a baseline from elsewhere; ModelRefused if it is none, or the model is held."""
        schema = _schema(content)
        if self.pins.holds(model):
            raise ModelRefused("pinned", f"{model} is pinned for all: take the pin off first")
        for gateway in gateways if schema in scorer.SCHEMAS else ():
            self._know(gateway, model)
        return await self._publish(model, content, self._clock(), schema, 0)

    async def pin(self, model: str, version: int | None, gateway: str | None) -> int:
        """Keep a gateway, or all, at a version (without one, the newest); give it. ModelRefused if it is not kept."""
        found = [old for view in await self._store.models() if view.name == model for old in view.versions]
        newest = max(found, key=lambda one: one.version, default=None)
        old = newest if version is None else next((one for one in found if one.version == version), None)
        content = await self._store.content(old.digest) if old is not None else None
        if old is None or newest is None or content is None:
            which = f"version {version}" if version else "version"
            raise ModelRefused("version", f"{model} has no {which} whose content is kept")
        if gateway is None and old.digest != newest.digest:
            await self._publish(model, content, self._clock(), old.schema, old.windows)
        number, sealed = self.registry.next_version(model) - 1, self._sealed[model]
        if gateway is not None:
            before = self.pins.of(model, gateway)
            number = max(number, before.number if before else 0) + 1
            manifest = Manifest(model, number, len(content), old.digest, old.schema, self._clock(), 0)
            sealed = seal(manifest, self._signer)
        self.pins.put(model, gateway or ALL, Pin(old.version, number, sealed))
        await self._store.keep(PINS, NO_PARTS, self.pins.snapshot())
        self._give_all(model)
        return old.version

    async def unpin(self, model: str, gateway: str | None) -> int:
        """Take a pin off; give the version that was kept. ModelRefused if there is none."""
        pin = self.pins.take_off(model, gateway or ALL)
        if pin is None:
            raise ModelRefused("pins", f"{model} is not pinned for {gateway or 'all'}")
        await self._store.keep(PINS, NO_PARTS, self.pins.snapshot())
        newest = read_sealed(self._sealed[model]) if model in self._sealed else None
        content = await self._store.content(newest.digest) if newest is not None else None
        if gateway is not None and newest is not None and content is not None and newest.version <= pin.number:
            about = (newest.schema, self.registry.weight(model))
            await self._publish(model, content, self._clock(), *about, above=pin.number)
        self.registry.again(model, self._clock())
        self._changed.set()
        self._give_all(model)
        return pin.version

    async def promote(self, model: str, content: bytes, windows: int, gateways: Iterable[str]) -> None:
        """Publish what says classes as the next version and give it to these gateways; nothing if it is the newest."""
        for gateway in gateways:
            self._know(gateway, model)
        newest = self._sealed.get(model)
        if self.pins.holds(model):
            log.warning("publish: %s is pinned for all: what was promoted is not published", model)
            return
        if newest is None or read_sealed(newest).digest != digest_of(content):
            await self._publish(model, content, self._clock(), scorer.schema_of(content), windows)

    def _on_state(self, connected: bool, why: str) -> None:
        if (connected, why) != self._told:
            log.log(logging.INFO if connected else logging.WARNING, "bus: %s", why)
        self._told = (connected, why)
        if connected:
            for gateway, own in self._models_of.items():
                for model in own:
                    self._give(gateway, model)
        self._also(connected, why)

    async def _begin(self) -> None:
        """Learn from the store what was published, and who has what."""
        while True:
            try:
                published, models = await self._store.published(), await self._store.models()
                _, pinned = await self._store.kept(PINS)
                break
            except StoreUnavailable as error:
                log.warning("publish: %s", error)
                await asyncio.sleep(RETRY_S)
        self.pins = Pins(pinned)
        for version in published:
            self.registry.published(version)
            self._sealed[version.name] = version.manifest
        for view in models:
            for run in view.gateways:
                self._know(run.gateway, view.name)
                self.registry.learnt(view.name, run.gateway, run.windows, run.stored)

    async def _make_for_ever(self) -> None:
        while True:
            now = self._clock()
            for model in self.registry.tick(now):
                if not self.pins.holds(model):
                    await self._make(model, now)
            await self._wait(self._changed, self._until_due())

    def _until_due(self) -> float:
        due = self.registry.due()
        return LOOK_S if due == NEVER else min(LOOK_S, max(0.0, (due - self._clock()) / 1e9))

    async def _make(self, model: str, now: int) -> None:
        try:
            parts = await self._store.learnt(model)
            content = await asyncio.to_thread(_content, parts, int(self._settings.max_bytes))
            if content:
                await self._publish(model, content, now)
        except StoreUnavailable as error:
            log.warning("publish: %s: %s", model, error)
            self.registry.again(model, now)
        except ModelRefused as refused:
            log.error("publish: %s: what was merged may not score: %s", model, refused)  # noqa: TRY400 - no bug of ours

    async def _publish(
        self,
        model: str,
        content: bytes,
        now: int,
        schema: str = baseline.SCHEMA,
        windows: int | None = None,
        *,
        above: int = 0,
    ) -> int:
        async with self._making:
            lasting = schema != baseline.SCHEMA or not self._settings.expires_after  # a baseline is made anew in time
            expires = 0 if lasting else now + self._settings.expires_after
            number = max(self.registry.next_version(model), above + 1)
            manifest = Manifest(model, number, len(content), digest_of(content), schema, now, expires)
            about = (model, number, manifest.digest, manifest.schema, manifest.size, now, expires)
            made_of = self.registry.weight(model) if windows is None else windows
            version = Published(*about, made_of, seal(manifest, self._signer))
            if not await self._store.publish(version, content):
                raise StoreUnavailable(f"version {number} of {model} is there already")
            self.registry.published(version)
            self._sealed[model] = version.manifest
        log.info("publish: %s version %d, %d bytes, of %d windows", model, number, len(content), version.windows)
        self._live.published(model, number)
        self._give_all(model)
        return number

    def _give_all(self, model: str) -> None:
        for gateway, own in self._models_of.items():
            if model in own:
                self._give(gateway, model)

    def _know(self, gateway: str, model: str) -> None:
        """Note that a gateway has a model; it is given what is there of it."""
        own = self._models_of.setdefault(gateway, set())
        if model not in own:
            own.add(model)
            self._give(gateway, model)

    def _give(self, gateway: str, model: str) -> None:
        self._waiting[gateway, model] = None
        self._wanted.set()

    async def _give_for_ever(self, bus: Bus) -> None:
        while True:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            gateway, model = next(iter(self._waiting))
            del self._waiting[gateway, model]  # first: what is made while this one is on its way waits anew
            try:
                pin = self.pins.of(model, gateway)
                if sealed := pin.sealed if pin else self._sealed.get(model):
                    await bus.publish(f"{topic(gateway, 'models')}/{model}", sealed, retain=True)
            except BrokerUnavailable:
                self._waiting[gateway, model] = None
                await self._wait(self._wanted, RETRY_S)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        event.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


def _schema(content: bytes) -> str:
    """Say what a content is; ModelRefused if it is nothing that may score."""
    reads = (*((schema, scorer.decode) for schema in scorer.SCHEMAS), (baseline.SCHEMA, baseline.decode))
    said = reading.schema_of(content, "content")
    for schema, read in reads:
        if schema == said:
            read(content)
            return schema
    known = ", ".join(schema for schema, _ in reads)
    raise ModelRefused("content", f"schema {said[:64]!r}, expected one of {known}, or an ONNX file")


def _content(parts: list[Learnt], max_bytes: int) -> bytes:
    """Merge statistics into the bytes of a model, none if there is nothing to merge; ModelRefused."""
    merged = combined(parts, max_bytes)
    if not merged.entries:
        return b""
    content = baseline.encode(merged)
    baseline.decode(content)
    return content

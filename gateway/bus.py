"""The gateway's end of the bus: it says that it is here, hears of models, and asks for their parts.

What to do is `swap`'s decision; here it is carried out. Nothing waits for the bus: a gateway that cannot reach it, or
that is refused there, works on.

| topic | what |
|---|---|
| status | ours, retained, with a will: JSON {state, version, models: {name: version}, boot, classes: {name: by whom}, |
| | resources: `protocol.jobs.Resources`}; said anew when a model scores, a task ends, or resources have changed |
| models/{model}, chunks | what the cloud says to us |
| wants | what we ask for |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import msgspec

from gateway import recovery, tasks
from gateway.alarm import Alarm
from gateway.clock import Clock, boot_id
from gateway.compute import Compute
from gateway.config import Broker, GatewayConfig
from gateway.intake import tls_context
from gateway.resources import have_changed
from gateway.segment import Files
from gateway.swap import Apply, Ask, Instruction, Report, Swap, Terms
from gateway.tasks import Queue
from learning import baseline, onnx, scorer
from protocol import __version__, manifest, topics
from protocol.bus import Bus, Presence, Subscription
from protocol.errors import BrokerUnavailable, ModelRefused
from protocol.jobs import Resources
from protocol.messages import AnswerBody, PartBody
from protocol.mqtt import MqttBus

log = logging.getLogger("fieldgate.bus")

LOOK_S = 60.0
"""How often it is looked whether resources have changed: load is a mean of a minute."""


class Models:
    """Models on their way from the bus to the pipeline, which is told by `apply` and `report`."""

    def __init__(
        self,
        gateway: str,
        bus: Bus,
        swap: Swap,
        clock: Clock,
        *,
        versions: Callable[[], dict[str, int]],
        apply: Callable[[bytes, bytes], None],
        report: Callable[[str, int, str, str], None],
        uses: Callable[[], Mapping[str, str]] = dict,
        resources: Callable[[], Resources] | None = None,
    ) -> None:
        self.bus, self.swap = bus, swap
        self._gateway, self._clock = gateway, clock
        self._versions, self._apply, self._report = versions, apply, report
        self._alarm = Alarm(clock)
        self._waiting: list[Instruction] = []  # for the loop, since a callback cannot wait
        self._told = (False, "")
        self._uses, self._resources = uses, resources
        self._had = Resources()  # when the status was made last
        self._unsaid = False  # something else is in the status
        bus.presence, bus.on_state = self._presence(), self.changed
        if bus.connected:
            self.changed(True, "connected")

    def changed(self, connected: bool, why: str) -> None:
        """Take note that the bus is there, or away."""
        if (connected, why) != self._told:
            log.info("bus: %s", why)
        self._told = (connected, why)
        if connected:
            self._waiting += self.swap.connected(self._clock.now())
        else:
            self.swap.lost()
            self._waiting.clear()
        self._alarm.ring()

    async def run(self) -> None:
        """Hear and ask until cancelled; raises only what `apply` and `report` raise."""
        models, chunks = topics.topic(self._gateway, "models"), topics.topic(self._gateway, "chunks")
        async with (
            self.bus.subscribe(f"{models}/+") as announced,
            self.bus.subscribe(chunks) as parts,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._hear_of_models(announced), name="bus models")
            tasks.create_task(self._take_parts(parts), name="bus chunks")
            tasks.create_task(self._ask_again(), name="bus wants")
            if self._resources is not None:
                tasks.create_task(self._look(self._resources), name="bus resources")

    async def _hear_of_models(self, announced: Subscription) -> None:
        async for message in announced:
            model = message.topic.rpartition("/")[2]
            await self._do(self.swap.manifest(model, message.payload, self._clock.now()))
            if self.swap.awaits(onnx.SCHEMA):
                with suppress(ModelRefused):  # whoever reads the content says so
                    await asyncio.to_thread(onnx.load_runtime)

    async def _take_parts(self, parts: Subscription) -> None:
        async for message in parts:
            await self._do(self.swap.chunk(message.payload, self._clock.now()))

    async def _ask_again(self) -> None:
        while await self._alarm.wait(self._due):
            if self._unsaid:
                await self._say()
            waiting, self._waiting = self._waiting, []
            await self._do([*waiting, *self.swap.tick(self._clock.now())])

    def _due(self) -> int:
        return 0 if self._waiting or self._unsaid else self.swap.due()

    async def _look(self, resources: Callable[[], Resources]) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self.bus.connected and have_changed(self._had, resources()):
                self.restate()

    def restate(self) -> None:
        """Say the status anew, soon."""
        self._unsaid = True
        self._alarm.ring()

    async def _say(self) -> None:
        self._unsaid = False
        self.bus.presence = presence = self._presence()
        await self._publish(presence.topic, presence.online, retain=True)

    async def _do(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Ask(want):
                    await self._publish(topics.topic(self._gateway, "wants"), manifest.write(want))
                case Apply(sealed, said, content):
                    log.info("swap: %s version %d scores from here on", said.name, said.version)
                    self._apply(sealed, content)
                    await self._say()
                case Report(model, version, reason, digest):
                    log.warning("swap: %s version %d is refused: %s", model, version, reason)
                    self._report(model, version, reason, digest)
        self._alarm.ring()

    async def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        try:
            await self.bus.publish(topic, payload, retain=retain)
        except BrokerUnavailable as error:  # a want is asked again; a status is said at the next connection
            log.debug("bus: %s", error)

    def _presence(self) -> Presence:
        said: dict[str, object] = {"version": __version__, "models": self._versions(), "boot": boot_id()}
        if uses := self._uses():
            said["classes"] = uses
        if self._resources is not None:
            self._had = self._resources()
        here = said | {"resources": self._had} if self._resources is not None else said
        online = msgspec.json.encode({"state": "online", **here})
        offline = msgspec.json.encode({"state": "offline", **said})
        return Presence(topics.topic(self._gateway, "status"), online, offline)


def terms(config: GatewayConfig) -> Terms:
    """Say which models this configuration takes."""
    models, names = config.models, frozenset(score.name for score in config.score)
    checks = {baseline.SCHEMA: baseline.decode, **scorer.CHECKS}
    sizes = (int(models.chunk), int(models.max_bytes))
    return Terms(config.name, _key(config), names, checks, *sizes, frozenset(scorer.SCHEMAS))


def _key(config: GatewayConfig) -> bytes:
    return bytes.fromhex(config.models.public_key)


def compute(  # noqa: PLR0917 - each is of its own type
    config: GatewayConfig,
    bus: Bus,
    clock: Clock,
    files: Files,
    answer: Callable[[PartBody | AnswerBody], None],
    floor: Callable[[], int] = lambda: 0,
) -> Compute:
    """Take tasks from the bus, as this configuration allows."""
    queue = Queue(tasks.Terms(config.name, _key(config), config.tasks.allow))
    return Compute(bus, queue, config.tasks, clock, data=Path(config.data), files=files, answer=answer, floor=floor)


def models(
    config: GatewayConfig,
    bus: Bus,
    at: recovery.Replayed,
    clock: Clock,
    *,
    apply: Callable[[bytes, bytes], None],
    report: Callable[[str, int, str, str], None],
    uses: Callable[[], Mapping[str, str]] = dict,
    resources: Callable[[], Resources] | None = None,
) -> Models:
    """Go on with models where the gateway stands."""
    swap = Swap(terms(config), map(manifest.read_sealed, at.manifests.values()), recovery.scoring(at))
    versions = partial(recovery.versions, at)
    told = partial(Models, versions=versions, apply=apply, report=report, uses=uses, resources=resources)
    return told(config.name, bus, swap, clock)


def connect(config: GatewayConfig, password: str | None, rng: Random) -> MqttBus:
    """Make the connection of a gateway to its bus; ConfigurationRefused if the TLS files cannot be used."""
    broker, section = (config.bus, "bus") if config.bus is not None else (config.devices, "devices")
    host, port, tls = broker.address
    return MqttBus(
        host,
        port,
        _client_id(config.bus, config.name),
        rng=rng,
        tls=tls_context(broker, section) if tls else None,
        username=broker.username or None,
        password=password,
    )


def _client_id(bus: Broker | None, name: str) -> str:
    """Not the intake's, on whatever broker: the one would end the other's session."""
    return (bus.client_id if bus is not None else "") or f"fieldgate-{name}-bus"

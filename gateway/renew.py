"""A gateway at work takes another configuration: on SIGHUP its file is read again, and what changed is applied.

    asked ▶ read the file, and the secrets it names ▶ `reload.plan` ▶ make what can fail ▶ apply, at once ▶ connections

Rules:

1. What can fail comes first: a file that is refused, a secret that is absent, an address that is taken. Then the old
   configuration stays, all of it; log, metrics and `systemctl status` say why until a reload succeeds.
2. The rest is one step of the event loop, between two records: no reading meets half of a configuration.
3. Then the connections concerned are made again, one after the other; all else goes on meanwhile. Nothing waits for the
   disk: a kill before the record's commit leaves the old configuration, and the next start reads the file anyway.
4. One reload at a time; all that were asked for meanwhile are one more. Asked for before the gateway is ready, it is
   done then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from ssl import SSLContext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.disk import Disk
from gateway.intake import Hearsay, tls_of
from gateway.inward import Inward
from gateway.journal import Journal
from gateway.outward import Outward
from gateway.reload import Line, Plan, Reloads, Secrets, plan
from gateway.service import secrets
from gateway.sides import Sides
from gateway.spool import Spool
from gateway.status import Status
from protocol.errors import ConfigurationRefused
from protocol.notify import Notify

if TYPE_CHECKING:
    from gateway.bus import Models
    from gateway.cascade import Cascade
    from gateway.classes import Classes
    from gateway.compute import Compute
    from protocol.mqtt import MqttBus

log = logging.getLogger("fieldgate.reload")


class File(NamedTuple):
    """Where the configuration came from, and how to have it again (ConfigurationRefused)."""

    name: str
    read: Callable[[], GatewayConfig]


class AtWork(Protocol):
    """What is renewed: a `Pipeline`, by its parts."""

    config: GatewayConfig
    secrets: Secrets
    reloads: Reloads
    clock: Clock
    rng: Random
    journal: Journal
    spool: Spool
    disk: Disk
    inward: Inward
    out: Outward
    hearsay: Hearsay | None
    bus: MqttBus | None
    models: Models | None
    compute: Compute | None
    classes: Classes | None
    cascade: Cascade | None

    def join(self, bus: MqttBus | None) -> None:
        """Have this connection to the bus, or none."""


class Made(NamedTuple):
    """What connections need, and what making them may refuse."""

    devices: SSLContext | None
    uplink: SSLContext | bool
    bus: MqttBus | None


def make_bus(config: GatewayConfig, held: Secrets, rng: Random) -> MqttBus | None:
    """Make the connection to the bus, if there is anything to do on one; ConfigurationRefused for its TLS files."""
    if not config.wants_models:
        return None
    from gateway import bus  # noqa: PLC0415 - 2 MB that a gateway without models does without

    return bus.connect(config, held.bus, rng)


def client_id(config: GatewayConfig) -> str:
    """Name the gateway's session with the devices' broker."""
    return config.devices.client_id or f"fieldgate-{config.name}"


class Renewal:
    """See the rules above; whoever sets `asked` wants a reload."""

    def __init__(  # noqa: PLR0917 - each is of its own type
        self, gateway: AtWork, status: Status, file: File, notify: Notify, asked: asyncio.Event, sides: Sides
    ) -> None:
        self._gateway, self._sides, self._status = gateway, sides, status
        self._file, self._notify, self._asked = file, notify, asked

    async def run(self) -> None:
        """Reload whenever asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read the file again and apply what changed; what is refused changes nothing."""
        gateway = self._gateway
        at, began = gateway.clock.now(), gateway.clock.monotonic()
        self._notify.reloading()
        try:
            what = await self._apply()
        except ConfigurationRefused as error:
            error.file = error.file or self._file.name
            log.error("reload: refused, the old configuration stays: %s", error)  # noqa: TRY400 - no stack helps
            gateway.reloads.refused(str(error))
            self._notify.reloaded(f"reload refused: {gateway.reloads.refusal}")
            return
        gateway.reloads.succeeded(what, at, gateway.clock.monotonic() - began)
        changed = ", ".join(what.changed) or "nothing has changed"
        log.info("reload: %s", changed)
        self._notify.reloaded(f"reloaded: {changed}")

    async def _apply(self) -> Plan:
        gateway = self._gateway
        config, held = await asyncio.to_thread(self._read)
        what = plan(gateway.config, config, gateway.secrets, held)
        made = await asyncio.to_thread(_make, config, held, what, gateway.rng)
        if what.listen:
            await self._status.listen(config.http.listen)
        if what.changed:
            self._take(config, held)
        for line in what.again:
            await self._connect(line, made)
        return what

    def _read(self) -> tuple[GatewayConfig, Secrets]:
        config = self._file.read()
        return config, secrets(config)

    def _take(self, config: GatewayConfig, held: Secrets) -> None:
        """Let all parts have it, between two records."""
        gateway = self._gateway
        gateway.inward.configure(config)
        gateway.journal.configure(config.journal)
        gateway.spool.configure(config.spool)
        gateway.disk.min_free = config.min_free
        gateway.out.configure(config)
        if gateway.classes is not None:
            gateway.classes.configure(config.classify.margin)
        if gateway.cascade is not None:
            gateway.cascade.configure(config)
        gateway.config, gateway.secrets = config, held

    # Connections: each takes leave, has what is new, and goes on.

    async def _connect(self, line: Line, made: Made) -> None:
        match line:
            case "devices":
                await self._connect_devices(made.devices)
            case "uplink":
                await self._connect_uplink(made.uplink)
            case "bus":
                await self._connect_bus(made.bus)

    async def _connect_devices(self, tls: SSLContext | None) -> None:
        """Go to the broker again: what is not acknowledged is sent again, and known."""
        gateway, intake, hearsay = self._gateway, self._gateway.inward.intake, self._gateway.hearsay
        assert intake is not None
        assert hearsay is not None
        await self._sides.end("intake")
        await self._sides.end("hearsay")
        word = gateway.secrets.devices.encode() if gateway.secrets.devices is not None else None
        broker, name = gateway.config.devices, client_id(gateway.config)
        intake.configure(broker, name, word, tls)
        hearsay.configure(broker, f"{name}-hearsay", word, tls)
        self._sides.begin("intake", intake.run)
        self._sides.begin("hearsay", hearsay.run)

    async def _connect_uplink(self, tls: SSLContext | bool) -> None:
        out, settings, token = self._gateway.out, self._gateway.config.uplink, self._gateway.secrets.uplink
        await self._sides.end("uplink")
        if not settings.url or token is None:
            out.uplink = None
            return
        if out.uplink is None:
            out.connect(token, self._gateway.rng, tls)
        assert out.uplink is not None
        out.uplink.go_to(settings, token, tls)
        self._sides.begin("uplink", out.uplink.run)

    async def _connect_bus(self, bus: MqttBus | None) -> None:
        """Join the bus anew: what is announced there, and retained, is heard again."""
        gateway, before, classes = self._gateway, self._gateway.models, self._gateway.classes
        await self._sides.end("models")
        await self._sides.end("compute")
        await self._sides.end("cascade")
        await self._sides.end("bus")
        gateway.join(bus)
        if classes is None and gateway.classes is not None:
            self._sides.begin("classes", gateway.classes.run)
        if gateway.models is None or gateway.compute is None or bus is None:
            return
        if before is not None:
            gateway.models.swap.refused.update(before.swap.refused)
        self._sides.begin("models", gateway.models.run)
        self._sides.begin("compute", gateway.compute.run)
        if gateway.cascade is not None:
            self._sides.begin("cascade", gateway.cascade.run)
        self._sides.begin("bus", bus.run)


def _make(config: GatewayConfig, held: Secrets, what: Plan, rng: Random) -> Made:
    return Made(
        tls_of(config.devices) if "devices" in what.again else None,
        _uplink_tls(config.uplink.ca_file) if "uplink" in what.again else True,
        make_bus(config, held, rng) if "bus" in what.again else None,
    )


def _uplink_tls(ca_file: str) -> SSLContext | bool:
    from gateway.uplink import tls_context  # noqa: PLC0415 - 11 MB that a gateway which works alone does without

    return tls_context(ca_file)

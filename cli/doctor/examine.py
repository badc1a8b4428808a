"""Runs all probes side by side, each within its deadline, and gives what they measured."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

from cli.doctor.facts import Broker, Cloud, Disk, Facts, Grant, Refused, Unknown
from cli.doctor.probe import broker, disk, host
from cli.doctor.probe.line import Account
from gateway import config
from gateway.config import GatewayConfig
from gateway.segment import Files
from gateway.service import secret
from gateway.uplink.knock import knock
from protocol.errors import ConfigurationRefused

DISK_WITHIN_S = 20.0
DEVICES_WITHIN_S = 60.0
BUS_WITHIN_S = 30.0
CLOUD_WITHIN_S = 30.0

T = TypeVar("T")


async def examine(settings: GatewayConfig, files: Files) -> Facts:
    """Measure everything. What goes wrong is in the facts, never raised."""
    data = Path(settings.data)
    async with asyncio.TaskGroup() as tasks:
        on_disk: asyncio.Task[Disk | Unknown] = tasks.create_task(
            _within(DISK_WITHIN_S, _beside(lambda: disk.look(files, data))), name="disk"
        )
        devices = tasks.create_task(_within(DEVICES_WITHIN_S, _devices(settings)), name="devices")
        bus = tasks.create_task(_within(BUS_WITHIN_S, _bus(settings)), name="bus")
        cloud = tasks.create_task(_within(CLOUD_WITHIN_S, _cloud(settings.uplink)), name="cloud")
    return Facts(host.look(), on_disk.result(), devices.result(), bus.result(), cloud.result())


async def _within(seconds: float, measuring: Awaitable[T]) -> T | Unknown:
    try:
        async with asyncio.timeout(seconds):
            return await measuring
    except TimeoutError:
        return Unknown(f"no end within {seconds:g} s")


async def _beside(measure: Callable[[], T]) -> T:
    """Run in a thread that nobody has to wait for: one that hangs in the kernel cannot be ended."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(measure())
        except Exception as error:  # noqa: BLE001 - raised again by whoever awaits
            done.set_exception(error)

    threading.Thread(target=run, name="disk", daemon=True).start()
    return await asyncio.wrap_future(done)


async def _devices(settings: GatewayConfig) -> Broker | Refused:
    try:
        client_id = settings.devices.client_id or f"fieldgate-{settings.name}"
        account = Account(settings.devices, client_id, _password(settings.devices, "devices"))
        return await broker.look(account, settings, f"{SystemRandom().getrandbits(64):016x}")
    except ConfigurationRefused as refused:
        return _absent(refused)


async def _bus(settings: GatewayConfig) -> list[Grant] | Refused | Unknown | None:
    if settings.bus is None and not settings.models.public_key:
        return None
    where, section = (settings.devices, "devices") if settings.bus is None else (settings.bus, "bus")
    client_id = (settings.bus.client_id if settings.bus else "") or f"fieldgate-{settings.name}-bus"
    try:
        account = Account(where, client_id, _password(where, section), section)
        return await broker.look_at_bus(account, settings.name)
    except ConfigurationRefused as refused:
        return _absent(refused)


def _password(where: config.Broker, section: str) -> bytes | None:
    password = secret(section, "password", file=where.password_file, env=where.password_env)
    return None if password is None else password.encode()


def _absent(refused: ConfigurationRefused) -> Refused:
    return Refused("tls" if refused.key.endswith(("ca_file", "cert_file")) else "secret", str(refused))


async def _cloud(settings: config.Uplink) -> Cloud | None:
    if not settings.url:
        return None
    try:
        token = secret("uplink", "token", file=settings.token_file, env=settings.token_env) or ""
        came = await knock(settings, token, time.time_ns)
    except ConfigurationRefused as refused:
        return Cloud("tls" if refused.key.endswith("ca_file") else "secret", str(refused))
    ahead = (came.here - came.now) / 1e9 if came.now else None
    return Cloud(
        came.cause, came.why, came.status, came.gateway, came.version, ahead, came.precision / 1e9, came.upgrade
    )

"""The units as systemd runs them: the command of ExecStart, and a socket that hears what the service tells."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.broker import EmbeddedBroker
from tests.journeys.cloud_process import Cloud
from tests.journeys.processes import Child, python
from tests.journeys.site import Site, publishing
from tests.systemd import Listener, listening
from tests.waiting import until

DEPLOY = Path(__file__).parents[2] / "deploy"
PING_MS = 600
"""Shorter than any operator would choose, and still longer than a busy machine keeps a commit waiting."""


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    with listening(tmp_path / "notify") as listener:
        yield listener


@pytest.fixture
def site(embedded_broker: EmbeddedBroker, free_port: Callable[[], int], tmp_path: Path) -> Site:
    return Site(tmp_path / "barn", embedded_broker.url, free_port())


def command(unit: str, configuration: Path) -> list[str]:
    """The unit's command, with our interpreter and our configuration in place of the installed ones."""
    lines = (DEPLOY / unit).read_text().splitlines()
    start = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    program, *arguments, installed = shlex.split(start[0])
    assert (len(start), program, Path(installed).parent) == (1, "/opt/fieldgate/bin/fieldgate", Path("/etc/fieldgate"))
    return [sys.executable, "-m", "cli.main", *arguments, str(configuration)]


@asynccontextmanager
async def running(words: list[str], systemd: Listener, log: Path) -> AsyncIterator[Child]:
    """Run a service as systemd would, while the block runs."""
    environment = os.environ | systemd.pinged_every(PING_MS)
    with log.open("ab") as out:
        child = Child(await asyncio.create_subprocess_exec(*words, stdout=out, stderr=out, env=environment), log)
    try:
        yield child
    finally:
        await child.close()


async def test_the_gateways_unit_is_ready_pings_and_stops(site: Site, systemd: Listener) -> None:
    async with running(command("fieldgate-gateway.service", site.path), systemd, site.directory / "log") as gateway:
        await systemd.hear("READY=1")
        await systemd.hear("STATUS=0 readings/s, 0 windows/s, broker connected")
        async with publishing(site):
            await systemd.hear(r"STATUS=[1-9][\d,]* readings/s, [1-9]")
        await systemd.hear("WATCHDOG=1")
        gateway.process.send_signal(signal.SIGTERM)
        await systemd.hear("STOPPING=1")
        assert await gateway.ended() == 0, gateway.said()
    assert [line.partition("=")[0] for line in systemd.heard[:3]] == ["STATUS", "EXTEND_TIMEOUT_USEC", "READY"]
    assert (systemd.heard[-1], systemd.silent()) == ("STATUS=stopping", True)


async def test_a_gateway_whose_broker_and_cloud_are_away_is_ready_and_pings(
    free_port: Callable[[], int], tmp_path: Path, systemd: Listener
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    away = f'[uplink]\nurl = "http://127.0.0.1:{free_port()}"\ntoken_file = "{token}"\n'
    site = Site(tmp_path / "barn", f"mqtt://127.0.0.1:{free_port()}", free_port(), more=away)
    async with running(command("fieldgate-gateway.service", site.path), systemd, site.directory / "log"):
        await systemd.hear("READY=1")
        for _ in range(6):  # three times the patience
            await systemd.hear("WATCHDOG=1")
    stated = [line.split(", ") for line in systemd.heard if line.startswith("STATUS=0")]
    assert {tuple(words[2:4]) for words in stated} == {("broker away", "cloud away")}


async def test_the_pings_end_when_the_journals_disk_hangs(site: Site, systemd: Listener) -> None:
    hanging = ["--point", "journal.sync", "--hit", "3", "--hang"]
    words = [sys.executable, "-m", "tests.faults.victim", str(site.path), *hanging]
    async with running(words, systemd, site.directory / "log") as gateway, publishing(site):
        await systemd.hear("WATCHDOG=1")
        stalled = "STATUS=stalled: journal: no commit ends, for "
        await systemd.hear(stalled + "[2-9]")  # longer than a busy machine's commit takes
        before = len(systemd.heard)
        await systemd.hear(stalled)  # a second later: looks without a ping
        assert "WATCHDOG=1" not in systemd.heard[before:]
        assert "no more pings: journal: no commit ends" in gateway.said()


async def test_the_clouds_unit_is_ready_pings_and_stops(
    free_port: Callable[[], int], tmp_path: Path, systemd: Listener
) -> None:
    cloud = Cloud(tmp_path / "cloud", free_port())
    async with running(command("fieldgate-cloud.service", cloud.path), systemd, tmp_path / "log") as process:
        await systemd.hear("READY=1")
        await systemd.hear("STATUS=gateways connected: 0, windows stored: 0")
        await systemd.hear("WATCHDOG=1")
        await until(lambda: cloud.ask("/v1/gateways"), "the cloud answers")
        process.process.send_signal(signal.SIGHUP)
        await until(lambda: "SIGHUP: another configuration takes a restart" in process.said(), "it says what to do")
        assert await cloud.ask("/v1/gateways")
        process.process.send_signal(signal.SIGTERM)
        await systemd.hear("STOPPING=1")
        assert await process.ended() == 0, process.said()
    assert systemd.heard[-1] == "STATUS=stopping"


async def test_a_service_without_systemd_tells_nobody(site: Site, tmp_path: Path) -> None:
    child = Child(
        await python("-m", "cli.main", "gateway", "run")(tmp_path / "log", [str(site.path)]), tmp_path / "log"
    )
    try:
        await until(lambda: "connected to" in child.said(), "the gateway runs")
        await child.stop()
    finally:
        await child.close()
    assert "notify" not in child.said()

"""A gateway's file changes while it works, and it is told by SIGHUP: nothing is lost, nothing comes twice."""

from __future__ import annotations

import signal
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.journeys.kept import check_whole
from tests.journeys.site import WINDOWS, Gateway, Site, finished, publishing
from tests.waiting import until

HANGUP = 1 << (signal.SIGHUP - 1)
SCORED = """
[[window]]
series = "*/value"
size = "400ms"
[[score]]
name = "heat"
series = "*/value"
[[rule]]
when = "value > 1000"
"""


async def reloaded(gateway: Gateway, outcome: str) -> None:
    """Send SIGHUP and wait for the answer, which must be this one."""
    before = await outcomes(gateway)
    gateway.process.send_signal(signal.SIGHUP)
    after: dict[str, float] = await until(lambda: grown(gateway, before), "the reload is answered")
    assert after == before | {outcome: before[outcome] + 1}, gateway.said()


async def grown(gateway: Gateway, before: dict[str, float]) -> dict[str, float] | None:
    now = await outcomes(gateway)
    return now if now != before else None


async def outcomes(gateway: Gateway) -> dict[str, float]:
    begin = "fieldgate_reloads_total"
    return {name: count for name, count in (await gateway.metrics()).items() if name.startswith(begin)}


def told(outcome: str) -> str:
    return f'fieldgate_reloads_total{{outcome="{outcome}"}}'


async def test_a_file_that_changes_under_load(
    mosquitto: Callable[..., str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    site = Site(tmp_path / "barn", mosquitto("max_queued_messages 0"), free_port())
    await site.subscribe()
    async with publishing(site, rate=150) as publisher, site.gateway() as gateway:
        await gateway.ready()
        replace(site, more=WINDOWS + SCORED)  # a site writes its file when it is made
        await reloaded(gateway, told("applied"))
        replace(site, more=WINDOWS + "[[score]]\nthreshold = 1000.0\n")
        await reloaded(gateway, told("refused"))
        assert "score[0].threshold = 1000.0: expected more than 0, at most 30" in gateway.said()
        replace(site, more=WINDOWS + SCORED)
        await reloaded(gateway, told("unchanged"))
        site.path.write_text(
            site.path.read_text()
            .replace("barn/{device}", "barn/{device}/#")
            .replace("[http]", 'keepalive = "9s"\n[http]')
            .replace('name = "heat"', "threshold = 4.5")
        )
        await reloaded(gateway, told("applied"))
        await gateway.ready()
        await gateway.recorded(2 * await finished(publisher))
        await gateway.settled()
        assert "session resumed" in gateway.said()
        await gateway.stop()
    check_whole(site, publisher)


async def test_a_hangup_while_it_starts_does_not_end_it(
    mosquitto: Callable[..., str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    site = Site(tmp_path / "barn", mosquitto(), free_port())
    async with site.gateway() as gateway:
        await until(lambda: minds(gateway), "it minds a hangup", every=0.001)
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.ready()
        await until(lambda: answered(gateway), "it reads its file again")
        await gateway.stop()


def minds(gateway: Gateway) -> bool:
    """Whether SIGHUP waits or is caught, by the kernel's word (proc(5))."""
    assert isinstance(gateway.process, Process)
    lines = Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk:", "SigCgt:"))]
    return any(mask & HANGUP for mask in masks)


async def answered(gateway: Gateway) -> bool:
    return (await gateway.metrics()).get(told("unchanged")) == 1

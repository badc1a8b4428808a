"""A configuration that changes under load, by SIGHUP; one change in three is refused, and must change nothing."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from cloud.tokens import Tokens
from tests.faults.kills import RATE
from tests.faults.stage import Found, Stage, passed, stage
from tests.journeys.site import Gateway, Metrics, Site, publishing
from tests.waiting import until

RECORDED = "fieldgate_readings_recorded_total"
SOURCE = 'values = { value = "value", n = "n" }'

Change = Callable[[int, Random], str]
"""Gives a part of the file, other than ever before, from the number of the change."""

CHANGES: dict[str, Change] = {
    "a definition beside": lambda number, _: f'[[window]]\nseries = "*/value"\nsize = "{1000 + number}ms"\n',
    "cleaning, so all definitions": lambda number, _: f'[[clean]]\nseries = "*/value"\nmax = {10_000 + number}\n',
    "a rule": lambda number, _: f'[[rule]]\nwhen = "value > {10_000 + number}"\n',
    "idle": lambda _, chance: f'[time]\nidle = "{chance.randint(400, 700)}ms"\n',
    "the journal": lambda number, chance: (
        f'[journal]\ncommit_interval = "{chance.randint(5, 50)}ms"\ncheckpoint_interval = "{200 + number}ms"\n'
        f'segment_bytes = "{chance.randint(4, 16)}KiB"\nmax_bytes = "24KiB"\n'
    ),
    "the spool": lambda _, chance: f'[spool]\nsegment_bytes = "{chance.randint(1, 8)}KiB"\n',
    "topics": lambda number, _: f'[[source]]\ntopic = "elsewhere-{number}/{{device}}"\n{SOURCE}\n',
    "the session": lambda number, _: f'keepalive = "{60 + number}s"\n',
    "a token": lambda _number, _chance: "",
    "bounds of the uplink": lambda _, chance: f'max_rate = "{chance.randint(200, 400)}kB"\n',
    "the cloud's address": lambda _number, _chance: "",
}
"""What changes; each is a section of the file, but for the last four, which `text` puts in their place."""

REFUSALS = ("no TOML", "an unknown key", "a contradiction", "another name", "no token", "a taken address")


class File:
    """The gateway's file: valid sections by name, and how each is spoilt."""

    def __init__(self, site: Site, here: Stage) -> None:
        self.site, self.here = site, here
        self.parts = {"topics": "", "the session": "", "bounds of the uplink": ""}
        self.host = "127.0.0.1"

    def change(self, name: str, number: int) -> None:
        """Make one change in what is valid."""
        if name == "a token":
            Tokens.open(self.here.cloud.directory / "data").issue(self.site.name)
        elif name == "the cloud's address":
            self.host = "localhost" if self.host == "127.0.0.1" else "127.0.0.1"
        self.parts[name] = CHANGES[name](number, self.here.chance)

    def text(self, refusal: str = "") -> str:
        """Give the whole file, good or not."""
        site, parts = self.site, dict(self.parts)
        inline = {name: parts.pop(name) for name in ("topics", "the session", "bounds of the uplink")}
        name = "other" if refusal == "another name" else site.name
        port = self.here.cloud.port if refusal == "a taken address" else site.port
        tokens = Tokens.open(self.here.cloud.directory / "data")
        token = "/absent" if refusal == "no token" else tokens.token_file(site.name)
        ends = {"no TOML": "[[", "an unknown key": "[http2]\n", "a contradiction": '[[rule]]\nwhen = "value"\n'}
        return (
            f'name = "{name}"\ndata = "{site.data}"\n[[source]]\ntopic = "{site.topic}"\n{SOURCE}\n{inline["topics"]}'
            f'[devices]\nurl = "{site.broker}"\n{inline["the session"]}[http]\nlisten = "127.0.0.1:{port}"\n'
            f'[[window]]\nsize = "200ms"\n{"".join(parts.values())}[uplink]\n'
            f'url = "http://{self.host}:{self.here.cloud.port}"\ntoken_file = "{token}"\npack_interval = "50ms"\n'
            f"{inline['bounds of the uplink']}{ends.get(refusal, '')}"
        )

    def write(self, refusal: str = "") -> None:
        """Put it in its place, whole."""
        new = self.site.path.with_suffix(".new")
        new.write_text(self.text(refusal))
        new.rename(self.site.path)


async def reload(directory: Path, cycles: int, chance: Random) -> Found:
    """Change a few things at once and send SIGHUP, while devices publish; one time in three the file is refused."""
    async with stage(directory, chance) as here:
        site = here.site("changing")
        file, done = File(site, here), Counter[str]()
        for name in ("idle", "the journal", "the spool"):
            file.change(name, 0)
        file.write()
        await site.subscribe()
        async with publishing(site, rate=RATE) as publisher, here.survivor(site) as gateway:
            await passed(gateway, RECORDED, 1)
            for number in range(1, cycles + 1):
                done.update(await _refused(file, gateway) if number % 3 == 0 else await _changed(file, gateway, number))
                await asyncio.sleep(chance.uniform(0.0, 0.3))
                here.found.cycles += 1
            file.write()
            await _answered(gateway, "applied", "unchanged")
            await here.finale(site, publisher, gateway)
        here.found.more["changes"] = dict(sorted(done.items()))
        return here.found


async def _changed(file: File, gateway: Gateway, number: int) -> list[str]:
    names = file.here.chance.sample(list(CHANGES), k=file.here.chance.randint(1, 3))
    for name in names:
        file.change(name, number)
    file.write()
    await _answered(gateway, "applied")
    return names


async def _refused(file: File, gateway: Gateway) -> list[str]:
    refusal = file.here.chance.choice(REFUSALS)
    file.write(refusal)
    await _answered(gateway, "refused")
    return [f"refused: {refusal}"]


async def _answered(gateway: Gateway, *outcomes: str) -> None:
    """Send SIGHUP, once or twice in a row, and wait until it is answered, with one of these outcomes each time."""
    before = await gateway.metrics()
    gateway.process.send_signal(signal.SIGHUP)

    async def answered() -> Metrics | None:
        seen = await gateway.metrics()
        return seen if _grown(before, seen) else None

    seen: Metrics = await until(answered, "the reload is answered", within=60, every=0.03)
    assert _grown(before, seen) <= set(outcomes), gateway.said()


def _grown(before: Metrics, now: Metrics) -> set[str]:
    names = {name: f'fieldgate_reloads_total{{outcome="{name}"}}' for name in ("applied", "unchanged", "refused")}
    return {name for name, metric in names.items() if now.get(metric, 0.0) > before.get(metric, 0.0)}

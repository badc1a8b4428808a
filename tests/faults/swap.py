"""A gateway killed with -9 at each step of a model change, again and again: exactly one valid model scores.

Each round announces the next version, starts a victim that dies at one step of taking it, and looks at what is left on
the disk. The next round goes on from there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import numpy as np

from gateway import recovery
from gateway.segment import OsFiles
from learning import baseline
from protocol import frame, manifest
from protocol.identity import Signer
from protocol.manifest import Chunk, Manifest, digest_of
from protocol.messages import Kind
from protocol.mqtt import MqttBus
from protocol.topics import topic
from tests.faults.nursery import Nursery
from tests.journeys.kept import copy_of
from tests.journeys.site import WINDOWS, Gateway, Site
from tests.waiting import until

SIGNER = Signer.from_seed(bytes(range(32)))
MODEL = "pumps"
FEATURES = tuple(f"measurement-{number}" for number in range(16))

TAKES_MODELS = f"""
{WINDOWS}
[[score]]
name = "{MODEL}"
[models]
public_key = "{SIGNER.public.hex()}"
chunk = "1KiB"
[journal]
segment_bytes = "2KiB"
max_bytes = "24KiB"
commit_interval = "20ms"
checkpoint_interval = "250ms"
[spool]
segment_bytes = "1KiB"
[uplink]
pack_interval = "50ms"
"""
"""Small files: a model begins a new one, and a checkpoint comes soon."""


class Step(NamedTuple):
    """Where a victim dies: at a durable step once the model is applied, or when its want of that number is heard."""

    point: str = ""
    when: str = "before"
    want: int = 0

    def __str__(self) -> str:
        """Name it."""
        return f"want {self.want}" if self.want else f"{self.when} {self.point}"


STEPS = [
    Step(want=1),
    Step(want=2),
    Step(want=3),
    *(Step("journal.create", when) for when in ("before", "after")),
    *(Step("journal.write", when) for when in ("before", "half", "after")),
    *(Step("journal.sync", when) for when in ("before", "after")),
    Step("journal.sync_directory", "after"),
    *(Step("spool.results.write", when) for when in ("before", "half", "after")),
    *(Step("spool.results.sync", when) for when in ("before", "after")),
    Step("checkpoints.create", "after"),
    Step("checkpoints.write", "half"),
    Step("checkpoints.sync", "before"),
    *(Step("checkpoints.rename", when) for when in ("before", "after")),
    Step("checkpoints.sync_directory", "after"),
]


BRIEF = list({(step.point, step.want): step for step in STEPS}.values())
"""Each step once, whether just before or just after it."""


def content(version: int) -> bytes:
    """Give a baseline of three parts that is like no other."""
    spread = np.random.default_rng(version).normal(size=(len(FEATURES), len(FEATURES)))
    entry = baseline.Entry(50.0 + version, spread[0].copy(), spread @ spread.T)
    entry = baseline.Entry(entry.weight, entry.mean, (entry.covariance + entry.covariance.T) / 2)
    return baseline.encode(baseline.Baseline({FEATURES: entry}))


@dataclass
class StubCloud:
    """Announces versions and gives their parts; the want of number `silent_at` is heard and not answered."""

    bus: MqttBus
    gateway: str
    contents: dict[int, bytes] = field(default_factory=dict)
    wants: int = 0
    silent_at: int = 0

    async def announce(self, version: int) -> None:
        """Publish the next version."""
        self.contents[version] = what = content(version)
        self.wants = 0
        said = Manifest(MODEL, version, len(what), digest_of(what), baseline.SCHEMA, 0, gateway=self.gateway)
        name = f"{topic(self.gateway, 'models')}/{MODEL}"
        await self.bus.publish(name, manifest.seal(said, SIGNER), retain=True)

    async def answer(self) -> None:
        """Answer wants for ever."""
        async with self.bus.subscribe(topic(self.gateway, "wants")) as wants:
            async for message in wants:
                want = manifest.read_want(message.payload)
                self.wants += 1
                if self.wants != self.silent_at:
                    whole = next(one for one in self.contents.values() if digest_of(one) == want.digest)
                    part = Chunk(want.digest, want.offset, whole[want.offset : want.offset + want.size])
                    await self.bus.publish(topic(self.gateway, "chunks"), manifest.write(part))


@asynccontextmanager
async def cloud_of(site: Site) -> AsyncIterator[StubCloud]:
    """Let a stub cloud be there while the block runs."""
    host, port, _ = site.config.devices.address
    bus = MqttBus(host, port, f"cloud-of-{site.name}", rng=Random(1))
    cloud = StubCloud(bus, site.name)
    tasks = [asyncio.create_task(bus.run(), name="cloud bus"), asyncio.create_task(cloud.answer(), name="cloud")]
    try:
        await until(lambda: bus.connected, "the cloud is on the bus")
        yield cloud
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Left(NamedTuple):
    """What is on a dead gateway's disk: the version that scores, and those reported as applied, in their order."""

    scoring: int
    reported: list[int]


def left(site: Site, contents: dict[int, bytes]) -> Left:
    """Recover a copy; AssertionError if what scores is not exactly what was once announced."""
    with copy_of(site.data) as directory:
        config = msgspec.structs.replace(site.config, data=str(directory))
        opened = recovery.recover(config, OsFiles(), 0, lambda: 1)
        bodies = [frame.load(held.kind, held.body) for held in opened.spool.each("results") if held.kind == Kind.REPORT]
        models = opened.at.derive.models
        opened.journal.close()
        opened.spool.close()
    assert list(models) == [MODEL], models.keys()
    said = manifest.unseal(models[MODEL].manifest, SIGNER.public, gateway=site.name)
    assert models[MODEL].content == contents[said.version]
    assert digest_of(models[MODEL].content) == said.digest
    baseline.decode(models[MODEL].content)
    return Left(said.version, [body.version for body in bodies if body.outcome == "applied"])


@dataclass
class Outcome:
    """How many rounds ended how: the old model scores on, or the new one."""

    old: int = 0
    new: int = 0
    by_step: Counter[str] = field(default_factory=Counter)


async def begin(site: Site, cloud: StubCloud, victim: Nursery) -> None:
    """Let version 1 score."""
    await cloud.announce(1)
    async with site.gateway(victim.start, "--archive", site.archive) as gateway:
        await until(lambda: scores(gateway, 1), "version 1 scores")
        await gateway.stop()


async def scores(gateway: Gateway, version: int) -> bool:
    """Tell whether a running gateway says that this version scores."""
    seen = await gateway.metrics()
    return bool(seen.get(f'fieldgate_model_version{{model="{MODEL}"}}') == version)


async def kill_at(step: Step, version: int, site: Site, cloud: StubCloud, victim: Nursery) -> None:
    """Announce a version, and let a victim die at this step of taking it."""
    cloud.silent_at = step.want
    await cloud.announce(version)
    options = ["--archive", str(site.archive)]
    if step.point:
        options += ["--point", step.point, "--when", step.when, "--armed", str(version)]
    async with site.gateway(victim.start, *options) as doomed:
        if step.want:
            await until(lambda: cloud.wants >= step.want, f"want {step.want} of version {version}")
            await doomed.kill()
        assert await doomed.ended(f"death {step} of version {version}") == -9, doomed.said()


async def rounds(site: Site, cloud: StubCloud, victim: Nursery, steps: list[Step]) -> Outcome:
    """Go through these steps, a version each; AssertionError where anything but one valid model is left."""
    outcome = Outcome()
    await begin(site, cloud, victim)
    scored = [1]
    for version, step in enumerate(steps, 2):
        await kill_at(step, version, site, cloud, victim)
        found = left(site, cloud.contents)
        assert found.scoring in (scored[-1], version), f"{step} of version {version}: {found}, before it {scored[-1]}"
        new = found.scoring == version
        scored += [version] if new else []
        assert found.reported == scored, f"{step} of version {version}"
        outcome.new += new
        outcome.old += not new
        outcome.by_step[str(step)] += 1
    cloud.silent_at = 0
    last = len(steps) + 1
    async with site.gateway(victim.start, "--archive", site.archive) as survivor:
        await until(lambda: scores(survivor, last), "the last version scores")
        await survivor.stop()
    assert left(site, cloud.contents).scoring == last
    return outcome


def shuffled(number: int, seed: int = 1) -> list[Step]:
    """Give so many steps: all of them in turn, each turn in another order."""
    chance = Random(seed)
    turns = (chance.sample(STEPS, len(STEPS)) for _ in range(number // len(STEPS) + 1))
    return [step for turn in turns for step in turn][:number]


def site_in(directory: Path, broker: str, port: int) -> Site:
    """Give a gateway that takes models."""
    return Site(directory, broker, port, TAKES_MODELS)

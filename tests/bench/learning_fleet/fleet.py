"""The processes: an embedded broker, a cloud, and a gateway for each person, with that person's readings.

Everything of a round is heard as anybody could hear it: stages over the page's stream, bases on the bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
import msgspec

from cli.broker import EmbeddedBroker
from cloud.tokens import Tokens
from protocol.identity import SIGNATURE_SIZE
from protocol.mqtt import MqttBus
from protocol.tasks import Task
from protocol.topics import topic
from protocol.training import Given
from tests.bench.learning_fleet.people import POISONED, People
from tests.bench.rig import CORES
from tests.journeys.processes import get
from tests.ports import free_port
from tests.waiting import until

RUN_S = 300.0
SLOW = (0, 1)
PACE_S = 1.0
"""A paced round takes so long, and ten times that on the gateways that are SLOW."""

ODD = ("-m", "tests.bench.learning_fleet.odd")
CLOUD = ("-m", "cli.main", "cloud", "run")
IMPORT = ("-m", "cli.main", "gateway", "journal", "import")


EARS = (2, 3)
"""Whose tasks are heard: two, since one may be left out; what goes to all is the same, and would be a load."""


def gateway_name(person: int) -> str:
    """Name the gateway of a person."""
    return f"person-{person:02}"


@dataclass
class Fleet:
    """What runs, and what was heard: stages by training, and the bases that were sent out, by training and round."""

    directory: Path
    people: People
    broker: str
    port: int = field(default_factory=free_port)
    stages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    bases: dict[str, dict[tuple[int, int], bytes]] = field(default_factory=dict)
    gateways: list[Process] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        """The cloud's keys."""
        return Tokens.open(self.directory / "cloud")

    @property
    def url(self) -> str:
        """Where the cloud is."""
        return f"http://127.0.0.1:{self.port}"

    def write(self, trainings: str) -> None:
        """Write all configurations and every person's readings."""
        (self.directory / "cloud.toml").write_text(
            f'listen = "127.0.0.1:{self.port}"\ndata = "{self.directory / "cloud"}"\n'
            f'[bus]\nurl = "{self.broker}"\n{trainings}'
        )
        tokens = self.tokens
        for person in range(len(self.people.runs)):
            name = gateway_name(person)
            tokens.issue(name)
            (self.directory / f"{name}.toml").write_text(
                f'name = "{name}"\ndata = "{self.directory / name}"\n'
                f'[[source]]\ntopic = "{name}/{{device}}/{{measurement}}"\n[[window]]\nsize = "60s"\n'
                f'[devices]\nurl = "{self.broker}"\n[models]\npublic_key = "{tokens.signer().public.hex()}"\n'
                f'[uplink]\nurl = "{self.url}"\ntoken_file = "{tokens.token_file(name)}"\n'
            )
            self.people.write(person, self.directory / f"{name}.npz")

    async def fill(self) -> None:
        """Import every person's readings into that gateway's journal, on all cores."""
        cores = asyncio.Semaphore(len(CORES))

        async def fill(name: str) -> None:
            async with cores:
                file, config = self.directory / f"{name}.npz", self.directory / f"{name}.toml"
                child = await self.start(f"import-{name}", *IMPORT, str(file), "--config", str(config))
                assert await child.wait() == 0, (self.directory / f"import-{name}.log").read_text()

        async with asyncio.TaskGroup() as tasks:
            for person in range(len(self.people.runs)):
                tasks.create_task(fill(gateway_name(person)))

    async def start(self, name: str, *arguments: str) -> Process:
        """Start a process of ours that says what it does in a file."""
        with (self.directory / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=log, stderr=log)

    async def ask(self, path: str) -> Any:
        """Give the JSON that a path of the cloud answers."""
        return json.loads(await get(f"{self.url}{path}"))

    async def online(self) -> int:
        """Count the gateways that are there."""
        answer = await get(f"{self.url}/v1/gateways")
        return sum(view["online"] for view in json.loads(answer)["gateways"]) if answer else 0

    async def train(self, name: str) -> list[dict[str, Any]]:
        """Run a training to its end, and give its stages."""
        self.stages[name] = []
        assert await self.post(f"/v1/train?name={name}") == 200
        return await self.tried(name)

    async def tried(self, name: str) -> list[dict[str, Any]]:
        """Wait for the trial that ends a run, and give the stages."""
        await until(lambda: any(one["stage"] == "trial" for one in self.stages[name]), f"{name} ends", within=RUN_S)
        return self.stages[name]

    async def post(self, path: str, body: bytes = b"") -> int:
        """Ask as the administrator; give the status."""
        headers = {"Authorization": f"Bearer {(self.directory / 'cloud' / 'admin.token').read_text().strip()}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}{path}", headers=headers, data=body) as answer,
        ):
            return answer.status

    async def watch(self) -> None:
        """Hear the stages that end, for ever."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/v1/live") as stream:
                        event = b""
                        async for line in stream.content:
                            if line.startswith(b"event: "):
                                event = line[7:].strip()
                            elif line.startswith(b"data: ") and event == b"training":
                                ended = json.loads(line[6:])
                                self.stages.setdefault(ended["training"], []).append(ended)
                await asyncio.sleep(0.1)

    async def eavesdrop(self, persons: Iterable[int]) -> None:
        """Hear what is sent out to these gateways to learn from, for ever."""
        host, port = re.findall(r"//([^:]+):(\d+)", self.broker)[0]
        listened = list(persons)
        bus = MqttBus(host, int(port), f"bench-ear-{len(listened)}", rng=Random(7))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bus.run())
            for person in listened:
                tasks.create_task(self._hear(bus, f"{topic(gateway_name(person), 'tasks')}/+"))

    async def _hear(self, bus: MqttBus, pattern: str) -> None:
        async with bus.subscribe(pattern) as heard:
            async for message in heard:
                if message.payload:
                    self._take(msgspec.msgpack.decode(message.payload[SIGNATURE_SIZE:], type=Task))

    def _take(self, task: Task) -> None:
        if task.name == "train":
            training, run, number = task.job.rsplit(".", 2)
            base = msgspec.msgpack.decode(task.content, type=Given).base
            self.bases.setdefault(training, {})[int(run), int(number)] = base


@asynccontextmanager
async def running(directory: Path, people: People, trainings: Callable[[People], str]) -> AsyncIterator[Fleet]:
    """Run a fleet while the block runs; everybody is there."""
    with EmbeddedBroker(directory, free_port(), free_port()) as broker:
        fleet = Fleet(directory, people, broker.url)
        fleet.write(trainings(people))
        await fleet.fill()
        children = [await fleet.start("cloud", *CLOUD, str(directory / "cloud.toml"))]
        ears: list[asyncio.Task[None]] = []
        try:
            await until(lambda: get(f"{fleet.url}/livez"), "the cloud is ready", within=60)
            for person in range(len(people.runs)):
                pace = PACE_S * (10 if person in SLOW else 1)
                options = ["--pace", str(pace), *(["--poison"] if person in POISONED else [])]
                config = str(directory / f"{gateway_name(person)}.toml")
                fleet.gateways.append(await fleet.start(gateway_name(person), *ODD, config, *options))
            await until(lambda: _all_there(fleet), "all gateways are there", within=120, every=0.5)
            ears = [asyncio.create_task(fleet.watch()), asyncio.create_task(fleet.eavesdrop(EARS))]
            yield fleet
        finally:
            for ear in ears:
                ear.cancel()
            await asyncio.gather(*ears, return_exceptions=True)
            for child in (*children, *fleet.gateways):
                if child.returncode is None:
                    child.terminate()
                await child.wait()


async def _all_there(fleet: Fleet) -> bool:
    return await fleet.online() == len(fleet.people.runs)


class Memory(NamedTuple):
    """Memory of a gateway that trains, in 10^6 bytes: the most it ever had resident, its child too, and both together.

    `shared_once` is what both have now, each page that several processes have in common counted as a share of it.
    """

    gateway: float
    child: float
    both: float
    shared_once: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Read it of a gateway that runs."""
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        gateway, child = _read(pid, "status", "VmHWM"), sum(_read(child, "status", "VmHWM") for child in children)
        shares = sum(_read(one, "smaps_rollup", "Pss") for one in (pid, *children))
        return cls(*(round(size, 1) for size in (gateway, child, gateway + child, shares)))


def _read(pid: int, file: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


assert sys.platform == "linux", "memory is read from /proc"

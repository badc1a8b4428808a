"""What a journey needs: a gateway in a process of its own, devices that know what was acknowledged, what is on the disk."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

import aiohttp
import mqtt5

from cli.accounting import Account, Ranges, Stated, account
from cli.devices import Devices
from cli.link import connect
from cli.publisher import Publisher
from gateway import config
from gateway.derive import Derive, Totals
from gateway.journal import Checkpoints, Journal
from gateway.records import Closed, ReadingsRecord
from gateway.segment import OsFiles
from gateway.spool import Spool
from protocol import frame
from protocol.columns import decode_windows, encode_state
from protocol.messages import WindowRows
from tests.waiting import until

WINDOWS = """
[[window]]
size = "200ms"
[time]
idle = "500ms"
"""

Metrics = dict[str, float]


async def get(url: str) -> bytes:
    """Give the body of a GET, whatever its status; b"" while nobody answers."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.read()
    except aiohttp.ClientError:
        return b""


class Process(Protocol):
    """What is asked of a child, however it came to life."""

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it lives."""

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""

    async def wait(self) -> int:
        """Wait for its end, and give the exit code."""


Start = Callable[[Path, list[str]], Awaitable[Process]]
"""Starts a process with a log file and arguments."""


def python(*before: str) -> Start:
    """Start an interpreter with these arguments before all others."""

    async def start(log: Path, arguments: list[str]) -> Process:
        with log.open("ab") as out:
            return await asyncio.create_subprocess_exec(sys.executable, *before, *arguments, stdout=out, stderr=out)

    return start


GATEWAY = python("-m", "cli.main", "gateway", "run")


class Child:
    """A process of ours, and what it says."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process, self.log = process, log

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM; it must end in order."""
        self.process.send_signal(signal.SIGTERM)
        assert await self.ended() == 0, self.said()

    async def ended(self) -> int:
        """Wait for its end, and give the exit code (negative: the signal)."""
        await until(lambda: not self.running, f"its end\n{self.said()}")
        return await self.process.wait()

    async def close(self) -> None:
        """Leave nothing behind."""
        if self.running:
            await self.kill()

    def said(self) -> str:
        """Give the end of its output."""
        return self.log.read_text(errors="replace")[-4000:]


@dataclass(frozen=True)
class Site:
    """One gateway's directory and configuration; processes come and go."""

    directory: Path
    broker: str
    port: int
    more: str = WINDOWS

    def __post_init__(self) -> None:
        self.archive.mkdir(parents=True, exist_ok=True)
        self.path.write_text(
            f'name = "{self.name}"\ndata = "{self.data}"\n'
            f'[[source]]\ntopic = "{self.topic}"\nvalues = {{ value = "value", n = "n" }}\n'
            f'[devices]\nurl = "{self.broker}"\n[http]\nlisten = "127.0.0.1:{self.port}"\n{self.more}'
        )

    @property
    def name(self) -> str:
        """The gateway, named for the test: one broker serves them all, and keeps a session for each."""
        return self.directory.name

    @property
    def topic(self) -> str:
        """Where devices publish."""
        return f"{self.name}/{{device}}"

    async def subscribe(self) -> None:
        """Open the gateway's session with the broker, which from now on queues for it: what is acknowledged counts."""
        granted = asyncio.Event()

        def received(packets: list[mqtt5.Packet]) -> None:
            if any(isinstance(packet, mqtt5.SubAckPacket) for packet in packets):
                granted.set()

        hello = mqtt5.ConnectPacket(f"fieldgate-{self.name}", clean_start=False, keep_alive=60, session_expiry_interval=3600)
        link, _ = await connect(self.config.devices, hello, received)
        filters = [mqtt5.TopicFilter(source.filter, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for source in self.config.source]
        link.write(mqtt5.SubscribePacket(1, filters).write())
        await until(granted.is_set, "the broker grants the subscription")
        link.close()
        await until(link.ended.is_set, "the broker lets go")

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.directory / "gateway.toml"

    @property
    def data(self) -> Path:
        """Where the gateway keeps everything."""
        return self.directory / "data"

    @property
    def archive(self) -> Path:
        """Where a victim keeps journal files that retention removed."""
        return self.directory / "archive"

    @property
    def config(self) -> config.GatewayConfig:
        """The configuration as the gateway reads it."""
        return config.parse(self.path.read_text())

    @asynccontextmanager
    async def gateway(self, start: Start = GATEWAY, *options: object) -> AsyncIterator[Gateway]:
        """Run a gateway process while the block runs."""
        log = self.directory / "gateway.log"
        process = await start(log, [str(self.path), *map(str, options)])
        child = Gateway(process, log, f"http://127.0.0.1:{self.port}")
        try:
            yield child
        finally:
            await child.close()


class Gateway(Child):
    """A gateway process, seen through its own /metrics and /readyz."""

    def __init__(self, process: Process, log: Path, url: str) -> None:
        super().__init__(process, log)
        self.url = url

    async def metrics(self) -> Metrics:
        """Scrape; sample name with labels to value. Empty while it does not answer."""
        assert self.running, self.said()
        lines = (await get(f"{self.url}/metrics")).decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    async def ready(self) -> None:
        """Wait until it is connected to its broker."""

        async def asked() -> bool:
            assert self.running, self.said()
            return await get(f"{self.url}/readyz") == b"ready\n"

        await until(asked, "the gateway is ready")

    async def recorded(self, readings: int) -> Metrics:
        """Wait until so many different readings are recorded; fail if there are more."""

        async def enough() -> Metrics | None:
            seen = await self.metrics()
            distinct = seen.get("fieldgate_readings_recorded_total", 0) - repeated(seen)
            return seen if distinct >= readings else None

        seen = await until(enough, f"{readings} readings are recorded")
        assert seen["fieldgate_readings_recorded_total"] - repeated(seen) == readings
        return seen

    async def settled(self) -> Metrics:
        """Wait until no window is open."""

        async def closed() -> Metrics | None:
            seen = await self.metrics()
            return seen if seen.get("fieldgate_readings_pending") == 0 else None

        return await until(closed, "all windows are closed")


def repeated(seen: Metrics) -> float:
    """How many readings were removed because they had been recorded before."""
    return seen.get('fieldgate_readings_dropped_total{reason="duplicate"}', 0)


@asynccontextmanager
async def publishing(site: Site, *, devices: int = 4, rate: float = 50) -> AsyncIterator[Publisher]:
    """Publish with QoS 1 while the block runs."""
    start, began = time.time_ns(), time.monotonic_ns()
    table = [20.25 + 0.5 * step for step in range(97)]
    publisher = Publisher(
        config.Broker(url=site.broker),
        Devices(devices, rate, {"heat": table}, topic=site.topic, start=start),
        client_id=f"devices-of-{site.name}",
        clock=lambda: start + time.monotonic_ns() - began,
        rng=Random(1),
    )
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def finished(publisher: Publisher) -> int:
    """Publish no more, wait for the last acknowledgement, and give how many messages that were."""
    publisher.stop()
    await until(publisher.finished.is_set, "the broker has acknowledged everything")
    assert sum(map(len, publisher.acknowledged)) == publisher.sent
    return publisher.sent


# What is on the disk. Everything is read from a copy: the process may still hold the locks.

Key = tuple[str, int, int, int]
"""Series, definition, start, revision."""


@dataclass
class Statements:
    """Windows as they were stated: the rest of a row, bit for bit, by its key."""

    rows: dict[Key, bytes] = field(default_factory=dict)
    stated: list[tuple[str, Stated]] = field(default_factory=list)  # with series' names

    def add(self, windows: WindowRows, names: Sequence[str]) -> None:
        """Take rows; one that is stated again must say the same."""
        for row in zip(*windows, strict=True):
            key = (names[row[0]], int(row[1]), int(row[2]), int(row[3]))
            rest = b"".join(value.tobytes() for value in row[4:])
            assert self.rows.setdefault(key, rest) == rest, f"{key} was stated twice, differently"
            minimum, maximum = float(row[7]), float(row[8])
            self.stated.append((key[0], Stated(key[2], key[3], int(row[4]), round(minimum), round(maximum))))

    @property
    def newest(self) -> dict[tuple[str, int, int], bytes]:
        """Only the highest revision of each window."""
        return {key[:3]: self.rows[key] for key in sorted(self.rows)}

    def account(self, acknowledged: dict[str, Ranges]) -> Account:
        """Balance acknowledged pairs with the windows of the counters, named {device}/n."""
        windows: dict[str, list[Stated]] = {device: [] for device in acknowledged}
        for name, stated in self.stated:
            device, _, measurement = name.rpartition("/")
            if measurement == "n":
                windows[device].append(stated)
        return account(acknowledged, windows)


@dataclass
class Replay:
    """The journal from its first record, applied without interruption."""

    derive: Derive
    statements: Statements
    pairs: dict[str, set[int]]  # counters recorded, by device
    position: int = 0


@contextmanager
def copy_of(*directories: Path) -> Iterator[Path]:
    """Give a directory that holds what these hold; of the same name, the last counts."""
    target = directories[-1].with_name(directories[-1].name + ".copy")
    try:
        for directory in directories:
            shutil.copytree(directory, target, dirs_exist_ok=True)
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)


def replay(site: Site) -> Replay:
    """Apply all that was ever recorded to a fresh `derive`."""
    derive = Derive(config.PipelineConfig())
    found = Replay(derive, Statements(), {})
    with copy_of(site.archive, site.data / "journal") as directory:
        journal = Journal.open(OsFiles(), directory, site.config.journal, about=dict)
        expected = 1
        for seq, record in journal.records(1):
            assert seq == expected, "a record is missing"
            outputs = derive.feed(record)
            for item in outputs.items:
                if isinstance(item, Closed):
                    found.statements.add(item.rows, derive.names)
            if isinstance(record, ReadingsRecord):
                _remember(found.pairs, derive.names, record)
            found.position = seq
            expected += 1
        journal.close()
    return found


def _remember(pairs: dict[str, set[int]], names: list[str], record: ReadingsRecord) -> None:
    for series, value in zip(record.readings.series.tolist(), record.readings.value.tolist(), strict=True):
        device, _, measurement = names[series].rpartition("/")
        if measurement == "n":
            pairs.setdefault(device, set()).add(round(value))


def spooled(site: Site, names: Sequence[str]) -> Statements:
    """Give all windows in the spool's telemetry lane."""
    found = Statements()
    with copy_of(site.data / "spool") as directory:
        spool = Spool.open(OsFiles(), directory, site.config.spool, new_epoch=lambda: 1)
        for held in spool.each("telemetry"):
            body = frame.load(held.kind, held.body)
            found.add(decode_windows(body.columns), names)
        spool.close()
    return found


def balance(totals: Totals, pending: int) -> tuple[int, int]:
    """Give both sides of: recorded = windowed + removed + late + pending."""
    return totals.recorded, totals.windowed + sum(totals.removed.values()) + totals.late + pending


def last_checkpoint(site: Site) -> tuple[int, Derive]:
    """Give the position and state that the newest checkpoint holds."""
    with copy_of(site.data / "checkpoints") as directory:
        found = Checkpoints(OsFiles(), directory).load()
    assert found is not None
    position, state = found
    return position, Derive.restore(state["derive"])


def check_whole(site: Site, publisher: Publisher) -> None:
    """A gateway that has ended in order, with all windows closed, holds what an uninterrupted one would."""
    uninterrupted = replay(site)
    derive = uninterrupted.derive
    stated = spooled(site, derive.names)
    assert stated.newest == uninterrupted.statements.newest
    assert stated.rows == uninterrupted.statements.rows

    position, kept = last_checkpoint(site)
    assert position == uninterrupted.position
    assert encode_state(kept.snapshot()) == encode_state(derive.snapshot())
    recorded, explained = balance(kept.totals, kept.pending)
    assert recorded == explained
    tally = kept.totals.tally
    assert tally.messages == tally.decoded + sum(tally.dead.values()) + tally.redelivered

    acknowledged = dict(zip(publisher.devices.names, publisher.acknowledged, strict=True))
    everything = {device: {n for first, last in ranges for n in range(first, last + 1)} for device, ranges in acknowledged.items()}
    assert uninterrupted.pairs == everything
    assert stated.account(acknowledged).missing == 0
    assert counted(stated) == sum(map(len, everything.values()))


def counted(stated: Statements) -> int:
    """How many counters the newest revisions count, over all devices."""
    newest = {(name, window.start): window for name, window in sorted(stated.stated, key=lambda one: one[1].revision)}
    return sum(window.count for (name, _), window in newest.items() if name.endswith("/n"))


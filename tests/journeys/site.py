"""One gateway: its directory and configuration, its processes, and devices that know what was acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import mqtt5

from cli.devices import Devices
from cli.link import connect
from cli.publisher import Publisher
from gateway import config
from tests.journeys.processes import Child, Process, Start, get, python
from tests.waiting import until

GATEWAY = python("-m", "cli.main", "gateway", "run")

WINDOWS = """
[[window]]
size = "200ms"
[time]
idle = "500ms"
"""

VALUES = [20.25 + 0.5 * step for step in range(97)]

Metrics = dict[str, float]


@dataclass(frozen=True)
class Site:
    """One gateway's directory and configuration; processes come and go."""

    directory: Path
    broker: str
    port: int
    more: str = WINDOWS
    source: str = 'values = { value = "value", n = "n" }'

    def __post_init__(self) -> None:
        self.archive.mkdir(parents=True, exist_ok=True)
        self.path.write_text(
            f'name = "{self.name}"\ndata = "{self.data}"\n[[source]]\ntopic = "{self.topic}"\n{self.source}\n'
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

        hello = mqtt5.ConnectPacket(
            f"fieldgate-{self.name}", clean_start=False, keep_alive=60, session_expiry_interval=3600
        )
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

        seen: Metrics = await until(enough, f"{readings} readings are recorded")
        assert seen["fieldgate_readings_recorded_total"] - repeated(seen) == readings
        return seen

    async def settled(self) -> Metrics:
        """Wait until no window is open."""

        async def closed() -> Metrics | None:
            seen = await self.metrics()
            return seen if seen.get("fieldgate_readings_pending") == 0 else None

        seen: Metrics = await until(closed, "all windows are closed")
        return seen


def repeated(seen: Metrics) -> float:
    """How many readings were removed because they had been recorded before."""
    return seen.get('fieldgate_readings_dropped_total{reason="duplicate"}', 0)


@asynccontextmanager
async def publishing(
    site: Site, *, devices: int = 4, rate: float = 50, table: Sequence[float] = VALUES
) -> AsyncIterator[Publisher]:
    """Publish with QoS 1 while the block runs."""
    start, began = time.time_ns(), time.monotonic_ns()
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

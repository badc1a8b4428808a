"""From the reading that closes a window to the alert which that raises, heard by a subscriber of the same broker.

100 devices send ten readings a second each, QoS 1. A rule looks at their windows of a second, which are low and high by
turns, so every device is alerted every other second; the clocks of the devices are apart, so their windows end evenly
over the second. A [[score]] judges the same windows. The gateway is the whole process, with fsync and checkpoints.
In the row with jobs the cloud asks for one after the other, over all that is recorded; they run on the gateway's core.

| figure | from | to |
|---|---|---|
| `plain_ms`, the baseline | a reading is handed to the socket | it is heard by a second subscriber |
| `from_socket_ms` | the same of a reading that closes a window | the alert is heard |
| `from_delivery_ms` | such a reading is heard by the second subscriber | the alert is heard |
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mqtt5
import msgspec
import numpy as np

from cli.broker import EmbeddedBroker
from cli.link import Link, connect
from cloud.tokens import Tokens
from gateway.config import Broker
from protocol.identity import Signer
from protocol.jobs import Question
from protocol.tasks import Task, seal
from protocol.topics import topic
from tests.bench.broker import mosquitto
from tests.bench.rig import LOAD_CORE, WORK_CORE, gateway, scratch, start
from tests.ports import free_port

MS = 10**6
S = 10**9
DEVICES, A_SECOND = 100, 10
SETTLE_S, MEASURE_S = 15, 60
"""The detectors are warm after ten windows."""

JOBS = ("moments", "quantiles", "top_anomalies", "histogram")
JOB_S = 0.5
SIGNER = Signer.from_seed(bytes(range(32)))

RULE = "high"
CONFIGURATION = f"""
[[source]]
topic = "sensors/{{device}}/{{measurement}}"
[[window]]
size = "1s"
[[rule]]
name = "{RULE}"
when = "value > 50"
[[score]]
warmup = 10
[journal]
checkpoint_interval = "20s"
"""


CLOUD = """
listen = "127.0.0.1:{port}"
data = "{data}"
[bus]
url = "{broker}"
[[training]]
name = "pumps"
channels = ["x", "y"]
label = "state"
classes = 4
samples = 50
features = "motion/1"
model = "perceptron"
deadline = "5s"
every = "{every}"
"""

LEARNS = """
[[source]]
topic = "pumps/bench/{{device}}"
values = {{ x = "x", y = "y", state = "state" }}
[models]
public_key = "{key}"
[uplink]
url = "http://127.0.0.1:{port}"
token_file = "{token}"
"""


class Reading(msgspec.Struct):
    """A payload."""

    time: int
    value: float


class Raised(msgspec.Struct):
    """What is asked of an alert."""

    series: list[str]
    start: int
    rule: str


@dataclass(frozen=True, slots=True)
class Load:
    """Message k is of device k % DEVICES; devices take turns, and each has DEVICES ms between two readings."""

    base: int
    """Event time (ns), a whole second, of the first message."""

    def reading(self, k: int) -> tuple[int, Reading]:
        """Give message k: its device and what it says."""
        turn, device = divmod(k, DEVICES)
        number = turn + device % A_SECOND  # the clock of each is apart from its neighbour's by a reading
        high = (number // A_SECOND + device // A_SECOND) % 2
        value = 20.0 + 60.0 * high + k * 7919 % 1000 / 1000
        return device, Reading(self.base + number * S // A_SECOND, value)

    def number(self, device: int, time: int) -> int:
        """Give the message that is a device's reading of this event time (ns)."""
        turn = (time - self.base) * A_SECOND // S - device % A_SECOND
        return turn * DEVICES + device

    def packet(self, k: int) -> bytes:
        """Give message k as it is sent."""
        device, reading = self.reading(k)
        payload = msgspec.json.encode(reading)
        return mqtt5.PublishPacket(
            f"sensors/{device}/heat", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=k % 65_535 + 1
        ).write()

    def alerted(self, messages: int) -> list[int]:
        """Give the messages, of the first so many, that close a high window of which all readings are among them."""
        closing = ((k, *self.reading(k)) for k in range(DEVICES * A_SECOND, messages))
        ends = ((k, reading) for k, _, reading in closing if reading.time % S == 0)
        return [k for k, _ in ends if self.reading(k - DEVICES)[1].value > 50]


@dataclass(slots=True)
class Times:
    """When (ns, of one clock) what happened to message k."""

    sent: dict[int, int] = field(default_factory=dict)
    delivered: dict[int, int] = field(default_factory=dict)
    heard: dict[int, int] = field(default_factory=dict)  # the alert that it raised


def figures(times: Times, asked: Sequence[int]) -> dict[str, object]:
    """Tell how long it took for the messages asked about; all messages from the first of them on are the baseline."""
    later = [k for k in times.sent if k >= min(asked)]
    heard = [k for k in asked if k in times.heard and k in times.delivered]
    plain, socket, delivery = (
        _percentiles(_between(one, other, which))
        for one, other, which in (
            (times.sent, times.delivered, [k for k in later if k in times.delivered]),
            (times.sent, times.heard, heard),
            (times.delivered, times.heard, heard),
        )
    )
    return {
        "alerts": len(heard),
        "unheard": len(asked) - len(heard),
        "from_socket_ms": socket,
        "from_delivery_ms": delivery,
        "plain_ms": plain,
        "p99_above_plain_ms": round(socket["p99"] - plain["p99"], 1),
    }


def _between(one: dict[int, int], other: dict[int, int], which: Iterable[int]) -> list[float]:
    return [(other[k] - one[k]) / MS for k in which]


def _percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


class Client:
    """Three connections of one process: one publishes, one hears the readings again, one hears the alerts."""

    def __init__(self, load: Load) -> None:
        self.load, self.times = load, Times()

    async def run(self, broker: Broker, seconds: float, *, jobs: bool = False) -> None:
        """Publish for so long, and listen for a second more."""
        alerts = await _subscribe(broker, "bench-alerts", topic("bench", "alerts"), 0, self._heard)
        readings = await _subscribe(broker, "bench-readings", "sensors/#", 1, self._delivered)
        hello = mqtt5.ConnectPacket("bench-devices", clean_start=True, keep_alive=600)
        devices, _ = await connect(broker, hello, lambda _: None)
        asking = asyncio.create_task(self._ask(devices)) if jobs else None
        try:
            await self._publish(devices, round(seconds * DEVICES * A_SECOND))
            await asyncio.sleep(1)
        finally:
            if asking is not None:
                asking.cancel()
            for link in (devices, readings, alerts):
                await link.end()

    async def _publish(self, link: Link, messages: int) -> None:
        began = time.perf_counter_ns()
        for k in range(messages):
            packet = self.load.packet(k)
            wait = began + k * S // (DEVICES * A_SECOND) - time.perf_counter_ns()
            if wait > 0:
                await asyncio.sleep(wait / S)
            self.times.sent[k] = time.perf_counter_ns()
            link.write(packet)

    async def _ask(self, link: Link) -> None:
        question = msgspec.msgpack.encode(Question(("*",)))
        for number in itertools.count():
            name = JOBS[number % len(JOBS)]
            task = Task(f"job-{number}", 1, "bench", name, 1, question)
            link.write(mqtt5.PublishPacket(f"{topic('bench', 'tasks')}/{task.job}", seal(task, SIGNER)).write())
            await asyncio.sleep(JOB_S)

    def _delivered(self, messages: list[mqtt5.PublishPacket], now: int) -> None:
        for message in messages:
            device, reading = message.topic.split("/")[1], msgspec.json.decode(message.payload, type=Reading)
            self.times.delivered.setdefault(self.load.number(int(device), reading.time), now)

    def _heard(self, messages: list[mqtt5.PublishPacket], now: int) -> None:
        for message in messages:
            alert = msgspec.json.decode(message.payload, type=Raised)
            if alert.rule == RULE:
                device = int(alert.series[0].partition("/")[0])
                self.times.heard.setdefault(self.load.number(device, alert.start + S), now)


async def _subscribe(
    broker: Broker, name: str, pattern: str, qos: int, hear: Callable[[list[mqtt5.PublishPacket], int], None]
) -> Link:
    granted = asyncio.Event()

    def received(packets: list[mqtt5.Packet]) -> None:
        now = time.perf_counter_ns()
        messages = [packet for packet in packets if isinstance(packet, mqtt5.PublishPacket)]
        if len(messages) < len(packets):
            granted.set()
        link.write(b"".join(mqtt5.PubAckPacket(one.packet_id).write() for one in messages if one.packet_id))
        hear(messages, now)

    link, _ = await connect(broker, mqtt5.ConnectPacket(name, clean_start=True, keep_alive=600), received)
    link.write(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS(qos))]).write())
    async with asyncio.timeout(10):
        await granted.wait()
    return link


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run the block, and what it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def behind(
    url: str, directory: Path, settle: float, seconds: float, more: str = "", *, jobs: bool = False
) -> dict[str, object]:
    """Measure a gateway behind a broker that runs, with `more` in its configuration; with jobs, it computes them."""
    if jobs:
        more += f'[models]\npublic_key = "{SIGNER.public.hex()}"\n'
    with gateway(directory, url, CONFIGURATION + more, core=WORK_CORE) as running:
        running.ready()
        load = Load(time.time_ns() // S * S)
        client = Client(load)
        asyncio.run(client.run(Broker(url=url), settle + seconds, jobs=jobs))
        first, messages = (round(part * DEVICES * A_SECOND) for part in (settle, settle + seconds))
        asked = [k for k in load.alerted(messages) if k >= first]
        lost = messages - running.until("fieldgate_readings_recorded_total", messages, 10)
        done = (directory / "gateway.log").read_text().count(" is done: ")
        told = {"readings_lost": round(lost)} | ({"jobs_done": done} if jobs else {})
        return {"readings_per_s": round(messages / _seconds(client.times)), **told, **figures(client.times, asked)}


def _seconds(times: Times) -> float:
    return (max(times.sent.values()) - min(times.sent.values())) / S


def measure(settle: float = SETTLE_S, seconds: float = MEASURE_S) -> Iterator[dict[str, object]]:
    """Measure behind the embedded broker and, where it is installed, mosquitto."""
    with (
        scratch() as directory,
        on_core(LOAD_CORE),
        EmbeddedBroker(directory, free_port(), free_port()) as embedded,
    ):
        yield {"broker": "embedded", **behind(embedded.url, directory, settle, seconds)}
    with (
        scratch() as directory,
        on_core(LOAD_CORE),
        EmbeddedBroker(directory, free_port(), free_port()) as embedded,
    ):
        yield {"broker": "embedded, and jobs", **behind(embedded.url, directory, settle, seconds, jobs=True)}
    if not shutil.which("mosquitto"):
        yield {"broker": "mosquitto", "skipped": "mosquitto is not installed"}
        return
    with scratch() as directory, on_core(LOAD_CORE), mosquitto(directory) as port:
        yield {"broker": "mosquitto", **behind(f"mqtt://127.0.0.1:{port}", directory, settle, seconds)}


def while_training(settle: float = SETTLE_S, seconds: float = MEASURE_S) -> Iterator[dict[str, object]]:
    """Measure behind the embedded broker, with pumps and a cloud: at rest, and while the gateway trains on its core."""
    with (
        scratch() as directory,
        on_core(LOAD_CORE),
        EmbeddedBroker(directory, free_port(), free_port()) as embedded,
    ):
        for every in ("0s", "1s"):
            here = directory / every
            here.mkdir()
            with _learning(here, embedded.url, every) as (more, rounds):
                found = behind(embedded.url, here, settle, seconds, more)
                found.pop("readings_lost", None)  # what the pumps say is not counted there
                yield {"training": every != "0s", "rounds": rounds(), **found}


@contextlib.contextmanager
def _learning(directory: Path, broker: str, every: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a cloud and eight pumps; give what a gateway needs to learn from them, and what counts the rounds."""
    port, tokens = free_port(), Tokens.open(directory / "cloud")
    tokens.issue("bench")
    config = directory / "cloud.toml"
    config.write_text(CLOUD.format(port=port, data=directory / "cloud", broker=broker, every=every))
    pumps = ["--devices", "8", "--rate", "50", "--dialect", "pumps", "--name", "bench.pump"]
    command = [sys.executable, "-m", "cli.main"]
    with (
        start([*command, "cloud", "run", str(config)], core=LOAD_CORE),
        start([*command, "simulate", "--broker", broker, *pumps], core=LOAD_CORE),
    ):
        key, token = tokens.signer().public.hex(), tokens.token_file("bench")
        yield LEARNS.format(key=key, port=port, token=token), lambda: _rounds(port)


def _rounds(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/trainings") as answer:
        [training] = msgspec.json.decode(answer.read())["trainings"]
    return sum(stage["stage"] == "round" for stage in training["history"])

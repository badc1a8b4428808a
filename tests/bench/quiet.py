"""What a gateway costs when little happens: start-up, idle CPU, memory at a steady rate, bytes written to the disk."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cli.broker import EmbeddedBroker
from cloud.tokens import Tokens
from tests.bench.rig import LOAD_CORE, Gateway, gateway, scratch, start
from tests.ports import free_port

SOURCES = """
[[source]]
topic = "sensors/{device}/{measurement}"
[[window]]
size = "1s"
[journal]
checkpoint_interval = "60s"
"""
DAY_S = 86_400


@contextlib.contextmanager
def beside_a_broker(directory: Path, more: str = SOURCES) -> Iterator[tuple[Gateway, str]]:
    """Run a gateway behind the embedded broker; give it and the broker's address."""
    with (
        EmbeddedBroker(directory, free_port(), free_port()) as broker,
        gateway(directory, broker.url, more) as running,
    ):
        running.ready()
        yield running, broker.url


@contextlib.contextmanager
def simulate(url: str, devices: int, rate: float) -> Iterator[None]:
    """Publish `rate` readings a second in all, at a steady pace, from the other core."""
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "simulate",
        f"--broker={url}",
        f"--devices={devices}",
        f"--rate={rate / devices}",  # of each device
    ]
    process = subprocess.Popen(["taskset", "-c", str(LOAD_CORE), *command], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def start_up() -> Iterator[dict[str, object]]:
    """Time whole commands as a user would, interpreter included; the interpreter alone is the baseline."""
    with scratch() as directory:
        config = directory / "gateway.toml"
        config.write_text(f'name = "bench"\ndata = "{directory}"\n{SOURCES}')
        commands = {
            "python_pass_ms": [sys.executable, "-c", "pass"],
            "version_ms": [sys.executable, "-m", "cli.main", "--version"],
            "gateway_check_ms": [sys.executable, "-m", "cli.main", "gateway", "check", str(config)],
        }
        yield {
            name: round(statistics.median(_seconds(command) for _ in range(9)) * 1e3)
            for name, command in commands.items()
        }


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def idle(seconds: float = 60.0) -> Iterator[dict[str, object]]:
    """CPU of a connected gateway to which nobody publishes."""
    with scratch() as directory, beside_a_broker(directory) as (running, _):
        before = running.running.cpu_s
        time.sleep(seconds)
        used = running.running.cpu_s - before
        yield {"cpu_percent_of_a_core": round(used / seconds * 100, 2), "rss_mb": round(running.running.rss_mb, 1)}


@contextlib.contextmanager
def a_cloud(directory: Path) -> Iterator[str]:
    """Run a cloud on the other core; give what a gateway needs to talk to it."""
    port, tokens = free_port(), Tokens.open(directory)
    tokens.issue("bench")
    config = directory / "cloud.toml"
    config.write_text(f'listen = "127.0.0.1:{port}"\ndata = "{directory}"\n')
    with start([sys.executable, "-m", "cli.main", "cloud", "run", str(config)], core=LOAD_CORE):
        yield f'[uplink]\nurl = "http://127.0.0.1:{port}"\ntoken_file = "{tokens.token_file("bench")}"\n'


def memory(minutes: float = 10.0) -> Iterator[dict[str, object]]:
    """RSS at 10,000 readings/s over 1,000 series, minute by minute; without an uplink, then with a cloud."""
    for cloud in (False, True):
        with (
            scratch() as directory,
            a_cloud(directory / "cloud") if cloud else contextlib.nullcontext("") as uplink,
            beside_a_broker(directory, SOURCES + uplink) as (running, url),
            simulate(url, 1000, 10_000),
        ):
            yield {"cloud": cloud, **_resident(running, minutes)}


def _resident(running: Gateway, minutes: float) -> dict[str, object]:
    seen: list[float] = []
    running.until("fieldgate_readings_recorded_total", 1, 30)
    before, recorded, began = running.running.cpu_s, running.recorded, time.monotonic()
    for _ in range(round(minutes * 2)):
        time.sleep(30)
        seen.append(round(running.running.rss_mb, 1))
    seconds = time.monotonic() - began
    return {
        "readings_per_s": round((running.recorded - recorded) / seconds),
        "rss_mb_each_half_minute": seen,
        "rss_mb": max(seen),
        "frames_receipted": round(running.metrics().get("fieldgate_frames_receipted_total", 0)),
        "cpu_percent_of_a_core": round((running.running.cpu_s - before) / seconds * 100, 1),
    }


def disk(seconds: float = 66.0) -> Iterator[dict[str, object]]:
    """Bytes handed to the disk per day at three rates, everything included, with 1 s windows and a checkpoint a minute.

    The default is a checkpoint in five minutes, so a gateway as installed writes less.
    """
    for rate in (1, 10, 1000):
        with scratch() as directory, beside_a_broker(directory) as (running, url), simulate(url, min(rate, 100), rate):
            running.until("fieldgate_readings_recorded_total", 1, 30)
            before, recorded = running.running.written_mb, running.recorded
            time.sleep(seconds)
            written = running.running.written_mb - before
            yield {
                "readings_per_s": round((running.recorded - recorded) / seconds, 1),
                "mb_per_day": round(written / seconds * DAY_S),
            }

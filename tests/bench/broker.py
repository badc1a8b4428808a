"""CPU per reading behind a real mosquitto at full rate, against `mosquitto_sub` behind the same broker."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.rig import LOAD_CORE, WORK_CORE, Running, gateway, scratch, start
from tests.bench.throughput import SOURCES
from tests.ports import free_port

CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
max_queued_bytes 0
set_tcp_nodelay true
"""
MESSAGES = 400_000


@contextlib.contextmanager
def mosquitto(directory: Path) -> Iterator[int]:
    """Run a broker that queues without bound on the load's core; give its port."""
    port = free_port()
    config = directory / "mosquitto.conf"
    config.write_text(CONFIGURATION.format(port=port))
    with start(["mosquitto", "-c", str(config)], core=LOAD_CORE):
        time.sleep(0.5)
        yield port


def publish(port: int) -> None:
    """Publish the load from the broker's core, as fast as the broker takes it."""
    command = [sys.executable, "-m", "tests.bench.flood", f"--port={port}", f"--messages={MESSAGES}"]
    subprocess.run(["taskset", "-c", str(LOAD_CORE), *command], check=True, timeout=120)


def settle(running: Running) -> float:
    """Give the CPU seconds once they have stopped growing."""
    before = -1.0
    while (now := running.cpu_s) > before + 0.02:
        before = now
        time.sleep(0.5)
    return now


def ours(port: int) -> float:
    """CPU microseconds a reading of a whole gateway."""
    with scratch() as directory, gateway(directory, f"mqtt://127.0.0.1:{port}", SOURCES % 0) as running:
        running.ready()
        before = running.running.cpu_s
        publish(port)
        recorded = running.until("fieldgate_readings_recorded_total", MESSAGES, 60)
        return (settle(running.running) - before) / recorded * 1e6


def theirs(port: int) -> float:
    """CPU microseconds a message of mosquitto_sub, which prints to nowhere."""
    command = ["mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-p", str(port), "-t", "sensors/#", "-q", "0"]
    with start(command, core=WORK_CORE) as running:
        time.sleep(1.0)
        before = running.cpu_s
        publish(port)
        return (settle(running) - before) / MESSAGES * 1e6


def measure() -> Iterator[dict[str, object]]:
    """Pair them three times behind one broker."""
    if not shutil.which("mosquitto"):
        yield {"skipped": "mosquitto is not installed"}
        return
    with scratch() as directory, mosquitto(directory) as port:
        pairs = [(ours(port), theirs(port)) for _ in range(3)]
    yield {
        "cpu_us_per_reading": round(statistics.median(pair[0] for pair in pairs), 2),
        "mosquitto_sub_cpu_us": round(statistics.median(pair[1] for pair in pairs), 2),
        "ratio": round(statistics.median(a / b for a, b in pairs), 2),
    }

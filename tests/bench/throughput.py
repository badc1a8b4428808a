"""The whole gateway, intake to spooled frames with journal and fsync, against `mosquitto_sub` fed by the same load."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.bench.rig import LOAD_CORE, WORK_CORE, Gateway, gateway, scratch, start
from tests.ports import free_port

WINDOW = 20_000
SOURCES = """
[[source]]
topic = "sensors/{device}/{measurement}"
qos = %d
[[window]]
size = "1s"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One subscriber through one load."""

    rate: float  # messages a second
    cpu_us: float  # of the subscriber, per message


def blaster(port: int, qos: int, messages: int) -> subprocess.Popen[bytes]:
    """Start the load on its core; it waits for its client."""
    command = [sys.executable, "-m", "tests.bench.blaster", f"--port={port}", f"--qos={qos}", f"--messages={messages}"]
    command += ["--devices=1000", "--interval-ms=2"]  # about the rate measured, so event time keeps step with real time
    return subprocess.Popen(["taskset", "-c", str(LOAD_CORE), *command], stdout=subprocess.PIPE)


def fieldgate(qos: int, messages: int) -> Run:
    """Measure our gateway from the first message until the last has been committed and its windows are spooled."""
    port = free_port()
    load = blaster(port, qos, messages)
    with scratch() as directory, gateway(directory, f"mqtt://127.0.0.1:{port}", SOURCES % qos) as ours:
        assert load.stdout is not None
        idle = ours.running.cpu_s
        said = json.loads(load.stdout.readline())
        blasted = time.monotonic()
        recorded = ours.until("fieldgate_readings_recorded_total", messages, 60)
        assert recorded == messages, f"{recorded} of {messages} recorded"
        rest = _settle(ours) - blasted
        cpu = ours.running.cpu_s - idle
    load.wait()
    return Run(messages / (said["seconds"] + rest), cpu / messages * 1e6)


def _settle(ours: Gateway) -> float:
    """Give the moment at which journal and spool last grew, once they have been still for half a second."""
    last, seen = time.monotonic(), -1.0
    while time.monotonic() < last + 0.5:
        metrics = ours.metrics()
        now = metrics["fieldgate_journal_written_bytes_total"] + metrics['fieldgate_spool_bytes{lane="telemetry"}']
        if now != seen:
            last, seen = time.monotonic(), now
        time.sleep(0.02)
    return last


def yardstick(qos: int, messages: int) -> Run:
    """Measure mosquitto's C subscriber, asking for the same window."""
    port = free_port()
    load = blaster(port, qos, messages)
    command = ["mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-p", str(port), "-t", "sensors/#", "-q", str(qos)]
    command += ["-D", "CONNECT", "receive-maximum", str(WINDOW)]
    time.sleep(0.5 + messages * 8e-6)  # it does not try again, and the load is encoded before the port is open
    with start(command, core=WORK_CORE) as theirs:
        assert load.stdout is not None
        said = json.loads(load.stdout.readline())
        cpu = theirs.cpu_s
    load.wait()
    return Run(said["rate"], cpu / messages * 1e6)


def measure(qos: int, *, rounds: int = 3) -> dict[str, object]:
    """Pair the two in the same minutes, several times; quote medians."""
    if not shutil.which("mosquitto_sub"):
        return {"skipped": "mosquitto_sub is not installed (package mosquitto-clients)"}
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(fieldgate(qos, 1_500_000))
        theirs.append(yardstick(qos, 600_000))
    rate, base = (statistics.median(run.rate for run in runs) for runs in (ours, theirs))
    return {
        "qos": qos,
        "messages_per_s": round(rate),
        "cpu_us_per_message": round(statistics.median(run.cpu_us for run in ours), 2),
        "mosquitto_sub_per_s": round(base),
        "mosquitto_sub_cpu_us": round(statistics.median(run.cpu_us for run in theirs), 2),
        "ratio": round(statistics.median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True)), 2),
        "rounds": rounds,
    }

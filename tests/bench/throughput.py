"""The whole gateway, intake to spooled frames with journal and fsync, against `mosquitto_sub` fed by the same load."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.bench.rig import LOAD_CORE, WORK_CORE, free_port, gateway, scratch, start

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
    return subprocess.Popen(["taskset", "-c", str(LOAD_CORE), *command], stdout=subprocess.PIPE)


def fieldgate(qos: int, messages: int) -> Run:
    """Measure our gateway: until every message is recorded, the rest of it (commit, spool) included in its CPU."""
    port = free_port()
    load = blaster(port, qos, messages)
    with scratch() as directory, gateway(directory, f"mqtt://127.0.0.1:{port}", SOURCES % qos) as ours:
        assert load.stdout is not None
        said = json.loads(load.stdout.readline())
        recorded = ours.until("fieldgate_readings_recorded_total", messages, 60)
        assert recorded == messages, f"{recorded} of {messages} recorded"
        cpu = ours.running.cpu_s
    load.wait()
    return Run(said["rate"], cpu / messages * 1e6)


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
        theirs.append(yardstick(qos, 300_000 if qos == 0 else 100_000))
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

"""What every measurement needs: pinned processes, their CPU time and memory, a gateway with a scratch directory."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, WORK_CORE = CORES[0], CORES[-1]


def machine() -> dict[str, object]:
    """Say what the figures were measured on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {"cpu": model, "cores": len(CORES), "python": platform.python_version(), "system": platform.system()}


@dataclass(slots=True)
class Running:
    """A child process."""

    process: subprocess.Popen[bytes]

    @property
    def cpu_s(self) -> float:
        """User and system seconds so far, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def rss_mb(self) -> float:
        """Resident memory in 10^6 bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE / 1e6

    @property
    def written_mb(self) -> float:
        """Bytes handed to the block layer, in 10^6."""
        for line in Path(f"/proc/{self.process.pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1]) / 1e6
        return 0.0


@contextlib.contextmanager
def start(command: list[str], *, core: int, log: Path | None = None) -> Iterator[Running]:
    """Run a command on one core; it is ended by its id when the block ends."""
    out = log.open("wb") if log else subprocess.DEVNULL
    process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=out, stderr=out)
    try:
        yield Running(process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory on a disk (not in memory, where fsync costs nothing) and remove it."""
    directory = Path(tempfile.mkdtemp(prefix="fieldgate-bench-", dir=os.environ.get("FIELDGATE_BENCH_DIR", "/var/tmp")))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@dataclass(slots=True)
class Gateway:
    """A gateway process and its /metrics."""

    running: Running
    port: int

    def metrics(self) -> dict[str, float]:
        """Scrape; sample name with labels to value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    @property
    def recorded(self) -> float:
        """Readings in the journal so far."""
        return self.metrics()["fieldgate_readings_recorded_total"]

    def ready(self) -> None:
        """Wait until it is connected to its broker."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5),
            ):
                return
            time.sleep(0.05)
        raise TimeoutError("the gateway is not ready")

    def until(self, name: str, value: float, seconds: float) -> float:
        """Wait until a metric has reached a value; return its last value (less, if the time is up)."""
        end = time.monotonic() + seconds
        seen = 0.0
        while time.monotonic() < end and seen < value:
            with contextlib.suppress(OSError):
                seen = self.metrics().get(name, 0.0)
            time.sleep(0.02)
        return seen


@contextlib.contextmanager
def gateway(directory: Path, broker: str, more: str = "", *, core: int = WORK_CORE) -> Iterator[Gateway]:
    """Run a gateway on one core with `more` appended to its configuration."""
    port = free_port()
    config = directory / "gateway.toml"
    config.write_text(
        f'name = "bench"\ndata = "{directory / "data"}"\n[devices]\nurl = "{broker}"\n'
        f'[http]\nlisten = "127.0.0.1:{port}"\n{more}'
    )
    command = [sys.executable, "-m", "cli.main", "gateway", "run", str(config)]
    with start(command, core=core, log=directory / "gateway.log") as running:
        yield Gateway(running, port)


def say(name: str, figures: dict[str, object]) -> None:
    """Print one row as JSON."""
    print(json.dumps({"bench": name, **figures}), flush=True)

"""What is written to the disk beside the records themselves: blocks filled up, headers, checkpoints, marks.

Written is what the process hands to the block layer (`write_bytes` of its /proc io), the payload what journal and spool
took, frame by frame. Nothing is compacted: history is dropped in whole files, so that costs nothing here.

All rates are measured at the same time, a gateway and a broker each: how busy the machine is changes little of it. Each
is measured from its first record to a checkpoint, so over whole intervals, each with the checkpoint that ends it. Where
none is due so soon it weighs nothing: a few kilobytes in five minutes, beside the 2.7 MB in 95 s of 10,000 readings/s.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from protocol.messages import LANES
from tests.bench.quiet import DAY_S, simulate
from tests.bench.rig import LOAD_CORE, Gateway, gateway, scratch, start
from tests.ports import free_port

RATES = ((1, 1), (10, 10), (1_000, 100), (10_000, 1_000))
"""Readings a second in all, and of how many devices."""

LEAST_S, MOST_S = 60.0, 135.0

AS_INSTALLED = """
[[source]]
topic = "sensors/{device}/{measurement}"
[[window]]
size = "1s"
"""


def measure() -> Iterator[dict[str, object]]:
    """Give a row for each rate."""
    if not shutil.which("mosquitto"):
        yield {"skipped": "mosquitto is not installed"}
        return
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(RATES)) as pool:
        at_work = [_at_work(stack, rate, devices) for rate, devices in RATES]
        amplified = round(bare(at_work[0].directory), 2)
        for row in pool.map(_over, at_work):
            yield {"bare_write_amplification": amplified, **row}


class AtWork(NamedTuple):
    """A gateway that records."""

    running: Gateway
    directory: Path


def _at_work(stack: contextlib.ExitStack, rate: int, devices: int) -> AtWork:
    directory = stack.enter_context(scratch())
    url = stack.enter_context(mosquitto(directory))
    running = stack.enter_context(gateway(directory, url, AS_INSTALLED))
    stack.enter_context(simulate(url, devices, rate))
    running.until("fieldgate_readings_recorded_total", 1, 30)
    return AtWork(running, directory)


@contextlib.contextmanager
def mosquitto(directory: Path) -> Iterator[str]:
    """Run a broker with the bounds of `deploy/mosquitto.conf`; give its address."""
    port, config = free_port(), directory / "mosquitto.conf"
    ours = Path(__file__).parents[2].joinpath("deploy/mosquitto.conf").read_text().splitlines()
    bounds = [line for line in ours if line.startswith(("max_", "set_"))]
    config.write_text("\n".join([f"listener {port} 127.0.0.1", "allow_anonymous true", *bounds, ""]))
    with start(["mosquitto", "-c", str(config)], core=LOAD_CORE):
        time.sleep(0.5)
        yield f"mqtt://127.0.0.1:{port}"


def _over(one: AtWork) -> dict[str, object]:
    running, directory = one
    before, written = running.metrics(), running.running.written_mb
    began = time.monotonic()
    _until_a_checkpoint(directory)
    after, written = running.metrics(), running.running.written_mb - written
    took = time.monotonic() - began

    def grown(name: str) -> float:
        return after[name] - before[name]

    spooled = sum(grown(f'fieldgate_spool_bytes{{lane="{lane}"}}') for lane in LANES)  # nobody fetches it
    payload = (grown("fieldgate_journal_written_bytes_total") + spooled) / 1e6
    checkpoints = list((directory / "data" / "checkpoints").glob("*.fg"))
    return {
        "readings_per_s": round(grown("fieldgate_readings_recorded_total") / took, 1),
        "written_mb": round(written, 2),
        "payload_mb": round(payload, 2),
        "amplification": round(written / payload, 2),
        "mb_per_day": round(written / took * DAY_S),
        "syncs_per_s": round(grown("fieldgate_journal_fsync_seconds_count") / took, 1),
        "checkpoint_mb": round(max((path.stat().st_size for path in checkpoints), default=0) / 1e6, 2),
    }


def _until_a_checkpoint(directory: Path) -> None:
    """Wait for the first one after LEAST_S, or until MOST_S have passed."""
    time.sleep(LEAST_S)
    end, before = time.monotonic() + MOST_S - LEAST_S, _checkpoints(directory)
    while time.monotonic() < end and _checkpoints(directory) == before:
        time.sleep(0.2)


def _checkpoints(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "data" / "checkpoints").glob("*.fg"))


def bare(directory: Path, size: int = 1024, count: int = 500) -> float:
    """Append `count` records, each made durable: what is written for each byte, without anything of ours."""
    before = _own_written()
    descriptor = os.open(directory / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for _ in range(count):
        os.write(descriptor, b"x" * size)
        os.fdatasync(descriptor)
    os.close(descriptor)
    return (_own_written() - before) / (size * count)


def _own_written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))

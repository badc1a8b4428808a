"""How long a start takes: over a spool of 1 GiB, over a journal's tail of 100 MB, and after kill -9 under load.

`python -m tests.bench.recovery DIR` is the child that opens what `measure` has built, and says what that took.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from cli.broker import EmbeddedBroker
from gateway import recovery
from gateway.config import Duration, GatewayConfig, Journal, PipelineConfig, Size, Source, Spool, Window
from gateway.config import pipeline_text as text_of
from gateway.derive import Derive
from gateway.journal import Journal as Records
from gateway.pack import Pack
from gateway.records import ConfigurationRecord, Readings, ReadingsRecord, Recent, Tally
from gateway.segment import OsFiles
from gateway.service import settle_memory
from gateway.spool import Spool as Lanes
from protocol import frame
from protocol.messages import Cover, Kind, WindowsBody
from tests.bench.quiet import SOURCES, simulate
from tests.bench.rig import WORK_CORE, gateway, scratch
from tests.ports import free_port

S = 10**9
BASE = 1_790_000_000 * S
SERIES = 1_000
NAMES = [f"device{number:04}/temperature" for number in range(SERIES)]
WINDOWS = (Window(size=Duration(S)),)
SPOOL_BYTES = 1 << 30
TAIL_BYTES = 100_000_000
LONGEST = 5_600_000
"""Bytes of 4,000 records of 200 readings: a checkpoint is due then (`checkpoint_readings`)."""

DISTINCT = 32
"""Seconds of windows that are made; the spool holds them again and again, each time under another cover."""


def settings(directory: Path) -> GatewayConfig:
    """Give the configuration that both sides open the directory with; nothing is dropped meanwhile."""
    spool, journal = Spool(telemetry_bytes=Size(4 * SPOOL_BYTES)), Journal()
    return GatewayConfig(
        "bench",
        str(directory),
        (Source("sensors/{device}/{measurement}"),),
        window=WINDOWS,
        journal=journal,
        spool=spool,
    )


def records(rows: int, apart: int) -> Iterator[ReadingsRecord]:
    """Make records of `rows` QoS 1 readings each, two decimals, `apart` ns from record to record, for ever."""
    rng = np.random.default_rng(7)
    levels = rng.uniform(0, 100, SERIES)
    for number in itertools.count():
        stamp = BASE + number * apart
        series = ((np.arange(rows) + number * rows) % SERIES).astype(np.int32)
        time_ = stamp - (apart * np.arange(rows, 0, -1) // rows) // 10**6 * 10**6
        value = np.round(levels[series] + rng.normal(0, 1, rows), 2)
        ids = ((np.arange(rows) + number * rows) % 20_000 + 1).astype(np.uint16)
        recent = Recent(ids, rng.integers(0, 1 << 32, rows, np.uint32))
        names = NAMES if number == 0 else []
        yield ReadingsRecord(stamp, Readings(series, time_, value), names, Tally(rows, rows), recent)


def build_tail(directory: Path, rows: int, apart: int, size: int = TAIL_BYTES) -> int:
    """Write a journal of `size` bytes without a checkpoint; give its readings."""
    config = settings(directory)
    journal = Records.open(OsFiles(), directory / "journal", config.journal, about=dict)
    journal.append(ConfigurationRecord(BASE, text_of(config.pipeline)))
    made = 0
    for record in records(rows, apart):
        journal.append(record)
        made += rows
        if journal.pending_bytes > 1 << 20:
            journal.commit()
            if journal.bytes >= size:
                break
    journal.close()
    return made


def bodies() -> list[WindowsBody]:
    """Make frames' bodies of a second of windows of all series each."""
    derive, pack = Derive(PipelineConfig(window=WINDOWS)), Pack(S // 5, {})
    packed = []
    for seq, record in enumerate(itertools.islice(records(SERIES, S // 10), 10 * (DISTINCT + 1)), 1):
        packed += pack.feed(seq, derive.feed(record), record.stamp) + pack.tick(record.stamp)
    return [frame.load(item.kind, item.body) for item in packed if item.lane == "telemetry"][:DISTINCT]


def build_spool(directory: Path, size: int = SPOOL_BYTES) -> int:
    """Fill the telemetry lane of a spool; give its frames."""
    spool = Lanes.open(OsFiles(), directory / "spool", settings(directory).spool, new_epoch=lambda: 1)
    made = 0
    for made, body in enumerate(itertools.cycle(bodies()), 1):
        cover = Cover(made, 0)
        packed = frame.dump(msgspec.structs.replace(body, cover=cover))
        spool.append("telemetry", Kind.WINDOWS, packed, cover, BASE)
        if made % 256 == 0:
            spool.commit()
            if spool.bytes("telemetry") >= size:
                break
    spool.close()
    return made


def cold(directory: Path) -> int:
    """Let the kernel forget what it has read of these files; give their bytes."""
    size = 0
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
            size += path.stat().st_size
    return size


def plainly(directory: Path) -> float:
    """Read all files and take their CRC: the baseline, in seconds."""
    cold(directory)
    began = time.perf_counter()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            zlib.crc32(path.read_bytes())
    return time.perf_counter() - began


def opened(directory: Path) -> dict[str, float]:
    """Open the directory in a child, as a start does, with nothing of it in memory."""
    size = cold(directory)
    command = ["taskset", "-c", str(WORK_CORE), sys.executable, "-m", "tests.bench.recovery", str(directory)]
    said: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {"mb": round(size / 1e6, 1)} | said


def memory_mb(name: str) -> float:
    """Read a line of our own /proc status, in 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


def child(directory: Path) -> None:
    """Recover, and print seconds, readings and memory."""
    settle_memory()
    before = memory_mb("VmRSS")
    began, used = time.perf_counter(), time.process_time()
    found = recovery.recover(settings(directory), OsFiles(), BASE, lambda: 2)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    said = {
        "seconds": round(seconds, 3),
        "cpu_s": round(cpu, 3),
        "readings": found.at.readings,
        "records": found.at.position,
        "frames": found.spool.frames("telemetry"),
        "rss_growth_mb": round(memory_mb("VmHWM") - before, 1),
    }
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    os._exit(0)  # as by kill -9: closing is not measured


def measure() -> Iterator[dict[str, object]]:
    """Give a row each for the spool, for a long tail, for the longest there is at 10,000 readings/s, and for starts."""
    with scratch() as directory:
        build_spool(directory)
        yield {"what": "spool", **opened(directory), "plain_read_crc_s": round(plainly(directory), 2)}
    for what, rows, size in (
        ("tail of 100 MB, recorded at 200,000 readings/s", 4_000, TAIL_BYTES),
        ("longest tail at 10,000 readings/s", 200, LONGEST),
    ):
        with scratch() as directory:
            build_tail(directory, rows, S // 50, size)
            plain = round(plainly(directory), 2)
            said = opened(directory)
            rates = {f"readings_per_{name}": round(said["readings"] / said[name]) for name in ("seconds", "cpu_s")}
            yield {"what": what, **said, **rates, "plain_read_crc_s": plain}
    yield {"what": "ready after kill -9", **starts()}


def starts(times: int = 20, rate: float = 1_000) -> dict[str, object]:
    """Kill a gateway that is at work, start it again, and take the time from the command to `/readyz`."""
    took: list[float] = []
    with (
        scratch() as directory,
        EmbeddedBroker(directory, free_port(), free_port()) as broker,
        simulate(broker.url, 100, rate),
    ):
        for _ in range(times):
            began = time.perf_counter()
            with gateway(directory, broker.url, SOURCES) as running:
                running.ready()
                took.append(time.perf_counter() - began)
                running.until("fieldgate_readings_recorded_total", running.recorded + rate, 30)
                running.running.process.kill()
    took = sorted(took[1:])  # the first finds nothing to recover
    plain = statistics.median(_interpreter() for _ in range(5))
    return {
        "starts": len(took),
        "seconds_p50": round(statistics.median(took), 2),
        "seconds_max": round(took[-1], 2),
        "python_imports_numpy_s": round(plain, 2),
    }


def _interpreter() -> float:
    began = time.perf_counter()
    subprocess.run(["taskset", "-c", str(WORK_CORE), sys.executable, "-c", "import asyncio, numpy"], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    child(Path(sys.argv[1]))

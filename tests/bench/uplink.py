"""What reaches the cloud: bytes a window, and the time from a window's end to its commit there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import numpy as np

from gateway.config import Duration, PipelineConfig, Window
from gateway.derive import Derive
from gateway.pack import Pack, Packed
from gateway.records import Readings, ReadingsRecord
from protocol import frame
from protocol.columns import decode_windows
from protocol.messages import LANES

S = 10**9
SERIES, READINGS, SECONDS = 1_000, 10, 20


def wire() -> Iterator[dict[str, object]]:
    """Bytes of whole frames per window of 10 two-decimal readings, noise 1 around levels of 0 to 100, 1,000 series."""
    rng = np.random.default_rng(7)
    levels = rng.uniform(0, 100, SERIES)
    derive = Derive(PipelineConfig(window=(Window(size=Duration(S)),)))
    pack = Pack(S // 5, {})
    packed: list[Packed] = []
    names = [f"device{number:04}/temperature" for number in range(SERIES)]
    base = 1_790_000_000 * S
    for tick in range(SECONDS * READINGS):
        now = base + tick * S // READINGS
        series = np.arange(SERIES, dtype=np.int32)
        value = np.round(levels + rng.normal(0, 1.0, SERIES), 2)
        readings = Readings(series, np.full(SERIES, now, np.int64), value)
        record = ReadingsRecord(now, readings, names if tick == 0 else [])
        packed += pack.feed(tick + 1, derive.feed(record), now) + pack.tick(now)
    packed += pack.flush()
    windows = [item for item in packed if item.lane == "telemetry"]
    size = sum(len(frame.encode(item.kind, item.body, lane=LANES.index(item.lane), seq=1)) for item in windows)
    rows = sum(item.rows for item in windows)
    yield {
        "windows": rows,
        "bytes_per_window": round(size / rows, 2),
        "bytes_per_window_json": round(sum(map(_as_json, windows)) / rows, 2),
        "frames": len(windows),
    }


def _as_json(packed: Packed) -> int:
    """Bytes of the same rows as a JSON list of objects: the baseline."""
    rows = decode_windows(frame.load(packed.kind, packed.body).columns)
    columns = [column.tolist() for column in rows]
    return len(msgspec.json.encode([dict(zip(rows._fields, row, strict=True)) for row in zip(*columns, strict=True)]))


def latency(seconds: int = 40) -> Iterator[dict[str, object]]:
    """Window end to commit in the cloud, by the demo: two gateways, one-second windows, all on this machine."""
    command = [sys.executable, "-m", "cli.main", "demo", "--seconds", str(seconds), "--json"]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    yield {
        "window_end_to_commit_ms": said["latency_ms"],
        "windows": said["windows_stored"],
        "lost": said["lost"],
        "bytes_json": said["bytes_json"],
        "bytes_up": said["bytes_up"],
    }

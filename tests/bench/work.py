"""Readings per second and core of work over a journal in the page cache: as recorded, and from its blocks.

100 devices report a value with two decimals each second, in records of 200 readings; all but the last are in sealed
files. `first` reads the records and makes the blocks, `blocks` reads those; `decoding` is reading alone, `arithmetic`
is the work over readings in memory. `numpy`, the baseline of the same run, is mean, deviation, least and greatest value
of one array of all values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gateway import config
from gateway.blocks import Blocks
from gateway.journal import Journal
from gateway.past import JournalPast
from gateway.records import Readings, ReadingsRecord
from gateway.segment import OsFiles
from learning.work import Batch, registry
from tests.bench.alert import on_core
from tests.bench.rig import WORK_CORE, scratch

S = 10**9
READINGS, SERIES, ROWS = 6_000_000, 100, 200
BLOCKS = 1 << 30
TASKS: dict[str, dict[str, Any]] = {
    "quantiles": {},
    "histogram": {},
    "top_anomalies": {},
    "spectrum": {"step": S},
}


def record(data: Path, readings: int) -> int:
    """Write the journal; give its bytes."""
    journal = Journal.open(OsFiles(), data / "journal", config.Journal(), about=dict)
    rng = np.random.default_rng(1)
    level = np.full(SERIES, 20.0)
    names = [f"device-{number}/heat" for number in range(SERIES)]
    series = np.tile(np.arange(SERIES, dtype=np.int32), ROWS // SERIES)
    turns = np.repeat(np.arange(ROWS // SERIES), SERIES)
    for number in range(readings // ROWS):
        level += rng.normal(0.0, 0.05, SERIES)
        value = np.round(level[series] + rng.normal(0.0, 0.1, ROWS), 2)
        at = (number * (ROWS // SERIES) + turns) * S + series * 10**6
        journal.append(ReadingsRecord(number, Readings(series, at, value), names if number == 0 else []))
        if number % 256 == 255:
            journal.commit()
    journal.commit()
    journal.configure(config.Journal(segment_bytes=config.Size(1)))
    journal.append(ReadingsRecord(number + 1, Readings(series, at + S, value)))  # the newest file is never compacted
    journal.commit()
    size = journal.bytes
    journal.close()
    return size


def taken(what: Callable[[], object], times: int = 1) -> float:
    """Give the CPU seconds of the quickest of some runs."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        what()
        best = min(best, time.process_time() - began)
    return best


def batches(data: Path, *, blocks: bool = True, series: str = "*") -> Iterator[Batch]:
    """Give all readings, or those of some series."""
    cache = Blocks(OsFiles(), data / "blocks", BLOCKS, 0) if blocks else None
    past = JournalPast(data, blocks=cache)
    for readings in past.batches([series]):
        yield Batch(past.names, *readings)
    past.close()


def read(data: Path, *, blocks: bool = True) -> int:
    """Read all, and do nothing with it."""
    return sum(len(batch.time) for batch in batches(data, blocks=blocks))


def measure(readings: int = READINGS) -> Iterator[dict[str, object]]:
    """Measure `moments` in its parts, then other work over blocks."""
    with scratch() as data, on_core(WORK_CORE):
        size = record(data, readings)
        moments = registry.find("moments")
        params = registry.read_params(moments, b"\x80")

        def run(**how: Any) -> float:
            return taken(lambda: moments.map(batches(data, **how), params), 1 if how else 3)

        def rate(seconds: float) -> float:
            return round(readings / seconds / 1e6, 1)

        recorded = run(blocks=False)
        first = run(series="*")
        held = list(batches(data))
        value = np.concatenate([batch.value for batch in held])
        plain = taken(lambda: (value.mean(), value.std(), value.min(), value.max()), 3)
        yield {
            "work": "moments",
            "readings": len(value),
            "journal_mb": round(size / 1e6, 1),
            "blocks_mb": round(sum(path.stat().st_size for path in (data / "blocks").iterdir()) / 1e6, 1),
            "millions_per_core_s": {
                "as_recorded": rate(recorded),
                "first": rate(first),
                "blocks": rate(run()),
                "decoding": rate(taken(lambda: read(data), 3)),
                "arithmetic": rate(taken(lambda: moments.map(held, params), 3)),
                "numpy": rate(plain),
            },
            "one_series_of_100_ms": round(1e3 * taken(lambda: list(batches(data, series="device-7/*")), 3), 1),
        }
        for name, said in TASKS.items():
            work = registry.find(name)
            own = registry.read_params(work, registry.pack_params(work, said))
            seconds = taken(lambda: work.map(batches(data), own))  # noqa: B023 - called at once
            yield {"work": name, "millions_per_core_s": {"blocks": rate(seconds)}}

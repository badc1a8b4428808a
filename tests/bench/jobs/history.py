"""Journals as a gateway of ten machines writes them: nine axes at 100 Hz and a temperature at 1 Hz each.

A message holds one moment of a machine, a record what came within 20 ms. `python -m tests.bench.jobs.history CONFIG
SEED READINGS END` writes one, up to END (ns).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gateway import config
from gateway.config import pipeline_text
from gateway.journal import Journal
from gateway.records import ConfigurationRecord, Readings, ReadingsRecord, Recent, Tally
from gateway.segment import OsFiles

S = 10**9
MACHINES, AXES, HERTZ = 10, 9, 100
TICK = S // HERTZ
TICKS = 2
"""In a record."""
FAST = MACHINES * AXES
CHUNK = 10 * HERTZ
"""Ticks that are made at once."""
COMMIT = 1 << 20
AXIS = "axis-{}"


def names(prefix: str) -> list[str]:
    """Name all series: the fast ones, then the slow ones."""
    machines = [f"{prefix}-{machine}" for machine in range(MACHINES)]
    fast = [f"{machine}/{AXIS.format(axis)}" for machine in machines for axis in range(AXES)]
    return fast + [f"{machine}/heat" for machine in machines]


def seconds(readings: int) -> int:
    """Say how many seconds have at least so many readings."""
    return -(-readings // (FAST * HERTZ + MACHINES))


def records(prefix: str, seed: int, readings: int, end: int) -> Iterator[ReadingsRecord]:
    """Make the records of all seconds before `end`, two decimals; an axis goes with the one before it."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(5, 50, FAST)
    fast = np.tile(np.arange(FAST, dtype=np.int32), TICKS)
    slow = np.arange(FAST, FAST + MACHINES, dtype=np.int32)
    ticks = seconds(readings) * HERTZ
    begin = (end // S - seconds(readings)) * S
    for first in range(0, ticks, CHUNK):
        value = _swing(rng, level, first)
        heat = np.round(rng.normal(60, 2, (CHUNK // HERTZ, MACHINES)), 2)
        for at in range(0, min(CHUNK, ticks - first), TICKS):
            time = begin + (first + at + np.repeat(np.arange(TICKS), FAST)) * TICK
            series, values = fast, value[at : at + TICKS].ravel()
            if at % HERTZ == 0:
                series = np.concatenate([series, slow])
                time = np.concatenate([time, np.full(MACHINES, time[0])])
                values = np.concatenate([values, heat[at // HERTZ]])
            messages = MACHINES * TICKS
            ids = (np.arange(messages) + (first + at) * MACHINES) % 20_000 + 1
            recent = Recent(ids.astype(np.uint16), rng.integers(0, 1 << 32, messages, np.uint32))
            told = names(prefix) if first + at == 0 else []
            tally = Tally(messages, len(series))
            yield ReadingsRecord(int(time[-1]) + TICK, Readings(series, time, values), told, tally, recent)


def _swing(rng: np.random.Generator, level: np.ndarray, first: int) -> np.ndarray:
    """Give CHUNK ticks of all axes, shape (CHUNK, FAST)."""
    phase = 2 * np.pi * (first + np.arange(CHUNK))[:, None] / HERTZ
    own = rng.normal(0, 0.3, (CHUNK, MACHINES, AXES))
    own[:, :, 1:] += 0.5 * own[:, :, :-1]
    turning = np.sin(phase * (5 + np.arange(FAST) % AXES))
    rounded: np.ndarray = np.round(level + turning + own.reshape(CHUNK, FAST), 2)
    return rounded


def write(settings: config.GatewayConfig, seed: int, readings: int, end: int) -> None:
    """Write a gateway's journal, without a checkpoint."""
    directory = Path(settings.data) / "journal"
    journal = Journal.open(OsFiles(), directory, settings.journal, about=dict)
    journal.append(ConfigurationRecord(end - (seconds(readings) + 1) * S, pipeline_text(settings.pipeline)))
    for record in records(settings.name, seed, readings, end):
        journal.append(record)
        if journal.pending_bytes > COMMIT:
            journal.commit()
    journal.commit()
    journal.close()


if __name__ == "__main__":
    write(config.parse(Path(sys.argv[1]).read_text()), *map(int, sys.argv[2:]))

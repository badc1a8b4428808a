"""The demonstration as a stranger meets it: the command, killed processes, one JSON object."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tomllib
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from cli.accounting import account
from cli.demo.counts import Sample, result, summary
from cli.demo.show import replayed

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90

pytestmark = pytest.mark.timeout(DEADLINE_S + 20)


async def demo(*options: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "demo", *options, cwd=ROOT, stdout=PIPE, stderr=PIPE
    )


async def test_a_demonstration_loses_nothing_and_says_so_in_one_object(tmp_path: Path) -> None:
    process = await demo("--seconds", "4", "--gateways", "1", "--data", str(tmp_path), "--json")
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    done: dict[str, Any] = json.loads(out)
    assert (done["lost"], done["dropped"], done["queued"], done["gateways"], done["restarts"]) == (0, 0, 0, 1, {})
    assert done["published"] == done["acknowledged"] == done["recorded"] // 2 > 0
    assert done["windows_stored"] > 0
    assert done["frames"]["sent"] > 0
    assert (done["frames"]["duplicate"], done["frames"]["quarantined"]) == (0, 0)
    assert 0 < done["bytes_up"] < done["bytes_json"]
    assert done["latency_ms"]["p50"] <= done["latency_ms"]["p99"]
    assert tomllib.loads((tmp_path / "gateway-1.toml").read_text())["name"] == "gateway-1"
    assert not list(alive(tmp_path))


async def test_processes_that_are_killed_come_back_and_nothing_is_lost(tmp_path: Path) -> None:
    process = await demo("--data", str(tmp_path))
    assert process.stdout is not None
    lines: list[str] = []

    async def line(pattern: str) -> re.Match[str]:
        assert process.stdout is not None
        while said := (await process.stdout.readline()).decode():
            lines.append(said)
            if found := re.search(pattern, said):
                return found
        pytest.fail("".join(lines))

    async with asyncio.timeout(DEADLINE_S):
        await line(r"gateway-1 is \d+")
        children = dict(re.findall(r"([\w-]+) is (\d+)", lines[-1]))
        await line(r"[1-9]\d* readings/s +[1-9]\d* windows")
        for name in ("gateway-1", "cloud", "broker"):
            os.kill(int(children[name]), signal.SIGKILL)
            await line(rf"^{name} \(pid {children[name]}\) was killed by SIGKILL; started again as pid \d+$")
        await line("devices send their last minute again")
        process.send_signal(signal.SIGINT)
        await line(r"published [\d,]+, acknowledged [\d,]+, lost 0$")
        await process.communicate()
    assert process.returncode == 0
    assert lines[0].startswith("Page: http://127.0.0.1:")
    assert not list(alive(tmp_path))


def alive(directory: Path) -> list[str]:
    """Give the command lines of processes that work in a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        found += [words] if f"{directory}/" in words or words.endswith(f"{directory} ") else []
    return found


def test_how_fast_the_recordings_are_replayed_is_stated() -> None:
    assert replayed() == (
        "Devices replay 8 recorded series (Numenta Anomaly Benchmark) with today's times, 20 readings a second:\n"
        "6,000 to 72,000 times as fast as they were recorded."
    )


def test_the_end_is_told_in_lines_that_name_losses_first() -> None:
    balance = account({}, {}, published=20)
    done = result(
        balance,
        Sample(9.0, 1280, 64, 1280, 0.4, 2, 2, alerts=3, shadow=4),
        dropped=0,
        frames={"received": 12, "duplicate": 1, "quarantined": 0},
        bytes_json=40_000,
        latencies=[300.0],
        models={"gateway-1": 2, "gateway-2": 0},
        labelled=1,
        restarts={},
        seconds=9.0,
    )
    assert summary(balance, done) == [
        "published 20, acknowledged 0, lost 0",
        "in the cloud 0, declared as dropped 0",
        "64 windows of 1,280 readings",
        (
            "3 alerts, 1 of them on anomalies that people had labelled, 4 in the shadow;"
            " versions of the model: 2 on gateway-1, 0 on gateway-2"
        ),
        "13 frames, 1 duplicate, 0 quarantined",
        "40,000 bytes of JSON became 1,280 bytes up, 1.00 a reading",
        "from a window's end to its commit: p50 300.0 ms, p99 300.0 ms",
    ]

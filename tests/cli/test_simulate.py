"""`fieldgate simulate`, as a process, against a real broker."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import simulate as simulating
from cli.broker import EmbeddedBroker
from cli.main import run
from cli.series import FileRefused
from cli.simulate import tables

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30


async def simulate(broker: EmbeddedBroker, *options: str) -> Process:
    command = ["-m", "cli.main", "simulate", "--broker", broker.url, "--devices", "5", "--rate", "100", *options]
    return await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=PIPE, stderr=PIPE)


async def ended(process: Process) -> tuple[int, str]:
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    assert err == b""
    return process.returncode or 0, out.decode()


async def test_json_is_one_object_and_nothing_else(embedded_broker: EmbeddedBroker) -> None:
    code, out = await ended(await simulate(embedded_broker, "--seconds", "0.4", "--json"))
    done = json.loads(out)
    assert code == 0
    assert {name: done[name] for name in ("devices", "published", "acknowledged", "in_flight", "refused")} == {
        "devices": 5,
        "published": 200,
        "acknowledged": 200,
        "in_flight": 0,
        "refused": 0,
    }


def test_a_broker_that_never_answers_is_a_failure(
    free_port: Callable[[], int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulating, "FINISH_S", 0.2)
    url = f"mqtt://127.0.0.1:{free_port()}"
    code = run(["simulate", "--broker", url, "--devices", "1", "--rate", "9", "--seconds", "0.2", "--json"])
    said = capsys.readouterr()
    assert (code, json.loads(said.out)["published"]) == (1, 0)
    assert said.err.startswith(f"fieldgate: nothing could be published: {url.removeprefix('mqtt://')}: ")


async def test_told_to_stop_it_waits_for_acknowledgements_and_says_which_it_has(
    embedded_broker: EmbeddedBroker,
) -> None:
    process = await simulate(embedded_broker, "--progress", "--first", "11", "--name", "")
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        while json.loads(await process.stdout.readline())["acknowledged"] < 50:
            pass
    process.send_signal(signal.SIGTERM)
    code, out = await ended(process)
    last = json.loads(out.splitlines()[-1])
    assert (code, last["in_flight"], last["acknowledged"]) == (0, 0, last["published"])
    pairs = last["pairs"]
    names = [
        "machine_temperature-1",
        "ambient_temperature-1",
        "cpu_utilization-1",
        "request_latency-1",
        "taxi_passengers-1",
    ]
    assert list(pairs) == names
    assert all(len(ranges) == 1 and ranges[0][0] == 11 for ranges in pairs.values())
    assert sum(last - first + 1 for ((first, last),) in pairs.values()) == last["published"]


async def test_told_so_it_sends_the_last_minute_again(embedded_broker: EmbeddedBroker) -> None:
    process = await simulate(embedded_broker, "--progress")
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        while json.loads(await process.stdout.readline())["acknowledged"] < 50:
            pass
        process.send_signal(signal.SIGUSR1)
        while not json.loads(await process.stdout.readline())["repeated"]:
            pass
    process.send_signal(signal.SIGINT)
    code, out = await ended(process)
    last = json.loads(out.splitlines()[-1])
    assert (code, last["acknowledged"], last["repeated"] >= 50) == (0, last["published"], True)


def test_values_that_are_no_numbers_in_json_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("time,a,b\n1,1,nan\n2,inf,nan\n3,3,nan\n")
    assert tables(path) == {"a": [1.0, 3.0]}
    path.write_text("time,a\n1,nan\n")
    with pytest.raises(FileRefused, match="no readings in it"):
        tables(path)

"""Processes of a demonstration: started again when killed, given up when they will not stay, ended with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.demo.children import QUICK, Child, ChildFailed
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def kept(child: Child) -> AsyncIterator[asyncio.Task[None]]:
    await child.start()
    keeping = asyncio.create_task(child.keep())
    try:
        yield keeping
    finally:
        child.stop()
        await child.ended()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_a_child_that_is_killed_is_started_again_and_this_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    restarted: list[str] = []
    broker = ["broker", str(tmp_path), "0", "0"]
    child = Child("broker", lambda: broker, tmp_path / "log", said.append, on_restart=lambda: restarted.append("again"))
    async with kept(child):
        first = child.pid
        child.signal(signal.SIGKILL)
        await until(lambda: child.restarts == 1, "the second life")
        assert child.pid != first
    assert said == [f"broker (pid {first}) was killed by SIGKILL; started again as pid {said[0].split()[-1]}"]
    assert restarted == ["again"]
    assert child.pid is None


async def test_a_child_that_will_not_stay_is_given_up_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.demo.children.PAUSE_S", 0.0)
    said: list[str] = []
    child = Child("it", lambda: ["no-such-command"], tmp_path / "log", said.append)
    async with kept(child) as keeping:
        with pytest.raises(ChildFailed, match=r"it does not stay up:\n(.|\n)*No such command 'no-such-command'"):
            await keeping
    assert len(said) == QUICK - 1
    assert all("ended with code 2" in line for line in said)


async def test_lines_a_child_prints_are_handed_over(tmp_path: Path) -> None:
    lines: list[bytes] = []
    said: list[str] = []
    child = Child("it", lambda: ["--version"], tmp_path / "log", said.append, on_line=lines.append)
    async with kept(child):
        await until(lambda: lines, "a line")
    assert lines[0].startswith(b"fieldgate ")


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = f"""
import asyncio
from pathlib import Path
from cli.demo.children import Child
async def main():
    child = Child("broker", lambda: ["broker", {str(tmp_path)!r}, "0", "0"], Path({str(tmp_path / "log")!r}), print)
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        watched = os.pidfd_open(child)
        process.kill()
    try:
        with asyncio.Runner() as runner:
            runner.run(readable(watched))
    finally:
        os.close(watched)


async def readable(descriptor: int) -> None:
    """Wait until the process behind a pidfd has ended."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    async with asyncio.timeout(30):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(descriptor)

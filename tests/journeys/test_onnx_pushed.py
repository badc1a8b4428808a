"""An ONNX file is pushed, tried by its training's gateways, promoted, and says what windows are; or why it does not."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.broker import EmbeddedBroker
from learning import features
from tests.journeys.fleet import Fleet
from tests.journeys.test_classes import CLOUD, Pump, hearing
from tests.learning.onnx_files import linear
from tests.waiting import until

NAMES = features.names("statistics/1", ("x", "y"))


def swings() -> bytes:
    """Give a file that says how much x swings: beyond 2.2 it is class 1."""
    weights = np.zeros((len(NAMES), 2))
    weights[NAMES.index("x.deviation"), 1] = 1
    return linear(weights, np.array([2.2, 0]))


async def said(*words: str) -> tuple[int, str]:
    """Run a command."""
    command = [sys.executable, "-m", "cli.main", *words]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def without_the_runtime(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what starts from now on find no onnxruntime."""
    directory.mkdir()
    (directory / "onnxruntime.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", f"{directory}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


async def test_an_onnx_file_is_tried_and_promoted_and_classifies(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(tmp_path, embedded_broker.url, free_port, CLOUD)
    cloud, barn, mill = fleet.cloud, fleet.site("barn"), fleet.site("mill")
    pump, file = Pump(barn), tmp_path / "swings.onnx"
    push = ("cloud", "models", "push", str(file), "state", str(cloud.path))

    async def verdict() -> Any:
        [found] = (await cloud.ask("/v1/trainings"))["trainings"]
        return found["verdict"]

    async def runs() -> Any:
        [model] = (await cloud.ask("/v1/models"))["models"]
        found = {run["gateway"]: run["reported"] for run in model["gateways"] if run["reported"]}
        return {name: (one["outcome"], one["reason"]) for name, one in found.items()} if len(found) == 2 else None

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(cloud.running())
        file.write_bytes(b"no model")
        code, why = await said(*push)  # although nobody is there to try it
        assert (code, "send an ONNX file" in why) == (1, True), why
        file.write_bytes(swings())
        gateway = await stack.enter_async_context(barn.gateway())
        heard = await stack.enter_async_context(hearing(embedded_broker.url, barn.name))
        await gateway.ready()
        without_the_runtime(tmp_path / "hides", monkeypatch)
        other = await stack.enter_async_context(mill.gateway())
        await other.ready()
        await pump.run(60)
        await gateway.recorded(3 * 8 * 60)

        async def pushed() -> bool:
            return await said(*push) == (0, "state: its gateways try it: see `fieldgate cloud trainings`\n")

        await until(pushed, "both gateways are there, and it is tried")
        assert await until(verdict, "the trial ends", within=30) == "promoted"
        expected = {barn.name: ("applied", ""), mill.name: ("refused", "runtime")}
        assert await until(runs, "both say what became of it") == expected
        _, listed = await said("cloud", "models", "list", str(cloud.path))
        assert "refused version 1: runtime" in listed

        await pump.run(40)
        await until(lambda: len(heard) >= 40, "windows are classified")
        assert np.mean([one["class"] == pump.state(one["start"]) for one in heard]) > 0.9
        assert {(one["version"], one["by"]) for one in heard} == {(1, "active")}

        file.write_bytes(linear(np.zeros((3, 2)), np.zeros(2)))
        code, why = await said(*push)
        assert (code, "shape: inputs" in why) == (1, True), why
        assert [one["version"] for one in (await cloud.ask("/v1/models"))["models"]] == [1]

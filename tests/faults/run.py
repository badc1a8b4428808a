"""Faults over real processes: `python -m tests.faults.run SCENARIO --cycles N --seed S --json`, or `all`.

`all` takes every scenario in turns, batch by batch, two at once, each a process and a seed of its own, until all of
PLAN is done or the time is up; then it prints one JSON object. `SCENARIO --whole` does so with one scenario. Results
are kept by version and seed (`tally`): a batch that is there and was good is not played again, so a run that was
interrupted goes on where it was. One that failed is played again, with the same seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

from tests.faults import tally
from tests.faults.plan import PLAN, Scenario, playable
from tests.faults.tally import Result

PATIENCE = 4
"""A batch that takes so many times as long as it should is ended, and has failed."""

Batch = tuple[str, int]
"""Scenario and seed."""


async def play(scenario: str, cycles: int, seed: int) -> Result:
    """Play a scenario in a directory of its own; what it says when it fails is in `failed`."""
    began = time.monotonic()
    said: Result = {"scenario": scenario, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="fieldgate-faults-", dir=_disk()) as name:
        try:
            found = await PLAN[scenario].play(Path(name), cycles, Random(seed))
        except Exception as error:  # noqa: BLE001 - whatever it was, the batch has failed, and says why
            why = "".join(traceback.format_exception(error))
            return said | _failed(why[-4000:], time.monotonic() - began)
    seconds = round(time.monotonic() - began, 1)
    return said | found.report() | {"good": found.good and found.cycles == cycles, "seconds": seconds}


def _failed(why: str, seconds: float) -> Result:
    return {"good": False, "failed": why, "seconds": round(seconds, 1)}


def _disk() -> str | None:
    """Prefer a directory that is on a disk: where it is memory, fsync costs nothing."""
    return "/var/tmp" if "TMPDIR" not in os.environ and Path("/var/tmp").is_dir() else None


def one(scenario: str, cycles: int, seed: int) -> Result:
    """Play a batch and keep its result."""
    result = {"version": tally.version(), **asyncio.run(play(scenario, cycles, seed))}
    tally.keep(result)
    return result


async def everything(names: Collection[str], seed: int, minutes: float, lanes: int) -> Result:
    """Play what is not yet known to be good, and give what all batches of this version come to."""
    began, version = time.monotonic(), tally.version()
    plan = {name: scenario for name, scenario in playable().items() if name in names}
    due = deque(missing(plan, seed, tally.known(version)))
    async with asyncio.TaskGroup() as tasks:
        for lane in range(lanes):
            tasks.create_task(_lane(due, began + 60 * minutes, version), name=f"lane {lane}")
    done = tally.known(version)
    scenarios = {name: _state(name, done) for name in plan}
    return {
        "version": version,
        "good": all(
            not state["failed_seeds"] and state["cycles"] >= state["of_cycles"] for state in scenarios.values()
        ),
        "seconds": round(time.monotonic() - began),
        "skipped": sorted(set(names) - set(plan)),  # the program that they need is not installed
        "scenarios": scenarios,
    }


def missing(plan: dict[str, Scenario], seed: int, done: dict[Batch, Result]) -> list[Batch]:
    """List what is to be played, in turns."""
    most = max((scenario.batches for scenario in plan.values()), default=0)
    batches = [(name, seed + turn) for turn in range(most) for name, one in plan.items() if turn < one.batches]
    return [batch for batch in batches if not done.get(batch, {}).get("good")]


def _state(name: str, done: dict[Batch, Result]) -> Result:
    results = [result for (played, _), result in sorted(done.items()) if played == name]
    return {"of_cycles": PLAN[name].batch * PLAN[name].batches, **tally.together(results)}


async def _lane(due: deque[Batch], end: float, version: str) -> None:
    """Play one batch after the other; none begins that would not end in time."""
    while due:
        name, seed = due.popleft()
        if time.monotonic() + PLAN[name].seconds < end:
            await _child(name, seed, version)


async def _child(name: str, seed: int, version: str) -> None:
    """Play a batch in a process of its own, which keeps its result; say in a line what came of it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fieldgate-faults-", dir=_disk(), ignore_cleanup_errors=True) as directory:
        command = (sys.executable, "-m", "tests.faults.run", name, "--seed", str(seed), "--json")
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | {"TMPDIR": directory}, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        try:
            async with asyncio.timeout(PATIENCE * PLAN[name].seconds):
                await process.wait()
        except TimeoutError:
            why = _failed("it took too long", time.monotonic() - began)
            tally.keep({"version": version, "scenario": name, "seed": seed, **why})
        finally:
            await _end(process)
    good = tally.known(version).get((name, seed), {}).get("good", False)
    word = "good" if good else "FAILED"
    sys.stderr.write(f"{name}, seed {seed}: {word}, {time.monotonic() - began:.0f} s\n")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a batch with all that it has started."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def say(what: dict[str, Any]) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(what) + "\n")


def main(arguments: list[str]) -> int:
    """Run what is asked for; 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run")
    parser.add_argument("scenario", choices=[*PLAN, "all"])
    parser.add_argument("--cycles", type=int, help="by default one batch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="all batches of the scenario, as `all` plays them")
    parser.add_argument("--minutes", type=float, default=60, help="of many batches: none begins that would end later")
    parser.add_argument("--lanes", type=int, default=2, help="of many batches: so many at once")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    options = parser.parse_args(arguments)
    if options.whole or options.scenario == "all":
        names = PLAN if options.scenario == "all" else [options.scenario]
        said = asyncio.run(everything(names, options.seed, options.minutes, options.lanes))
    else:
        if not options.json:
            sys.stderr.write(f"{options.scenario}, seed {options.seed}\n")
        said = one(options.scenario, options.cycles or PLAN[options.scenario].batch, options.seed)
        said |= {"times": {name: tally.quantiles(values) for name, values in said.get("times", {}).items()}}
    say(said)
    return 0 if said["good"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Faults over real processes: `python -m tests.faults.run SCENARIO --cycles N --seed S --json`, or `all`.

`all` takes every scenario in turns, batch by batch, each with a seed of its own, until all of PLAN is done or the time
is up. Results are one JSON object a line in `tests/faults/results/`, by commit and seed. A batch that is there and was
good is not played again, so a run that was interrupted goes on where it was; one that failed is, with the same seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.faults import brokers, kills, machine, network, poison
from tests.faults.stage import Found

RESULTS = Path(__file__).with_name("results")

Play = Callable[[Path, int, Random], Awaitable[Found]]


class Scenario(NamedTuple):
    """What is done, and how often: cycles of one batch, batches of a whole run, cycles in the suite."""

    play: Play
    batch: int
    batches: int
    brief: int  # 0: another test does it
    needs: str = ""  # a program


PLAN: dict[str, Scenario] = {
    "gateway-kill": Scenario(kills.gateway_kill, kills.ROUND, 20, 1),
    "cloud-kill": Scenario(kills.cloud_kill, 50, 6, 1),
    "network-cut": Scenario(network.network_cut, 90, 4, 4),
    "broker-kill": Scenario(brokers.broker_kill, 10, 10, 1, "mosquitto"),
    "broker-wiped": Scenario(brokers.broker_wiped, 10, 10, 1),
    "poison": Scenario(poison.poison, 140, 6, 1),
    "slow-cloud": Scenario(network.slow_cloud, 50, 2, 1),
    "disk-full": Scenario(machine.disk_full, 25, 4, 1),
    "broker-defaults": Scenario(brokers.broker_defaults, 3, 1, 1, "mosquitto"),
    "model-swap": Scenario(kills.model_swap, 100, 2, 0),
    "clock": Scenario(machine.clock, 6, 4, 1),
}


def program(name: str) -> str | None:
    """Find a program that a scenario needs."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def commit() -> str:
    """Name what is tested: the commit, and whether anything is changed."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


async def play(scenario: str, cycles: int, seed: int) -> dict[str, Any]:
    """Play a scenario in a directory of its own; what it says when it fails is in `failed`."""
    began = time.monotonic()
    said: dict[str, Any] = {"scenario": scenario, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="fieldgate-faults-", dir=_disk()) as name:
        try:
            found = await PLAN[scenario].play(Path(name), cycles, Random(seed))
        except AssertionError as error:
            return said | {"cycles": cycles, "good": False, "failed": str(error)[-4000:]}
    seconds = round(time.monotonic() - began, 1)
    good = found.good and found.cycles == cycles
    return said | found.report() | {"good": good, "seconds": seconds}


def _disk() -> str | None:
    """Prefer a directory that is on a disk: where it is memory, fsync costs nothing."""
    return "/var/tmp" if Path("/var/tmp").is_dir() else None


def one(scenario: str, cycles: int, seed: int) -> dict[str, Any]:
    """Play a batch and keep its result."""
    said = {"commit": commit(), **asyncio.run(play(scenario, cycles, seed))}
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "results.jsonl").open("a") as file:
        file.write(json.dumps(said) + "\n")
    return said


def known(version: str) -> dict[tuple[str, int], dict[str, Any]]:
    """Give the newest result of each batch of this version, by scenario and seed."""
    path = RESULTS / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    said = [result for line in lines if (result := json.loads(line))["commit"] == version]
    return {(result["scenario"], result["seed"]): result for result in said}


def everything(seed: int, minutes: float) -> bool:
    """Play what is not yet known to be good; say for each scenario what all its batches came to."""
    end, version = time.monotonic() + 60 * minutes, commit()
    done = known(version)
    most = max(scenario.batches for scenario in PLAN.values())
    for number in range(most):
        for name, scenario in PLAN.items():
            batch = (name, seed + number)
            if number >= scenario.batches or done.get(batch, {}).get("good") or time.monotonic() > end:
                continue
            if scenario.needs and not program(scenario.needs):
                continue
            done[batch] = one(name, scenario.batch, seed + number)
            say(done[batch])
    good = True
    for name, scenario in PLAN.items():
        total = summary([result for (played, _), result in done.items() if played == name])
        say({"scenario": name, "of_cycles": scenario.batch * scenario.batches, **total})
        good &= not total["failed_seeds"]
    return good


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up batches."""
    sums = {key: sum(result.get(key, 0) for result in results) for key in ("cycles", "lost", "duplicated", "reordered")}
    recorded = sum(result.get("accounting", {}).get("recorded", 0) for result in results)
    failed = [result["seed"] for result in results if not result["good"]]
    return {"batches": len(results), **sums, "recorded": recorded, "failed_seeds": failed}


def say(what: dict[str, Any]) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run what is asked for; 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run")
    parser.add_argument("scenario", choices=[*PLAN, "all"])
    parser.add_argument("--cycles", type=int, help="by default one batch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60, help="of `all`: no batch begins later")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    options = parser.parse_args(arguments)
    if options.scenario == "all":
        return 0 if everything(options.seed, options.minutes) else 1
    if not options.json:
        sys.stdout.write(f"{options.scenario}, seed {options.seed}\n")
    said = one(options.scenario, options.cycles or PLAN[options.scenario].batch, options.seed)
    say(said)
    return 0 if said["good"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

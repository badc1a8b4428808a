"""All scenarios over real processes: what is done, and how often."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.faults import brokers, full, jobs, kills, machine, network, poison, reload, rounds
from tests.faults.stage import Found

Play = Callable[[Path, int, Random], Awaitable[Found]]


class Scenario(NamedTuple):
    """What is done, and how often: cycles of one batch, batches of a whole run, cycles in the suite."""

    play: Play
    batch: int
    batches: int
    brief: int  # 0: another test does it
    seconds: float  # that a batch takes, about, on two cores
    needs: str = ""  # a program


PLAN: dict[str, Scenario] = {
    "gateway-kill": Scenario(kills.gateway_kill, kills.ROUND, 20, 1, 75),
    "cloud-kill": Scenario(kills.cloud_kill, 50, 6, 1, 130),
    "broker-kill": Scenario(brokers.broker_kill, 25, 4, 1, 120, "mosquitto"),
    "broker-wiped": Scenario(brokers.broker_wiped, 25, 4, 1, 90),
    "network-cut": Scenario(network.network_cut, 104, 4, len(network.STEPS), 120),
    "answers-lost": Scenario(network.answers_lost, 250, 4, 2, 90),
    "disk-full": Scenario(full.disk_full, 26, 4, 2, 60),
    "slow-cloud": Scenario(network.slow_cloud, 50, 2, 1, 150),
    "clock": Scenario(machine.clock, 2 * len(machine.CLOCKS), 4, 1, 150),
    "poison": Scenario(poison.poison, 140, 6, 1, 110),
    "reload": Scenario(reload.reload, 60, 2, 3, 60),
    "broker-defaults": Scenario(brokers.broker_defaults, 3, 1, 1, 30, "mosquitto"),
    "round-kill": Scenario(rounds.round_kill, 50, 4, 0, 75),
    "job-kill": Scenario(jobs.job_kill, 50, 4, 0, 80),
    "model-swap": Scenario(kills.model_swap, 100, 2, 0, 120),
}


def playable() -> dict[str, Scenario]:
    """Give the scenarios whose program is here."""
    return {name: scenario for name, scenario in PLAN.items() if not scenario.needs or program(scenario.needs)}


def program(name: str) -> str | None:
    """Find a program that a scenario needs."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")

"""Three gateways learn together, each from its own journal; what they have learnt is promoted and comes back to all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.broker import EmbeddedBroker
from tests.journeys.fleet import TRAINING, Fleet, measure, running
from tests.journeys.processes import python
from tests.waiting import until

CLOUD = (
    TRAINING
    + """
classes = 3
samples = 16
hop = 8
rounds = 2
goal = 3
"""
)


PRIVATE = """
rule = "mean"
every = "1s"
[training.privacy]
noise = 0.1
epsilon = 400  # covers one round and no second: COSTS of tests/cloud/test_private.py
"""


class Learners(Fleet):
    """A cloud with a training, and gateways."""

    async def training(self) -> dict[str, Any]:
        """Give what the cloud says of its training; nothing while it still reads what it has kept."""
        said = await self.cloud.ask("/v1/trainings")
        return dict(said["trainings"][0]) if "trainings" in said else {}

    async def ended(self) -> dict[str, Any]:
        """Wait for the end of a run, and give what is said then."""

        async def ended() -> dict[str, Any] | None:
            found = await self.training()
            return found if found.get("verdict") else None

        found: dict[str, Any] = await until(ended, "the run ends", within=60)
        return found

    async def applied(self, name: str) -> set[str]:
        """Give the gateways that say they have applied the model."""
        models = (await self.cloud.ask("/v1/models"))["models"]
        runs = [run for model in models if model["name"] == name for run in model["gateways"]]
        return {run["gateway"] for run in runs if (run["reported"] or {}).get("outcome") == "applied"}


async def test_gateways_learn_together_and_what_they_learnt_comes_back(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    fleet = Learners(tmp_path, embedded_broker.url, free_port, CLOUD)
    sites = [fleet.site(number) for number in range(3)]
    async with running(*sites):
        for seed, site in enumerate(sites):
            await measure(site, seed)
        async with fleet.cloud.running():
            found = await fleet.ended()
            names = [site.name for site in sites]
            assert [(one["stage"], one["round"], sorted(one["answered"])) for one in found["history"]] == [
                *[("survey", 0, names), ("round", 1, names), ("round", 2, names), ("trial", 3, names)]
            ]
            assert (found["verdict"], found["before"]) == ("promoted", None)
            assert found["accuracy"] > 0.8

            async def all_apply() -> bool:
                return await fleet.applied("state") == set(names)

            await until(all_apply, "all gateways have applied it")


async def test_a_run_ends_when_its_privacy_budget_is_spent_and_no_other_begins(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    fleet = Learners(tmp_path, embedded_broker.url, free_port, CLOUD + PRIVATE)
    sites = [fleet.site(number) for number in range(3)]
    async with running(*sites):
        for seed, site in enumerate(sites):
            await measure(site, seed)
        async with fleet.cloud.running():
            found = await fleet.ended()
            assert [(one["stage"], one["round"]) for one in found["history"]] == [
                *[("survey", 0), ("round", 1), ("trial", 2)]
            ]
            budget = found["privacy"]
            assert (found["ended"], found["run"], budget["rounds"], budget["left"]) == ("budget", 1, 1, 0)
            assert 293 < budget["spent"] < budget["epsilon"] == 400
        async with fleet.cloud.running() as cloud:  # it has not forgotten

            async def all_there() -> bool:
                views = (await fleet.cloud.ask("/v1/gateways"))["gateways"]
                return [one["online"] for one in views] == [True] * 3

            await until(all_there, "all gateways are back", within=60)
            start = python("-m", "cli.main", "cloud", "trainings", "start", "state")
            asked = await start(tmp_path / "start.log", [str(fleet.cloud.path)])
            assert await asked.wait() == 1
            assert "its privacy budget is spent: epsilon 293 of 400" in (tmp_path / "start.log").read_text()
            assert (await fleet.training())["privacy"] == budget
            assert "state: 3 gateways, fewer than 100" in cloud.said()

"""Three gateways learn together, each from its own journal; what they have learnt is promoted and comes back to all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.broker import EmbeddedBroker
from tests.journeys.fleet import TRAINING, Fleet, measure, running
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


class Learners(Fleet):
    """A cloud with a training, and gateways."""

    async def training(self) -> dict[str, Any]:
        """Give what the cloud says of its training."""
        [found] = (await self.cloud.ask("/v1/trainings"))["trainings"]
        return dict(found)

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

            async def ended() -> Any:
                found = await fleet.training()
                return found if found["verdict"] else None

            found = await until(ended, "the run ends", within=60)
            names = [site.name for site in sites]
            assert [(one["stage"], one["round"], sorted(one["answered"])) for one in found["history"]] == [
                *[("survey", 0, names), ("round", 1, names), ("round", 2, names), ("trial", 3, names)]
            ]
            assert (found["verdict"], found["before"]) == ("promoted", None)
            assert found["accuracy"] > 0.8

            async def all_apply() -> bool:
                return await fleet.applied("state") == set(names)

            await until(all_apply, "all gateways have applied it")

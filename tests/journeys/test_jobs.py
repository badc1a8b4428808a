"""A question about raw history goes to the gateways, and what comes back is what one place would have computed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.broker import EmbeddedBroker
from tests.journeys.fleet import MS, Fleet, running
from tests.journeys.messages import send
from tests.journeys.site import Site
from tests.waiting import until


class Askers(Fleet):
    """A cloud that runs jobs, and gateways with raw history."""

    async def online(self, *sites: Site) -> None:
        """Wait until the cloud sees exactly these gateways online."""

        async def seen() -> bool:
            gateways = (await self.cloud.ask("/v1/gateways"))["gateways"]
            return {one["name"] for one in gateways if one["online"]} == {site.name for site in sites}

        await until(seen, "the cloud sees who is there")

    async def ended(self, job: str) -> Any:
        """Wait for a job's end, and give it whole."""

        async def ended() -> Any:
            found = await self.cloud.ask(f"/v1/jobs/{job}")
            return found if found and found.get("state", "running") not in ("running", "merging") else None

        return await until(ended, "the job ends", within=60)


@pytest.fixture
def fleet(tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]) -> Askers:
    return Askers(tmp_path, embedded_broker.url, free_port, values='values = { x = "x" }')


async def measure(site: Site, seed: int, rows: int = 500) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Let a pump say values; give them."""
    values = np.round(np.random.default_rng(seed).normal(20, 3, rows), 3)
    first = time.time_ns() - 60 * 10**9
    topic = site.topic.replace("{device}", "pump")
    said = [
        (topic, json.dumps({"time": first + step * 20 * MS, "x": value}).encode())
        for step, value in enumerate(values.tolist())
    ]
    await send(site, said)
    return values


async def test_moments_and_quantiles_over_two_gateways_are_those_of_all_readings(fleet: Askers) -> None:
    sites = [fleet.site(number) for number in range(2)]
    async with fleet.cloud.running(), running(*sites):
        values = np.concatenate([await measure(site, seed) for seed, site in enumerate(sites)])
        await fleet.online(*sites)
        plan = await fleet.cloud.call("POST", "/v1/plan", {"work": "moments"})
        assert {step["gateway"]: step["where"] for step in plan["steps"]} == {s.name: "gateway" for s in sites}
        names = {}
        for work in ("moments", "quantiles"):
            begun = await fleet.cloud.call("POST", "/v1/jobs", {"work": work, "series": ["*/x"], "last": "1h"})
            found = await fleet.ended(begun["id"])
            names[work] = begun["id"]
            assert (found["state"], found["reason"], found["complete"]) == ("done", "", 1.0), found
            assert found["readings"] == len(values)
            assert found["held"][1] - found["held"][0] >= 499 * 20 * MS
            [group] = found["result"]["groups"].values()
            if work == "moments":
                assert group["count"] == len(values)
                assert (group["minimum"], group["maximum"]) == (values.min(), values.max())
                np.testing.assert_allclose([group["mean"], group["deviation"]], [values.mean(), values.std()], 1e-9)
            else:
                shares = found["result"]["shares"]
                exact = np.quantile(values, shares, method="lower")
                np.testing.assert_allclose(group["values"], exact, found["result"]["relative_error"])
        listed = (await fleet.cloud.ask("/v1/jobs"))["jobs"]
        assert {one["id"] for one in listed} == set(names.values())


async def test_a_gateway_that_is_killed_in_between_answers_when_it_is_back(fleet: Askers) -> None:
    sites = [fleet.site(number) for number in range(2)]
    async with fleet.cloud.running(), running(*sites) as gateways:
        values = [await measure(site, seed) for seed, site in enumerate(sites)]
        await fleet.online(*sites)
        await gateways[1].kill()
        begun = await fleet.cloud.call("POST", "/v1/jobs", {"work": "moments", "deadline": "90s"})

        async def one_has_answered() -> bool:
            return bool((await fleet.cloud.ask(f"/v1/jobs/{begun['id']}"))["done"] == 1)

        await until(one_has_answered, "the other one answers")
        async with running(sites[1]):
            found = await fleet.ended(begun["id"])
        assert (found["state"], found["complete"], found["readings"]) == ("done", 1.0, sum(map(len, values)))


async def test_at_the_deadline_the_result_says_who_is_missing_and_a_killed_cloud_goes_on(
    fleet: Askers,
) -> None:
    sites = [fleet.site(number) for number in range(2)]
    async with running(sites[0]):
        async with fleet.cloud.running() as cloud:
            async with running(sites[1]):
                await fleet.online(*sites)
            values = await measure(sites[0], 0)
            await fleet.online(sites[0])
            begun = await fleet.cloud.call("POST", "/v1/jobs", {"work": "moments", "deadline": "6s"})
            await cloud.kill()
        async with fleet.cloud.running():
            found = await fleet.ended(begun["id"])
    assert (found["state"], found["reason"], found["complete"]) == ("done", "deadline", 0.5), found
    assert {one["gateway"]: one["state"] for one in found["each"]} == {sites[0].name: "done", sites[1].name: "open"}
    assert found["readings"] == len(values)


STANDING = """
[[job]]
name = "often"
work = "moments"
series = ["*/x"]
every = "10s"
over = "1h"
wait = "0s"
keep = ["*.count"]
"""


async def test_a_standing_job_fills_a_series_also_after_its_cloud_was_killed(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    fleet = Askers(tmp_path, embedded_broker.url, free_port, STANDING, values='values = { x = "x" }')
    site = fleet.site(0)

    async def rows() -> list[tuple[int, float]]:
        """Start and value of the windows of the job's only series."""
        found = await fleet.cloud.series("cloud")
        if "often/pump/x.count" not in found:
            return []
        page = await fleet.cloud.ask(f"/v1/windows?series={found['often/pump/x.count']}")
        return [(row["start"], row["mean"]) for row in page["windows"]]

    async def whole(rows_before: int) -> bool:
        """Whether there are more rows, the newest of all readings."""
        found = await rows()
        return len(found) > rows_before and found[-1][1] == 500

    async with running(site):
        async with fleet.cloud.running() as cloud:
            await measure(site, 0)
            await until(lambda: whole(0), "a run is in the series", within=60)
            await cloud.kill()
        async with fleet.cloud.running():
            before = len(await rows())
            await until(lambda: whole(before), "the next one too", within=60)
            starts = [start for start, _ in await rows()]
            assert all(start % (10 * 10**9) == 0 for start in starts)
            [told] = (await fleet.cloud.ask("/v1/jobs"))["standing"]
            assert (told["name"], told["last"] - told["over"], told["lacking"]) == ("often", starts[-1], "")
            gateways = (await fleet.cloud.ask("/v1/gateways"))["gateways"]
            assert [one["name"] for one in gateways] == [site.name]

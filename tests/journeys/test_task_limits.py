"""Work of strangers that never ends, eats memory or crashes is stopped within its limits and reported; nothing else
feels it: what devices say meanwhile is recorded, and the next job is computed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cli.broker import EmbeddedBroker
from tests.journeys.cloud_process import Cloud, agree
from tests.journeys.fleet import BUS
from tests.journeys.kept import check_whole
from tests.journeys.site import WINDOWS, Site, finished, publishing
from tests.waiting import until

STRANGERS = """
import os, msgspec

class Params(msgspec.Struct):
    pass

class Stranger:
    version, params, raw = 1, Params, False
    def __init__(self, name, does):
        self.name, self._does = name, does
    def map(self, batches, params):
        return self._does(batches)
    def merge(self, parts, params):
        return parts[0]
    def result(self, part, params):
        return {}

def forever(batches):
    while True:
        pass

def hoard(batches):
    return [bytes(1 << 20) for _ in range(10_000)]

def fail(batches):
    raise RuntimeError("out of luck")

endless = Stranger("endless", forever)
hungry = Stranger("hungry", hoard)
crashing = Stranger("crashing", fail)
quitting = Stranger("quitting", lambda batches: os._exit(3))
"""

REASONS = {"endless": "cpu", "hungry": "memory", "crashing": "crash", "quitting": "crash"}

GATEWAY = """
[tasks]
cpu = "1s"
memory = "96MiB"
[models]
public_key = "{key}"
"""


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package beside us, for all processes, that offers work which does what work should not."""
    about = tmp_path / "beside" / "strangers-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1\n")
    points = "".join(f"{name} = strangers:{name}\n" for name in REASONS)
    (about / "entry_points.txt").write_text(f"[fieldgate.work]\n{points}")
    (tmp_path / "beside" / "strangers.py").write_text(STRANGERS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(about.parent), str(Path(__file__).parents[2])]))


async def begin(cloud: Cloud, work: str) -> str:
    """Begin a job, and give its name."""
    begun: dict[str, str] = await cloud.call("POST", "/v1/jobs", {"work": work})
    return begun["id"]


async def tried(cloud: Cloud, job: str) -> tuple[str, str] | None:
    """Tell what became of a job's one part, and why; None before it was tried."""
    [each] = (await cloud.ask(f"/v1/jobs/{job}"))["each"]
    return (each["state"], each["reason"]) if each["reason"] or each["state"] == "done" else None


@pytest.mark.usefixtures("strangers")
async def test_work_that_misbehaves_is_stopped_and_reported_and_intake_loses_nothing(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    cloud = Cloud(tmp_path / "cloud", free_port(), BUS.format(broker=embedded_broker.url, name=tmp_path.name))
    more = WINDOWS + GATEWAY.format(key=cloud.public_key) + cloud.enrol(tmp_path.name)
    here = Site(tmp_path, embedded_broker.url, free_port(), more)
    await here.subscribe()
    async with cloud.running(), here.gateway() as gateway, publishing(here, rate=20) as publisher:
        await until(lambda: cloud.windows(here.name), "the cloud has windows")
        jobs = {work: await begin(cloud, work) for work in (*REASONS, "moments")}
        found = {}
        for work, job in jobs.items():
            _, found[work] = await until(partial(tried, cloud, job), f"{work} is reported", within=60, every=0.1)
        assert found == REASONS | {"moments": ""}
        await gateway.recorded(2 * await finished(publisher))
        await gateway.settled()
        await until(lambda: agree(cloud, here), "the cloud has what the gateway has", every=0.1)
        await gateway.stop()
    check_whole(here, publisher, spool=False)

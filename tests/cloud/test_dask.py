"""A real Dask scheduler with two workers over TLS computes what processes of this machine would, whatever dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud import dispatch
from cloud.compute import Compute, Died, choose
from cloud.compute import dask as module
from cloud.config import Compute as Settings
from cloud.jobs import read_spec
from cloud.merging import GROUP, Merging
from protocol.bus import MemoryBroker
from protocol.errors import ComputeUnavailable, ConfigurationRefused
from tests.cloud.dask_cluster import certify, cluster, die, hold
from tests.cloud.dispatching import running
from tests.cloud.test_merging import WHAT, part, reading
from tests.cloud.wire import Clock, Wire
from tests.waiting import until

pytest.importorskip("distributed", reason="the extra `dask` is not installed")


def at(address: str, files: dict[str, str]) -> Settings:
    return Settings(
        scheduler=address, ca_file=files["ca_file"], cert_file=files["cert_file"], key_file=files["key_file"]
    )


async def workers(dask: Compute, count: int) -> None:
    """Wait until so many are there."""

    async def there() -> bool:
        return f", {count} workers" in await dask.look()

    await until(there, f"{count} workers are there", every=0.2)


async def test_merges_go_through_a_cluster_of_which_a_worker_is_killed(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path, free_port()) as made:
        await made.scheduler()
        children = {child.process.pid: child for child in [await made.worker(), await made.worker()]}  # type: ignore[attr-defined]
        dask = choose(at(made.address, made.files))
        await workers(dask, 2)
        async with dask:
            held = asyncio.create_task(dask.run(hold, str(tmp_path)))
            first = await until(lambda: next(tmp_path.glob("[0-9]*"), None), "a worker has begun")
            parts = {f"g{number:03}": part(float(number)) for number in range(GROUP + 6)} | {"odd": b"nobody's"}
            merging = asyncio.create_task(Merging(dask).merge(WHAT, list(parts), reading(parts)))
            await children[int(first.name)].kill()
            found = await merging
            (tmp_path / "go").touch()
            assert await held in {*children} - {int(first.name)}, "what the dead one had begun is done by the other"
        assert (json.loads(found.result)["groups"]["pump/x"]["count"], found.refused) == (GROUP + 6, ("odd",))
        await workers(dask, 1)
        monkeypatch.setattr(module, "WALL_S", 0.5)
        (tmp_path / "go").rename(tmp_path / "gone")
        async with dask:
            with pytest.raises(Died, match="late"):
                await dask.run(hold, str(tmp_path))
        (tmp_path / "go").touch()
        monkeypatch.setattr(module, "REACH_S", 1.0)
        with pytest.raises(ComputeUnavailable):  # a stranger to the authority is not let in
            await choose(at(made.address, certify(tmp_path / "stranger"))).look()


async def test_a_job_waits_for_a_cluster_that_is_away_and_is_merged_when_it_is_there(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(module, "REACH_S", 1.0)
    monkeypatch.setattr(dispatch, "RETRY_S", 0.1)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    async with cluster(tmp_path, free_port()) as made:
        settings, barn = at(made.address, made.files), Wire("barn")
        with pytest.raises(ComputeUnavailable, match=made.address):
            await choose(settings).look()
        async with running(tmp_path / "test.db", MemoryBroker(), clock, barn, compute=settings) as cloud:
            job = (await cloud.dispatch.submit(read_spec(b'{"work": "moments"}'))).id
            await cloud.answer(barn, await cloud.asked("barn", job), 1.0, 2.0)
            await until(lambda: cloud.dispatch.view(job).state == "merging", "it waits to be merged")
            scheduler = await made.scheduler()
            await made.worker()
            found = await cloud.ended(job)
            assert (found.state, found.result["groups"]["pump/x"]["count"]) == ("done", 2)
        monkeypatch.setattr(module, "REACH_S", 30.0)
        async with (dask := choose(settings)):
            with pytest.raises(Died, match="crash"):  # its only worker
                await dask.run(die)
            with monkeypatch.context() as hurried:
                hurried.setattr(module, "WALL_S", 0.5)
                with pytest.raises(ComputeUnavailable, match="no worker is left"):
                    await dask.run(die)
            await made.worker()
            held = asyncio.create_task(dask.run(hold, str(tmp_path)))
            await until(lambda: next(tmp_path.glob("[0-9]*"), None), "a worker has begun")
            await scheduler.kill()
            with pytest.raises(ComputeUnavailable):
                await held


async def test_a_cluster_that_never_comes_fails_the_job_in_the_end(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(module, "REACH_S", 0.2)
    monkeypatch.setattr(dispatch, "RETRY_S", 0.1)
    settings, barn = at(f"tls://127.0.0.1:{free_port()}", certify(tmp_path)), Wire("barn")
    async with running(tmp_path / "test.db", MemoryBroker(), clock, barn, compute=settings) as cloud:
        job = (await cloud.dispatch.submit(read_spec(b'{"work": "moments"}'))).id
        await cloud.answer(barn, await cloud.asked("barn", job), 1.0)
        await until(lambda: cloud.dispatch.view(job).state == "merging", "it waits to be merged")
        clock.now += 2 * dispatch.LONGEST_WAIT_NS
        found = await cloud.ended(job)
        assert (found.state, found.reason) == ("failed", "compute")


def test_files_that_are_no_certificates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    files = {"ca_file": str(tmp_path / "none.pem"), "cert_file": "", "key_file": ""}
    with pytest.raises(ConfigurationRefused, match=r"compute\.ca_file"):
        choose(at("tls://a:1", files))

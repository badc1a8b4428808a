"""The checker is no formality: what is taken out of the store is lost, what is counted too often is duplicated."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

from cli.publisher import Publisher
from tests.faults.stage import Found, Stage, stage
from tests.journeys.site import Site, publishing
from tests.waiting import until

COUNTERS = "series IN (SELECT id FROM series WHERE name LIKE '%/n')"


async def test_the_checker_sees_a_row_that_is_gone_and_one_that_counts_too_much(tmp_path: Path) -> None:
    async with stage(tmp_path, Random(1), cloud_runs=False) as here:
        site = here.site("whole")
        await site.subscribe()
        async with here.cloud.running() as cloud, publishing(site) as publisher:
            async with here.survivor(site) as gateway:
                await until(lambda: publisher.sent > 100, "devices publish")
                await here.finale(site, publisher, gateway)
            await cloud.stop()  # it has the database for itself
        assert (here.found.wrong, here.found.sums["stored"]) == ([], publisher.sent)

        change(here.cloud.directory, 1000)
        assert await checked(here, site, publisher) == (0, 1000, ["whole-1: stored windows differ from a replay's"])
        change(here.cloud.directory, -1001)
        assert await checked(here, site, publisher) == (1, 0, ["whole-1: stored windows differ from a replay's"])


async def checked(here: Stage, site: Site, publisher: Publisher) -> tuple[int, int, list[str]]:
    """Add up again, and give what is lost, duplicated and wrong."""
    here.found = Found()
    async with here.cloud.running() as cloud:
        await here.check(site, publisher)
        await cloud.stop()
    return here.found.lost, here.found.duplicated, here.found.wrong


def change(cloud: Path, by: int) -> None:
    """Let the first window of counters count more, or less, behind the cloud's back."""
    with closing(sqlite3.connect(cloud / "data" / "fieldgate.db")) as store, store:
        where = f"{COUNTERS} ORDER BY start, series LIMIT 1"
        series, start = store.execute(f"SELECT series, start FROM windows WHERE {where}").fetchone()
        store.execute("UPDATE windows SET count = count + ? WHERE series = ? AND start = ?", (by, series, start))

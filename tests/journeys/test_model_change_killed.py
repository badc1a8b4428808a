"""A gateway killed with -9 at each step of a model change: the old model scores on, or the new one does, and no other.

`make faults` does the same two hundred times, just before, amid and just after each step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.broker import EmbeddedBroker
from tests.faults import swap
from tests.faults.nursery import Nursery
from tests.journeys.kept import check_whole
from tests.journeys.site import finished, publishing


async def test_killed_at_each_step_of_a_model_change_exactly_one_valid_model_scores(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    here = swap.site_in(tmp_path, embedded_broker.url, free_port())
    await here.subscribe()
    with Nursery() as victim:
        async with swap.cloud_of(here) as cloud, publishing(here) as publisher:
            outcome = await swap.rounds(here, cloud, victim, swap.BRIEF)
            async with here.gateway(victim.start, "--archive", here.archive) as survivor:
                await survivor.recorded(2 * await finished(publisher))
                await survivor.settled()
                await survivor.stop()
    assert outcome.old + outcome.new == len(swap.BRIEF)
    assert outcome.old >= 3, "before the record is on the disk"
    assert outcome.new >= 5, "behind the commit"  # which of the syncs carries the record depends on the load
    check_whole(here, publisher)

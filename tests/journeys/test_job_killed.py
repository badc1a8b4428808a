"""A gateway or the cloud killed with -9 at a step of a job: the job ends, and its result is that of whom it names.

`make faults ARGS="job-kill --whole"` does so two hundred times, at every step.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from cli.broker import EmbeddedBroker
from tests.faults import jobs


async def test_killed_at_steps_of_a_job_it_ends_and_counts_each_part_once(
    tmp_path: Path, embedded_broker: EmbeddedBroker
) -> None:
    found = await jobs.play_all(tmp_path, jobs.BRIEF, embedded_broker.url, Random(1))
    assert found.wrong == []
    assert found.cycles == len(jobs.BRIEF)
    assert found.sums["whole"] > 0

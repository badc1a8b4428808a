"""A gateway or the cloud killed with -9 at a step of a training round: the run ends, and nothing is counted twice.

`make faults ARGS="round-kill --whole"` does so two hundred times, at every step.
"""

from __future__ import annotations

from pathlib import Path

from cli.broker import EmbeddedBroker
from tests.faults import rounds


async def test_killed_at_steps_of_a_round_the_run_ends_and_counts_each_update_once(
    tmp_path: Path, embedded_broker: EmbeddedBroker
) -> None:
    found = await rounds.play_all(tmp_path, rounds.BRIEF, embedded_broker.url)
    assert found.wrong == []
    assert found.cycles == len(rounds.BRIEF)
    assert found.sums["runs equal"] == found.sums["runs"] - rounds.PROMOTED > 0

"""The schedule of a fleet on a virtual clock is good, whatever the machine: nothing here depends on how fast it is."""

from __future__ import annotations

import numpy as np

from tests.bench.jobs_virtual import JOBS, WEIGHTS, Virtual


def test_the_last_ends_near_the_bound_and_shares_are_fair() -> None:
    fleet = Virtual(400)
    fleet.run()
    assert fleet.asked == 400 * JOBS
    assert all(job.state == "done" for job in fleet.jobs.jobs.values())
    assert fleet.now / 1e9 < 1.05 * fleet.bound
    assert fleet.shares is not None
    share = fleet.shares / np.array(WEIGHTS)
    assert np.abs(share / share.mean() - 1).max() < 0.1

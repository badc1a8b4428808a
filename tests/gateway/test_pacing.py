from __future__ import annotations

import pytest

from gateway.intake.pacing import BUSY_S, PAUSE_S, SHORT_READ, Pacing

Event = tuple[float, int | None, bool]  # at which millisecond, bytes read (None: we look again), whether to look away


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([(0, 90, False)], id="the first read"),
        pytest.param([(0, 90, False), (10, 90, False), (20, 90, False)], id="reads after silences"),
        pytest.param([(0, 90, False), (0.1, 90, True)], id="the second of a burst"),
        pytest.param(
            [(0, 90, False), (0.1, 90, True), (2.1, None, False), (2.2, 180, True)], id="a stream stays paced"
        ),
        pytest.param(
            [(0, 90, False), (0.1, 90, True), (2.1, None, False), (9, 90, False)], id="a burst that has ended"
        ),
        pytest.param([(0, 90, False), (0.1, SHORT_READ, False), (0.2, SHORT_READ - 1, True)], id="long reads"),
    ],
)
def test_we_look_away_only_after_short_reads_that_follow_one_another_closely(events: list[Event]) -> None:
    pacing = Pacing()
    for at, size, expected in events:
        if size is None:
            pacing.look(at / 1e3)
        else:
            assert pacing.feed(size, at / 1e3) is expected, at


def test_a_pause_gathers_at_least_two_of_the_reads_that_caused_it() -> None:
    assert PAUSE_S >= 2 * BUSY_S

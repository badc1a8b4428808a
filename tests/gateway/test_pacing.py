from __future__ import annotations

import pytest

from gateway.intake.pacing import BUSY_S, LITTLE, PAUSES, SHORT_READ, Pacing

(LONG, LONG_PAUSE_S), (STREAM, STREAM_PAUSE_S), (_, PAUSE_S) = PAUSES

Event = tuple[float, int | None, float]  # at which millisecond, bytes read (None: we look again), seconds to look away


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([(0, 90, 0.0)], id="the first read"),
        pytest.param([(0, 90, 0.0), (10, 90, 0.0), (20, 90, 0.0)], id="reads after silences"),
        pytest.param([(0, 90, 0.0), (0.1, 90, PAUSE_S)], id="the second of a burst"),
        pytest.param(
            [(0, 90, 0.0), (0.1, 90, PAUSE_S), (2.1, None, 0.0), (2.2, LITTLE, PAUSE_S)], id="a stream stays paced"
        ),
        pytest.param(
            [(0, 90, 0.0), (0.1, 90, PAUSE_S), (2.1, None, 0.0), (2.2, LITTLE - 1, 0.0), (2.3, LITTLE - 1, PAUSE_S)],
            id="the rest is read before the next pause",
        ),
        pytest.param([(0, 90, 0.0), (0.1, 90, PAUSE_S), (2.1, None, 0.0), (9, 90, 0.0)], id="a burst that has ended"),
        pytest.param([(0, 90, 0.0), (0.1, SHORT_READ, 0.0), (0.2, SHORT_READ - 1, LONG_PAUSE_S)], id="long reads"),
        pytest.param(
            [(0, 90, 0.0), (0.1, STREAM - 1, PAUSE_S), (0.2, STREAM, STREAM_PAUSE_S)], id="a stream that is fast"
        ),
        pytest.param(
            [(0, 90, 0.0), (0.1, LONG - 1, STREAM_PAUSE_S), (0.2, LONG, LONG_PAUSE_S)], id="a stream that is faster"
        ),
    ],
)
def test_we_look_away_only_after_short_reads_that_follow_one_another_closely(events: list[Event]) -> None:
    pacing = Pacing()
    for at, size, expected in events:
        if size is None:
            pacing.look(at / 1e3)
        else:
            assert pacing.feed(size, at / 1e3) == expected, at


def test_a_pause_gathers_at_least_two_of_the_reads_that_caused_it() -> None:
    assert PAUSE_S >= 2 * BUSY_S

"""Arrivals of about 10 ms become one record."""

from __future__ import annotations

import pytest

from gateway import gather
from gateway.gather import Gathering
from gateway.records import NEVER, Arrivals

MS = 10**6
INTERVAL = 10 * MS


def arrivals(*levels: int, first_id: int = 1, duplicate: bool = False, connection: int = 1) -> Arrivals:
    """One message for each level given, with consecutive packet ids for those of level 1."""
    rows = [row for row, level in enumerate(levels) if level == 1]
    packet_ids = list(range(first_id, first_id + len(rows)))
    topics = [f"t{row}" for row in range(len(levels))]
    marks = [True] * len(rows) if duplicate else None
    return Arrivals(topics, [topic.encode() for topic in topics], packet_ids, rows, marks, connection)


def joined(*parts: Arrivals) -> Arrivals:
    gathering = Gathering(INTERVAL)
    for part in parts:
        assert gathering.takes(part)
        gathering.feed(part, 0)
    return gathering.joined()


def test_arrivals_join_in_order() -> None:
    whole = joined(arrivals(1, 1, first_id=7), arrivals(1, first_id=9))
    assert whole == Arrivals(["t0", "t1", "t0"], [b"t0", b"t1", b"t0"], [7, 8, 9], range(3), None, 1)


def test_rows_of_level_one_keep_their_places_between_others() -> None:
    whole = joined(arrivals(0, 1), arrivals(0), arrivals(1, 0, 1, first_id=5))
    assert whole.packet_ids == [1, 5, 6]
    assert list(whole.at_least_once) == [1, 3, 5]


def test_level_nought_alone_has_nothing_to_acknowledge() -> None:
    whole = joined(arrivals(0), arrivals(0, 0))
    assert (whole.packet_ids, list(whole.at_least_once)) == ([], [])


def test_marks_of_redelivery_stay_with_their_messages() -> None:
    whole = joined(arrivals(1, 0), arrivals(1, 1, first_id=2, duplicate=True), arrivals(1, first_id=4))
    assert whole.duplicate == [False, True, True, False]


def test_a_record_belongs_to_one_connection() -> None:
    gathering = Gathering(INTERVAL)
    assert gathering.takes(arrivals(1, connection=5))
    gathering.feed(arrivals(1, connection=5), 0)
    assert gathering.takes(arrivals(1, connection=5))
    assert not gathering.takes(arrivals(1, connection=6))


def test_it_is_full_at_its_bound() -> None:
    gathering = Gathering(INTERVAL)
    assert not gathering
    gathering.feed(arrivals(*[0] * (gather.MAX_MESSAGES - 1)), 0)
    assert gathering
    assert not gathering.full
    gathering.feed(arrivals(0), 0)
    assert gathering.full


def test_nothing_is_never_due() -> None:
    assert Gathering(INTERVAL, after=5 * MS).due() == NEVER


@pytest.mark.parametrize(
    ("after", "messages", "due"),
    [
        pytest.param(0, 1, 110, id="after a silence: an interval after the first message"),
        pytest.param(90, 1, 110, id="a whole interval after the record before: likewise"),
        pytest.param(91, 1, 101, id="sooner after it: an interval after that record"),
        pytest.param(99, gather.FEW - 1, 109, id="few"),
        pytest.param(99, gather.FEW, 110, id="no longer few"),
        pytest.param(99, gather.MANY - 1, 110, id="not many yet"),
        pytest.param(99, gather.MANY, 120, id="many: two intervals"),
        pytest.param(0, gather.MANY, 120, id="many after a silence"),
    ],
)
def test_a_record_is_due_by_what_is_in_it_and_what_was_before(after: int, messages: int, due: int) -> None:
    gathering = Gathering(INTERVAL, after * MS)
    gathering.feed(arrivals(0), 100 * MS)
    gathering.feed(arrivals(*[0] * (messages - 1)), 100 * MS + 1)
    assert gathering.due() == due * MS

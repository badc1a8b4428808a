"""Arrivals of about 10 ms become one record."""

from __future__ import annotations

import numpy as np

from gateway import gather
from gateway.gather import Gathering
from gateway.records import Arrivals, Decoded, Readings, Recent, Tally, no_recent


def arrivals(*packet_ids: int, connection: int = 1) -> Arrivals:
    return Arrivals([], [], list(packet_ids), range(len(packet_ids)), None, connection)


def decoded(*series: int, names: tuple[str, ...] = (), messages: int = 0, recent: Recent | None = None) -> Decoded:
    count = len(series)
    readings = Readings(np.array(series, np.int32), np.arange(count, dtype=np.int64), np.ones(count))
    return Decoded(readings, list(names), Tally(messages=messages, decoded=messages), recent or no_recent())


def test_arrivals_join_in_order() -> None:
    gathering = Gathering()
    assert not gathering
    memory = Recent(np.array([7], np.uint16), np.array([70], np.uint32))
    gathering.feed(arrivals(7), decoded(0, 1, names=("a/x", "a/y"), messages=1, recent=memory))
    gathering.feed(arrivals(8, 9), decoded(2, names=("b/x",), messages=2))
    record = gathering.record(stamp=50)
    assert record.stamp == 50
    assert record.readings.series.tolist() == [0, 1, 2]
    assert record.names == ["a/x", "a/y", "b/x"]
    assert record.tally == Tally(messages=3, decoded=3)
    assert record.recent.packet_ids.tolist() == [7]
    assert gathering.packet_ids == [7, 8, 9]


def test_a_record_belongs_to_one_connection() -> None:
    gathering = Gathering()
    assert gathering.takes(arrivals(connection=5))
    gathering.feed(arrivals(1, connection=5), decoded(0))
    assert gathering.takes(arrivals(connection=5))
    assert not gathering.takes(arrivals(connection=6))


def test_it_is_full_at_its_bound() -> None:
    gathering = Gathering()
    gathering.feed(arrivals(), decoded(*[0] * (gather.MAX_ROWS - 1)))
    assert not gathering.full
    gathering.feed(arrivals(), decoded(0))
    assert gathering.full


def test_refused_payloads_alone_still_make_a_record() -> None:
    gathering = Gathering()
    gathering.feed(arrivals(3), Decoded(decoded().readings, [], Tally(messages=1, dead={"json": 1}), no_recent()))
    assert gathering
    assert gathering.record(1).tally.dead == {"json": 1}

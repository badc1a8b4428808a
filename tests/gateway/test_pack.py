"""What goes into one frame and when, as timetables; times in milliseconds stand for ns."""

from __future__ import annotations

import numpy as np

from gateway import pack
from gateway.pack import Pack, Packed
from gateway.records import NEVER, Closed, Definitions, Output, Outputs
from protocol.columns import decode_windows
from protocol.frame import load
from protocol.messages import (
    WINDOW_DTYPES,
    Cover,
    DefinitionsBody,
    Kind,
    Loss,
    LossesBody,
    SeriesDefinition,
    WindowRows,
    WindowsBody,
)


def rows(*starts: int) -> WindowRows:
    columns = {name: np.zeros(len(starts), dtype) for name, dtype in WINDOW_DTYPES.items()}
    columns["start"] = np.array(starts, np.int64)
    return WindowRows(**columns)


def closed(*starts: int, domain: str = "") -> Outputs:
    return Outputs([Closed(rows(*starts), domain)])


def starts(packed: Packed) -> list[int]:
    body = load(packed.kind, packed.body)
    assert isinstance(body, WindowsBody)
    decoded = decode_windows(body.columns)
    assert body.rows == packed.rows == decoded.rows
    return [int(start) for start in decoded.start]


def test_windows_are_gathered_until_the_interval_has_passed() -> None:
    packer = Pack(200, {})
    assert packer.due() == NEVER
    assert packer.feed(1, closed(10, 20), 1000) == []
    assert packer.feed(2, closed(30), 1100) == []
    assert packer.due() == 1200
    assert packer.tick(1199) == []
    [packed] = packer.tick(1200)
    assert (packed.lane, packed.kind, packed.cover, packed.rows) == ("telemetry", Kind.WINDOWS, Cover(2, 0), 3)
    assert starts(packed) == [10, 20, 30]
    assert packer.due() == NEVER


def test_definitions_go_at_once_and_after_the_rows_that_came_before_them() -> None:
    packer = Pack(200, {})
    packer.feed(1, closed(10), 1000)
    definition = SeriesDefinition(0, "pump/temperature")
    first, second = packer.feed(2, Outputs([Definitions([definition], [])]), 1001)
    assert (first.lane, second.lane) == ("telemetry", "definitions")
    assert load(second.kind, second.body) == DefinitionsBody(Cover(2, 0), [definition], [], 1001)


def test_apart_each_definition_has_a_frame_of_its_own_and_only_the_last_covers_them() -> None:
    packer = Pack(200, {})
    packer.apart = True
    mixed = rows(10, 20, 30)._replace(definition=np.array([4, 2, 4], np.int32))
    packer.feed(1, Outputs([Closed(mixed)]), 1000)
    packed = packer.flush()
    assert [(starts(one), one.cover) for one in packed] == [([20], Cover()), ([10, 30], Cover(1, 0))]


def test_a_frame_that_is_full_does_not_wait() -> None:
    packer = Pack(200, {})
    [packed] = packer.feed(1, closed(*range(pack.MAX_ROWS)), 1000)
    assert packed.rows == pack.MAX_ROWS


def test_more_rows_than_a_frame_holds_become_several_frames_and_only_the_last_covers_them() -> None:
    packer = Pack(200, {})
    many = closed(*range(2 * pack.MAX_ROWS + 1))
    packed = packer.feed(7, many, 1000)
    assert [item.rows for item in packed] == [pack.MAX_ROWS, pack.MAX_ROWS, 1]
    assert [item.cover for item in packed] == [Cover(), Cover(), Cover(7, 0)]


def test_a_frame_speaks_of_one_clock_domain() -> None:
    packer = Pack(200, {})
    packer.feed(1, closed(10, domain="boot-7"), 1000)
    [packed] = packer.feed(2, closed(20), 1001)
    body = load(packed.kind, packed.body)
    assert isinstance(body, WindowsBody)
    assert (body.domain, packed.cover) == ("boot-7", Cover(1, 0))


def test_what_the_spool_covers_is_dropped_by_a_replay_lane_by_lane() -> None:
    packer = Pack(200, {"telemetry": Cover(5, 1), "definitions": Cover(3, 0)})
    define: Output = Definitions([], [])
    close: Output = Closed(rows(1), "")
    assert packer.feed(5, Outputs([define, close]), 0) != []  # the definition is new, the windows are not
    assert packer.flush() == []
    packer.feed(6, Outputs([close]), 0)
    [packed] = packer.flush()
    assert packed.cover == Cover(6, 0)


def test_losses_are_declared_under_the_lanes_cover() -> None:
    packer = Pack(200, {"results": Cover(4, 2)})
    loss = Loss("telemetry", 10, 19, "spool_full")
    packed = packer.losses([loss], {"recorded": 9}, 30)
    assert packed.lane == "results"
    assert load(packed.kind, packed.body) == LossesBody(Cover(4, 2), [loss], {"recorded": 9}, 30)

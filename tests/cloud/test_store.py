"""What every store promises, whichever it is: add an implementation to STORES and all of it is checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cloud.store import Applied, Arrived, Store, Totals
from cloud.store.answers import AlertView, DropView, FrameCounts, GatewayView, SeriesView
from cloud.store.sqlite import SqliteStore
from protocol.errors import StoreUnavailable
from protocol.messages import Alert, Cover, DefinitionsBody, LaneHead, Loss, Mark, SeriesDefinition
from tests.cloud.wire import Clock, S, Wire

STORES: dict[str, Callable[[Path, Clock], Store]] = {
    "sqlite": lambda path, clock: SqliteStore(path / "test.db", clock, max_pending=16 << 20),
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    made = STORES[request.param](tmp_path, clock)
    await made.open()
    yield made
    await made.close()


async def begin(store: Store, wire: Wire) -> Wire:
    """Say hello and define two series."""
    await store.hello(wire.hello(), 0)
    await store.apply(wire.batch(wire.definitions()))
    return wire


async def counts(store: Store, series: int = 1) -> list[tuple[int, int, int]]:
    """(start in s, revision, count) of a series' windows."""
    page = await store.windows(series, None, "", (0, 1 << 62), 100)
    assert page is not None
    return [(row.start // S, row.revision, row.count) for row in page.windows]


async def test_a_new_gateway_is_welcomed_with_nothing(store: Store, wire: Wire) -> None:
    greeted = await store.hello(wire.hello(), 0)
    assert greeted.fork == ""
    assert list(greeted.marks.values()) == [Mark()] * 4


async def test_rows_are_kept_with_all_their_columns(store: Store, wire: Wire, clock: Clock) -> None:
    await begin(store, wire)
    clock.now = 500 * S
    await store.apply(wire.batch(wire.windows((0, 20, 0, 5), (1, 20, 0, 6))))
    page = await store.windows(1, None, "", (0, 1 << 62), 100)
    assert page is not None
    assert page.series == SeriesView(1, "barn", "a/t", 20 * S)
    (row,) = page.windows
    assert (row.start, row.size, row.domain, row.revision, row.stored) == (20 * S, 10 * S, "", 0, 500 * S)
    assert (row.count, row.mean, row.deviation, row.minimum, row.maximum, row.first, row.last) == (5, 5, 0, 4, 6, 5, 5)


async def test_the_answer_says_what_a_batch_came_to(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    frames = [wire.windows((0, 0, 0, 5), (1, 0, 0, 5)), wire.windows((0, 0, 1, 6)), wire.nonsense()]
    applied = await store.apply(wire.batch(*frames, frames[0]))
    assert applied._replace(stored=[]) == Applied(
        marks={"telemetry": Mark(3, [], wire.chain["telemetry"])},
        fork="",
        stored=[],
        accepted=3,
        duplicate=1,
        deferred=0,
        quarantined={"body": 1},
        windows=3,
        readings=10,
        bytes=300,
        new_series=0,
        committed=1_000 * S,
    )
    assert [part.series.tolist() for part in applied.stored] == [[1, 2], [1]]
    assert [part.size.tolist() for part in applied.stored] == [[10 * S, 10 * S], [10 * S]]


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        pytest.param([(0, 0, 0, 5), (0, 0, 1, 6)], [(0, 1, 6)], id="a revision replaces"),
        pytest.param([(0, 0, 1, 6), (0, 0, 0, 5)], [(0, 1, 6)], id="an older revision that comes late does not"),
        pytest.param([(0, 0, 1, 6), (0, 0, 1, 7)], [(0, 1, 6)], id="an equal one does not"),
        pytest.param([(0, 0, 0, 5), (0, 10, 0, 6)], [(0, 0, 5), (10, 0, 6)], id="windows stand apart"),
    ],
)
async def test_the_higher_revision_wins(
    store: Store, wire: Wire, rows: list[tuple[int, int, int, int]], kept: list[tuple[int, int, int]]
) -> None:
    await begin(store, wire)
    for row in rows:
        await store.apply(wire.batch(wire.windows(row)))
    assert await counts(store) == kept


async def test_a_repeated_frame_changes_nothing_and_is_counted(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    batch = wire.batch(wire.windows((0, 0, 0, 5)))
    first, second = await store.apply(batch), await store.apply(batch)
    assert (first.accepted, first.duplicate, second.accepted, second.duplicate) == (1, 0, 0, 1)
    assert first.marks == second.marks
    assert await counts(store) == [(0, 0, 5)]


async def test_a_series_is_one_across_epochs_though_its_number_changes(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(wire.windows((0, 0, 0, 5))))
    later = Wire(epoch=8)
    await store.hello(later.hello(), 0)
    await store.apply(later.batch(later.definitions(("b/t", "a/t"))))
    await store.apply(later.batch(later.windows((1, 10, 0, 6))))
    assert await counts(store) == [(0, 0, 5), (10, 0, 6)]
    assert [view.name for view in await store.series(None, None, 0, 10)] == ["a/t", "b/t"]


async def test_definitions_and_clock_domains_stand_apart(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(wire.windows((0, 0, 0, 5)), wire.windows((0, 0, 0, 6), domain="boot-1")))
    later = Wire(epoch=8)
    await store.hello(later.hello(), 0)
    await store.apply(later.batch(later.definitions(digest="d2", size=60 * S), later.windows((0, 0, 0, 7))))
    page = await store.windows(1, None, "", (0, 1 << 62), 100)
    assert page is not None
    assert [(row.definition, row.size // S, row.count) for row in page.windows] == [(1, 10, 5), (2, 60, 7)]
    assert [way.digest for way in page.definitions] == ["d1", "d2"]
    other = await store.windows(1, None, "boot-1", (0, 1 << 62), 100)
    assert other is not None
    assert [row.count for row in other.windows] == [6]


@pytest.mark.parametrize(
    ("lane", "cause"),
    [
        pytest.param("series", "series", id="a series that was never defined"),
        pytest.param("negative", "series", id="a negative number"),
        pytest.param("definition", "definition", id="a window definition that was never given"),
        pytest.param("alert", "series", id="an alert about nothing known"),
        pytest.param("redefined", "redefined", id="a number that meant something else"),
        pytest.param("huge", "redefined", id="a number out of bounds"),
        pytest.param("overflow", "store", id="an integer the database cannot hold"),
    ],
)
async def test_what_cannot_be_kept_is_quarantined_receipted_and_counted(
    store: Store, wire: Wire, lane: str, cause: str
) -> None:
    await begin(store, wire)
    frame = {
        "series": lambda: wire.windows((2, 0, 0, 1)),
        "negative": lambda: wire.windows((-1, 0, 0, 1)),
        "definition": lambda: wire.windows((0, 0, 0, 1), definition=1),
        "alert": lambda: wire.alerts(Alert([9], 0, 0, 0, 1.0, "r")),
        "redefined": lambda: wire.definitions(("a/t", "c/t")),
        "huge": lambda: wire.definitions(["x"] * 3)._replace(holds=_huge()),
        "overflow": lambda: wire.alerts(Alert([0], 1 << 63, 0, 0, 1.0, "r")),
    }[lane]()
    applied = await store.apply(wire.batch(frame))
    assert applied.quarantined == {cause: 1}
    assert applied.marks[frame.lane].upto == frame.seq
    (kept,) = await store.quarantine(10)
    assert (kept.gateway, kept.lane, kept.seq, kept.cause) == ("barn", frame.lane, frame.seq, cause)
    after = await store.apply(wire.batch(wire.windows((1, 0, 0, 9))))
    assert after.quarantined == {}
    assert await counts(store, 2) == [(0, 0, 9)]


@pytest.mark.parametrize(
    ("make", "readings"),
    [
        pytest.param(lambda wire: wire.alerts(Alert([0], 0, 0, 1 << 63, 1.0, "r")), 12, id="an alert's stamp"),
        pytest.param(lambda wire: wire.alerts(Alert([1 << 63], 0, 0, 0, 1.0, "r")), 12, id="an alert's series"),
        pytest.param(lambda wire: wire.losses(recorded=1 << 63), 12, id="a count"),
        pytest.param(lambda wire: wire.losses(Loss("alerts", 1, 2, "c", 1 << 63)), 12, id="a loss's time"),
        pytest.param(lambda wire: wire.windows(*((0, n, 0, 1 << 62) for n in range(2, 6))), 12, id="a sum of counts"),
    ],
)
async def test_an_integer_that_cannot_be_kept_costs_its_own_frame_only(
    store: Store, wire: Wire, make: Callable[[Wire], Arrived], readings: int
) -> None:
    await begin(store, wire)
    before, bad, after = wire.windows((0, 0, 0, 5)), make(wire), wire.windows((0, 1, 0, 7))
    applied = await store.apply(wire.batch(before, bad, after))
    assert (applied.accepted, applied.quarantined, applied.windows) == (3, {"store": 1}, 2)
    assert (applied.readings, applied.bytes, len(applied.stored)) == (readings, 300, 2)
    assert {lane: mark.upto for lane, mark in applied.marks.items()} == {
        frame.lane: frame.seq for frame in (before, bad, after)
    }
    assert await counts(store) == [(0, 0, 5), (1, 0, 7)]
    (view,) = await store.gateways()
    assert view.frames == FrameCounts(4, 0, 1)


async def test_readings_of_a_row_said_again_in_another_frame_are_counted_once(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(wire.windows((0, 0, 0, 5), (1, 0, 0, 6))))
    later = Wire(epoch=8)
    await store.hello(later.hello(), 0)
    await store.apply(later.batch(later.definitions()))
    applied = [
        await store.apply(later.batch(later.windows(*rows)))
        for rows in (
            [(0, 0, 0, 5), (1, 0, 0, 6)],
            [(0, 0, 0, 5), (1, 0, 0, 6), (1, 10, 0, 7), (1, 10, 1, 8)],
            [(0, 10, 0, 9), (0, 10, 1, 10), (0, 20, 1, 3)],
        )
    ]
    assert [(one.windows, one.readings) for one in applied] == [(0, 0), (2, 7), (3, 9)]


def _huge() -> DefinitionsBody:
    return DefinitionsBody(Cover(), [SeriesDefinition(1 << 40, "x")])


async def test_the_quarantine_is_a_ring(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    for _ in range(3):
        await store.apply(wire.batch(*(wire.nonsense() for _ in range(500))))
    kept = await store.quarantine(10_000)
    assert [item.seq for item in kept] == list(range(1500, 500, -1))
    (view,) = await store.gateways()
    assert view.frames == FrameCounts(1501, 0, 1500)


async def test_holes_stay_until_the_gateway_declares_them_dropped(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    frames = [wire.windows((0, start, 0, 1)) for start in range(6)]
    first = await store.apply(wire.batch(frames[0], frames[4]))
    assert first.marks["telemetry"].ranges == [(5, 5)]
    loss = Loss("telemetry", 1, 4, "spool_full", 10, 20)
    second = await store.apply(wire.batch(wire.losses(loss, recorded=77)))
    assert second.marks["telemetry"] == Mark(5, [], frames[4].chain)
    lane = {view.lane: view for view in await store.ledger("barn")}["telemetry"]
    assert (lane.upto, lane.holes, lane.dropped_frames, lane.queued) == (5, [], 3, 0)
    assert lane.dropped == [DropView(2, 4, "spool_full", 10, 20)]
    (view,) = await store.gateways()
    assert (view.counts, view.readings) == ({"recorded": 77}, 77)


async def test_the_ledger_shows_what_is_queued_on_the_gateway(store: Store, wire: Wire) -> None:
    wire.seq["telemetry"] = 9
    await store.hello(wire.hello(lanes={"telemetry": LaneHead(3, 10, 5)}), 0)
    (lane,) = await store.ledger(None)
    assert (lane.lane, lane.upto, lane.queued, lane.oldest, lane.next) == ("telemetry", 0, 9, 3, 10)


async def test_a_fork_takes_nothing_more_and_is_remembered(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    good, bad = wire.windows((0, 0, 0, 5)), wire.windows((0, 10, 0, 6))._replace(chain=99)
    applied = await store.apply(wire.batch(good, bad, wire.windows((0, 20, 0, 7))))
    assert applied.fork == "telemetry frame 2 does not follow the one before it"
    assert applied.marks["telemetry"].upto == 1
    assert await counts(store) == [(0, 0, 5)]
    assert (await store.hello(wire.hello(), 0)).fork == applied.fork
    assert (await store.apply(wire.batch(wire.windows((0, 30, 0, 7))))).fork == applied.fork
    assert (await store.hello(Wire(epoch=8).hello(), 0)).fork == ""


@pytest.mark.parametrize(
    ("lane", "head"),
    [
        pytest.param("telemetry", LaneHead(1, 1, 0), id="the gateway lost what it sent"),
        pytest.param("telemetry", LaneHead(1, 2, 99), id="another frame 1"),
    ],
)
async def test_a_hello_that_contradicts_the_ledger_is_a_fork(
    store: Store, wire: Wire, lane: str, head: LaneHead
) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(wire.windows((0, 0, 0, 5))))
    greeted = await store.hello(wire.hello(lanes={lane: head}), 0)
    assert greeted.fork.startswith("telemetry: ")


async def test_a_store_that_lost_the_definitions_asks_for_a_new_epoch(store: Store, wire: Wire) -> None:
    greeted = await store.hello(wire.hello(lanes={"definitions": LaneHead(4, 4, 1)}), 0)
    assert greeted.fork.startswith("definitions: ")


async def test_alerts_are_kept_once_and_shown_newest_first(store: Store, wire: Wire, clock: Clock) -> None:
    await begin(store, wire)
    alerts = [Alert([0, 1], 10, 0, 100, 2.5, "limit", 3), Alert([1], 20, 0, 200, 1.0, "limit")]
    await store.apply(wire.batch(wire.alerts(*alerts)))
    await store.apply(wire.batch(wire.alerts(alerts[0])))
    page = await store.alerts(None, 1 << 62, 10)
    assert [alert.start for alert in page.alerts] == [20, 10]
    assert page.alerts[1] == AlertView("barn", [1, 2], ["a/t", "b/t"], 10, 0, 100, 2.5, "limit", 3, "", clock.now)
    assert (await store.alerts(None, 1 << 62, 1)).next == 200
    assert [alert.start for alert in (await store.alerts("barn", 200, 10)).alerts] == [10]
    assert (await store.alerts("other", 1 << 62, 10)).alerts == []


async def test_pages_of_windows_join_without_gap_or_repeat(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(*(wire.windows((0, 10 * start, 0, start + 1)) for start in range(7))))
    seen: list[int] = []
    following: int | None = 0
    while following is not None:
        page = await store.windows(1, None, "", (following, 65 * S), 3)
        assert page is not None
        seen += [row.start // S for row in page.windows]
        following = page.next
    assert seen == [0, 10, 20, 30, 40, 50, 60]
    newest = await store.windows(1, None, "", (None, 60 * S), 2)
    assert newest is not None
    assert ([row.start // S for row in newest.windows], newest.next) == ([40, 50], None)
    assert await store.windows(99, None, "", (None, 60 * S), 2) is None


async def test_series_are_found_by_gateway_and_glob(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    other = await begin(store, Wire("shed"))
    await store.apply(other.batch(other.windows((1, 30, 0, 1))))
    assert [(v.id, v.gateway, v.name, v.last) for v in await store.series(None, "b/*", 0, 10)] == [
        (2, "barn", "b/t", None),
        (4, "shed", "b/t", 30 * S),
    ]
    assert [view.id for view in await store.series("shed", None, 3, 10)] == [4]
    assert [view.id for view in await store.series(None, None, 0, 2)] == [1, 2]


async def test_gateways_are_summed_over_their_epochs(store: Store, wire: Wire, clock: Clock) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(wire.windows((0, 0, 0, 5), (1, 0, 0, 6))))
    later = Wire(epoch=255)
    await store.hello(later.hello(version="0.2", readings=3), 2_000 * S)
    await store.apply(later.batch(later.definitions()))
    assert await store.gateways() == [
        GatewayView("barn", False, clock.now, None, "00000000000000ff", "0.2", 2, 2, 11, 300, FrameCounts(3, 0, 0))
    ]
    assert await store.totals() == Totals(1, 2, 2)


async def test_batches_of_many_gateways_commit_together_and_are_answered_each(store: Store) -> None:
    wires = [await begin(store, Wire(f"g{number}")) for number in range(8)]
    applied = await asyncio.gather(*(store.apply(wire.batch(wire.windows((0, 0, 0, 5)))) for wire in wires))
    assert [one.accepted for one in applied] == [1] * 8
    assert (await store.totals()).windows == 8


async def test_old_windows_expire_step_by_step(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(*(wire.windows((0, 10 * start, 0, 1)) for start in range(4))))
    await store.apply(
        wire.batch(wire.alerts(Alert([0], 0, 0, 5 * S, 1.0, "r"), Alert([0], 20 * S, 0, 25 * S, 1.0, "r")))
    )
    after = 0
    while after := await store.expire(20 * S, after):
        pass
    assert await counts(store) == [(20, 0, 1), (30, 0, 1)]
    assert [alert.stamp // S for alert in (await store.alerts(None, 1 << 62, 10)).alerts] == [25]


async def test_what_was_committed_is_there_after_reopening(tmp_path: Path, clock: Clock, wire: Wire) -> None:
    for make in STORES.values():
        store = make(tmp_path, clock)
        await store.open()
        await begin(store, wire)
        await store.apply(wire.batch(wire.windows((0, 0, 0, 5))))
        await store.close()
        again = make(tmp_path, clock)
        await again.open()
        greeted = await again.hello(wire.hello(), 0)
        assert greeted.marks["telemetry"] == Mark(1, [], wire.chain["telemetry"])
        assert await counts(again) == [(0, 0, 5)]
        await again.close()


async def test_a_closed_store_says_so(tmp_path: Path, clock: Clock, wire: Wire) -> None:
    for make in STORES.values():
        store = make(tmp_path, clock)
        await store.open()
        assert await store.check() == ""
        await store.close()
        assert await store.check() != ""
        with pytest.raises(StoreUnavailable):
            await store.apply(wire.batch())


async def test_close_commits_what_waits(tmp_path: Path, clock: Clock, wire: Wire) -> None:
    for make in STORES.values():
        store = make(tmp_path, clock)
        await store.open()
        await begin(store, wire)
        waiting = asyncio.ensure_future(store.apply(wire.batch(wire.windows((0, 0, 0, 5)))))
        await asyncio.sleep(0)
        await store.close()
        assert (await waiting).accepted == 1

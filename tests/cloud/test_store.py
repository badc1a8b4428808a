"""What every store promises, whichever it is: add an implementation to STORES and all of it is checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from cloud.store import (
    MAX_CAUSES,
    MAX_CONTENTS,
    MAX_LOSSES,
    MAX_MODELS,
    MAX_RAISED,
    MAX_REPORTS,
    MAX_VERSIONS,
    Applied,
    Arrived,
    Learnt,
    News,
    Published,
    Store,
    Totals,
    Windows,
)
from cloud.store.answers import (
    AccountView,
    AlertView,
    CauseView,
    DropView,
    EpochView,
    FrameCounts,
    GatewayView,
    ModelView,
    ReportView,
    RunView,
    SeriesView,
    VersionView,
)
from cloud.store.sqlite import SqliteStore
from protocol.errors import StoreUnavailable
from protocol.messages import (
    COPIED,
    Alert,
    Cover,
    DefinitionsBody,
    LaneHead,
    Loss,
    Mark,
    Moments,
    PartBody,
    SeriesDefinition,
    WindowDefinition,
)
from tests.cloud.wire import DIGEST, Clock, S, Wire, window_rows

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
        news=News(),
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
        pytest.param("missing", "series", id="an alert that lacks what nobody knows"),
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
        "missing": lambda: wire.alerts(Alert([0], 0, 0, 0, 1.0, "r", missing=[9])),
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


async def test_of_each_series_the_readings_of_the_definition_that_holds_most_are_counted(
    store: Store, wire: Wire
) -> None:
    await store.hello(wire.hello(), 0)
    kinds = [WindowDefinition(0, "d1", 10 * S, 10 * S), WindowDefinition(1, "d2", 30 * S, 30 * S)]
    named = [SeriesDefinition(0, "a/t"), SeriesDefinition(1, "b/t")]
    await store.apply(wire.batch(wire.arrived("definitions", DefinitionsBody(Cover(), named, kinds))))
    rows = window_rows((0, 0, 0, 5), (0, 10, 0, 6), (0, 0, 0, 9), (1, 0, 0, 7))
    mixed = rows._replace(definition=np.array([0, 0, 1, 1], np.int32))
    applied = await store.apply(wire.batch(wire.arrived("telemetry", Windows(mixed, ""))))
    assert (applied.windows, applied.readings) == (4, 5 + 6 + 7)


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


async def test_holes_stay_until_the_gateway_declares_them_dropped(store: Store, wire: Wire, clock: Clock) -> None:
    await begin(store, wire)
    frames = [wire.windows((0, start, 0, 1)) for start in range(6)]
    first = await store.apply(wire.batch(frames[0], frames[4]))
    assert first.marks["telemetry"].ranges == [(5, 5)]
    loss = Loss("telemetry", 1, 4, "spool_full", 10, 20)
    second = await store.apply(wire.batch(wire.losses(loss, recorded=77)))
    assert second.marks["telemetry"] == Mark(5, [], frames[4].chain)
    lane = {view.lane: view for view in await store.ledger("barn")}["telemetry"]
    assert (lane.upto, lane.holes, lane.dropped_frames, lane.queued) == (5, [], 3, 0)
    assert lane.dropped == [DropView(2, 4, "spool_full", 10, 20, clock.now)]
    assert lane.causes == [CauseView("spool_full", 3, 10, 20, clock.now)]
    (view,) = await store.gateways()
    assert (view.counts, view.readings) == ({"recorded": 77}, 77)


async def test_the_ledger_shows_what_is_queued_on_the_gateway(store: Store, wire: Wire) -> None:
    wire.seq["telemetry"] = 9
    await store.hello(wire.hello(lanes={"telemetry": LaneHead(3, 10, 5)}), 0)
    (lane,) = await store.ledger(None)
    assert (lane.lane, lane.upto, lane.queued, lane.oldest, lane.next) == ("telemetry", 0, 9, 3, 10)


async def dropped(store: Store) -> tuple[list[tuple[int, ...]], list[CauseView]]:
    """The telemetry's losses as (first, last, oldest, newest), and their causes."""
    lane = {view.lane: view for view in await store.ledger("barn")}["telemetry"]
    return [(one.first, one.last, one.oldest, one.newest) for one in lane.dropped], lane.causes


async def test_losses_that_follow_each_other_are_one_by_cause(store: Store, wire: Wire, clock: Clock) -> None:
    await begin(store, wire)
    for first, last, cause, oldest, newest in (
        (1, 4, "spool_full", 0, 20),
        (5, 9, "spool_full", 20, 50),
        (10, 10, "damaged", 0, 0),
        (11, 12, "spool_full", 60, 70),
        (30, 31, "spool_full", 80, 90),
    ):
        clock.now += S
        await store.apply(wire.batch(wire.losses(Loss("telemetry", first, last, cause, oldest, newest))))
    ranges, causes = await dropped(store)
    assert ranges == [(30, 31, 80, 90), (11, 12, 60, 70), (10, 10, 0, 0), (1, 9, 0, 50)]
    assert causes == [
        CauseView("spool_full", 13, 0, 90, clock.now),
        CauseView("damaged", 1, 0, 0, clock.now - 2 * S),
    ]


async def test_of_many_losses_the_newest_ranges_are_kept_and_all_are_summed(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    losses = [Loss("telemetry", at, at, f"cause {at % 2}", at, at + 1) for at in range(1, MAX_LOSSES + 10)]
    await store.apply(wire.batch(*(wire.losses(*losses[at : at + 100]) for at in range(0, len(losses), 100))))
    (lane,) = [view for view in await store.ledger("barn") if view.lane == "telemetry"]
    assert [one.first for one in lane.dropped[:2]] == [MAX_LOSSES + 9, MAX_LOSSES + 8]
    assert lane.dropped_frames == sum(cause.frames for cause in lane.causes) == MAX_LOSSES + 9
    assert [(cause.cause, cause.oldest, cause.newest) for cause in lane.causes] == [
        ("cause 1", 1, MAX_LOSSES + 10),
        ("cause 0", 2, MAX_LOSSES + 9),
    ]


async def test_causes_beyond_their_bound_are_summed_as_others(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    losses = [Loss("telemetry", at, at, f"cause {at}") for at in range(1, MAX_CAUSES + 4)]
    await store.apply(wire.batch(wire.losses(*losses, Loss("telemetry", 100, 100, "cause 1"))))
    _, causes = await dropped(store)
    assert [(cause.cause, cause.frames) for cause in causes[:2]] == [("other", 3), ("cause 1", 2)]
    assert len(causes) == MAX_CAUSES + 1


async def test_a_loss_that_is_said_again_changes_nothing(store: Store, wire: Wire, clock: Clock) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(wire.losses(Loss("telemetry", 1, 4, "gone", 5, 20))))
    before, clock.now = await dropped(store), clock.now + S
    await store.apply(wire.batch(wire.losses(Loss("telemetry", 1, 4, "gone", 1, 90))))
    assert await dropped(store) == before


DAY = 86_400 * S
SPRING = 1_700_000_000 * S


async def test_the_age_of_what_waits_is_what_hello_says_and_then_follows_what_arrives(store: Store, wire: Wire) -> None:
    async def since() -> int:
        (lane,) = [view for view in await store.ledger("barn") if view.lane == "telemetry"]
        return (lane.since - SPRING) // S if lane.since else 0

    await begin(store, wire)
    held = [wire.windows((0, at, 0, 1), stamp=SPRING + at * S) for at in range(100, 105)]
    frames = {frame.seq: frame for frame in held}
    await store.hello(wire.hello(since={"telemetry": SPRING + 100 * S}), 0)
    seen = [await since()]
    for seq in (5, 1, 2, 4, 3):  # the newest first, as a gateway sends what is live beside its backlog
        await store.apply(wire.batch(frames[seq]))
        seen.append(await since())
    assert seen == [100, 100, 100, 101, 101, 0]


@pytest.mark.parametrize(
    ("stamp", "since"),
    [pytest.param(SPRING, SPRING, id="known"), pytest.param(0, 0, id="not said"), pytest.param(DAY, 0, id="in 1970")],
)
async def test_an_age_is_known_if_the_clock_was_set(store: Store, wire: Wire, stamp: int, since: int) -> None:
    wire.seq["alerts"] = 1
    await store.hello(wire.hello(since={"alerts": stamp} if stamp else {}), 0)
    assert [view.since for view in await store.ledger(None) if view.lane == "alerts"] == [since]


async def test_a_clock_that_was_set_back_is_believed_at_the_next_hello(store: Store, wire: Wire) -> None:
    wire.seq["alerts"] = 1
    for stamp in (2 * SPRING, SPRING):
        await store.hello(wire.hello(since={"alerts": stamp}), 0)
    assert [view.since for view in await store.ledger(None) if view.lane == "alerts"] == [SPRING]


async def test_counts_of_frames_lost_with_an_epoch_are_summed_and_others_replaced(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    lost = "frames.telemetry.damaged"
    said = [{"broker": 1}, {"broker": 2, lost: 3}, {"broker": 5}, {lost: 4}]
    applied = [await store.apply(wire.batch(wire.losses(**counts))) for counts in said]
    sums = [{"broker": 1}, {"broker": 2, lost: 3}, {"broker": 5, lost: 3}, {lost: 7}]
    assert [one.news.counts for one in applied] == sums
    assert [account.counts for account in await store.accounts(None)] == sums[3:]


async def test_a_gateways_account_names_its_epochs_newest_first(store: Store, wire: Wire) -> None:
    await store.hello(wire.hello(), 10)
    await store.hello(wire.hello(), 20)
    await store.hello(Wire(epoch=8).hello(reason="the end was lost"), 30)
    await store.hello(Wire("shed").hello(), 40)
    epochs = [
        EpochView("0000000000000008", 30, 30, "", "the end was lost", 30),
        EpochView("0000000000000007", 10, 20, "", "", 0),
    ]
    assert await store.accounts("barn") == [AccountView("barn", False, 30, "0000000000000008", {}, epochs)]
    assert [account.gateway for account in await store.accounts(None)] == ["barn", "shed"]


async def test_a_copy_of_a_gateway_is_remarked_upon_once_and_when_both_are_in_use(store: Store, wire: Wire) -> None:
    async def remarks() -> list[tuple[str, str, int]]:
        (account,) = await store.accounts("barn")
        return [(view.epoch[-1], view.remark, view.remarked) for view in account.epochs]

    await begin(store, wire)
    await store.apply(wire.batch(wire.windows((0, 0, 0, 5)), wire.windows((0, 1, 0, 5))))
    copied = await store.hello(wire.hello(lanes={"telemetry": LaneHead(1, 2, 9)}), 100)
    assert copied.fork == f"telemetry: frame 2 is here, the gateway's next is 2: {COPIED}"
    await store.hello(Wire(epoch=8).hello(reason=copied.fork), 200)
    assert await remarks() == [("8", "", 0), ("7", copied.fork, 100)]
    again = await store.hello(wire.hello(), 300)
    assert again.remark.startswith("it speaks again although 0000000000000008 began later: two copies of its data")
    assert await remarks() == [("7", again.remark, 300), ("8", "", 0)]
    assert (await store.hello(Wire(epoch=8).hello(), 400)).remark == ""
    assert [view.epoch[-1] for view in await store.ledger(None)] == ["8"] * 4 + ["7"] * 4


async def test_a_fork_takes_nothing_more_and_is_remembered(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    good, bad = wire.windows((0, 0, 0, 5)), wire.windows((0, 10, 0, 6))._replace(chain=99)
    applied = await store.apply(wire.batch(good, bad, wire.windows((0, 20, 0, 7))))
    assert applied.fork == f"telemetry frame 2 does not follow the one before it: {COPIED}"
    assert applied.marks["telemetry"].upto == 1
    assert await counts(store) == [(0, 0, 5)]
    assert (await store.hello(wire.hello(), 0)).fork == applied.fork
    await store.hello(Wire(epoch=8).hello(reason=applied.fork), 1)
    (account,) = await store.accounts(None)
    assert [(one.fork, one.remark, one.remarked) for one in account.epochs] == [
        ("", "", 0),
        (applied.fork, "", 1_000 * S),
    ]
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
    alerts = [Alert([0, 1], 10, 0, 100, 2.5, "limit", 3, 2.0, [0.75, 0.25], [1]), Alert([1], 20, 0, 200, 1.0, "limit")]
    first = await store.apply(wire.batch(wire.alerts(*alerts)))
    again = await store.apply(wire.batch(wire.alerts(alerts[0])))
    page = await store.alerts(None, 1 << 62, 10)
    assert [alert.start for alert in page.alerts] == [20, 10]
    view = AlertView("barn", [1, 2], ["a/t", "b/t"], 10, 0, 100, 2.5, "limit", 3, "", clock.now)
    view.threshold, view.contributions, view.missing = 2.0, [0.75, 0.25], ["b/t"]
    assert page.alerts[1] == view
    assert first.news == News(alerts=2, raised=page.alerts[::-1])
    assert again.news == News()
    assert [gateway.alerts for gateway in await store.gateways()] == [2]
    assert (await store.alerts(None, 1 << 62, 1)).next == 200
    assert [alert.start for alert in (await store.alerts("barn", 200, 10)).alerts] == [10]
    assert (await store.alerts("other", 1 << 62, 10)).alerts == []


async def test_of_a_flood_of_alerts_the_newest_are_shown_as_they_come_and_all_are_kept(
    store: Store, wire: Wire
) -> None:
    await begin(store, wire)
    flood = [Alert([0], start, 0, start, 1.0, "r") for start in range(MAX_RAISED + 5)]
    applied = await store.apply(wire.batch(wire.alerts(*flood[:50]), wire.alerts(*flood[50:])))
    assert applied.news.alerts == len(flood)
    assert [alert.start for alert in applied.news.raised] == list(range(5, len(flood)))
    assert len((await store.alerts(None, 1 << 62, 1000)).alerts) == len(flood)


def learnt_by(*counts: int) -> list[Moments]:
    """One entry for each count: of the feature `t0`, `t1` ..."""
    return [Moments([f"t{number}"], count, [float(count)], [1.0]) for number, count in enumerate(counts)]


async def test_the_newest_statistics_of_a_gateway_are_kept_by_its_stamp_whatever_the_epoch(
    store: Store, wire: Wire, clock: Clock
) -> None:
    await begin(store, wire)
    applied = [await store.apply(wire.batch(wire.statistics("t2", 100, 5, alerts=2, shadow=3)))]
    later = Wire(epoch=8)
    await store.hello(later.hello(), 0)
    clock.now = 2_000 * S
    applied += [
        await store.apply(later.batch(later.statistics("t2", *stamped, shadow=7, alerts=4, version=1)))
        for stamped in ((99, 1, 1), (100, 5), (200, 20, 10))
    ]
    assert [one.news for one in applied] == [
        News(shadow=3, learnt={"t2": 5}),
        News(),
        News(shadow=4, running={"t2": 1}, learnt={"t2": 5}),
        News(learnt={"t2": 30}),
    ]
    assert await store.learnt("t2") == [Learnt("barn", learnt_by(20, 10))]
    assert await store.learnt("other") == []
    assert await store.models() == [ModelView("t2", 0, "", 0, 0, 0, [], [RunView("barn", 1, 4, 7, 30, 200, 2_000 * S)])]
    (view,) = await store.gateways()
    assert (view.models, view.shadow) == ({"t2": 1}, 7)


async def test_statistics_are_kept_apart_by_gateway_and_model(store: Store) -> None:
    for name in ("shed", "barn"):
        wire = await begin(store, Wire(name))
        await store.apply(wire.batch(wire.statistics("t2", 1, 5), wire.statistics("rms", 1, len(name))))
    assert [one.gateway for one in await store.learnt("t2")] == ["barn", "shed"]
    assert [(view.name, [run.gateway for run in view.gateways]) for view in await store.models()] == [
        ("rms", ["barn", "shed"]),
        ("t2", ["barn", "shed"]),
    ]


async def test_a_gateways_models_are_bounded_and_one_more_is_quarantined(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    names = [f"m{number}" for number in range(MAX_MODELS)]
    await store.apply(wire.batch(*(wire.statistics(name, 1, 5) for name in names)))
    more = [wire.statistics("more", 1, 5), wire.report("more", 1), wire.statistics(names[0], 2, 6)]
    applied = await store.apply(wire.batch(*more))
    assert (applied.quarantined, applied.news.learnt) == ({"models": 2}, {"m0": 6})
    assert [view.name for view in await store.models()] == sorted(names)


async def test_what_became_of_versions_is_kept_once_newest_by_stamp(store: Store, wire: Wire, clock: Clock) -> None:
    await begin(store, wire)
    applied = [
        await store.apply(wire.batch(frame))
        for frame in (
            wire.report("t2", 1, stamp=10),
            wire.report("t2", 2, "refused", "expired", stamp=30),
            wire.report("t2", 2, stamp=20),  # later by arrival, earlier by stamp
            wire.report("t2", 1, stamp=10),  # again, under another sequence
        )
    ]
    reports = [
        ReportView("barn", "t2", 2, "applied", "", DIGEST, 20, clock.now),
        ReportView("barn", "t2", 2, "refused", "expired", DIGEST, 30, clock.now),
        ReportView("barn", "t2", 1, "applied", "", DIGEST, 10, clock.now),
    ]
    assert [one.news.running for one in applied] == [{"t2": 1}, {}, {"t2": 2}, {}]
    assert [one.news.reports for one in applied] == [[reports[2]], [reports[1]], [reports[0]], []]
    assert await store.reports(None, 10) == reports
    assert await store.reports("other", 10) == []
    (model,) = await store.models()
    assert model.gateways == [RunView("barn", 2, 0, 0, 0, 0, 0, reports[1], reports[1])]


async def test_a_gateway_that_went_back_or_sees_drift_says_so_beside_what_runs(
    store: Store, wire: Wire, clock: Clock
) -> None:
    await begin(store, wire)
    said = [("applied", "", 2, 10), ("drifted", "features", 2, 20), ("rolled back", "worse", 2, 30)]
    frames = [wire.report("t2", version, outcome, reason, stamp=stamp) for outcome, reason, version, stamp in said]
    await store.apply(wire.batch(*frames, wire.report("t2", 1, "applied", "rolled back", stamp=30)))
    [run] = (await store.models())[0].gateways
    assert (run.version, run.reported and run.reported.outcome, run.refused) == (1, "applied", None)
    assert run.drifted == ReportView("barn", "t2", 2, "drifted", "features", DIGEST, 20, clock.now)
    assert run.rolled_back == ReportView("barn", "t2", 2, "rolled back", "worse", DIGEST, 30, clock.now)


async def test_reports_are_bounded_for_each_model_of_a_gateway(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    await store.apply(wire.batch(wire.report("rms", 1)))
    many = [wire.report("t2", version, "refused", "older", stamp=version) for version in range(1, MAX_REPORTS + 6)]
    await store.apply(wire.batch(*many))
    kept = [(report.model, report.version) for report in await store.reports(None, 1000)]
    assert kept == [*(("t2", version) for version in range(MAX_REPORTS + 5, 5, -1)), ("rms", 1)]


def version_of(name: str, version: int, digest: str = "") -> Published:
    return Published(name, version, digest or f"{version:064x}", "baseline/1", 4, version * S, 0, 60, b"sealed")


async def test_versions_only_grow(store: Store) -> None:
    assert await store.publish(version_of("t2", 3), b"once")
    for version in (3, 2):
        assert not await store.publish(version_of("t2", version), b"more")
    assert await store.publish(version_of("rms", 1), b"else")
    assert await store.publish(version_of("t2", 4, version_of("t2", 3).digest), b"once")
    assert await store.published() == [version_of("rms", 1), version_of("t2", 4, version_of("t2", 3).digest)]
    assert await store.content(version_of("t2", 3).digest) == b"once"
    assert await store.content("f" * 64) is None
    view = (await store.models())[1]
    assert view.versions[1] == VersionView(3, version_of("t2", 3).digest, "baseline/1", 4, 3 * S, 0, 60)
    assert (view.version, view.digest, view.size, view.created, view.gateways) == (
        4,
        view.versions[1].digest,
        4,
        4 * S,
        [],
    )


async def test_old_versions_and_their_contents_go_but_what_a_newer_one_needs_stays(store: Store) -> None:
    digest = "a" * 64
    await store.publish(version_of("t2", 1, digest), b"first")
    await store.publish(version_of("rms", 1, digest), b"first")
    for version in range(2, MAX_CONTENTS + 3):
        await store.publish(version_of("t2", version), b"%d" % version)
    assert await store.content(digest) == b"first"  # rms has it
    assert await store.content(version_of("t2", 2).digest) is None
    assert await store.content(version_of("t2", 3).digest) == b"3"
    await store.publish(version_of("t2", MAX_VERSIONS + 9), b"far")
    ours = next(view for view in await store.models() if view.name == "t2")
    assert [view.version for view in ours.versions] == [MAX_VERSIONS + 9, *range(MAX_CONTENTS + 2, 9, -1)]


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


async def test_a_machine_keeps_rows_beside_its_state_and_others_do_not_see_them(store: Store) -> None:
    await store.keep("jobs", 0, b"s", {"job/b": b"2", "job/a": b"1", "part/a/x": b"3"})
    await store.keep("trainings", 0, b"t", {"job/c": b"4"})
    assert await store.rows("jobs", "job/", "", 10) == [("job/a", b"1"), ("job/b", b"2")]
    assert await store.rows("jobs", "job/", "job/a", 10) == [("job/b", b"2")]
    assert await store.rows("jobs", "job/", "", 1) == [("job/a", b"1")]
    await store.keep("jobs", 0, b"u", {"job/a": b"5", "job/b": None})
    assert await store.rows("jobs", "job/", "", 10) == [("job/a", b"5")]
    assert (await store.row("jobs", "part/a/x"), await store.row("jobs", "part/a/y")) == (b"3", None)
    assert await store.kept("jobs") == (0, b"u")


async def test_an_answer_waits_for_every_machine(store: Store, wire: Wire) -> None:
    await begin(store, wire)
    for machine in ("jobs", "trainings"):
        await store.keep(machine, 0, b"")
    await store.apply(wire.batch(wire.arrived("results", PartBody(Cover(), "j", 1, "moments", 1, "done"))))
    [part] = await store.parts(0, 10)
    await store.pass_over("jobs", part.number)
    assert await store.parts(0, 10) == [part]
    await store.pass_over("trainings", part.number)
    assert await store.parts(0, 10) == []


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
        await store.apply(wire.batch(wire.windows((0, 0, 0, 5)), wire.statistics("t2", 1, 5), wire.report("t2", 1)))
        await store.publish(version_of("t2", 1), b"content")
        models = await store.models()
        await store.close()
        again = make(tmp_path, clock)
        await again.open()
        assert await again.models() == models
        assert await again.published() == [version_of("t2", 1)]
        assert await again.content(version_of("t2", 1).digest) == b"content"
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

"""What a gateway stamped while its clock was wrong goes to UTC when it says how: once, wherever it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud.store.sqlite import SqliteStore, clocks
from protocol.messages import Alert, AlertsBody, ClockDefinition, Cover, DefinitionsBody
from tests.cloud.wire import Clock, S, Wire

BOOT = "boot-1"
SHIFT = 56 * 365 * 86_400 * S + 7


@pytest.fixture
async def store(tmp_path: Path, clock: Clock, wire: Wire) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "test.db", clock, max_pending=16 << 20)
    await made.open()
    await made.hello(wire.hello(), 0)
    await made.apply(wire.batch(wire.definitions()))
    yield made
    await made.close()


async def say(store: SqliteStore, wire: Wire, shift: int = SHIFT, domain: str = BOOT) -> None:
    """Let the gateway say what makes UTC of a domain."""
    body = DefinitionsBody(Cover(), clocks=[ClockDefinition(domain, shift)])
    await store.apply(wire.batch(wire.arrived("definitions", body)))


async def rows(store: SqliteStore, domain: str = "", series: int = 1) -> list[tuple[int, int, int]]:
    """Give start, revision and count of a series' windows."""
    page = await store.windows(series, None, domain, (0, 1 << 62), 100)
    assert page is not None
    return [(row.start, row.revision, row.count) for row in page.windows]


def alert(start: int) -> Alert:
    return Alert([0], start, 0, start + S, 4.5, "value > 4")


async def test_what_is_here_moves_and_what_comes_later_moves_as_it_comes(store: SqliteStore, wire: Wire) -> None:
    await store.apply(wire.batch(wire.windows((0, 10, 0, 5), (1, 10, 0, 6), domain=BOOT), wire.windows((0, 10, 0, 9))))
    await say(store, wire)
    applied = await store.apply(wire.batch(wire.windows((0, 20, 0, 7), (0, 10, 1, 8), domain=BOOT)))
    assert await rows(store) == [(10 * S, 0, 9), (10 * S + SHIFT, 1, 8), (20 * S + SHIFT, 0, 7)]
    assert await rows(store, series=2) == [(10 * S + SHIFT, 0, 6)]
    assert await rows(store, BOOT) == await rows(store, BOOT, series=2) == []
    assert [(stored.utc, stored.start.tolist()) for stored in applied.stored] == [
        (True, [20 * S + SHIFT, 10 * S + SHIFT])
    ]


async def test_the_first_word_counts_and_a_repeat_changes_nothing(store: SqliteStore, wire: Wire) -> None:
    await store.apply(wire.batch(wire.windows((0, 10, 0, 5), domain=BOOT)))
    for shift in (SHIFT, SHIFT, SHIFT + 2):
        await say(store, wire, shift)
    assert await rows(store) == [(10 * S + SHIFT, 0, 5)]


async def test_only_the_gateway_that_says_so_is_moved_though_another_shares_its_boot(
    store: SqliteStore, wire: Wire
) -> None:
    other = Wire("shed")
    await store.hello(other.hello(), 0)
    await store.apply(other.batch(other.definitions(), other.windows((0, 10, 0, 6), domain=BOOT)))
    await say(store, wire)
    assert await rows(store, BOOT, series=3) == [(10 * S, 0, 6)]


async def test_alerts_move_with_their_windows(store: SqliteStore, wire: Wire) -> None:
    for start in (10, 20):
        await store.apply(wire.batch(wire.arrived("alerts", AlertsBody(Cover(), [alert(start * S)], BOOT))))
        await say(store, wire)
    page = await store.alerts(None, 1 << 62, 10)
    assert [(one.domain, one.start, one.stamp) for one in page.alerts] == [
        ("", 20 * S + SHIFT, 21 * S + SHIFT),
        ("", 10 * S + SHIFT, 11 * S + SHIFT),
    ]


async def test_a_row_that_would_meet_another_stays_where_it_was(store: SqliteStore, wire: Wire) -> None:
    await store.apply(wire.batch(wire.windows((0, 10, 0, 5), domain=BOOT), wire.windows((0, 30, 0, 9))))
    await say(store, wire, 20 * S)
    assert await rows(store) == [(30 * S, 0, 9)]
    assert await rows(store, BOOT) == [(10 * S, 0, 5)]


async def test_the_newest_words_are_remembered(store: SqliteStore, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "MAX_CLOCKS", 2)
    for number in range(3):
        await say(store, wire, domain=f"boot-{number}")
    await store.apply(wire.batch(*(wire.windows((0, 10 + n, 0, n), domain=f"boot-{n}") for n in range(3))))
    assert await rows(store) == [(11 * S + SHIFT, 0, 1), (12 * S + SHIFT, 0, 2)]
    assert await rows(store, "boot-0") == [(10 * S, 0, 0)]

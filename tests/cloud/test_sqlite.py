"""What the SQLite store adds to the promises of every store: bounds of its one thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud.store import sqlite
from cloud.store.sqlite import MAX_READS, SqliteStore
from protocol.errors import StoreUnavailable
from tests.cloud.wire import Clock, Wire


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "test.db", clock, max_pending=1000)
    await made.open()
    yield made
    await made.close()


async def test_one_read_too_many_is_refused_at_once(store: SqliteStore) -> None:
    answers = await asyncio.gather(*(store.totals() for _ in range(MAX_READS + 1)), return_exceptions=True)
    assert [str(answer) for answer in answers if isinstance(answer, Exception)] == [
        f"{MAX_READS} requests wait already"
    ]


async def test_a_read_that_takes_too_long_is_broken_off(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MAX_READ_S", -1.0)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(StoreUnavailable, match="interrupted"):
        await store._read(lambda reader: reader._connection.execute(endless).fetchall())
    assert (await store.totals()).gateways == 0


async def test_writes_wait_for_room_and_are_all_answered(store: SqliteStore, wire: Wire) -> None:
    await store.hello(wire.hello(), 0)
    await store.apply(wire.batch(wire.definitions()))
    batches = [wire.batch(wire.windows((0, start, 0, 1)))._replace(size=600) for start in range(10)]
    writes = [asyncio.create_task(store.apply(batch)) for batch in batches]
    await asyncio.sleep(0)
    assert store._room.used == 600
    assert [applied.accepted for applied in await asyncio.gather(*writes)] == [1] * 10
    assert store._room.used == 0


async def test_a_transaction_takes_a_bounded_group(
    store: SqliteStore, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "MAX_GROUP", 250)
    await store.hello(wire.hello(), 0)
    batches = [wire.batch(wire.alerts()) for _ in range(5)]
    writes = [asyncio.create_task(store.apply(batch)) for batch in batches]
    await asyncio.sleep(0)
    assert [len(store._group()) for _ in range(3)] == [2, 2, 1]
    for write in writes:
        write.cancel()


async def test_an_error_of_ours_costs_only_its_own_write(store: SqliteStore, wire: Wire) -> None:
    good = store.hello(wire.hello(), 0)
    bad = store._write(lambda _writer: 1 // 0, 0)
    answers = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(answers[0], ZeroDivisionError)
    assert not isinstance(answers[1], BaseException)


async def test_a_newer_format_is_refused(tmp_path: Path, clock: Clock) -> None:
    store = SqliteStore(tmp_path / "new.db", clock)
    await store.open()
    await store._in_thread(lambda: store._connection.execute("PRAGMA user_version = 99"))
    await store.close()
    with pytest.raises(StoreUnavailable, match="format 99"):
        await SqliteStore(tmp_path / "new.db", clock).open()

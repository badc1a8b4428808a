"""What the SQLite store adds to the promises of every store: bounds of its one thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloud.store import sqlite
from cloud.store.sqlite import MAX_READS, SqliteStore
from protocol.errors import StoreUnavailable
from tests.cloud.wire import DEADLINE_S, Clock, Wire


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


class Stubborn(sqlite3.Connection):
    """A connection on which statements fail as a test says."""

    failing: dict[str, Exception]

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if error := self.failing.get(sql):
            raise error
        return super().execute(sql, *values)


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(
            {"COMMIT": sqlite3.OperationalError("disk"), "ROLLBACK": sqlite3.OperationalError("disk")}, id="rollback"
        ),
        pytest.param({"COMMIT": MemoryError("no room")}, id="an error that is not the database's"),
        pytest.param({"COMMIT": MemoryError("no room"), "ROLLBACK": sqlite3.OperationalError("disk")}, id="both"),
    ],
)
async def test_whatever_ends_a_commit_every_writer_is_told_and_the_next_is_served(
    tmp_path: Path, clock: Clock, wire: Wire, monkeypatch: pytest.MonkeyPatch, failing: dict[str, Exception]
) -> None:
    monkeypatch.setattr(Stubborn, "failing", {}, raising=False)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Stubborn))
    store = SqliteStore(tmp_path / "test.db", clock)
    await store.open()
    Stubborn.failing = failing
    for _ in range(2):
        writes = [asyncio.create_task(store.hello(wire.hello(gateway=name), 0)) for name in ("barn", "shed")]
        done, _pending = await asyncio.wait(writes, timeout=DEADLINE_S)
        assert [type(write.exception()) for write in writes if write in done] == [StoreUnavailable] * 2
    assert await store.check() != ""
    Stubborn.failing = {}
    await store.check()
    assert await store.check() == ""
    await store.hello(wire.hello(), 0)
    assert [view.name for view in await store.gateways()] == ["barn"]
    await store.close()


async def test_a_newer_format_is_refused(tmp_path: Path, clock: Clock) -> None:
    store = SqliteStore(tmp_path / "new.db", clock)
    await store.open()
    await store._in_thread(lambda: store._connection.execute("PRAGMA user_version = 99"))
    await store.close()
    with pytest.raises(StoreUnavailable, match="format 99"):
        await SqliteStore(tmp_path / "new.db", clock).open()

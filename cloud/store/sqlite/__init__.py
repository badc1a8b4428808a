"""Results in one SQLite file.

Rules:

1. One connection in one thread does everything. SQLite before 3.51.3 can damage a database in WAL mode when two
   connections meet at a checkpoint, so there is no second one: reads run between transactions, bounded in rows and
   time, and the file is locked against other processes while it is open.
2. What waits when a transaction begins is in it, up to MAX_GROUP (group commit): many gateways share one fsync. Each
   write has its savepoint, so what the database cannot hold costs only itself.
3. A write's answer is given after the commit. A commit that fails leaves nothing, and every waiting writer is told.
4. Writes wait for room when more than `max_pending` bytes wait already; reads beyond MAX_READS are refused at once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Generic, TypeVar

from cloud.room import Room
from cloud.store import NO_ROWS, Applied, Batch, Greeted, Learnt, Part, Published, Results, Stored, Sums, Totals
from cloud.store.answers import (
    AccountView,
    AlertsPage,
    GatewayView,
    LaneView,
    ModelView,
    QuarantinedView,
    ReportView,
    SeriesView,
    WindowsPage,
)
from cloud.store.sqlite.read import Reader
from cloud.store.sqlite.schema import MIGRATIONS, PRAGMAS, TABLES, VERSION
from cloud.store.sqlite.write import Writer
from protocol.errors import StoreUnavailable
from protocol.messages import Hello

log = logging.getLogger("fieldgate.store")

MAX_GROUP = 8 << 20
"""Bytes of batches in one transaction, about 100,000 rows: readers wait for it to end."""
MAX_READS = 64
"""Reads that wait at once."""
MAX_READ_S = 2.0
"""A read that takes longer is broken off: gateways wait for their receipts meanwhile."""
STEPS = 20_000
"""Virtual machine steps between two looks at the clock; about a millisecond."""

T = TypeVar("T")


@dataclass(slots=True)
class _Write(Generic[T]):
    """One write that waits for a transaction."""

    run: Callable[[Writer], T]
    size: int
    answer: asyncio.Future[T]


class SqliteStore:
    """The store in the file `path`; `clock` gives the stamps (ns) of what is stored."""

    def __init__(self, path: Path, clock: Callable[[], int], *, max_pending: int = 64 << 20) -> None:
        self.path = path
        self.lacking = "store: not open"
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "store")
        self._waiting: list[_Write[Any]] = []
        self._reads = 0
        self._wanted = asyncio.Event()
        self._room = Room(max_pending)
        self._closing = False
        self._pump: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open or make the file; StoreUnavailable says why not."""
        await self._in_thread(self._open)
        self.lacking = ""
        self._pump = asyncio.create_task(self._write_for_ever(), name="store")

    async def close(self) -> None:
        """Commit what waits, then close the file."""
        self._closing = True
        self._wanted.set()
        if self._pump is not None:
            await self._pump
            await self._in_thread(self._connection.close)
        self.lacking = "store: closed"
        self._thread.shutdown()

    async def check(self) -> str:
        """Say why it is not ready, after trying a commit if the last one failed; "" when it is."""
        if self.lacking and self._pump is not None and not self._closing:
            with suppress(StoreUnavailable):
                await self._write(lambda writer: writer.touch(), 0)
        return self.lacking

    async def hello(self, hello: Hello, now: int) -> Greeted:
        """Note that a gateway speaks, and compare its lanes with the ledger."""
        return await self._write(lambda writer: writer.hello(hello, now), 0)

    async def apply(self, batch: Batch) -> Applied:
        """Commit a batch; waits while too many bytes are waiting already."""
        applied = await self._write(lambda writer: writer.apply(batch), batch.size)
        return applied._replace(committed=self._clock())

    async def record(self, results: Results) -> Stored:
        """Commit rows of our own series; those that are there already stay as they are."""
        return await self._write(lambda writer: writer.ours.record(results, self._clock()), 100 * len(results.values))

    async def gateways(self) -> list[GatewayView]:
        """Give all gateways by name."""
        return await self._read(lambda reader: reader.gateways())

    async def series(self, gateway: str | None, match: str | None, after: int, limit: int) -> list[SeriesView]:
        """Give series with an id above `after`, whose name matches the glob."""
        return await self._read(lambda reader: reader.series(gateway, match, after, limit))

    async def windows(
        self, series: int, definition: int | None, domain: str, between: tuple[int | None, int], limit: int
    ) -> WindowsPage | None:
        """Give windows of a series with start in [from, to), oldest first; without `from`, the newest."""
        return await self._read(lambda reader: reader.windows(series, definition, domain, between, limit))

    async def oldest(self, gateway: str, match: str) -> int | None:
        """Give when the oldest tumbling window in UTC begins, of a gateway's series whose name matches the glob."""
        return await self._read(lambda reader: reader.sums.oldest(gateway, match))

    async def sums(self, series: int, start: int, end: int) -> Sums | None:
        """Add up a series' tumbling windows in UTC that lie whole in [start, end); None: there are none."""
        return await self._read(lambda reader: reader.sums.sums(series, start, end))

    async def alerts(self, gateway: str | None, before: int, limit: int) -> AlertsPage:
        """Give alerts raised before a time, newest first."""
        return await self._read(lambda reader: reader.alerts(gateway, before, limit))

    async def ledger(self, gateway: str | None) -> list[LaneView]:
        """Give the lanes of each gateway's newest epochs."""
        return await self._read(lambda reader: reader.ledger(gateway))

    async def accounts(self, gateway: str | None) -> list[AccountView]:
        """Give each gateway's newest epochs and its own counts."""
        return await self._read(lambda reader: reader.accounts(gateway))

    async def quarantine(self, limit: int) -> list[QuarantinedView]:
        """Give what was quarantined, newest first."""
        return await self._read(lambda reader: reader.quarantine(limit))

    async def models(self) -> list[ModelView]:
        """Give all models by name."""
        return await self._read(lambda reader: reader.models.models())

    async def reports(self, gateway: str | None, limit: int) -> list[ReportView]:
        """Give what became of model versions, newest first."""
        return await self._read(lambda reader: reader.models.reports(gateway, limit))

    async def learnt(self, model: str) -> list[Learnt]:
        """Give the newest statistics of each gateway for a model, by gateway."""
        return await self._read(lambda reader: reader.models.learnt(model))

    async def publish(self, version: Published, content: bytes) -> bool:
        """Keep a version and its content; False if it is not above the newest of its model."""
        return await self._write(lambda writer: writer.models.publish(version, content), len(content))

    async def published(self) -> list[Published]:
        """Give the newest version of each model, by name."""
        return await self._read(lambda reader: reader.models.published())

    async def content(self, digest: str) -> bytes | None:
        """Give a content that is kept; None if it is not."""
        return await self._read(lambda reader: reader.models.content(digest))

    async def parts(self, after: int, limit: int) -> list[Part]:
        """Give answers to tasks with a number above `after`."""
        return await self._read(lambda reader: reader.parts.parts(after, limit))

    async def keep(self, machine: str, handled: int, state: bytes, rows: Mapping[str, bytes | None] = NO_ROWS) -> None:
        """Replace what a state machine keeps."""
        size = len(state) + sum(len(value or b"") for value in rows.values())
        await self._write(lambda writer: writer.parts.keep(machine, handled, state, rows), size)

    async def pass_over(self, machine: str, handled: int) -> None:
        """Note how far a state machine has come."""
        await self._write(lambda writer: writer.parts.pass_over(machine, handled), 0)

    async def rows(self, machine: str, begins: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Give rows that a state machine keeps, whose key begins so and is above `after`, by key."""
        return await self._read(lambda reader: reader.parts.rows(machine, begins, after, limit))

    async def row(self, machine: str, key: str) -> bytes | None:
        """Give one row that a state machine keeps."""
        return await self._read(lambda reader: reader.parts.row(machine, key))

    async def kept(self, machine: str) -> tuple[int, bytes]:
        """Give how far a state machine has come, and what it keeps."""
        return await self._read(lambda reader: reader.parts.kept(machine))

    async def totals(self) -> Totals:
        """Count what is stored."""
        return await self._read(lambda reader: reader.totals())

    async def expire(self, before: int, after: int) -> int:
        """Delete windows and alerts older than a time, a bounded step; give where to go on after, 0 when done."""
        return await self._write(lambda writer: writer.expire(before, after), 0)

    async def _write(self, run: Callable[[Writer], T], size: int) -> T:
        await self._room.take(size)
        if self._closing or self._pump is None:
            self._room.give(size)
            raise StoreUnavailable("the store is closed")
        write = _Write(run, size, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        self._wanted.set()
        answer: T = await write.answer
        return answer

    async def _read(self, run: Callable[[Reader], T]) -> T:
        if self._reads >= MAX_READS:
            raise StoreUnavailable(f"{MAX_READS} requests wait already")
        if self._closing or self._pump is None:
            raise StoreUnavailable("the store is closed")
        self._reads += 1
        try:
            return await self._in_thread(lambda: self._run_read(run))
        finally:
            self._reads -= 1

    async def _in_thread(self, run: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self.path}: {error}") from error

    async def _write_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            group = self._group()
            try:
                answers = await loop.run_in_executor(self._thread, self._commit, [write.run for write in group])
            except Exception as error:  # whatever it was, the writers are told and the next ones are served
                log.exception("store: a commit ended with an error of ours")
                answers = [StoreUnavailable(f"{self.path}: {error!r}")] * len(group)
            for write, answer in zip(group, answers, strict=True):
                self._room.give(write.size)
                _settle(write.answer, answer)
            self._note(answers)

    def _group(self) -> list[_Write[Any]]:
        size = at = 0
        while at < len(self._waiting) and (not at or size + self._waiting[at].size <= MAX_GROUP):
            size += self._waiting[at].size
            at += 1
        group, self._waiting = self._waiting[:at], self._waiting[at:]
        return group

    def _note(self, answers: list[Any]) -> None:
        failed = next((answer for answer in answers if isinstance(answer, StoreUnavailable)), None)
        if failed is not None and not self.lacking:
            log.error("store: %s", failed)
        elif failed is None and self.lacking:
            log.info("store: commits again")
        self.lacking = f"store: {failed}" if failed is not None else ""

    # In the thread.

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=2.0)
        try:
            self._prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StoreUnavailable(f"{self.path} is in use by another process") from error
            raise
        self._connection = connection
        self._writer, self._reader = Writer(connection, self._clock), Reader(connection)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for pragma in PRAGMAS:
            connection.execute(pragma)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreUnavailable(f"{self.path} has format {version}, this version reads up to {VERSION}")
        changes = TABLES if version == 0 else "".join(MIGRATIONS[number] for number in range(version, VERSION))
        if changes:
            connection.executescript(f"BEGIN IMMEDIATE; {changes} PRAGMA user_version = {VERSION}; COMMIT;")
        self.path.chmod(0o600)

    def _commit(self, runs: list[Callable[[Writer], Any]]) -> list[Any]:
        """Run writes in one transaction; an answer is a value or the error it ended with."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [self._savepoint(run) for run in runs]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            return [StoreUnavailable(f"{self.path}: {error}")] * len(runs)
        except BaseException:
            self._roll_back()
            raise
        return answers

    def _savepoint(self, run: Callable[[Writer], Any]) -> Any:
        self._connection.execute("SAVEPOINT batch")
        try:
            answer = run(self._writer)
        except sqlite3.Error:
            raise  # the disk's or the database's: the whole group is told
        except Exception as error:  # noqa: BLE001 - raised again where the write is awaited; others must not suffer
            self._connection.execute("ROLLBACK TO batch")
            self._writer.forget()
            answer = error
        self._connection.execute("RELEASE batch")
        return answer

    def _roll_back(self) -> None:
        self._writer.forget()
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:  # the next commit fails at BEGIN, and this is tried again
                log.warning("store: cannot roll back: %s", error)

    def _run_read(self, run: Callable[[Reader], T]) -> T:
        end = monotonic() + MAX_READ_S
        self._connection.set_progress_handler(lambda: monotonic() > end, STEPS)
        try:
            return run(self._reader)
        finally:
            self._connection.set_progress_handler(None, 0)


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():  # its connection is gone; what it wrote is committed all the same
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)

"""Where results are kept: what any store must do, and the values that go in and come out.

What every store promises, and `tests/cloud/test_store.py` checks of each:

1. Rows, ledger marks and losses of one batch commit in one transaction; `apply` returns after the commit, or raises
   StoreUnavailable with nothing done. Batches of many gateways may share a transaction.
2. A row's key is (gateway, series name, definition digest, clock domain, start); the higher revision wins.
   What was stamped in a clock domain goes to UTC, its key too, when the gateway says how: once, and what comes of it
   later goes there as it comes.
3. The ledger alone decides what is a duplicate. A frame that cannot be decoded or names what was never defined is
   quarantined: kept (bounded), receipted, counted.
4. Of each gateway's models the newest statistics and the newest words are kept, newest by the gateway's own stamp:
   epochs come and go. They commit with the ledger, like rows.
5. A model's versions only grow. The newest MAX_VERSIONS are remembered, of the newest MAX_CONTENTS the content too.
6. Losses of one lane and cause that follow each other are one. MAX_LOSSES ranges are kept, and sums by cause.
   What a gateway counted of frames that it lost with an earlier epoch (`frames.{lane}.{cause}`) is summed over its
   declarations; of other counts the newest replaces all.
7. An epoch whose hello contradicts the ledger, or that speaks again after a later one began, is remarked upon.
8. Bounded: what waits for a commit, in bytes; every answer, in rows; the models of a gateway, and the reports kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cloud.store.answers import (
    AccountView,
    AlertsPage,
    AlertView,
    GatewayView,
    LaneView,
    ModelView,
    QuarantinedView,
    ReportView,
    SeriesView,
    WindowsPage,
)
from protocol.messages import (
    AlertsBody,
    DefinitionsBody,
    Hello,
    LossesBody,
    Mark,
    Moments,
    PartBody,
    ReportBody,
    StatisticsBody,
    WindowRows,
)

MAX_ROWS = 10_000
"""Rows in one answer: about 2 MB of JSON, and a few milliseconds between two commits."""
MAX_IDS = 1_000_000
"""Series and definition numbers of one epoch stay below this; they index arrays."""
MAX_MODELS = 64
"""Models of one gateway; what comes about another is quarantined with the cause `models`."""
MAX_REPORTS = 20
"""Reports kept of a gateway's model, newest first; so nobody pushes out another's."""
MAX_VERSIONS = 1000
"""Versions of a model that are remembered; with one every ten minutes, a week of them."""
MAX_CONTENTS = 16
"""Of so many of its newest versions a model's content is kept: how far a rollback reaches."""
MAX_PARTS = 1000
"""Answers to tasks that are kept of one gateway until they are handled: nobody crowds others out."""
MAX_LOSSES = 1000
"""Ranges that are kept of a lane's losses, newest first; sums by cause count all."""
MAX_CAUSES = 32
"""Causes of a lane's losses that are told apart."""
OURS = "cloud"
"""Whose series this cloud's own are: no gateway may be called so, and the fleet does not show it."""
MAX_OURS = 100_000
"""Series of our own; a name beyond is left out."""
MAX_RAISED = 100
"""Alerts of one batch that are shown as they come; the store has all."""


NO_ROWS: Mapping[str, bytes | None] = {}


class Windows(NamedTuple):
    """Window rows in the gateway's own numbers."""

    rows: WindowRows
    domain: str
    stamp: int = 0  # ns, the gateway's


class Undecodable(NamedTuple):
    """A well-framed frame that holds nothing we understand: why, in one word and in detail, and its bytes."""

    cause: str
    detail: str
    body: bytes


Holds = DefinitionsBody | Windows | AlertsBody | LossesBody | StatisticsBody | ReportBody | PartBody | Undecodable


class Arrived(NamedTuple):
    """One frame in its lane. `size` is its bytes on the wire."""

    lane: str
    seq: int
    chain: int
    content: int
    size: int
    holds: Holds


class Batch(NamedTuple):
    """Frames of one gateway's epoch, in the order they came. `size` is about what they occupy in memory."""

    gateway: str
    epoch: int
    frames: list[Arrived]
    size: int


class Stored(NamedTuple):
    """Committed rows in the store's own numbers, for whoever watches; arrays of shape (n,)."""

    utc: bool
    series: NDArray[np.int64]
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    rows: WindowRows


class Results(NamedTuple):
    """Numbers that were found for one interval (ns), by the name of the series of ours that they belong to."""

    digest: str  # of what was asked: of a window's definition
    size: int
    hop: int
    start: int
    values: Mapping[str, float]


class Sums(NamedTuple):
    """What windows of one series say together: of how many readings, and of which event times (ns), [start, end)."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks of sums
    mean: float
    scatter: float  # sum of (x - mean)^2
    minimum: float
    maximum: float
    start: int
    end: int


class Greeted(NamedTuple):
    """What is here of a gateway's epoch; `fork` says why it cannot go on, `remark` what an operator should look at."""

    marks: dict[str, Mark]
    fork: str = ""
    remark: str = ""


@dataclass(slots=True)
class News:
    """What a batch brought for the first time of alerts, models and counts; models by name."""

    alerts: int = 0
    raised: list[AlertView] = field(default_factory=list)  # the newest MAX_RAISED of them, oldest first
    shadow: int = 0  # by how much the count of alerts in the shadow changed
    running: dict[str, int] = field(default_factory=dict)  # versions that the gateway has said to run
    learnt: dict[str, int] = field(default_factory=dict)  # windows behind statistics that are newer than those before
    reports: list[ReportView] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # what the gateway has declared of itself
    parts: int = 0  # answers to tasks


class Applied(NamedTuple):
    """What a batch came to. `marks` are those of the lanes it touched."""

    marks: dict[str, Mark]
    fork: str
    stored: list[Stored]
    accepted: int
    duplicate: int
    deferred: int
    quarantined: dict[str, int]  # by cause
    windows: int  # rows written: new, or a higher revision
    readings: int  # inside rows that were stated for the first time
    bytes: int
    new_series: int
    news: News
    committed: int  # ns


class Learnt(NamedTuple):
    """The newest statistics of one gateway for one model."""

    gateway: str
    entries: list[Moments]


class Part(NamedTuple):
    """A gateway's answer to a task; `number` grows with every one that is stored."""

    number: int
    gateway: str
    body: PartBody


class Published(NamedTuple):
    """One version of a model as it is published; `windows` are those that it was made of."""

    name: str
    version: int
    digest: str
    schema: str
    size: int
    created: int  # ns
    expires: int  # ns; 0 is never
    windows: int
    manifest: bytes  # sealed


class Totals(NamedTuple):
    """Sums over everything that is stored."""

    gateways: int
    series: int
    windows: int


class Store(Protocol):
    """Asynchronous face of a store. Any method may raise StoreUnavailable."""

    async def open(self) -> None:
        """Make ready; StoreUnavailable says why not."""

    async def close(self) -> None:
        """Commit what waits, then end."""

    async def check(self) -> str:
        """Say why it is not ready, after trying a commit if the last one failed; "" when it is."""

    async def hello(self, hello: Hello, now: int) -> Greeted:
        """Note that a gateway speaks, and compare its lanes with the ledger."""

    async def apply(self, batch: Batch) -> Applied:
        """Commit a batch; waits while too many bytes are waiting already."""

    async def record(self, results: Results) -> Stored:
        """Commit rows of our own series; those that are there already stay as they are."""

    async def gateways(self) -> list[GatewayView]:
        """Give all gateways by name, as far as the store knows them: never online, without lag."""

    async def series(self, gateway: str | None, match: str | None, after: int, limit: int) -> list[SeriesView]:
        """Give series with an id above `after`, whose name matches the glob."""

    async def windows(
        self, series: int, definition: int | None, domain: str, between: tuple[int | None, int], limit: int
    ) -> WindowsPage | None:
        """Give windows of a series with start in [from, to), oldest first; without `from` the newest; None: unknown."""

    async def oldest(self, gateway: str, match: str) -> int | None:
        """Give when the oldest tumbling window in UTC begins, of a gateway's series whose name matches the glob."""

    async def sums(self, series: int, start: int, end: int) -> Sums | None:
        """Add up a series' tumbling windows in UTC that lie whole in [start, end); None: there are none.

        An `end` of 0 is none. Of those of several definitions it takes the ones that hold most readings.
        """

    async def alerts(self, gateway: str | None, before: int, limit: int) -> AlertsPage:
        """Give alerts raised before a time, newest first."""

    async def ledger(self, gateway: str | None) -> list[LaneView]:
        """Give the lanes of each gateway's newest epochs."""

    async def accounts(self, gateway: str | None) -> list[AccountView]:
        """Give each gateway's newest epochs and its own counts, as far as the store knows: never online."""

    async def quarantine(self, limit: int) -> list[QuarantinedView]:
        """Give what was quarantined, newest first."""

    async def models(self) -> list[ModelView]:
        """Give all models by name: those published, and those that only gateways know of yet."""

    async def reports(self, gateway: str | None, limit: int) -> list[ReportView]:
        """Give what became of model versions, newest first."""

    async def learnt(self, model: str) -> list[Learnt]:
        """Give the newest statistics of each gateway for a model, by gateway."""

    async def publish(self, version: Published, content: bytes) -> bool:
        """Keep a version and its content; False, and nothing kept, if it is not above the newest of its model."""

    async def published(self) -> list[Published]:
        """Give the newest version of each model, by name."""

    async def content(self, digest: str) -> bytes | None:
        """Give a content that is kept; None if it is not."""

    async def parts(self, after: int, limit: int) -> list[Part]:
        """Give answers to tasks with a number above `after`, in the order they came, as far as they are kept."""

    async def keep(self, machine: str, handled: int, state: bytes, rows: Mapping[str, bytes | None] = NO_ROWS) -> None:
        """Replace what a state machine keeps, and those of its rows that are named (None: forgotten).

        Answers up to `handled` are forgotten when all machines are so far.
        """

    async def pass_over(self, machine: str, handled: int) -> None:
        """Note how far a state machine has come, which keeps what it kept."""

    async def rows(self, machine: str, begins: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Give rows that a state machine keeps, whose key begins so and is above `after`, by key."""

    async def row(self, machine: str, key: str) -> bytes | None:
        """Give one row that a state machine keeps; None if it does not."""

    async def kept(self, machine: str) -> tuple[int, bytes]:
        """Give how far a state machine has come, and what it keeps; (0, b"") if it has not begun."""

    async def totals(self) -> Totals:
        """Count what is stored."""

    async def expire(self, before: int, after: int) -> int:
        """Delete windows and alerts older than a time, a bounded step; give where to go on after, 0 when done."""

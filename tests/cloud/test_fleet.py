"""Who is online, and how late results come."""

from __future__ import annotations

import msgspec
import numpy as np

from cloud.fleet import Fleet, lags
from cloud.store import Applied, News, Stored
from cloud.store.answers import FrameCounts, GatewayView
from tests.cloud.wire import S, Wire, window_rows


def applied(*rows: tuple[int, ...], committed: int, utc: bool = True) -> Applied:
    columns = window_rows(*rows)
    size = np.full(columns.rows, 10 * S)
    stored = Stored(utc, columns.series.astype(np.int64), columns.start, size, columns)
    news = News(alerts=2, shadow=4, running={"t2": 3, "old": 0}, counts={"broker": 9})
    return Applied({}, "", [stored], 1, 2, 0, {"body": 3}, len(rows), 7, 50, 1, news, committed)


def test_a_gateway_is_online_between_hello_and_the_end_of_its_newest_connection() -> None:
    fleet = Fleet()
    hello = Wire().hello(version="1", readings=5)
    fleet.opened(hello, 1, 100)
    fleet.opened(hello, 2, 200)
    fleet.closed("barn", 1, 300)
    assert (fleet.online, fleet.views()[0].online) == (1, True)
    fleet.closed("barn", 2, 400)
    assert (fleet.online, fleet.version) == (0, 3)
    assert fleet.views() == [GatewayView("barn", False, 400, None, f"{7:016x}", "1", 0, 0, 5, 0, FrameCounts())]


def test_a_commit_adds_up_on_what_the_store_had() -> None:
    fleet = Fleet()
    before = GatewayView("barn", False, 1, None, "e", "v", 10, 100, 1000, 10000, FrameCounts(1, 1, 1))
    before.models, before.alerts, before.shadow = {"old": 7, "rms": 1}, 10, 20
    fleet.begin([before])
    fleet.committed("barn", applied((0, 0, 0, 1), (0, 20, 0, 1), committed=31 * S))
    expected = GatewayView("barn", False, 31 * S, 1.0, "e", "v", 11, 102, 1007, 10050, FrameCounts(2, 3, 4))
    expected.models, expected.alerts, expected.shadow = {"rms": 1, "t2": 3}, 12, 24
    expected.counts = {"broker": 9}
    assert fleet.views() == [expected]


def test_lag_is_from_the_newest_windows_end_to_its_commit() -> None:
    fleet = Fleet()
    fleet.opened(msgspec.structs.replace(Wire().hello()), 1, 0)
    fleet.committed("barn", applied((0, 100, 0, 1), committed=int(110.5 * S)))
    assert fleet.views()[0].lag_s == 0.5
    fleet.committed("barn", applied((0, 10, 0, 1), committed=111 * S))  # backlog says nothing about now
    assert fleet.views()[0].lag_s == 0.5


def test_lags_are_of_first_statements_on_a_known_clock() -> None:
    assert lags(applied((0, 0, 0, 1), (0, 0, 1, 1), committed=12 * S)).tolist() == [2 * S]
    assert lags(applied((0, 0, 0, 1), committed=12 * S, utc=False)).tolist() == []
    assert lags(applied((0, 0, 0, 1), committed=12 * S)._replace(stored=[])).tolist() == []

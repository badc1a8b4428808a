"""What a service tells systemd, and when the pings end."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.notify import Notify, Sight, Stall, Watchdog, Work
from tests.systemd import Listener, listening

S = 10**9
PID = 4711


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    with listening(tmp_path / "notify") as listener:
        yield listener


def work(done: int, *, waiting: bool = True, slack: int = 0) -> Work:
    return Work("journal", waiting, done, "no commit ends", slack)


# Slow, or stalled?


@pytest.mark.parametrize(
    ("looks", "stalls"),
    [
        ([(0, work(7, waiting=False)), (900 * S, work(7, waiting=False))], [False, False]),
        ([(0, work(7)), (11 * S, work(8)), (22 * S, work(9))], [False, False, False]),
        ([(0, work(7)), (10 * S, work(7)), (10 * S + 1, work(7))], [False, False, True]),
        ([(0, work(7)), (11 * S, work(7)), (12 * S, work(8)), (22 * S, work(8))], [False, True, False, False]),
        ([(0, work(7)), (9 * S, work(7, waiting=False)), (18 * S, work(7))], [False, False, False]),
        (
            [(0, work(7, slack=5 * S)), (15 * S, work(7, slack=5 * S)), (16 * S, work(7, slack=5 * S))],
            [False, False, True],
        ),
    ],
    ids=[
        "nothing waits, however long",
        "it waits always, and goes on",
        "it waits and does nothing for longer than the patience",
        "it goes on after all",
        "what waits now is not what waited then",
        "it has some slack",
    ],
)
def test_a_work_stalls_when_it_waits_and_nothing_is_done(looks: list[tuple[int, Work]], stalls: list[bool]) -> None:
    watchdog = Watchdog(10 * S)
    assert [bool(watchdog.feed([seen], now)) for now, seen in looks] == stalls


def test_of_several_works_those_that_stall_are_named_with_their_trouble_and_for_how_long() -> None:
    watchdog = Watchdog(10 * S)
    idle = Work("intake", False, 1, "what arrived is not recorded")
    watchdog.feed([idle, work(7)], 0)
    stalled = watchdog.feed([idle, work(7)], 12 * S)
    assert stalled == [Stall(work(7), 12 * S)]
    assert str(stalled[0]) == "journal: no commit ends, for 12 s"


# The environment.


@pytest.mark.parametrize(
    ("environment", "pings_every_ns"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3 * S),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(PID)}, 3 * S),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
    ids=["none", "ours", "ours by pid", "another process's", "off", "nonsense"],
)
def test_pings_are_wanted_of_the_process_that_is_asked(environment: dict[str, str], pings_every_ns: int | None) -> None:
    assert Notify(environment, PID).watchdog_ns == pings_every_ns


@pytest.mark.parametrize("abstract", [False, True], ids=["a path", "an abstract name"])
async def test_lines_arrive_in_one_datagram(abstract: bool, tmp_path: Path) -> None:
    with listening(f"@fieldgate-{os.getpid()}" if abstract else tmp_path / "notify") as systemd:
        notify = Notify(systemd.environment, PID)
        notify.tell("READY=1", "STATUS=well")
        assert await systemd.hear("STATUS") == "STATUS=well"
    assert (bool(notify), systemd.heard) == (True, ["READY=1", "STATUS=well"])


@pytest.mark.parametrize("address", ["", "vsock:2:1", "relative"])
async def test_without_a_socket_nothing_is_told_and_nobody_waits(address: str) -> None:
    notify = Notify({"NOTIFY_SOCKET": address}, PID)
    notify.tell("READY=1")
    await notify.attend(lambda: pytest.fail("nobody looks"))
    assert not notify


async def test_a_socket_that_is_gone_is_said_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "absent")}, PID)
    notify.tell("READY=1")
    notify.tell("WATCHDOG=1")
    assert caplog.messages == ["notify: systemd cannot be told READY=1: [Errno 2] No such file or directory"]


# A service at work.


class Service:
    """A service whose sight the test sets."""

    def __init__(self) -> None:
        self.sight = Sight("well")

    @asynccontextmanager
    async def attended(self, environment: dict[str, str]) -> AsyncIterator[Notify]:
        notify = Notify(environment, os.getpid())
        task = asyncio.create_task(notify.attend(lambda: self.sight))
        try:
            yield notify
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_it_is_ready_then_says_how_it_fares_when_that_changes_and_pings_all_the_time(systemd: Listener) -> None:
    service = Service()
    async with service.attended(systemd.pinged_every(20)) as notify:
        for _ in range(3):
            await systemd.hear("WATCHDOG=1")
        service.sight = Sight("better")
        await systemd.hear("STATUS=better")
        notify.stopping()
        await systemd.hear("STOPPING=1")
    told = [line for line in systemd.heard if line != "WATCHDOG=1"]
    assert systemd.heard[0] == "READY=1"
    assert told == ["READY=1", "STATUS=well", "STATUS=better", "STOPPING=1", "STATUS=stopping"]


async def test_without_a_watchdog_there_are_no_pings(systemd: Listener) -> None:
    async with Service().attended(systemd.environment):
        await systemd.hear("STATUS=well")
    assert systemd.heard == ["READY=1", "STATUS=well"]


async def test_pings_end_while_something_stalls_and_the_log_says_why_once(
    systemd: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    service = Service()
    async with service.attended(systemd.pinged_every(20)):
        await systemd.hear("WATCHDOG=1")
        service.sight = Sight("well", [work(7)])
        await systemd.hear(r"STATUS=stalled: journal: no commit ends, for \d s")
        before = len(systemd.heard)
        await systemd.hear("STATUS=stalled")  # another second of looks
        assert "WATCHDOG=1" not in systemd.heard[before:]
        service.sight = Sight("well", [work(8)])
        await systemd.hear("WATCHDOG=1")
    assert [message.rpartition(", for")[0] or message for message in caplog.messages] == [
        "watchdog: no more pings: journal: no commit ends",
        "watchdog: journal goes on",
    ]


async def test_a_long_start_asks_for_more_time_until_it_has_ended(systemd: Listener) -> None:
    notify = Notify(systemd.environment, PID)
    replayed = asyncio.Event()
    starting = asyncio.create_task(notify.starting(replayed.wait(), "recovering"))
    assert await systemd.hear("EXTEND_TIMEOUT_USEC") == "EXTEND_TIMEOUT_USEC=60000000"
    replayed.set()
    assert await starting
    assert (systemd.heard, systemd.silent()) == (["STATUS=recovering", "EXTEND_TIMEOUT_USEC=60000000"], True)


async def test_a_reload_is_told_with_its_moment_and_its_end(systemd: Listener) -> None:
    notify = Notify(systemd.environment, PID)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.reloading()
    notify.reloaded("reloaded: window")
    notify.status("reloaded: window")  # said already
    await systemd.hear("STATUS=")
    told, moment = systemd.heard[1].split("=")
    assert (systemd.heard[0], told, *systemd.heard[2:]) == (
        "RELOADING=1",
        "MONOTONIC_USEC",
        "READY=1",
        "STATUS=reloaded: window",
    )
    assert before <= int(moment) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.silent()

"""What the kernel says went up, and what is written down of it."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from gateway.budget import DAY_NS, GRANTS
from gateway.segment import OsFiles
from gateway.uplink.meter import HEADERS, Meter, bytes_up
from tests.faults.disk import FaultyFiles

NOW = 20_000 * DAY_NS
LIMIT = 1 << 20


def meter(directory: Path, files: OsFiles | None = None, limit: int | None = LIMIT) -> Meter:
    made = Meter(files or OsFiles(), directory / "uplink.json", lambda: NOW, dict)
    made.configure(limit, 600)
    return made


def spent(one: Meter) -> int:
    assert one.budget is not None
    return one.budget.spent


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_counts_segments_and_their_content(family: socket.AddressFamily) -> None:
    address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with server, socket.create_connection(server.getsockname()[:2]) as ours, server.accept()[0] as theirs:
        before = bytes_up(ours)
        assert HEADERS[family] <= before <= 4 * HEADERS[family], "a handshake"
        ours.sendall(bytes(1000))
        received = 0
        while received < 1000:
            received += len(theirs.recv(1000))
        assert 1000 + HEADERS[family] <= bytes_up(ours) - before <= 1000 + 3 * HEADERS[family]


def test_a_connection_that_is_none_has_sent_nothing() -> None:
    closed = socket.socket()
    closed.close()
    assert (bytes_up(None), bytes_up(closed)) == (0, 0)


async def test_a_restart_in_order_knows_what_was_spent_and_after_a_kill_a_grant_more(tmp_path: Path) -> None:
    first = meter(tmp_path)
    await first.settle()
    first.spend(1000)
    assert spent(meter(tmp_path)) == LIMIT // GRANTS  # as after a kill
    first.close()
    assert spent(meter(tmp_path)) == 1000


async def test_a_disk_that_refuses_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = meter(tmp_path, FaultyFiles({("create", 1): errno.ENOSPC}))
    await one.settle()
    assert "a restart would forget" in caplog.text
    assert not one.spent_up


async def test_without_a_limit_nothing_waits_and_nothing_is_written(tmp_path: Path) -> None:
    one = meter(tmp_path, limit=None)
    one.spend(10**12)
    await one.settle()
    await one.opens()
    one.forget()
    one.close()
    assert (one.barred, one.spent_up, one.losses(), one.withholds(1, b"")) == (frozenset(), False, [], False)
    assert OsFiles().names(tmp_path) == []


def test_another_limit_counts_for_what_was_spent_already(tmp_path: Path) -> None:
    one = meter(tmp_path)
    one.spend(LIMIT // 2)
    assert not one.spent_up
    one.configure(LIMIT // 4, 600)
    assert one.spent_up

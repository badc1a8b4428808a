"""A real WebSocket to a real server over a real database: what a gateway says, and what it hears."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress

import pytest
from aiohttp import WSServerHandshakeError

from protocol.frame import MAX_RAW
from protocol.frame import message as frame_of
from protocol.messages import (
    LANES,
    Cover,
    Kind,
    LaneHead,
    Loss,
    LossesBody,
    Mark,
    Receipt,
    Refusal,
    Welcome,
)
from tests.cloud.wire import S, Served, Wire, definitions, windows_body
from tests.waiting import until


async def rows(served: Served, series: int = 1) -> list[tuple[int, int]]:
    """(start in s, count) of a series' windows."""
    _, page = await served.get(f"/v1/windows?series={series}&from=0")
    return [(row["start"] // S, row["count"]) for row in page["windows"]]


async def test_hello_is_answered_with_what_is_here(served: Served, wire: Wire) -> None:
    socket = await served.connect()
    await socket.send(frame_of(Kind.HELLO, wire.hello()))
    assert await socket.receive() == Welcome(dict.fromkeys(LANES, Mark()), now=served.clock.now)


async def test_a_receipt_comes_after_the_commit(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    await socket.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5), (1, 0, 0, 6))))
    assert await socket.receive() == Receipt({"telemetry": Mark(1, [], wire.chain["telemetry"])})
    assert (await rows(served, 1), await rows(served, 2)) == ([(0, 5)], [(0, 6)])


async def test_many_frames_in_one_message_and_many_messages_are_all_taken(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    frames = [wire.frame("telemetry", Kind.WINDOWS, windows_body((0, start, 0, 1))) for start in range(60)]
    for at in range(0, 60, 7):
        await socket.send(b"".join(frames[at : at + 7]))
    await socket.receipt("telemetry", 60)
    assert await rows(served) == [(start, 1) for start in range(60)]


async def test_a_large_message_is_taken_apart_off_the_loop(served: Served, wire: Wire) -> None:
    socket = await served.greet(wire)
    await socket.send(
        wire.frame("definitions", Kind.DEFINITIONS, definitions([f"d{n * 7919 % 9973}/t" for n in range(5000)]))
        + wire.frame("telemetry", Kind.WINDOWS, windows_body(*((n, 0, 0, n) for n in range(5000))))
    )
    await socket.receipt("telemetry", 1)
    assert await rows(served, 5000) == [(0, 4999)]


async def test_frames_above_a_hole_are_receipted_as_a_range(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    first, second, third = (wire.frame("telemetry", Kind.WINDOWS, windows_body((0, n, 0, 1))) for n in range(3))
    await socket.send(third)
    assert (await socket.receive()).marks["telemetry"] == Mark(0, [(3, 3)], 0)
    await socket.send(first + second)
    assert (await socket.receive()).marks["telemetry"] == Mark(3, [], wire.chain["telemetry"])


async def test_declared_losses_close_holes(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    wire.seq["telemetry"] = 4
    await socket.send(wire.frame("results", Kind.LOSSES, LossesBody(Cover(), [Loss("telemetry", 1, 4, "spool_full")])))
    receipt = await socket.receive()
    assert receipt.marks == {"telemetry": Mark(4, [], 0), "results": Mark(1, [], wire.chain["results"])}


async def test_after_a_reconnect_a_repeat_is_counted_and_stored_once(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    frame = wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5)))
    await socket.send(frame)
    await socket.receipt("telemetry", 1)
    await socket.socket.close()
    again = await served.greet(wire)
    await again.send(frame)
    await again.receipt("telemetry", 1)
    assert await rows(served) == [(0, 5)]
    _, stats = await served.get("/v1/stats")
    assert stats["frames"] == {"received": 2, "duplicate": 1, "quarantined": 0}


async def test_poison_is_quarantined_and_receipted_and_the_line_goes_on(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    poison = wire.frame("telemetry", Kind.WINDOWS, b"\xff\xff")
    unknown = wire.frame("telemetry", Kind.WINDOWS, windows_body((9, 0, 0, 5)))
    await socket.send(poison + unknown + wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5))))
    await socket.receipt("telemetry", 3)
    assert await rows(served) == [(0, 5)]
    _, body = await served.get("/v1/quarantine")
    assert [(item["seq"], item["cause"]) for item in body["quarantine"]] == [(2, "series"), (1, "body")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" + bytes(32), "frame: magic", id="no frame"),
        pytest.param(b"FG\x01", "frame: short", id="cut off"),
        pytest.param(frame_of(Kind.WINDOWS, windows_body((0, 0, 0, 1)), lane=3), "frame: seq", id="no sequence"),
        pytest.param(frame_of(Kind.HELLO, Wire("shed").hello()), "hello: this token is barn's", id="another gateway"),
    ],
)
async def test_what_is_no_frame_ends_the_connection_with_its_reason(
    served: Served, wire: Wire, data: bytes, reason: str
) -> None:
    socket = await served.begin(wire)
    await socket.send(data)
    refusal = await socket.receive()
    assert isinstance(refusal, Refusal)
    assert refusal.reason.startswith(reason)
    assert await socket.ended() == 1008


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        pytest.param(b"nonsense", "hello: short", id="no frame"),
        pytest.param(frame_of(Kind.RECEIPT, Receipt({})), "hello: expected, not RECEIPT", id="another message"),
        pytest.param(frame_of(Kind.HELLO, Wire("shed").hello()), "hello: this token is barn's", id="not its token"),
        pytest.param(frame_of(Kind.HELLO, Wire(epoch=1 << 63).hello()), "hello: lanes or numbers", id="epoch"),
        pytest.param(
            frame_of(Kind.HELLO, Wire().hello(lanes={"x": LaneHead(1, 1, 0)})), "hello: lanes or numbers", id="lane"
        ),
    ],
)
async def test_a_bad_hello_is_refused_with_its_reason(served: Served, first: bytes, reason: str) -> None:
    socket = await served.connect()
    await socket.send(first)
    refusal = await socket.receive()
    assert refusal.reason.startswith(reason)
    assert await socket.ended() == 1008


async def test_a_text_message_is_refused(served: Served) -> None:
    socket = await served.connect()
    await socket.socket.send_str("hello")
    assert await socket.receive() == Refusal("hello: a binary message was expected")


async def test_a_message_beyond_the_bound_closes_the_connection(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    with suppress(ConnectionError):  # the cloud stops reading after the header
        await socket.send(bytes(MAX_RAW + (1 << 20)))
    await socket.ended()
    await until(lambda: not served.api.fleet.online, "the connection is over")


@pytest.mark.parametrize("token", ["", "wrong", None])
async def test_without_a_gateways_token_there_is_no_connection(served: Served, token: str | None) -> None:
    admin = served.api.tokens.token_file("admin").read_text().strip()
    with pytest.raises(WSServerHandshakeError) as refused:
        await served.connect(admin if token is None else token)
    assert refused.value.status == 401


async def test_a_contradicting_frame_ends_the_epoch_and_a_new_one_goes_on(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    await socket.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5))))
    await socket.receipt("telemetry", 1)
    wire.chain["telemetry"] = 12345
    await socket.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 10, 0, 6))))
    assert (await socket.receive()).marks["telemetry"].upto == 1
    assert (await socket.receive()).reason.startswith("fork: telemetry frame 2")

    again = await served.connect()
    await again.send(frame_of(Kind.HELLO, wire.hello()))
    assert (await again.receive()).fork.startswith("telemetry frame 2")
    later = Wire(epoch=8)
    await again.send(frame_of(Kind.HELLO, later.hello()))
    assert (await again.receive()).fork == ""
    await again.send(later.frame("definitions", Kind.DEFINITIONS, definitions()))
    await again.send(later.frame("telemetry", Kind.WINDOWS, windows_body((0, 10, 0, 6))))
    await again.receipt("telemetry", 1)
    assert await rows(served) == [(0, 5), (10, 6)]


async def test_the_newest_connection_of_a_gateway_wins(served: Served, wire: Wire) -> None:
    older = await served.begin(wire)
    newer = await served.greet(wire)
    assert (await older.receive()).reason.startswith("replaced")
    assert await older.ended() == 1008
    await newer.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5))))
    await newer.receipt("telemetry", 1)
    _, body = await served.get("/v1/gateways")
    assert [gateway["online"] for gateway in body["gateways"]] == [True]


@pytest.mark.parametrize("settings", ["[limits]\ngateways = 1\n"])
async def test_beyond_the_limit_the_answer_is_503_with_a_time(served: Served, wire: Wire) -> None:
    await served.begin(wire)
    with pytest.raises(WSServerHandshakeError) as refused:
        await served.connect()
    assert refused.value.status == 503
    assert refused.value.headers is not None
    assert refused.value.headers["Retry-After"] == "5"


async def test_closing_commits_what_came_and_says_so(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    await socket.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5))))
    await socket.receipt("telemetry", 1)
    closing_down = asyncio.create_task(served.api.ingest.close())
    assert (await socket.receive()).reason.startswith("closing")
    await socket.ended()
    await closing_down
    assert await rows(served) == [(0, 5)]


def _break(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")


def _mend(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = OFF")


async def test_a_commit_that_fails_is_never_receipted_and_the_frame_is_taken_later(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    frame = wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5)))
    await _in_store(served, _break)
    await socket.send(frame)
    refusal = await socket.receive()
    assert isinstance(refusal, Refusal)
    assert (refusal.reason.partition(":")[0], refusal.retry_after_s) == ("store", 5.0)
    assert (await served.get("/readyz"))[0] == 503

    await _in_store(served, _mend)
    assert (await served.get("/readyz"))[0] == 200
    again = await served.greet(wire)
    await again.send(frame)
    await again.receipt("telemetry", 1)
    assert await rows(served) == [(0, 5)]


async def _in_store(served: Served, run: Callable[[sqlite3.Connection], None]) -> None:
    store = served.api.store
    await store._in_thread(lambda: run(store._connection))  # type: ignore[attr-defined] # the fault's place


async def test_the_database_is_locked_against_a_second_process(served: Served) -> None:
    path = served.api.store.path  # type: ignore[attr-defined] # SQLite's own promise
    with closing(sqlite3.connect(path, timeout=0)) as second, pytest.raises(sqlite3.OperationalError, match="locked"):
        second.execute("SELECT * FROM windows").fetchall()

"""Every byte that a gateway sends to its cloud is read: statistics leave, readings do not."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from cli.broker import EmbeddedBroker
from cli.publisher import Publisher
from protocol import frame
from protocol.columns import decode_windows
from protocol.messages import Kind, WindowRows, WindowsBody
from tests.journeys.cloud_process import Cloud
from tests.journeys.site import Site, finished, publishing
from tests.waiting import until

WINDOWS = """
[[window]]
size = "500ms"
[time]
idle = "500ms"
"""

SIZE = 500 * 10**6

ONE_SERIES = 'measurement = "heat"'


class Reading(NamedTuple):
    """What a device published."""

    topic: str
    time: int
    value: float


@asynccontextmanager
async def recording(port: int, target: int) -> AsyncIterator[list[bytearray]]:
    """Pass connections on, and give what the connecting side sent, a buffer each."""
    sent: list[bytearray] = []

    handlers: list[asyncio.Task[None] | None] = []

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        try:
            while data := await reader.read(1 << 16):
                kept += data
                writer.write(data)
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        kept, answers = bytearray(), bytearray()
        sent.append(kept)
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(passed_on(reader, back, kept), passed_on(there, writer, answers), return_exceptions=True)

    async with await asyncio.start_server(connected, "127.0.0.1", port):
        yield sent
    await asyncio.gather(*filter(None, handlers))


def messages(stream: bytes) -> Iterator[bytes]:
    """Give the messages a WebSocket client sent (RFC 6455, section 5.2); nothing may be left over."""
    head, _, rest = stream.partition(b"\r\n\r\n")
    assert head.startswith(b"GET /v1/uplink ")
    whole = b""
    while rest:
        first, second = rest[0], rest[1]
        assert first & 0x70 == 0, "no extension may hide bytes from us"
        assert second & 0x80, "a client masks"
        size, at = second & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(rest[2 : 2 + width], "big"), 2 + width
        mask, body = rest[at : at + 4], rest[at + 4 : at + 4 + size]
        assert len(body) == size
        rest = rest[at + 4 + size :]
        data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))
        code = first & 0x0F
        if code < 8:
            assert code in (0, 2), "binary only"
            whole += data
            if first & 0x80:
                yield whole
                whole = b""
        elif code == 8:
            assert rest == b""
    assert whole == b""


def traces(value: float, time: int) -> list[bytes]:
    """All ways in which a reading would be recognised in bytes."""
    texts = [repr(value).encode(), str(time).encode()]
    return [
        *texts,
        struct.pack("<d", value),
        struct.pack(">d", value),
        struct.pack("<q", time),
        struct.pack(">q", time),
    ]


async def test_raw_readings_stay_home(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    rng = Random(5)
    table = [rng.uniform(10, 90) for _ in range(500)]
    cloud, port = Cloud(tmp_path / "cloud", free_port()), free_port()
    here = Site(tmp_path, embedded_broker.url, free_port(), WINDOWS + cloud.enrol(tmp_path.name, port), ONE_SERIES)
    await here.subscribe()
    async with (
        recording(port, cloud.port) as sent,
        cloud.running(),
        publishing(here, devices=2, rate=50, table=table) as publisher,
        here.gateway() as gateway,
    ):
        await until(lambda: publisher.sent > 150, "enough is published")
        readings = await finished(publisher)
        await gateway.recorded(readings)
        await gateway.settled()
        await until(lambda: stored(cloud, here, readings), "all of it is in the cloud")
        await gateway.stop()
    check(b"".join(map(bytes, sent)), [message for stream in sent for message in messages(bytes(stream))], publisher)


async def stored(cloud: Cloud, here: Site, readings: int) -> bool:
    held = await cloud.windows(here.name)
    return sum(int.from_bytes(row[:8], "little") for _, row in held.values()) == readings


def check(stream: bytes, said: list[bytes], publisher: Publisher) -> None:
    frames = [frame.decode(data) for message in said for _, data in frame.split(message)]
    assert {one.kind for one in frames} == {Kind.HELLO, Kind.DEFINITIONS, Kind.WINDOWS}
    bodies = [frame.load(one.kind, one.body) for one in frames]
    rows = [decode_windows(body.columns) for body in bodies if isinstance(body, WindowsBody)]
    columns = b"".join(body.columns for body in bodies if isinstance(body, WindowsBody))
    readings = [reading(*publisher.devices.message(k)) for k in range(publisher.sent)]
    edges = edges_of(readings)
    said_edges = {value for windows in rows for column in edge_columns(windows) for value in column}
    means = {value for windows in rows for value in [*windows.mean.tolist(), *windows.deviation.tolist()]}
    inner = [one for one in readings if one.value not in edges]
    assert len(inner) > len(readings) // 2, "windows must hold enough readings for this to mean anything"
    assert sum(int(windows.count.sum()) for windows in rows) == len(readings)
    assert said_edges == edges, "no more of a window than its first, last, least and greatest"
    assert not means & {one.value for one in inner}
    everything = b"\0".join([stream, *said, *(one.body for one in frames), columns])
    assert [one for one in inner if any(trace in everything for trace in traces(one.value, one.time))] == []


def edge_columns(rows: WindowRows) -> list[list[float]]:
    return [column.tolist() for column in (rows.first, rows.last, rows.minimum, rows.maximum)]


def reading(topic: str, payload: bytes) -> Reading:
    time, value, _ = (part.split(b":")[1] for part in payload.strip(b"{}").split(b","))
    return Reading(topic, int(time), float(value))


def edges_of(readings: list[Reading]) -> set[float]:
    windows: dict[tuple[str, int], list[float]] = {}
    for one in readings:  # in the order of their times
        windows.setdefault((one.topic, one.time // SIZE), []).append(one.value)
    return {edge for values in windows.values() for edge in (values[0], values[-1], min(values), max(values))}

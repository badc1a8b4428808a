"""The accounting is no formality: one record taken out of a journal is one pair lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cli.accounting import Ranges
from cli.broker import EmbeddedBroker
from gateway.journal import decode_record
from gateway.records import ReadingsRecord
from gateway.segment import layout
from protocol import frame
from protocol.messages import JOURNAL_LANE
from tests.journeys.kept import last_checkpoint, spooled
from tests.journeys.messages import send
from tests.journeys.site import Site

WINDOWS = """
[[window]]
size = "60s"
[time]
idle = "2s"
"""

PAIRS = 9
LOST = 5


async def test_one_record_lost_is_one_pair_lost(
    tmp_path: Path, embedded_broker: EmbeddedBroker, free_port: Callable[[], int]
) -> None:
    here = Site(tmp_path, embedded_broker.url, free_port(), WINDOWS)
    end = time.time_ns() // 10**9 // 60 * 60 * 10**9  # of the newest window that is over: silence closes it at once
    async with here.gateway() as gateway:
        await gateway.ready()
        for n in range(1, PAIRS + 1):  # each in a record of its own
            reading = f'{{"time":{end - (PAIRS + 1 - n) * 10**6},"value":{20 + n},"n":{n}}}'
            await send(here, [(f"{here.name}/pump", reading.encode())])
            await gateway.recorded(2 * n)
        await gateway.kill()

    erase(here.data / "journal", LOST)

    async with here.gateway() as gateway:
        await gateway.recorded(2 * (PAIRS - 1))
        await gateway.settled()
        await gateway.stop()
    _, derive = last_checkpoint(here)
    account = spooled(here, derive.names).account({"pump": Ranges([(1, PAIRS)])})
    assert (account.acknowledged, account.accounted, account.lost) == (PAIRS, PAIRS - 1, 1)
    assert account.by_device == {"pump": 1}


def erase(journal: Path, counter: int) -> None:
    """Overwrite the record that holds this counter with zeros: its bytes are gone, those behind it stay readable."""
    (path,) = journal.glob("*.seg")
    data = bytearray(path.read_bytes())
    places = [at for at, _ in layout.walk(bytes(data), JOURNAL_LANE, 1) if holds(bytes(data), at, counter)]
    (at,) = places
    size = frame.header(bytes(data), at).size
    data[at : at + size] = bytes(size)
    path.write_bytes(data)


def holds(data: bytes, at: int, counter: int) -> bool:
    found = frame.decode(data, at)
    record = decode_record(found.kind, found.body)
    return isinstance(record, ReadingsRecord) and counter in record.readings.value.tolist()

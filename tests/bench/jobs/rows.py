"""What a job over two gateways of 50 million readings each costs, what its plan said, and what sending readings would.

| figure | what |
|---|---|
| `plan_s` | seconds by the plan, made right before |
| `took_s` | seconds from the call until the result was seen; `off`: how much longer the plan thought it would take |
| `plan_bytes` | bytes of the answers, by the plan |
| `up_bytes` | all bytes that went up meanwhile, as the proxies of both links count them |
| `raw` | the readings of both journals in the smallest form at hand, blocks: their bytes, the seconds of sending them |
| | (each over its own link, at the rate at which some of them were really sent) and of computing in one place; how |
| | many times the job's bytes and seconds that is |
| `furthest` | the largest relative difference from what numpy says of all values in one place; of quantiles: 1 % is |
| | their bound. Counts, and the bins of a histogram, are equal |

The first job finds no blocks and reads the journals as they were recorded; nothing was measured before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from tests.bench.jobs import central
from tests.bench.jobs.fleet import Fleet, Ran, running
from tests.bench.jobs.history import AXIS, TICK
from tests.bench.rig import scratch
from tests.faults.proxy import Fault, proxy_to

Figures = dict[str, object]

READINGS = 50_000_000
MBIT = 125_000.0
SENT_S = 2.0
"""Seconds for which readings are really sent, to see how fast that goes."""

AXES = [AXIS.format(number) for number in range(3)]
SIDE_BY_SIDE = {"features": AXES, "step": TICK}
HEADLINE = ("moments", "quantiles")
OTHERS: dict[str, dict[str, Any]] = {
    "histogram": {"by": "measurement"},
    "covariance": SIDE_BY_SIDE,
    "ridge": SIDE_BY_SIDE | {"features": AXES[1:], "target": AXES[0]},
    "spectrum": {"by": "measurement", "step": TICK},
}


def measure(readings: int = READINGS) -> Iterator[Figures]:
    """Measure both links, then what else can be computed."""
    with scratch() as directory, asyncio.Runner() as runner:
        found = rows(directory, readings)

        async def step() -> Figures | None:
            return await anext(found, None)

        while (row := runner.run(step())) is not None:
            yield row


async def rows(directory: Path, readings: int, more: str = "") -> AsyncIterator[Figures]:
    """Give a row a job; `more` is in the gateways' configuration."""
    async with running(directory, readings, more) as fleet:
        plain: dict[str, Any] = {}
        for mbit, nth, work, params in asked():
            fleet.limit(mbit * MBIT)
            ran = await fleet.run({"work": work, "params": params, "deadline": "30m"})
            plain = plain or await asyncio.to_thread(central.values, [site.data for site in fleet.sites])
            furthest = await asyncio.to_thread(central.furthest, work, params, ran.job["result"], plain)
            yield {"link_mbit": mbit, "nth": nth} | await _row(fleet, ran, params, mbit * MBIT) | {"furthest": furthest}


def asked() -> Iterator[tuple[int, str, str, dict[str, Any]]]:
    """Say what is asked: Mbit/s of the links, the how manieth of its kind it is, work and parameters."""
    for mbit, nth in ((1, "first"), (1, "second"), (10, "third")):
        for work in HEADLINE:
            yield mbit, nth, work, {}
    for work, params in OTHERS.items():
        yield 10, "first", work, params


async def _row(fleet: Fleet, ran: Ran, params: dict[str, Any], rate: float) -> Figures:
    job, plan, work = ran.job, ran.plan, ran.job["work"]
    computing = await asyncio.to_thread(central.computing, work, params, [site.data for site in fleet.sites])
    return {
        "work": work,
        "readings": job["readings"],
        "plan_s": round(plan["seconds"], 2),
        "took_s": round(ran.seconds, 2),
        "off": round(plan["seconds"] / ran.seconds - 1, 2),
        "plan_bytes": plan["bytes"],
        "up_bytes": ran.up,
        "cpu_s": job["cpu_s"],
        "why": plan["steps"][0]["why"],
        "raw": await _raw(fleet, ran, computing, rate),
    }


async def _raw(fleet: Fleet, ran: Ran, computing: float, rate: float) -> Figures:
    files = [[*site.data.glob("blocks/*.blk"), *site.data.glob("journal/*.seg")] for site in fleet.sites]
    sizes = [sum(path.stat().st_size for path in _smallest(paths)) for paths in files]
    sending = max(sizes) / await sent(_smallest(files[0]), rate)
    seconds = sending + computing
    return {
        "mb": round(sum(sizes) / 1e6, 1),
        "sending_s": round(sending, 1),
        "computing_s": round(computing, 2),
        "times_bytes": round(sum(sizes) / ran.up),
        "times_seconds": round(seconds / ran.seconds, 1),
    }


def _smallest(paths: list[Path]) -> list[Path]:
    """Give the blocks, and those files of the journal that have none."""
    blocks = [path for path in paths if path.suffix == ".blk"]
    stems = {path.stem for path in blocks}
    return blocks + [path for path in paths if path.suffix == ".seg" and path.stem not in stems]


async def sent(paths: list[Path], rate: float) -> float:
    """Send the beginning of these files over a link of that rate; give the bytes/s that it took."""
    data = b"".join(path.read_bytes() for path in paths[:2])[: int(SENT_S * rate)]
    arrived = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readexactly(len(data))
            arrived.set()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with proxy_to(server.sockets[0].getsockname()[1]) as proxy:
        proxy.turn(Fault(rate=rate))
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        began = time.monotonic()
        writer.write(data)
        await arrived.wait()
        seconds = time.monotonic() - began
        writer.close()
    server.close()
    return len(data) / seconds

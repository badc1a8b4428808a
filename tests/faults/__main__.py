"""Long runs of what the suite runs briefly; each prints one JSON object.

python -m tests.faults swap --rounds 200     a gateway killed at each step of a model change, again and again
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from cli.broker import EmbeddedBroker
from tests.bench.rig import free_port
from tests.faults import swap
from tests.faults.nursery import Nursery


async def killed_while_swapping(rounds: int, seed: int) -> dict[str, object]:
    """Kill so often, about once a second; AssertionError at the first that leaves anything wrong."""
    with tempfile.TemporaryDirectory() as name, Nursery() as victim:
        directory = Path(name)
        with EmbeddedBroker(directory, free_port(), free_port()) as broker:
            site = swap.site_in(directory / "site", broker.url, free_port())
            async with swap.cloud_of(site) as cloud:
                found = await swap.rounds(site, cloud, victim, swap.shuffled(rounds, seed))
    return {"kills": found.old + found.new, "old scores": found.old, "new scores": found.new, "steps": found.by_step}


def main(arguments: list[str]) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="tests.faults")
    parser.add_argument("what", choices=["swap"])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    found = asyncio.run(killed_while_swapping(options.rounds, options.seed))
    found |= {"seconds": round(time.monotonic() - began)}
    sys.stdout.write(json.dumps({options.what: found}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Print each number of the README with its baseline of the same run, one JSON object a line.

python -m tests.bench                 # all rows, about ten minutes
python -m tests.bench throughput wire # some of them
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from tests.bench import broker, quiet, throughput, uplink
from tests.bench.rig import machine, say

Figures = dict[str, object]


def _throughput() -> Iterator[Figures]:
    yield throughput.measure(0)
    yield throughput.measure(1)


ROWS: dict[str, Callable[[], Iterator[Figures]]] = {
    "throughput": _throughput,
    "broker": broker.measure,
    "latency": uplink.latency,
    "wire": uplink.wire,
    "start": quiet.start_up,
    "idle": quiet.idle,
    "memory": quiet.memory,
    "disk": quiet.disk,
}


def main(names: list[str]) -> None:
    """Measure the rows asked for, or all of them."""
    if unknown := [name for name in names if name not in ROWS]:
        raise SystemExit(f"unknown row {unknown[0]!r}; one of {', '.join(ROWS)}")
    say("machine", machine())
    for name in names or ROWS:
        for figures in ROWS[name]():
            say(name, figures)


if __name__ == "__main__":
    main(sys.argv[1:])

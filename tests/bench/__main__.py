"""Print each number of the README with its baseline of the same run, one JSON object a line.

python -m tests.bench                 # all rows, about half an hour
python -m tests.bench throughput wire # some of them
python -m tests.bench detectors --data DIR  # on public sets (skab_valve1.npz, nab.npz), which are not part of this
python -m tests.bench drift --data DIR # on gas_drift*.npz, which is not part of this, ten seconds
python -m tests.bench learning [--data DIR] # on digits, and on hapt_acc_users_1-5_10-15.npz where it is, five minutes
python -m tests.bench cascade [--data DIR] # likewise, one minute
python -m tests.bench jobs [--readings N] # over two gateways of 50 million readings each, twelve minutes
python -m tests.bench learning_fleet [--data DIR] # the same of ten gateway processes and a cloud, ten minutes
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import (
    alert,
    broker,
    cascade,
    ceiling,
    detectors,
    drain,
    drift,
    jobs,
    jobs_virtual,
    learning,
    learning_fleet,
    quiet,
    recovery,
    throughput,
    uplink,
    work,
    writes,
)
from tests.bench.rig import machine, say

Figures = dict[str, object]


def _throughput() -> Iterator[Figures]:
    yield throughput.measure(0)
    yield throughput.measure(1)


ROWS: dict[str, Callable[[], Iterator[Figures]]] = {
    "throughput": _throughput,
    "broker": broker.measure,
    "latency": uplink.latency,
    "alert": alert.measure,
    "alert_training": alert.while_training,
    "wire": uplink.wire,
    "start": quiet.start_up,
    "idle": quiet.idle,
    "memory": quiet.memory,
    "disk": quiet.disk,
    "recovery": recovery.measure,
    "writes": writes.measure,
    "drain": drain.measure,
    "ceiling": ceiling.measure,
    "work": work.measure,
    "jobs_virtual": jobs_virtual.measure,
}


def main() -> None:
    """Measure the rows asked for, or all of them; `detectors` and `drift` only where their data are."""
    os.environ.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # what is installed has its bytecode: without, it starts half as fast
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="ROW",
        help=f"of {', '.join(ROWS)}, jobs, cascade, learning, learning_fleet, detectors, drift",
    )
    parser.add_argument("--data", type=Path, help="directory of the public sets")
    parser.add_argument("--readings", type=int, default=jobs.READINGS, help="of each gateway, for `jobs`")
    asked = parser.parse_args()
    rows = ROWS | {
        "jobs": lambda: jobs.measure(asked.readings),
        "cascade": lambda: cascade.measure(asked.data),
        "learning": lambda: learning.measure(asked.data),
        "learning_fleet": lambda: learning_fleet.measure(asked.data),
    }
    if data := asked.data:
        rows["detectors"] = lambda: detectors.measure(data)
        rows["drift"] = lambda: drift.measure(data)
    if unknown := [name for name in asked.rows if name not in rows]:
        parser.error(f"unknown row {unknown[0]!r}; detectors and drift need --data, the others are {', '.join(ROWS)}")
    say("machine", machine())
    for name in asked.rows or rows:
        for figures in rows[name]():
            say(name, figures)


if __name__ == "__main__":
    main()

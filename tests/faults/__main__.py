"""Faults of the disk alone, in one process; each prints one JSON object. Over real processes: `tests.faults.run`.

python -m tests.faults power --points 20000      power cuts and kills on a disk that loses, reorders and tears
python -m tests.faults refusals                  every call on the disk fails once, with EIO and with ENOSPC
python -m tests.faults corruption                every truncation of the last 64 KiB, 10,000 bit flips, and worse
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.faults import corruption, crashes, refusals


def outcome(options: argparse.Namespace) -> dict[str, object]:
    """Run what is asked for."""
    match options.what:
        case "power":
            return crashes.run(options.points, options.seed, options.only).summary()
        case "refusals":
            return refusals.run(options.seed).summary()
        case _:
            return corruption.run(options.flips, options.seed).summary()


def main(arguments: list[str]) -> int:
    """Print what was found; 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="tests.faults")
    parser.add_argument("what", choices=["power", "refusals", "corruption"])
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--only", type=int, help="the life that failed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="what is printed anyway")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    found = outcome(options) | {"seed": options.seed, "seconds": round(time.monotonic() - began)}
    sys.stdout.write(json.dumps(found) + "\n")
    return int(bool(found["lost"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

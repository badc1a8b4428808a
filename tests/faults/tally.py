"""Results of batches: one JSON object a line, by version and seed, and what they come to together.

Numbers add up, so do numbers by name, lists are joined; a list of seconds is given as how many there are, median, 99th
percentile and maximum. `failed_seeds` are those whose newest result was not good.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results") / "results.jsonl"

ALWAYS = ("cycles", "lost", "duplicated", "reordered", "broker_lost")
ABOUT = ("version", "scenario", "seed", "good", "seconds", "times", "accounting", "failed")

Result = dict[str, Any]


def version() -> str:
    """Name what is tested: the commit, and a digest of what was changed or added since."""
    commit, changes = _git("describe", "--always", "--abbrev=12").decode().strip(), _git("diff", "HEAD")
    added = _git("ls-files", "-z", "--others", "--exclude-standard").decode().split("\0")
    changes += b"".join(name.encode() + (ROOT / name).read_bytes() for name in added if name)
    return (commit or "unknown") + (f"+{hashlib.sha256(changes).hexdigest()[:8]}" if changes else "")


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=False).stdout


def keep(result: Result) -> None:
    """Write down a result."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")


def known(of: str) -> dict[tuple[str, int], Result]:
    """Give the newest result of each batch of this version, by scenario and seed."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    said = [result for line in lines if (result := json.loads(line)).get("version") == of]
    return {(result["scenario"], result["seed"]): result for result in said}


def together(results: list[Result]) -> Result:
    """Add up batches of one scenario."""
    accounts = [result.get("accounting", {"closed": False}) for result in results]
    closed = bool(accounts) and all(account["closed"] for account in accounts)
    sums: Counter[str] = Counter()
    times: dict[str, list[float]] = {}
    for result, account in zip(results, accounts, strict=True):
        sums.update({name: value for name, value in account.items() if name not in {"closed", "wrong"}})
        for name, values in result.get("times", {}).items():
            times.setdefault(name, []).extend(values)
    return {
        **{name: sum(result.get(name, 0) for result in results) for name in ALWAYS},
        "accounting": {"closed": closed, **dict(sorted(sums.items()))},
        **{name: quantiles(values) for name, values in sorted(times.items())},
        **_counts(results),
        "batches": len(results),
        "seconds": round(sum(result["seconds"] for result in results)),
        "failed_seeds": [result["seed"] for result in results if not result["good"]],
    }


def _counts(results: list[Result]) -> Result:
    by_name: dict[str, Counter[str]] = {}
    plain: Counter[str] = Counter()
    for result in results:
        for name, value in result.items():
            if isinstance(value, dict) and name not in ABOUT:
                by_name.setdefault(name, Counter()).update(value)
            elif isinstance(value, int) and name not in {*ABOUT, *ALWAYS}:
                plain[name] += value
    return {**{name: dict(sorted(counts.items())) for name, counts in by_name.items()}, **plain}


def quantiles(values: list[float]) -> dict[str, float]:
    """Give how many there are, and median, 99th percentile and maximum, in seconds."""
    at = (("p50", 50), ("p99", 99), ("max", 100))
    return {"n": len(values), **{name: round(float(np.percentile(values, q)), 3) for name, q in at}}

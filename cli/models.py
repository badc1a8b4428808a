"""What a running cloud says of its models, as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def lines(body: dict[str, Any]) -> Iterator[str]:
    """Lay the answer out: a line a model, and one for each gateway that has it."""
    if not body["models"]:
        yield "no models: no gateway has sent statistics yet"
    for model in body["models"]:
        about = f"version {model['version']}, {model['size']:,} bytes, {model['digest'][:12]}"
        yield f"{model['name']}  {about if model['version'] else 'no version yet'}"
        for run in model["gateways"]:
            yield f"  {_run(run)}"


def _run(run: dict[str, Any]) -> str:
    runs = f"version {run['version']}" if run["version"] else "no version"
    counts = f"{run['windows']:,} windows, {run['alerts']:,} alerts, {run['shadow']:,} in the shadow"
    words = {"refused": "refused version", "rolled_back": "rolled back from version", "drifted": "drifted, version"}
    told = ((word, one) for key, word in words.items() if (one := run.get(key)) and one["version"] >= run["version"])
    said = "".join(f"; {word} {one['version']}: {one['reason']}" for word, one in told)
    return f"{run['gateway']:<20} {runs:<12} {counts}{said}"

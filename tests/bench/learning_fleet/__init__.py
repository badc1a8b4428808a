"""Ten gateway processes that learn together over a real broker and a real cloud: `people`, `fleet`, `odd`, `rows`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def measure(data: Path | None, sets: tuple[str, ...] = ("digits", "hapt")) -> Iterator[dict[str, object]]:
    """Measure every set that is at hand."""
    from tests.bench.learning_fleet import rows  # noqa: PLC0415 - `odd`, a gateway, would carry all of it: 3 MB

    yield from rows.measure(data, sets)

"""Ten gateway processes that learn together over a real broker and a real cloud: `people`, `fleet`, `odd`, `rows`."""

from __future__ import annotations

from tests.bench.learning_fleet.rows import measure

__all__ = ["measure"]

"""The fleet as it is now: who is connected, who was heard when, how late results come. Pure.

The store knows what has been; this knows what is. It begins with what the store has and adds every commit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cloud.store import Applied
from cloud.store.answers import FrameCounts, GatewayView
from protocol.messages import Hello


class Fleet:
    """All gateways by name. `version` grows with every change that a viewer should be told at once."""

    def __init__(self) -> None:
        self._views: dict[str, GatewayView] = {}
        self._connections: dict[str, int] = {}
        self._newest: dict[str, int] = {}
        self.version = 0

    def begin(self, views: Iterable[GatewayView]) -> None:
        """Start with what the store has."""
        self._views = {view.name: view for view in views}

    @property
    def online(self) -> int:
        """How many gateways are connected."""
        return len(self._connections)

    def is_online(self, gateway: str) -> bool:
        """Whether a gateway is connected."""
        return gateway in self._connections

    def knows(self, gateway: str) -> bool:
        """Whether a gateway has ever called."""
        return gateway in self._views

    def opened(self, hello: Hello, connection: int, now: int) -> None:
        """Note that a gateway said hello on a connection."""
        view = self._view(hello.gateway)
        view.online, view.last_seen, view.epoch, view.version = True, now, f"{hello.epoch:016x}", hello.version
        view.readings = max(view.readings, hello.readings)
        self._connections[hello.gateway] = connection
        self.version += 1

    def closed(self, gateway: str, connection: int, now: int) -> None:
        """Note that a connection ended; a newer one of the same gateway stays."""
        if self._connections.get(gateway) == connection:
            del self._connections[gateway]
            view = self._view(gateway)
            view.online, view.last_seen = False, now
            self.version += 1

    def committed(self, gateway: str, applied: Applied) -> None:
        """Add what a commit brought."""
        view = self._view(gateway)
        view.last_seen = max(view.last_seen, applied.committed)
        view.frames.received += applied.accepted
        view.frames.duplicate += applied.duplicate
        view.frames.quarantined += sum(applied.quarantined.values())
        view.windows += applied.windows
        view.bytes += applied.bytes
        view.series += applied.new_series
        view.readings += applied.readings
        view.alerts += applied.news.alerts
        view.shadow += applied.news.shadow
        running = view.models | applied.news.running
        view.models = {model: version for model, version in sorted(running.items()) if version}
        view.counts = applied.news.counts or view.counts
        ends = [int((part.start + part.size).max(initial=0)) for part in applied.stored if part.utc]
        if (newest := max(ends, default=0)) > self._newest.get(gateway, 0):
            self._newest[gateway] = newest
            view.lag_s = max(0.0, round((applied.committed - newest) / 1e9, 3))

    def views(self) -> list[GatewayView]:
        """Give all gateways by name."""
        return [self._views[name] for name in sorted(self._views)]

    def _view(self, name: str) -> GatewayView:
        if name not in self._views:
            self._views[name] = GatewayView(name, False, 0, None, "", "", 0, 0, 0, 0, FrameCounts())
        return self._views[name]


def lags(applied: Applied) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Give, in ns, the time from window end to commit of each row stated for the first time; shape (n,)."""
    parts = [
        applied.committed - (part.start + part.size)[part.rows.revision == 0] for part in applied.stored if part.utc
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)

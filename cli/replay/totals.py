"""What one configuration makes of a journal, in numbers. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from gateway.records import Alerts, Closed, Outputs, count


class Totals:
    """Counts of outputs; `digest` is over every window and alert, in order, bit for bit."""

    def __init__(self) -> None:
        self.windows = self.windowed = self.late = self.scored = 0
        self.removed: dict[str, int] = {}
        self.alerts: dict[str, int] = {}  # by rule
        self._digest = hashlib.sha256()

    def add(self, outputs: Outputs) -> None:
        """Count one record's outputs."""
        self.late += outputs.late
        self.windowed += outputs.windowed
        count(self.removed, outputs.removed)
        self.scored += sum(len(verdicts.series) for verdicts in outputs.verdicts)
        for item in outputs.items:
            if isinstance(item, Closed):
                self.windows += item.rows.rows
                for column in item.rows:
                    self._digest.update(column.tobytes())
            elif isinstance(item, Alerts):
                self._digest.update(msgspec.json.encode(item.alerts))
                for alert in item.alerts:
                    count(self.alerts, {alert.rule: 1})

    def summary(self, readings: int) -> dict[str, Any]:
        """Give all counts: readings = windowed + removed + late + pending."""
        return {
            "windows": self.windows,
            "windowed": self.windowed,
            "removed": self.removed,
            "late": self.late,
            "pending": readings - self.windowed - self.late - sum(self.removed.values()),
            "scored": self.scored,
            "alerts": self.alerts,
            "digest": self._digest.hexdigest()[:16],
        }

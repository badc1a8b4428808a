"""Configuration B against configuration A over one reading of a journal. Pure: outputs in, differences out.

Windows and alerts are compared as they come (`windows`, `alerts`, which say what is bounded and how); nothing else of
the two sides is kept but counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cli.replay.alerts import AlertDiff, Differing, Met
from cli.replay.text import duration
from cli.replay.totals import Totals
from cli.replay.windows import Compared, Shape, WindowDiff
from gateway.config import PipelineConfig
from gateway.records import Alerts, Closed, Definitions, Outputs


class Diff:
    """Fed with both sides' outputs of each record; sides are 0, which is A, and 1, which is B."""

    def __init__(self, a: PipelineConfig, b: PipelineConfig, names: Sequence[str] = ()) -> None:
        self.names: list[str] = []
        self.totals = (Totals(), Totals())
        self.windows = WindowDiff((a.window, b.window))
        self.alerts = AlertDiff(a, b)
        self._define(names)

    def _define(self, names: Sequence[str]) -> None:
        self.names.extend(names)
        self.windows.define(names)
        self.alerts.define(names)

    def feed(self, outputs: Sequence[Outputs]) -> list[Differing]:
        """Take what both sides make of one record; give the differing alerts that are decided by it."""
        for side, one in enumerate(outputs):
            self.totals[side].add(one)
            for item in one.items:
                match item:
                    case Definitions(series, windows):
                        if side == 0:  # both sides name the same
                            self._define([definition.name for definition in series])
                        self.windows.announce(side, windows)
                    case Closed(rows):
                        self.windows.feed(side, rows)
                    case Alerts(alerts):
                        self.alerts.feed(side, alerts)
        self.windows.settle()
        return self.alerts.settle()

    def finish(self) -> list[Differing]:
        """Nothing more comes: give the differing alerts that waited."""
        self.windows.finish()
        return self.alerts.finish()

    def summary(self, readings: int) -> dict[str, Any]:
        """Give both sides' totals, and where they differ: by rule, by shape of window, by reason of removal."""
        a, b = (totals.summary(readings) for totals in self.totals)
        rules = {name: _met(met) for name, met in sorted(self.alerts.rules.items())}
        shapes = {_called(shape): _compared(compared) for shape, compared in self.windows.compared.items()}
        removed = _differing(a["removed"], b["removed"])
        late = _differing({"late": a["late"]}, {"late": b["late"]}).get("late", {})
        apart = [one[key] for one in (*rules.values(), *shapes.values()) for key in ("only_a", "only_b")]
        apart += [one["changed"] for one in shapes.values()]
        return {
            "equal": not (any(apart) or removed or late),
            "rules": rules,
            "shapes": shapes,
            "removed": removed,
            "late": late,
            "early": {"windows": self.windows.early, "alerts": self.alerts.early},
            "a": a,
            "b": b,
        }


def _differing(a: dict[str, int], b: dict[str, int]) -> dict[str, dict[str, int]]:
    pairs = {reason: {"a": a.get(reason, 0), "b": b.get(reason, 0)} for reason in sorted({*a, *b})}
    return {reason: pair for reason, pair in pairs.items() if pair["a"] != pair["b"]}


def _called(shape: Shape) -> str:
    return duration(shape.size) + ("" if shape.hop == shape.size else f", every {duration(shape.hop)}")


def _met(met: Met) -> dict[str, int]:
    return {"only_a": met.only[0], "only_b": met.only[1], "both": met.both}


def _compared(compared: Compared) -> dict[str, Any]:
    return {
        "only_a": compared.only[0],
        "only_b": compared.only[1],
        "changed": compared.changed,
        "columns": dict(compared.columns),
        "same": compared.same,
    }

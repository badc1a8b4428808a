"""What a demonstration says of the rounds in which its gateways learn together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.trainings import outcome, stage_line

Stage = Mapping[str, Any]


class Rounds:
    """Every stage that has ended, once; what is asked again and again tells them over and over."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, Any]] = []  # as `demo --json` has them
        self._seen: set[tuple[str, int, int, int]] = set()
        self._verdicts: set[tuple[str, int]] = set()
        self._news: list[str] = []

    def feed(self, trainings: Sequence[Mapping[str, Any]]) -> None:
        """Take an answer of /v1/trainings."""
        for one in trainings:
            for stage in one["history"]:
                key = (one["name"], stage["run"], stage["round"], stage["ended"])
                if key not in self._seen:
                    self._seen.add(key)
                    self._take(stage)
            run = (one["name"], one["run"])
            if one["stage"] == "rest" and one["verdict"] and run not in self._verdicts:
                self._verdicts.add(run)
                self._news.append(f"        {one['name']}: {outcome(one)}")

    def _take(self, stage: Stage) -> None:
        self._news.append(f"        {stage['training']}: {stage_line(stage)}")
        if stage["stage"] != "survey":  # what a round has made is scored in the next one
            for before in self.rounds[-1:]:
                if before["run"] == stage["run"] and before["accuracy"] is None:
                    before["accuracy"] = stage["accuracy"]
        if stage["stage"] == "round":
            told = {
                name: stage[name] for name in ("run", "round", "bytes_up", "seconds", "answered", "late", "refused")
            }
            self.rounds.append({**told, "accuracy": None})

    def news(self) -> Iterator[str]:
        """Give, once, a line for each stage that has ended."""
        while self._news:
            yield self._news.pop(0)

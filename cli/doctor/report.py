"""Lays findings out: a line each for a person, and the remedy below; or one object for a program. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cli.doctor.judge import Finding, Verdict

VERDICTS: tuple[Verdict, ...] = ("ok", "warn", "fail", "skip")
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "bright_black"}
"""Of a verdict's word, on a terminal; what is said is the same without."""


def lines(findings: Sequence[Finding]) -> list[tuple[Verdict | None, str]]:
    """Give each line with the verdict that it begins with, None for one that goes on."""
    width = max(len(finding.check) for finding in findings)
    said: list[tuple[Verdict | None, str]] = []
    for finding in findings:
        said.append((finding.verdict, f"{finding.check:<{width}}  {finding.found}"))
        if finding.do:
            said.append((None, f"{'':<{width}}  do: {finding.do}"))
    return said


def summary(findings: Sequence[Finding]) -> str:
    """Give the last line."""
    counts = counted(findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


def counted(findings: Sequence[Finding]) -> dict[Verdict, int]:
    """Count the findings by verdict; all four are named."""
    counts = Counter(finding.verdict for finding in findings)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def as_object(gateway: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """Give what --json prints."""
    counts = counted(findings)
    return {
        "gateway": gateway,
        "ok": not counts["fail"],
        "counts": counts,
        "checks": [finding._asdict() for finding in findings],
    }

"""What a running cloud says of its trainings, as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def lines(body: Mapping[str, Any]) -> Iterator[str]:
    """Lay the answer out: a line a training, and one for each stage of its last run."""
    if not body["trainings"]:
        yield "no trainings: the cloud's configuration has no [[training]]"
    for one in body["trainings"]:
        yield f"{one['name']}  {_stands(one)}"
        if one.get("privacy"):
            yield f"  {privacy_line(one['privacy'])}"
        for stage in one["history"]:
            if stage["run"] == one["run"]:
                yield f"  {stage_line(stage)}"


def _stands(one: Mapping[str, Any]) -> str:
    if one["stage"] != "rest":
        waiting = ", ".join(one["waiting"]) or "nobody"
        where = f"round {one['round']} of {one['rounds']}" if one["stage"] == "round" else one["stage"]
        return f"run {one['run']}, {where}: waiting for {waiting}"
    if not one["verdict"]:
        return "has not begun"
    return outcome(one)


def outcome(one: Mapping[str, Any]) -> str:
    """Say how a training's last run ended."""
    right = "" if one["accuracy"] is None else f", {_share(one['accuracy'])} right"
    before = "" if one["before"] is None else f"; what was in force: {_share(one['before'])}"
    early = f"{one['ended']}, " if one.get("ended") else ""
    return f"run {one['run']} ended: {early}{one['verdict']}{right}{before}"


def privacy_line(of: Mapping[str, Any]) -> str:
    """Say how a privacy budget stands."""
    spent = f"epsilon {of['spent']:.3g} of {of['epsilon']:g} spent in {of['rounds']} rounds"
    return f"privacy   {spent} (delta {of['delta']:g}), {of['left'] or 'no'} more"


def stage_line(stage: Mapping[str, Any]) -> str:
    """Say what became of a stage: who answered, who was late, who was refused and why."""
    name = {"survey": "survey", "trial": "trial"}.get(stage["stage"], f"round {stage['round']}")
    right = "" if stage["accuracy"] is None else f", {_share(stage['accuracy'])} right before it"
    about = f"{name:<9} {len(stage['answered'])} answered, {stage['bytes_up']:,} bytes, {stage['seconds']:.2f} s{right}"
    late = f"; late: {', '.join(stage['late'])}" if stage["late"] else ""
    refused = ", ".join(f"{gateway} ({reason})" for gateway, reason in stage["refused"].items())
    return about + late + (f"; refused: {refused}" if refused else "")


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"

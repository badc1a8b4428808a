"""The names of bus topics. The gateway's name is the third level, so one ACL pattern isolates it. Pure.

fieldgate/v1/{gateway}/status    gateway to cloud, retained, with a will
fieldgate/v1/{gateway}/alerts    gateway to whoever listens near it
fieldgate/v1/{gateway}/classes    likewise: what classifiers say of windows
fieldgate/v1/{gateway}/tasks/{job}    cloud to gateway, retained until it is answered or over: a task
fieldgate/v1/{gateway}/answers/{model}    cloud to gateway, retained: what windows are that it asked about
fieldgate/v1/{gateway}/models/{model}    cloud to gateway, retained: the newest manifest of a model
fieldgate/v1/{gateway}/chunks    cloud to gateway: parts of a model that were asked for
fieldgate/v1/{gateway}/wants     gateway to cloud: which part of which model it wants
"""

from __future__ import annotations

from typing import Literal

ROOT = "fieldgate/v1"

Word = Literal["status", "alerts", "classes", "tasks", "answers", "models", "chunks", "wants"]


def topic(gateway: str, word: Word) -> str:
    """Name one gateway's topic; `+` for the gateway names the filter of all of them."""
    return f"{ROOT}/{gateway}/{word}"


def gateway_of(name: str) -> str | None:
    """Give the gateway a bus topic belongs to, or None if it is no bus topic."""
    levels = name.split("/")
    return levels[2] if len(levels) > 3 and levels[:2] == ROOT.split("/") and levels[2] else None


def matches(pattern: str, name: str) -> bool:
    """Whether a topic matches an MQTT filter; `$` topics are not matched by a leading wildcard (MQTT 5, 4.7.2)."""
    wanted, levels = pattern.split("/"), name.split("/")
    if name.startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]  # `a/#` matches `a` too
    return len(wanted) == len(levels) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))

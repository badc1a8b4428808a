"""Jobs of a running cloud: as lines for a terminal, and what a command asks for. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cli.terminal import when
from protocol.settings import UNITS_NS

Body = Mapping[str, Any]
WIDTH = 30
MAX_SHOWN = 20
"""Groups of a result that are shown; --json has all."""


def bar(job: Body) -> str:
    """Say how far a job is, in one line."""
    filled = round(WIDTH * job["complete"])
    counts = f"{job['done']} of {job['parts']}" + (f", {job['lost']} lost" if job["lost"] else "")
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {counts}, {job['readings']:,} readings, {job['seconds']:.1f} s"


def lines(body: Body) -> Iterator[str]:
    """Lay all jobs out, a line each."""
    for one in body.get("standing", []):
        passed = f", {one['passed']} passed over" if one["passed"] else ""
        lacking = f"; {one['lacking']}" if one["lacking"] else ""
        every, over = _duration(one["every"]), _duration(one["over"])
        yield f"{one['name']:<28} {one['work']} every {every} over {over}, next {when(one['next'])}{passed}{lacking}"
    if not body["jobs"]:
        yield "no jobs yet: begin one with `fieldgate cloud jobs run WORK`"
    for job in body["jobs"]:
        yield f"{job['id']:<28} {_stands(job):<22} {job['done']} of {job['parts']} gateways, {when(job['began'])}"


def whole(job: Body) -> Iterator[str]:
    """Lay a job out: how it stands, what became of each part, and its result."""
    yield f"{job['id']}  {_stands(job)}"
    yield f"  series    {', '.join(job['series'])}"
    yield f"  asked for {_span(job['from'], job['to'])}"
    yield f"  found     {_span(*job['held']) if job['readings'] else 'nothing'}"
    yield f"  complete  {100 * job['complete']:.1f} %: {job['done']} of {job['parts']} gateways"
    yield f"  cost      {job['readings']:,} readings, {job['cpu_s']:.2f} s of CPU, {job['bytes']:,} bytes up"
    yield f"  took      {job['seconds']:.1f} s; the plan said {job['predicted_s']:.1f} s"
    for part in job["each"]:
        if part["state"] != "done":
            why = part["reason"] or ("no answer" if part["attempts"] else "away")
            yield f"  {part['gateway']:<20} {part['state']}: {why}, {part['attempts']} attempts"
        elif part.get("from") == "windows":
            yield f"  {part['gateway']:<20} from windows stored here: of cleaned readings, means in single precision"
    if job["result"] is not None:
        yield from ("", *result(job["result"]))


def result(found: Any) -> Iterator[str]:
    """Lay a result out: a line a group, what is no group by name."""
    groups: dict[str, Any] = found.get("groups", {}) if isinstance(found, dict) else {}
    rest = {key: value for key, value in found.items() if key != "groups"} if isinstance(found, dict) else {"": found}
    for key, value in rest.items():
        yield f"{key}: {_short(value)}"
    for number, (name, group) in enumerate(groups.items()):
        if number == MAX_SHOWN:
            yield f"... and {len(groups) - MAX_SHOWN} more: --json has all"
            return
        fields = group.items() if isinstance(group, dict) else [("", group)]
        yield f"{name}  " + "  ".join(f"{key} {_short(value)}".strip() for key, value in fields)


def steps(plan: Body) -> Iterator[str]:
    """Lay a plan out: where each part would be computed, what that costs and why."""
    for step in plan["steps"]:
        ends = "-" if step["ends"] is None else f"{step['ends']:.1f} s"
        cost = f"{step['readings']:>12,} readings {step['seconds']:>8.1f} s {step['bytes']:>10,} bytes  ends {ends:>8}"
        yield f"{step['gateway']:<20} {step['where']:<8} {cost}  {step['why']}"
    yield f"{len(plan['steps'])} parts, {plan['bytes']:,} bytes up, over after {plan['seconds']:.1f} s"


def _stands(job: Body) -> str:
    return f"{job['state']}" + (f" ({job['reason']})" if job["reason"] else "")


def _duration(ns: int) -> str:
    unit = next(unit for unit in reversed(UNITS_NS) if ns % UNITS_NS[unit] == 0)
    return f"{ns // UNITS_NS[unit]}{unit}"


def _span(start: int, end: int) -> str:
    if not start and not end:
        return "all that is held"
    return f"{when(start) if start else 'the beginning'} to {when(end) if end else 'now'}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def spec(work: str, said: Mapping[str, Any], params: tuple[str, ...]) -> dict[str, Any]:
    """Give what is sent: only what was said; a parameter is KEY=VALUE, the value JSON or else text. ValueError."""
    own: dict[str, Any] = {}
    for one in params:
        key, equals, text = one.partition("=")
        if not key or not equals:
            raise ValueError(f"{one!r} is not KEY=VALUE")
        try:
            own[key] = json.loads(text)
        except ValueError:
            own[key] = text
    asked = {key: value for key, value in said.items() if value not in (None, ())}
    return {"work": work} | asked | ({"params": own} if own else {})

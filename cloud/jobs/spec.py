"""What somebody asks for: read, checked, and resolved to event times and gateways. Pure.

{"work": "quantiles", "series": ["*/temperature"], "gateways": ["@north"], "last": "24h", "deadline": "10m"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from cloud.jobs.state import Question, Terms
from learning.work import Work, registry
from protocol.errors import JobRefused, TaskRefused
from protocol.settings import UNITS_NS, parse_quantity

MAX_SPEC = 64 << 10
"""Bytes of what somebody asks for."""
MAX_PATTERNS = 100
MAX_PRIORITY = 100
MAX_LIMIT = 1_000_000
LONGEST_NS = 7 * 86400 * 10**9
INT64 = (1 << 63) - 1


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job as somebody asks for it."""

    work: str
    series: tuple[str, ...] = ("*",)  # patterns of names
    gateways: tuple[str, ...] = ("*",)  # patterns of names; "@label" are those that the configuration's label names
    start: int = msgspec.field(default=0, name="from")  # event time (ns), inclusive; 0: without bound
    end: int = msgspec.field(default=0, name="to")  # exclusive
    last: str = ""  # instead of both: the time before now, such as "24h"
    params: dict[str, Any] = {}  # the work's own
    priority: int = 1
    deadline: str = "10m"
    partial: bool = True
    limit: int = 0  # readings at most, for work that sends raw ones
    windows: Literal["never", "when away"] = "never"  # whether a part may be made of what the cloud has stored


def read_spec(data: bytes) -> Spec:
    """Read what somebody asks for, JSON; JobRefused says what is wrong with it."""
    if len(data) > MAX_SPEC:
        raise JobRefused("spec", f"{len(data)} bytes, {MAX_SPEC} at most")
    try:
        spec = msgspec.json.decode(data, type=Spec)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JobRefused("spec", str(error)) from error
    for key, value, expectation in _wrong(spec):
        raise JobRefused("spec", f"{key} is {value!r}: expected {expectation}")
    return spec


def _wrong(spec: Spec) -> Iterable[tuple[str, object, str]]:
    for key, patterns in (("series", spec.series), ("gateways", spec.gateways)):
        if not 1 <= len(patterns) <= MAX_PATTERNS:
            yield key, len(patterns), f"1 to {MAX_PATTERNS} patterns"
    for key, value, most in (("priority", spec.priority, MAX_PRIORITY), ("limit", spec.limit, MAX_LIMIT)):
        if not (key == "priority") <= value <= most:
            yield key, value, f"a whole number up to {most}"
    if spec.last and (spec.start or spec.end):
        yield "last", spec.last, "either last, or from and to"
    if not (0 <= spec.start <= INT64 and 0 <= spec.end <= INT64) or 0 < spec.end <= spec.start:
        yield "to", spec.end, "a time (ns) after `from`"
    for key, text in (("last", spec.last or "1s"), ("deadline", spec.deadline)):
        try:
            found = parse_quantity(text, UNITS_NS, "")
        except ValueError:
            found = 0
        if not 0 < found <= (LONGEST_NS if key == "deadline" else INT64):
            yield key, text, 'a duration with its unit, such as "90s", "10m" or "24h"; a deadline of 7d at most'


def question(spec: Spec, work: Work, now: int) -> Question:
    """Give what is asked of each gateway; JobRefused if the work's own parameters are not its."""
    try:
        params = registry.pack_params(work, spec.params)
        registry.read_params(work, params, spec.limit)
    except TaskRefused as refused:
        raise JobRefused(refused.reason, refused.detail) from refused
    start, end = spec.start, spec.end
    if spec.last:
        start, end = max(0, now - parse_quantity(spec.last, UNITS_NS, "")), now
    return Question(work.name, work.version, spec.series, start, end, params, spec.limit)


def terms(spec: Spec, now: int) -> Terms:
    """Give how the job is to be treated."""
    return Terms(spec.priority, now + parse_quantity(spec.deadline, UNITS_NS, ""), spec.partial)


def chosen(spec: Spec, gateways: Iterable[str], labels: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Give the gateways that are meant, by name; JobRefused for a label that is not configured."""
    patterns: list[str] = []
    for one in spec.gateways:
        if one.startswith("@") and one[1:] not in labels:
            raise JobRefused("label", f"{one[1:]!r} is not configured")
        patterns += labels[one[1:]] if one.startswith("@") else [one]
    return sorted(name for name in gateways if any(fnmatchcase(name, pattern) for pattern in patterns))

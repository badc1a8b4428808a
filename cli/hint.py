"""What to say when nothing is being recorded: which topics are heard, why they are refused, what would match. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

SHOWN = 5
"""Topics and reasons shown: enough to recognise one's own devices, little enough to read."""

REMEDIES = {
    "topic": "no [[source]] has a topic that fits them",
    "json": 'the payload is not JSON; a bare number is format = "number"',
    "type": "the value is not a number; `value` (or `values`) is its path in the payload",
    "missing": "the payload has no such field; `value` (or `values`) is its path in the payload",
    "time": "the event time cannot be read; see `time` and `time_unit`",
    "too_large": "the payload is larger than 64 KiB",
    "depth": "the payload is nested too deeply",
    "leaves": "the payload holds more than 256 numbers",
    "name": "the payload gives its numbers names that are empty or too long",
    "number": 'the payload is not one number as text; JSON is format = "json"',
    "msgpack": "the payload is not msgpack",
    "series_limit": "there are more series than max_series",
}


def hint(heard: Iterable[str], refused: Mapping[str, int], seconds: float = 10) -> str:
    """Explain in a few lines why nothing was recorded for so long, ending with a `topic =` line that would match."""
    topics = sorted({topic for topic in heard if not _own(topic)})
    lines = [f"Nothing has been recorded for {seconds:g} s."]
    if topics:
        lines += [f"Topics heard ({len(topics)}):", *_listed(topics)]
    if reasons := sorted(((-number, cause) for cause, number in refused.items() if number))[:SHOWN]:
        lines += ["Refused:", *(_reason(cause, -number) for number, cause in reasons)]
    if not topics and not reasons:
        lines.append("No message has come: is devices.url the right broker, and does anything publish there?")
    if topics and (not reasons or "topic" in refused):
        lines += ["This would match:", *(f"  {line}" for line in template(topics))]
    return "\n".join(lines)


def _own(topic: str) -> bool:
    return topic.startswith(("$", "fieldgate/"))


def _listed(topics: list[str]) -> list[str]:
    more = [f"  ... and {len(topics) - SHOWN} more"] if len(topics) > SHOWN else []
    return [f"  {topic}" for topic in topics[:SHOWN]] + more


def _reason(cause: str, number: int) -> str:
    remedy = REMEDIES.get(cause)
    return f"  {cause} ({number})" + (f": {remedy}" if remedy else "")


def template(topics: list[str]) -> list[str]:
    """Give the lines of a [[source]] whose topic matches the topics with the commonest number of levels.

    The last level is taken for the measurement, and for the device that one before it which differs most; levels that
    also differ become +, levels that are the same everywhere stay.
    """
    columns = _columns(topics)
    if len(columns) == 1:
        return ['topic = "{device}"', 'measurement = "value"']
    kinds = [len(set(column)) for column in columns[:-1]]
    device = len(kinds) - 1 - kinds[::-1].index(max(kinds))
    levels = [_level(column) for column in columns[:-1]] + ["{measurement}"]
    levels[device] = "{device}"
    return [f"topic = {json.dumps('/'.join(levels), ensure_ascii=False)}"]


def _columns(topics: list[str]) -> list[tuple[str, ...]]:
    by_depth: dict[int, list[list[str]]] = {}
    for topic in topics:
        levels = topic.split("/")
        by_depth.setdefault(len(levels), []).append(levels)
    commonest = max(by_depth, key=lambda depth: (len(by_depth[depth]), depth))
    return list(zip(*by_depth[commonest], strict=True))


def _level(column: tuple[str, ...]) -> str:
    same = len(set(column)) == 1
    return column[0] if same and not set("{}+#\x7f") & set(column[0]) and column[0].isprintable() else "+"

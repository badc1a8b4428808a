"""How topics are built: which level is the device, which the measurement, which are the same everywhere. Pure.

Rules:

1. Topics of one template have the same number of levels. They are parted by their first level, unless something is
   called the same below two of them: then the first level is a device like any other.
2. The measurement is the last level whose names are quantities, else the last one that is no general word.
3. The device is the level that differs most, else the one before the measurement. Where two topics would be one series,
   every level that differs is a part of the device's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.config import Source
from gateway.decode.routes import Template

GENERAL = frozenset(
    {
        *(
            "sensor",
            "sensors",
            "binary_sensor",
            "state",
            "status",
            "value",
            "values",
            "data",
            "telemetry",
            "tele",
            "json",
        ),
        *(
            "env",
            "attributes",
            "measurements",
            "measurement",
            "readings",
            "devices",
            "device",
            "out",
            "events",
            "event",
        ),
    }
)
"""Words that say neither which device it is nor what it measures."""

QUANTITIES = frozenset(
    {
        *(
            "temperature",
            "temp",
            "humidity",
            "pressure",
            "power",
            "energy",
            "voltage",
            "current",
            "frequency",
            "battery",
        ),
        *(
            "co2",
            "tvoc",
            "voc",
            "pm25",
            "pm10",
            "pm2_5",
            "illuminance",
            "lux",
            "light",
            "noise",
            "rssi",
            "level",
            "flow",
        ),
        *(
            "speed",
            "rpm",
            "vibration",
            "torque",
            "weight",
            "distance",
            "moisture",
            "ph",
            "conductivity",
            "wind",
            "rain",
        ),
        *("dewpoint", "dew_point", "occupancy", "motion", "contact", "cpu", "memory", "load", "latency"),
    }
)

Levels = list[str]


class Shape(NamedTuple):
    """A template, and the names that it does not give."""

    topic: str
    device: str = ""
    measurement: str = ""


def part(topics: Sequence[Levels]) -> list[list[Levels]]:
    """Part topics of the same number of levels by rule 1."""
    below: dict[str, set[tuple[str, ...]]] = {}
    for levels in topics:
        below.setdefault(levels[0], set()).add(tuple(levels[1:]))
    shared = len(set().union(*below.values())) < sum(map(len, below.values()))
    if shared or len(topics[0]) == 1:
        return [list(topics)]
    return [[levels for levels in topics if levels[0] == first] for first in below]


def shape(topics: Sequence[Levels], one_value: bool) -> Shape:
    """Find a template for topics of the same number of levels; with `one_value` the topic says what is measured."""
    columns = [list(dict.fromkeys(column)) for column in zip(*topics, strict=True)]
    measurement = _measurement(columns) if one_value else None
    others = [number for number in range(len(columns)) if number != measurement]
    device = _device(columns, others, measurement)
    found = _shape(columns, [device], measurement, one_value)
    varying = [number for number in others if len(columns[number]) > 1 or number == device]
    if len(varying) > 1 and _mixed(found, topics):
        found = _shape(columns, varying, measurement, one_value)
    return found


def _measurement(columns: list[list[str]]) -> int | None:
    """Find the measurement's level; None if the only level that says anything is the device's."""
    known = [number for number, names in enumerate(columns) if _known(names, QUANTITIES)]
    said = [number for number, names in enumerate(columns) if not _known(names, GENERAL)] or [len(columns) - 1]
    if known and len(columns) > 1:
        return known[-1]
    return said[-1] if len(said) > 1 else None


def _known(names: Iterable[str], words: frozenset[str]) -> bool:
    names = list(names)
    return 2 * sum(name.lower() in words for name in names) > len(names)


def _device(columns: list[list[str]], others: list[int], measurement: int | None) -> int:
    said = [number for number in others if not _known(columns[number], GENERAL)] or others
    most = max(len(columns[number]) for number in said)
    if most > 1:
        return max(number for number in said if len(columns[number]) == most)
    before = [number for number in said if measurement is None or number < measurement]
    return (before or said)[-1]


def _shape(columns: list[list[str]], devices: list[int], measurement: int | None, one_value: bool) -> Shape:
    levels = [names[0] if len(names) == 1 and is_plain(names[0]) else "+" for names in columns]
    for number in devices:
        levels[number] = "{device}"
    if measurement is not None:
        levels[measurement] = "{measurement}"
    return Shape("/".join(levels), measurement="value" if one_value and measurement is None else "")


def is_plain(level: str) -> bool:
    """Tell whether a level can stand in a template as it is."""
    return level.isprintable() and not set("{}+#") & set(level) and level != "$share"


def _mixed(found: Shape, topics: Sequence[Levels]) -> bool:
    template = Template(Source(topic=found.topic, device=found.device, measurement=found.measurement or "value"))
    names = [template.match("/".join(levels)) for levels in topics]
    return len({tuple(name or ()) for name in names}) < len(topics)

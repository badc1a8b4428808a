"""Which topics belong together: those of zigbee2mqtt, Tasmota and Shelly by what they say, the rest by look and shape.

Rules:

1. A dialect is told by words that only it uses: zigbee2mqtt's `bridge` or a `linkquality`, Tasmota's `tele` with a
   `Time` beside its sensors, Shelly's `events/rpc` with a sender, or the topics `shellies`. What such devices say
   besides is set aside with a reason.
2. Other topics of one look (format, one value or several, paths of value and time) and number of levels are parted and
   given a template by `shapes`; where the templates of two families are one, so are they.
3. A number that is sometimes a text is not proposed: the text would cost the whole message.
4. No topic is compared with every other: owners of topics are looked up by the levels in front.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from cli.proposal.ear import Heard
from cli.proposal.looks import NOWHERE, Look, as_map, look
from cli.proposal.shapes import QUANTITIES, Levels, Shape, is_plain, part, shape
from gateway.config import Source

MAX_VALUES = 64
"""Measurements in one [[source]]."""

ZIGBEE = "zigbee2mqtt's bridge, availability and commands measure nothing"
TASMOTA = "Tasmota's own health, answers and commands are no measurements"
SHELLY = "Shelly's presence and commands measure nothing, and status repeats events/rpc"
OTHERS = "they describe devices for Home Assistant"
OURS = "Fieldgate's own"
MIXED = "their fields are numbers here and something else there"

Topics = Mapping[str, Heard]


class Family(NamedTuple):
    """Topics that one source reads, and what is to be said of it."""

    source: Source
    topics: list[str]
    remarks: tuple[str, ...] = ()


class Sorted(NamedTuple):
    """Families, and what was set aside: topic to reason."""

    families: list[Family]
    aside: dict[str, str]


def sort(topics: Topics) -> Sorted:
    """Sort all that was heard into families."""
    done = Sorted([], {name: reason for name in topics if (reason := _not_a_device(name))})
    rest = {name: heard for name, heard in topics.items() if name not in done.aside}
    for take in (_take_zigbee2mqtt, _take_tasmota, _take_shelly):
        taken = take(rest, done)
        rest = {name: heard for name, heard in rest.items() if name not in taken}
    _take_rest(rest, done)
    return done


def _not_a_device(name: str) -> str:
    if name.startswith(("$", "fieldgate/v1/")):
        return OURS
    described = name.startswith(("homeassistant/", "tasmota/discovery/")) and name.endswith(("/config", "/sensors"))
    return OTHERS if described else ""


def _maps(heard: Heard) -> Iterator[dict[str, object]]:
    return (as_map(sample.payload) for sample in heard.samples)


def _owner(name: str, owners: set[str]) -> str | None:
    """Give the shortest of the owners that a topic is below."""
    levels = name.split("/")
    fronts = ("/".join(levels[:length]) for length in range(1, len(levels)))
    return next((front for front in fronts if front in owners), None)


def _template(names: Iterable[Levels], device: int) -> str:
    """Give the levels that are the same everywhere, and {device} for the others and for the device."""
    columns = [dict.fromkeys(column) for column in zip(*names, strict=True)]
    levels = ["{device}" if len(column) > 1 else _plain(*column) for column in columns]
    levels[device] = "{device}"
    return "/".join(levels)


def _plain(level: str) -> str:
    return level if is_plain(level) else "+"


def _take_zigbee2mqtt(topics: Topics, done: Sorted) -> set[str]:
    bases = set(_bases(topics))
    owned = {name: base for name in topics if (base := _owner(name, bases)) is not None}
    devices: dict[tuple[str, int], list[str]] = {}
    for name, base in owned.items():
        levels = name[len(base) + 1 :].split("/")
        above = name.rpartition("/")[0]
        repeats = above != base and above in topics  # a part of what the topic above says
        if levels[0] == "bridge" or levels[-1] in ("availability", "set", "get") or repeats:
            done.aside[name] = ZIGBEE
        else:
            devices.setdefault((base, len(levels)), []).append(name)
    for (base, depth), names in devices.items():
        topic = "/".join([*map(_plain, base.split("/")), *["{device}"] * depth])
        done.families.append(Family(Source(topic=topic, format="zigbee2mqtt"), names))
    return set(owned)


def _bases(topics: Topics) -> Iterator[str]:
    """Give the levels in front of what a bridge publishes."""
    for name, heard in topics.items():
        base = name.partition("/bridge/")[0]
        if name.startswith("zigbee2mqtt/"):
            yield "zigbee2mqtt"
        elif base != name and "zigbee" in base.lower():
            yield base
        elif any("linkquality" in tree for tree in _maps(heard)):
            yield name.rpartition("/")[0]


def _take_tasmota(topics: Topics, done: Sorted) -> set[str]:
    stems: set[tuple[str, ...]] = set()
    sensors: dict[tuple[int, int], list[str]] = {}
    for name, heard in topics.items():
        levels = name.split("/")
        at = _tasmota_device(levels)
        if at is not None and any("Time" in tree or "Epoch" in tree for tree in _maps(heard)):
            stems.add(_stem(levels))
            if levels[-1] == "SENSOR":
                sensors.setdefault((len(levels), at), []).append(name)
    for (_, at), names in sensors.items():
        topic = _template([name.split("/") for name in names], at)
        done.families.append(Family(Source(topic=topic, format="tasmota"), names))
    taken = {name for name in topics if _stem(name.split("/")) in stems}
    proposed = {name for names in sensors.values() for name in names}
    done.aside.update(dict.fromkeys(sorted(taken - proposed), TASMOTA))
    return taken


def _tasmota_device(levels: Levels) -> int | None:
    """Say which level is the device: beside `tele`, on either side."""
    if levels[-1] not in ("SENSOR", "STATE") or "tele" not in levels[:-1] or len(levels) < 3:
        return None
    return len(levels) - (3 if levels[-2] == "tele" else 2)


def _stem(levels: Levels) -> tuple[str, ...]:
    """Give the levels of a device's topics that are the same whatever it says."""
    return tuple("tele" if level in ("tele", "stat", "cmnd") else level for level in levels[:-1])


def _take_shelly(topics: Topics, done: Sorted) -> set[str]:
    notifying = {
        name.removesuffix("/events/rpc")
        for name, heard in topics.items()
        if name.endswith("/events/rpc") and any("src" in tree and "method" in tree for tree in _maps(heard))
    }
    stating = {
        name.partition("/status/")[0]
        for name, heard in topics.items()
        if ":" in name.partition("/status/")[2] and any("id" in tree for tree in _maps(heard))
    } - notifying
    _add_shelly(notifying, "events/rpc", done)
    _add_shelly(stating, "status/#", done)
    devices = notifying | stating
    owned = {name for name in topics if _owner(name, devices) is not None}
    first = [name for name in topics if name.startswith("shellies/") and name not in owned]
    if first:
        done.families.append(Family(Source(topic="shellies/{device}/#", format="shelly"), first))
    done.aside.update(dict.fromkeys(sorted(owned), SHELLY))  # of those that give no series
    return owned | set(first)


def _add_shelly(devices: set[str], below: str, done: Sorted) -> None:
    by_depth: dict[int, list[Levels]] = {}
    for device in sorted(devices):
        by_depth.setdefault(device.count("/"), []).append(device.split("/"))
    for depth, names in by_depth.items():
        topic = f"{_template(names, depth)}/{below}"
        said = [f"{'/'.join(levels)}/{below.removesuffix('#')}" for levels in names]
        done.families.append(Family(Source(topic=topic, format="shelly"), said))


def _take_rest(topics: Topics, done: Sorted) -> None:
    looks = {name: look(heard.samples) for name, heard in topics.items()}
    done.aside.update({name: seen.why for name, seen in looks.items() if seen.why})
    kinds: dict[tuple[_Kind, int], list[str]] = {}
    for name, seen in looks.items():
        if not seen.why:
            levels = name.split("/")
            kinds.setdefault((_kind(levels, seen), len(levels)), []).append(name)
    joined: dict[tuple[Shape, _Kind], list[str]] = {}
    for (kind, _), names in kinds.items():
        for group in part([name.split("/") for name in names]):
            joined.setdefault((shape(group, kind.one), kind), []).extend("/".join(levels) for levels in group)
    for (found, kind), names in joined.items():
        family = _family(found, kind, names, [looks[name] for name in names])
        if family is None:
            done.aside.update(dict.fromkeys(names, MIXED))
        else:
            done.families.append(family)


class _Kind(NamedTuple):
    """What the messages of one family have in common."""

    format: str
    one: bool  # one value, so the topic says what is measured
    value: str
    time: str


def _kind(levels: Levels, seen: Look) -> _Kind:
    value = seen.value or (seen.paths[0] if len(seen.paths) == 1 and levels[-1].lower() in QUANTITIES else "")
    return _Kind(seen.format, seen.format == "number" or bool(value), value, seen.time)


def _family(found: Shape, kind: _Kind, names: list[str], looks: list[Look]) -> Family | None:
    """Make the source that reads these topics; None if no field is a number everywhere."""
    given: dict[str, object] = {"topic": found.topic, "measurement": found.measurement, "format": kind.format}
    if kind.time:
        given["time"] = kind.time
    remarks = ["its `time` is far from ours (local time?): arrival time stands in"] if kind.time == NOWHERE else []
    if kind.one and kind.value:
        given["value"] = kind.value
    elif not kind.one:
        paths = _paths(looks, kind.time or "time")
        aside = [*dict.fromkeys(path for seen in looks for path in seen.aside), *paths[MAX_VALUES:]]
        remarks += [f"left out of the payload: {', '.join(aside)}"] if aside else []
        if not paths:
            return None
        given["values"] = _named(paths[:MAX_VALUES])
    return Family(msgspec.convert(given, Source), names, tuple(remarks))


def _paths(looks: list[Look], time: str) -> list[str]:
    """Give the paths that are a number in every message that has them, and lead on to no other."""
    texts = frozenset[str]().union(*(seen.texts for seen in looks))
    paths = dict.fromkeys(path for seen in looks for path in seen.paths)
    fronts = {front for path in (*paths, *texts, time) for front in _fronts(path)}
    good = [path for path in paths if path not in texts and path not in fronts]
    return [path for path in good if not (paths.keys() | texts | {time}) & set(_fronts(path))]


def _fronts(path: str) -> list[str]:
    words = path.split(".")
    return [".".join(words[:length]) for length in range(1, len(words))]


def _named(paths: list[str]) -> dict[str, str]:
    """Name measurements by the last word of their path, or by the whole path where that is taken."""
    last = [path.rpartition(".")[2] for path in paths]
    return {(word if last.count(word) == 1 else path): path for word, path in zip(last, paths, strict=True)}

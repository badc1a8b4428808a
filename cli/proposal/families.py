"""Which topics belong together: those of zigbee2mqtt, Tasmota and Shelly by what they say, the rest by look and shape.

Rules:

1. A dialect is told by words that only it uses: zigbee2mqtt's `bridge` or a `linkquality`, Tasmota's `tele` and a `Time`
   beside sensors, Shelly's `events/rpc` with a sender, or the topics `shellies`. What such devices say besides is set
   aside with a reason.
2. Other topics of one look (format, one value or several, paths of value and time) and number of levels are parted and
   given a template by `shapes`; where the templates of two families are one, so are they.
3. A number that is sometimes a text is not proposed: the text would cost the whole message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cli.proposal.ear import Heard
from cli.proposal.looks import NOWHERE, Look, as_map, look
from cli.proposal.shapes import QUANTITIES, Levels, Shape, is_plain, part, shape
from gateway.config import Source

MAX_VALUES = 64
"""Measurements in one [[source]]."""

BRIDGE = frozenset(("state", "info", "devices", "groups", "logging", "definitions", "extensions", "health", "config"))
ASIDE_ZIGBEE = "zigbee2mqtt's bridge, availability and commands measure nothing"
ASIDE_TASMOTA = "Tasmota's own health, answers and commands are no measurements"
ASIDE_SHELLY = "Shelly's presence and commands, or what events/rpc says already"
ASIDE_OTHERS = "they describe devices for Home Assistant"
ASIDE_OURS = "Fieldgate's own"

Topics = Mapping[str, Heard]


@dataclass(slots=True)
class Sorted:
    """Proposed sources with their topics' names, and what was set aside: topic to reason."""

    sources: list[tuple[Source, list[str]]] = field(default_factory=list)
    aside: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)  # by a source's topic


def sort(topics: Topics) -> Sorted:
    """Sort all that was heard into families."""
    done = Sorted()
    rest = {name: heard for name, heard in topics.items() if not _others(name, done)}
    for take in (_take_zigbee2mqtt, _take_tasmota, _take_shelly):
        taken = take(rest, done)
        rest = {name: heard for name, heard in rest.items() if name not in taken}
    _take_rest(rest, done)
    return done


def _others(name: str, done: Sorted) -> bool:
    if name.startswith(("$", "fieldgate/v1/")):
        done.aside[name] = ASIDE_OURS
    elif name.startswith(("homeassistant/", "tasmota/discovery/")) and name.endswith(("/config", "/sensors")):
        done.aside[name] = ASIDE_OTHERS
    return name in done.aside


def _maps(heard: Heard) -> Iterator[dict[str, object]]:
    return (as_map(sample.payload) for sample in heard.samples)


def _literal(levels: Iterable[str]) -> str:
    return "/".join(level if is_plain(level) else "+" for level in levels)


# zigbee2mqtt


def _take_zigbee2mqtt(topics: Topics, done: Sorted) -> set[str]:
    taken: set[str] = set()
    for base in _bases(topics):
        below = {name: name[len(base) + 1 :].split("/") for name in topics if name.startswith(f"{base}/")}
        devices: dict[int, list[str]] = {}
        for name, levels in below.items():
            if levels[0] == "bridge" or levels[-1] in ("availability", "set", "get") or _repeats(name, topics, base):
                done.aside[name] = ASIDE_ZIGBEE
            else:
                devices.setdefault(len(levels), []).append(name)
        for depth, names in sorted(devices.items()):
            topic = "/".join([_literal(base.split("/")), *["{device}"] * depth])
            done.sources.append((Source(topic=topic, format="zigbee2mqtt"), names))
        taken |= below.keys()
    return taken


def _bases(topics: Topics) -> list[str]:
    """Find the first levels of the topics that a bridge publishes under; none is below another."""
    found: set[str] = set()
    for name, heard in topics.items():
        before, _, after = name.partition("/bridge/")
        if (after in BRIDGE and "zigbee" in before.lower()) or before == "zigbee2mqtt":
            found.add(before)
        elif "/" in name and any("linkquality" in tree for tree in _maps(heard)):
            found.add(name.rpartition("/")[0])
    return [base for base in sorted(found) if not any(base.startswith(f"{other}/") for other in found)]


def _repeats(name: str, topics: Topics, base: str) -> bool:
    """Tell whether a topic repeats a part of what the topic above it says, as `attribute_and_json` has it."""
    above = name.rpartition("/")[0]
    return above != base and above in topics


# Tasmota


def _take_tasmota(topics: Topics, done: Sorted) -> set[str]:
    stems: dict[tuple[str, ...], int] = {}  # the levels around `tele` and the kind of message, and which is the device
    sensors: dict[tuple[int, ...], list[str]] = {}
    for name, heard in topics.items():
        levels = name.split("/")
        at = _tasmota_device(levels)
        if at is None or not any("Time" in tree or "Epoch" in tree for tree in _maps(heard)):
            continue
        stems[_stem(levels)] = at
        if levels[-1] == "SENSOR":
            sensors.setdefault((len(levels), at), []).append(name)
    for (_, at), names in sensors.items():
        done.sources.append((Source(topic=_template(names, at), format="tasmota"), names))
    taken = {name for name in topics if _stem(name.split("/")) in stems}
    proposed = {name for names in sensors.values() for name in names}
    done.aside |= dict.fromkeys(taken - proposed, ASIDE_TASMOTA)
    return taken


def _tasmota_device(levels: Levels) -> int | None:
    """Say which level is the device, beside `tele` on either side."""
    if levels[-1] not in ("SENSOR", "STATE") or "tele" not in levels[:-1] or len(levels) < 3:
        return None
    return len(levels) - (3 if levels[-2] == "tele" else 2)


def _stem(levels: Levels) -> tuple[str, ...]:
    """Give the levels of a device's topics that are the same whatever it says."""
    return tuple("tele" if level in ("tele", "stat", "cmnd") else level for level in levels[:-1])


def _template(names: Iterable[str], device: int) -> str:
    columns = [set(column) for column in zip(*(name.split("/") for name in names), strict=True)]
    levels = [_literal(column) if len(column) == 1 else "{device}" for column in columns]
    levels[device] = "{device}"
    return "/".join(levels)


# Shelly


def _take_shelly(topics: Topics, done: Sorted) -> set[str]:
    taken = {name for name in topics if name.startswith("shellies/")}
    notifying = {
        name.removesuffix("/events/rpc")
        for name, heard in topics.items()
        if name.endswith("/events/rpc") and any("src" in tree and "method" in tree for tree in _maps(heard))
    }
    stating = {
        name.rpartition("/status/")[0]
        for name, heard in topics.items()
        if "/status/" in name and any("id" in tree for tree in _maps(heard)) and ":" in name.rpartition("/status/")[2]
    } - notifying
    for devices, below, kind in ((notifying, "events/rpc", "events/"), (stating, "status/#", "status/")):
        by_depth: dict[int, list[str]] = {}
        for device in devices:
            by_depth.setdefault(device.count("/"), []).append(device)
        for names in by_depth.values():
            topic = f"{_template(sorted(names), names[0].count('/'))}/{below}"
            said = [name for name in topics if any(name.startswith(f"{device}/{kind}") for device in names)]
            done.sources.append((Source(topic=topic, format="shelly"), said))
    first = [name for name in taken if not any(name.startswith(f"{device}/") for device in notifying | stating)]
    if first:
        done.sources.append((Source(topic="shellies/{device}/#", format="shelly"), first))
    proposed = {name for _, names in done.sources for name in names}
    taken |= {name for name in topics if any(name.startswith(f"{device}/") for device in notifying | stating)}
    done.aside |= dict.fromkeys(taken - proposed, ASIDE_SHELLY)
    return taken


# everything else


def _take_rest(topics: Topics, done: Sorted) -> None:
    looks = {name: look(heard.samples) for name, heard in topics.items()}
    families: dict[tuple[object, ...], list[str]] = {}
    for name, seen in looks.items():
        if seen.why:
            done.aside[name] = seen.why
        else:
            families.setdefault(_family(name, seen), []).append(name)
    joined: dict[tuple[object, ...], list[str]] = {}
    for (kind, one, value, time, _), names in families.items():
        for group in part([name.split("/") for name in names]):
            found = shape(group, bool(one))
            joined.setdefault((found, kind, one, value, time), []).extend("/".join(levels) for levels in group)
    for (found, kind, one, *_), names in joined.items():
        assert isinstance(found, Shape)
        source, remarks = _source(found, str(kind), [looks[name] for name in names], bool(one))
        done.sources.append((source, names))
        done.remarks[source.topic] = remarks


def _family(name: str, seen: Look) -> tuple[object, ...]:
    levels = name.split("/")
    value = seen.value or (seen.paths[0] if len(seen.paths) == 1 and levels[-1].lower() in QUANTITIES else "")
    return seen.format, seen.format == "number" or bool(value), value, seen.time, len(levels)


def _source(found: Shape, kind: str, looks: list[Look], one: bool) -> tuple[Source, list[str]]:
    """Make the source that reads messages of these looks, and say what it leaves."""
    texts = frozenset[str]().union(*(seen.texts for seen in looks))
    paths = list(dict.fromkeys(path for seen in looks for path in seen.paths if path not in texts))
    aside = dict.fromkeys(path for seen in looks for path in seen.aside)
    time = looks[0].time
    remarks = [f"left out of the payload: {', '.join(aside)}"] if aside and not one else []
    remarks += ["its `time` is far from ours (local time?): arrival time stands in"] if time == NOWHERE else []
    given = {"topic": found.topic, "device": found.device, "measurement": found.measurement, "format": kind}
    if kind == "number":
        return Source(**given), remarks
    given |= {"time": time} if time else {}
    if one:
        value = looks[0].value or looks[0].paths[0]
        return Source(**given, value=value), remarks
    if len(paths) > MAX_VALUES:
        remarks.append(f"{len(paths) - MAX_VALUES} more fields")
    return Source(**given, values=_named(paths[:MAX_VALUES])), remarks


def _named(paths: list[str]) -> dict[str, str]:
    """Name measurements by the last word of their path, or by the whole path where that is taken."""
    last = [path.rpartition(".")[2] for path in paths]
    return {(word if last.count(word) == 1 else path): path for word, path in zip(last, paths, strict=True)}

"""The proposal as a file and as a summary. Pure.

Names that were heard are strangers' text: in the file they stand quoted or printable, so that none can end a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from cli.proposal.ear import Ear
from cli.proposal.propose import READINGS, Proposal, Proposed, window_size
from gateway.config import Broker, Source

SHOWN = 3
"""Topics or series named as examples."""


class Settings(NamedTuple):
    """What was not heard but given."""

    name: str
    data: str
    broker: Broker
    seconds: float  # how long was listened


def configuration(proposal: Proposal, settings: Settings) -> str:
    """Write the gateway's file."""
    parts = [_head(settings), *(_source(one) for one in proposal.sources), _window(proposal), REST]
    return "\n".join(parts)


def _head(settings: Settings) -> str:
    broker = settings.broker
    given = {"url": broker.url, "username": broker.username}
    given |= {"password_file": broker.password_file, "ca_file": broker.ca_file}
    lines = [f"{key} = {_quoted(value)}" for key, value in given.items() if value]
    return HEAD.format(
        name=_quoted(settings.name),
        data=_quoted(settings.data),
        seconds=f"{settings.seconds:g}",
        url=_shown(broker.url),
        devices="\n".join(lines),
    )


HEAD = """\
# Proposed by `fieldgate gateway init` after {seconds} s at {url}: read it, change it, then
#     fieldgate gateway check FILE     says what is wrong with it
#     fieldgate gateway run FILE       runs it
# Every key is in docs/configuration.md.

name = {name}
data = {data}   # journal, checkpoints and spool; /var/lib/fieldgate for a service

[devices]
{devices}
"""


def _source(one: Proposed) -> str:
    source = one.source
    lines = [f"# {len(one.topics)} topics, {len(one.series)} series, a message every {_time(one.interval)}"]
    lines.append(f"#     {_some(one.series)}")
    lines += [f"# {_shown(remark)}" for remark in one.remarks]
    if one.source.format in NOTES:
        lines += [f"# {NOTES[source.format]}", f"# {_choice(one)}"]
    return "\n".join([*lines, "[[source]]", *_keys(source), ""])


NOTES = {
    "zigbee2mqtt": "last_seen is the event time, if zigbee2mqtt is told to send it.",
    "tasmota": "Arrival time stands in for local time; `Time 2` makes a device send its Epoch too.",
    "shelly": "Notifications bring their time; for what has none, arrival time stands in.",
}


def _choice(one: Proposed) -> str:
    path = one.series[0].rpartition("/")[2]
    return _shown(f"Every number is a series; to take some: values = {{{_quoted(path)} = {_quoted(path)}}}")


def _keys(source: Source) -> Iterator[str]:
    unset = Source(topic="")
    for key in ("topic", "format", "device", "measurement", "value", "time"):
        if (value := getattr(source, key)) != getattr(unset, key):
            yield f"{key} = {_quoted(value)}"
    if source.values:
        pairs = [f"{_quoted(name)} = {_quoted(path)}" for name, path in source.values.items()]
        yield f"values = {{{', '.join(pairs)}}}"


def _window(proposal: Proposal) -> str:
    paces = [
        f"# {_quoted(one.source.topic)}: {READINGS} readings take {_time(window_size(one.interval) * 10**9)}"
        for one in proposal.sources
    ]
    return "\n".join([*WINDOW, *(paces if len(paces) > 1 else []), "[[window]]", f'size = "{proposal.window_s}s"', ""])


WINDOW = [
    f"# Statistics of every series over windows of this size: about {READINGS} readings of the median topic.",
    '# Further [[window]]s may have a size of their own for some series: series = "*/temperature".',
]

REST = """\
# A detector that learns what is normal for each series, and alerts on what is not, once it has seen `warmup` windows.
# by = "device" takes all series of a device together.
[[score]]
by = "series"
# warmup = 360
# threshold = 3.5

# A fixed limit beside it.
# [[rule]]
# when = "value > 80 for 30s"
# series = "*/temperature"

# What is physically impossible is removed and counted.
# [[clean]]
# series = "*/humidity"
# min = 0.0
# max = 100.0

# The cloud: `fieldgate cloud run` prints these lines with a token.
# [uplink]
# url = "http://127.0.0.1:8480"
# token_file = "token"

# Its own /livez, /readyz and /metrics.
# [http]
# listen = "127.0.0.1:9273"
"""


def summary(proposal: Proposal, ear: Ear, settings: Settings) -> list[str]:
    """Say what was heard, what was made of it, and what was left out."""
    lines = [f"Heard {ear.messages:,} messages on {len(ear.topics):,} topics in {settings.seconds:g} s."]
    if ear.unheard:
        lines.append(f"{ear.unheard:,} messages were on still more topics, which were not looked at.")
    for one in proposal.sources:
        lines.append(f"  {_shown(one.source.topic)}  ({one.source.format}): {_counted(one)}")
        lines += [f"      {_some(one.series)}", *(f"      {_shown(remark)}" for remark in one.remarks)]
    if proposal.left_out:
        lines.append("Left out:")
    for reason, names in sorted(proposal.left_out.items(), key=lambda item: -len(item[1])):
        lines += [f"  {len(names)} topics: {reason}", f"      {_some(names)}"]
    if proposal.sources:
        lines.append(f"Windows of {_time(proposal.window_s * 10**9)}.")
    return lines


def _counted(one: Proposed) -> str:
    return f"{len(one.topics)} topics, {len(one.series)} series, a message every {_time(one.interval)}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(_shown(name) for name in names[:SHOWN]) + more


def _shown(text: str) -> str:
    """Make a stranger's text harmless in a comment and on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)[:120]


def _quoted(text: str) -> str:
    """Write a TOML string; JSON's is one but for DEL, which it leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _time(ns: int) -> str:
    return f"{ns / 1e9:.3g} s" if ns < 120 * 10**9 else f"{ns / 60e9:.3g} min"

"""How devices speak that name their measurements in every payload: zigbee2mqtt, Tasmota, Shelly. Pure.

What is about the device and not about what it measures is left out: identifiers, revisions, its radio, its memory, its
firmware, the same temperature in another unit. A dialect says so by keys, which it `skips` with all below them.

Event times: zigbee2mqtt's `last_seen`, if it is configured; Tasmota's `Epoch`, or its `Time` as a number or with an
offset, because a `Time` without one is the device's local time, whose zone nobody knows here; Shelly's `ts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Tree = Mapping[str, Any]
Opened = tuple[Any, Any]
"""What holds the numbers, and the event time as the device writes it (None: it has none)."""

_OFFSET = re.compile(r"(?:[Zz]|[+-]\d\d:?\d\d)\Z")


class Dialect(NamedTuple):
    """What one family of devices says, and where."""

    open: Callable[[Tree], Opened]
    skips: frozenset[str]  # keys, and topic levels, that hold no measurement
    ignored: frozenset[str]  # topic levels: what is said there is for somebody else
    nobody: frozenset[str]  # device levels that are no device
    unnamed: frozenset[str]  # topic levels that are no part of a measurement's name


def _zigbee2mqtt(tree: Tree) -> Opened:
    return tree, tree.get("last_seen")


def _tasmota(tree: Tree) -> Opened:
    status = tree.get("StatusSNS", tree.get("StatusSTS"))  # a status that was asked for
    tree = status if isinstance(status, dict) else tree
    time = tree.get("Epoch", tree.get("Time"))
    return tree, None if isinstance(time, str) and not _OFFSET.search(time) else time


def _shelly(tree: Tree) -> Opened:
    """From the second generation on frames have a sender; a status is a notification, all else is no measurement."""
    if "method" not in tree and "src" not in tree:
        return tree, None
    params = tree.get("params")
    if tree.get("method") not in ("NotifyStatus", "NotifyFullStatus") or not isinstance(params, dict):
        return {}, None
    return params, params.get("ts")


SPEECH: dict[str, Dialect] = {
    "zigbee2mqtt": Dialect(
        _zigbee2mqtt,
        skips=frozenset(("last_seen", "elapsed", "linkquality", "update", "update_available", "device")),
        ignored=frozenset(("availability", "set", "get")),
        nobody=frozenset(("bridge",)),
        unnamed=frozenset(),
    ),
    "tasmota": Dialect(
        _tasmota,
        skips=frozenset(
            ("Time", "Epoch", "Id", "Wifi", "Uptime", "UptimeSec", "Heap", "Sleep", "LoadAvg", "MqttCount", "Berry")
        ),
        ignored=frozenset(("LWT", "INFO1", "INFO2", "INFO3", "RESULT", "STATUS", "cmnd"))
        | {f"STATUS{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9)},
        nobody=frozenset(("discovery",)),
        unnamed=frozenset(("SENSOR", "STATE", "STATUS8", "STATUS10", "STATUS11")),
    ),
    "shelly": Dialect(
        _shelly,
        skips=frozenset(("id", "ts", "minute_ts", "on_time_rst_ts", "switch_on_rst_ts", "on_above_thr_rst_ts"))
        | {"tF", "temperature_f", "sys", "wifi", "eth", "ble", "cloud", "mqtt", "ws", "matter"},
        ignored=frozenset(("online", "announce", "info", "command")),
        nobody=frozenset(("announce", "command")),
        unnamed=frozenset(("events", "rpc", "status")),
    ),
}
"""By the format of a [[source]]."""

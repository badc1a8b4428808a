"""What simulated devices say in other dialects, message by message, and that the gateway understands it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.devices import Devices
from cli.speech import SPEAK
from gateway.config import DIALECTS, Source
from gateway.decode import Decode
from gateway.records import Arrivals, SeriesTable, no_recent

S = 10**9
START = 1_750_000_000 * S
TABLES = {"room_temperature": [20.5, 21.5], "power": [100.0, 300.0]}


def devices(dialect: str, first: int = 1) -> Devices:
    return Devices(4, 2.0, TABLES, topic="unused", start=START, name="d", first=first, dialect=dialect)


def said(dialect: str, count: int) -> list[tuple[str, Any]]:
    messages = [devices(dialect).message(k) for k in range(count)]
    return [(topic, json.loads(payload) if payload != b"on" else "on") for topic, payload in messages]


MESSAGES: dict[str, list[tuple[str, Any]]] = {
    "zigbee2mqtt": [
        (
            "zigbee2mqtt/d-1",
            {
                "battery": 100,
                "room_temperature": 20.5,
                "last_seen": "2025-06-15T15:06:40.000Z",
                "linkquality": 81,
                "voltage": 3000,
            },
        ),
        (
            "zigbee2mqtt/d-2",
            {
                "battery": 99,
                "power": 100.0,
                "last_seen": "2025-06-15T15:06:40.125Z",
                "linkquality": 81,
                "voltage": 2999,
            },
        ),
    ],
    "tasmota": [
        (
            "tele/d-1/SENSOR",
            {"Time": "2025-06-15T15:06:40", "DS18B20": {"Id": "011300000000", "Temperature": 20.5}, "TempUnit": "C"},
        ),
        (
            "tele/d-2/SENSOR",
            {
                "Time": "2025-06-15T15:06:40",
                "ENERGY": {"TotalStartTime": "2025-01-15T04:12:42", "Total": 0.001, "Power": 100.0, "Voltage": 229},
            },
        ),
    ],
    "shelly": [
        ("shellies/d-1/sensor/battery", 99),
        (
            "d-2/events/rpc",
            {
                "src": "d-2",
                "dst": "d-2/events",
                "method": "NotifyStatus",
                "params": {
                    "ts": 1750000000.12,
                    "switch:0": {
                        "id": 0,
                        "apower": 100.0,
                        "aenergy": {"total": 0.1, "by_minute": [0.0, 0.0, 0.0], "minute_ts": 1750000000 // 60 * 60},
                    },
                },
            },
        ),
    ],
}


def test_every_dialect_is_spoken() -> None:
    assert tuple(SPEAK) == DIALECTS == tuple(MESSAGES)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_devices_speak_their_dialect(dialect: str) -> None:
    assert said(dialect, 2) == MESSAGES[dialect]


def test_every_tenth_time_tasmota_says_its_own_state() -> None:
    topics = [topic for topic, _ in said("tasmota", 48)]
    assert [turn for turn in range(12) if topics[4 * turn] == "tele/d-1/STATE"] == [9]


def test_a_first_shelly_has_a_topic_for_each_number_and_text_for_its_relay() -> None:
    speaking = Devices(3, 2.0, {"power": [100.0]}, topic="unused", start=START, name="p", dialect="shelly")
    assert [speaking.message(3 * turn) for turn in range(3)] == [
        ("shellies/p-1/relay/0/energy", b"7"),
        ("shellies/p-1/relay/0", b"on"),
        ("shellies/p-1/relay/0/power", b"100.0"),
    ]


@pytest.mark.parametrize(
    ("dialect", "topics", "series"),
    [
        (
            "zigbee2mqtt",
            ["zigbee2mqtt/{device}"],
            {f"d-{n}/{m}" for n in (1, 2, 3, 4) for m in ("battery", "voltage")}
            | {"d-1/room_temperature", "d-2/power", "d-3/room_temperature", "d-4/power"},
        ),
        (
            "tasmota",
            ["tele/{device}/+"],
            {f"d-{n}/DS18B20.Temperature" for n in (1, 3)}
            | {f"d-{n}/ENERGY.{m}" for n in (2, 4) for m in ("Total", "Power", "Voltage")},
        ),
        (
            "shelly",
            ["{device}/events/rpc", "shellies/{device}/#"],
            {f"d-{n}/sensor.{m}" for n in (1, 3) for m in ("temperature", "battery")}
            | {f"d-{n}/switch:0.{m}" for n in (2, 4) for m in ("apower", "aenergy.total")},
        ),
    ],
    ids=DIALECTS,
)
def test_the_gateway_understands_all_of_it(dialect: Any, topics: list[str], series: set[str]) -> None:
    decode = Decode([Source(topic=topic, format=dialect) for topic in topics], SeriesTable(), no_recent(), 1)
    messages = [devices(dialect).message(k) for k in range(100)]
    heard, payloads = [topic for topic, _ in messages], [payload for _, payload in messages]
    decoded = decode.feed(Arrivals(heard, payloads, [], range(0), None, 1), START + 50 * S)
    assert (set(decoded.names), decoded.tally.decoded) == (series, 100)

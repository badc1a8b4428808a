"""What is proposed for what was heard, as tables: shapes, looks, dialects, and the file itself."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.proposal import Ear, Proposal, Settings, configuration, propose, summary
from cli.proposal import ear as bounds
from cli.proposal.ear import Sample
from cli.proposal.looks import NOWHERE, Look, look
from cli.proposal.propose import window_size
from cli.proposal.shapes import Shape, part, shape
from gateway import config
from gateway.config import Broker, Source
from gateway.decode import Decode
from gateway.records import Arrivals, SeriesTable, no_recent

S = 10**9
NOW = 1_750_000_000 * S
SETTINGS = Settings("barn", "/data", Broker(url="mqtt://broker:1883"), 30)


def as_bytes(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def heard(*messages: tuple[str, Any], every: int = S) -> Ear:
    """Each message comes twice, `every` ns apart."""
    ear = Ear()
    for turn in range(2):
        for topic, payload in messages:
            ear.hear(topic, as_bytes(payload), False, NOW + turn * every)
    return ear


def proposed(*messages: tuple[str, Any]) -> Proposal:
    return propose(heard(*messages), 30 * S)


def read_back(proposal: Proposal) -> config.GatewayConfig:
    return config.parse(configuration(proposal, SETTINGS))


SHAPES = [
    ("one topic", ["sensors/d1/temperature"], True, "sensors/{device}/{measurement}"),
    ("devices and quantities", ["s/d1/t", "s/d2/h", "s/d1/h"], True, "s/{device}/{measurement}"),
    ("a level between", ["plant/press1/a/t", "plant/press2/a/t"], True, "plant/{device}/a/{measurement}"),
    ("unique devices on lines", ["x/l1/p1/t", "x/l1/p2/t", "x/l2/p3/t"], True, "x/+/{device}/{measurement}"),
    ("the same names on two lines", ["x/l1/p1/t", "x/l2/p1/t"], True, "x/{device}/p1/{measurement}"),
    ("rooms on floors", [f"h/f{f}/{r}/t" for f in (1, 2) for r in "ab"], True, "h/{device}/{device}/{measurement}"),
    (
        "a general word at the end",
        ["n1/sensor/temp/state", "n1/sensor/co/state"],
        True,
        "{device}/sensor/{measurement}/state",
    ),
    ("the quantity first", ["temperature/kitchen", "humidity/cellar"], True, "{measurement}/{device}"),
    ("two levels", ["a/t"], True, "{device}/{measurement}"),
    ("one value of a device", ["sensors/kitchen", "sensors/cellar"], True, "sensors/{device}"),
    ("one level", ["lamp"], True, "{device}"),
    ("several values of a device", ["sensors/kitchen", "sensors/cellar"], False, "sensors/{device}"),
    ("several values under a general word", ["home/kitchen/env"], False, "home/{device}/env"),
    ("several values of parts of devices", [f"p/{d}/{m}" for d in "ab" for m in "xy"], False, "p/{device}/{device}"),
    ("a level that no template can hold", ["{odd}/d1/t", "{odd}/d2/t"], True, "+/{device}/{measurement}"),
]


@pytest.mark.parametrize(("topics", "one", "topic"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_topics_have_a_shape(topics: list[str], one: bool, topic: str) -> None:
    found = shape([name.split("/") for name in topics], one)
    assert found == Shape(topic, measurement="value" if one and "{measurement}" not in topic else "")


@pytest.mark.parametrize(
    ("topics", "groups"),
    [
        (["sensors/d1/t", "weather/roof/rain"], [["sensors/d1/t"], ["weather/roof/rain"]]),
        (["d1/t", "d2/t", "d3/h"], [["d1/t", "d2/t", "d3/h"]]),
        (["a/t", "b/h"], [["a/t"], ["b/h"]]),
        (["a", "b"], [["a", "b"]]),
    ],
    ids=["roots", "devices", "unlike devices", "one level"],
)
def test_topics_are_parted_by_their_first_level_unless_it_is_a_device(
    topics: list[str], groups: list[list[str]]
) -> None:
    found = part([name.split("/") for name in topics])
    assert [["/".join(levels) for levels in group] for group in found] == groups


def iso(ns: int) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415 - for this one

    return datetime.fromtimestamp(ns // S, UTC).isoformat().replace("+00:00", "Z")


LOOKS = [
    ("a number", [b"21.5"], Look("number")),
    ("our own", [{"time": NOW, "value": 1, "n": 3}], Look("json", ("value",), "value", "time", aside=("n",))),
    ("several", [{"t": 1, "in": {"h": 2}}], Look("json", ("t", "in.h"))),
    ("a time as text", [{"ts": iso(NOW), "x": 1}], Look("json", ("x",), time="ts", texts=frozenset(("ts",)))),
    ("a nested time", [{"meta": {"at": NOW // S}, "x": 1}], Look("json", ("x",), time="meta.at")),
    ("a temperature called t", [{"t": 21.5, "h": 3}], Look("json", ("t", "h"))),
    (
        "local time",
        [{"time": iso(NOW + 7200 * S), "x": 1}],
        Look("json", ("x",), time=NOWHERE, texts=frozenset(("time",))),
    ),
    ("no clock", [{"time": 12, "x": 1}], Look("json", ("x",), time=NOWHERE, aside=("time",))),
    ("sometimes text", [{"x": 1, "y": 1}, {"x": "NaN", "y": 2}], Look("json", ("y",), texts=frozenset(("x",)))),
    ("null and lists", [{"x": None, "y": [1], "z": True}], Look("json", ("z",), texts=frozenset(("y",)))),
    ("names with dots", [{"a.b": 1, "c": 2}], Look("json", ("c",))),
    ("msgpack", [msgspec.msgpack.encode({"value": 1})], Look("msgpack", ("value",), "value")),
    ("text", [b"ON"], Look("", why="text, and no number")),
    ("a list", [b"[1]"], Look("", why="text, and no number")),
    ("numbers and maps", [b"1", b'{"x":1}'], Look("", why="messages of different kinds under one topic")),
    ("no number", [{"x": "y"}], Look("", texts=frozenset(("x",)), why="no number in it")),
    ("nothing", [], Look("", why="empty or larger than 8 KiB")),
]


@pytest.mark.parametrize(("payloads", "expected"), [row[1:] for row in LOOKS], ids=[row[0] for row in LOOKS])
def test_messages_have_a_look(payloads: list[Any], expected: Look) -> None:
    assert look([Sample(NOW, False, as_bytes(payload)) for payload in payloads]) == expected


def test_an_old_time_is_believed_of_a_message_that_the_broker_kept() -> None:
    payload = as_bytes({"time": NOW // S - 10 * 86_400, "x": 1})
    assert [look([Sample(NOW, kept, payload)]).time for kept in (True, False)] == ["time", NOWHERE]


Z = {"temperature": 21.5, "linkquality": 90}
T = {"Time": "2025-06-15T15:06:40", "ENERGY": {"Power": 3}}
NOTIFY = {"src": "x", "dst": "y", "method": "NotifyStatus", "params": {"ts": NOW / S, "switch:0": {"apower": 1.5}}}
STATUS = {"id": 0, "apower": 1.5}

PROPOSALS = [
    (
        "zigbee2mqtt with its bridge",
        [
            ("zigbee2mqtt/cellar", Z),
            ("zigbee2mqtt/attic", {"humidity": 40}),
            ("zigbee2mqtt/bridge/state", {"state": "online"}),
            ("zigbee2mqtt/cellar/availability", {"state": "online"}),
        ],
        [("zigbee2mqtt/{device}", "zigbee2mqtt", ["cellar/temperature", "attic/humidity"])],
        {"zigbee2mqtt's bridge, availability and commands measure nothing": 2},
    ),
    (
        "zigbee2mqtt elsewhere, with names of one and two levels",
        [("home/zb/lamp", Z), ("home/zb/kitchen/lamp", Z), ("home/zb/kitchen/lamp/set", {"brightness": 3})],
        [
            ("home/zb/{device}", "zigbee2mqtt", ["lamp/temperature"]),
            ("home/zb/{device}/{device}", "zigbee2mqtt", ["kitchen.lamp/temperature"]),
        ],
        {"zigbee2mqtt's bridge, availability and commands measure nothing": 1},
    ),
    (
        "zigbee2mqtt that repeats every attribute under a topic of its own",
        [
            ("zigbee2mqtt/cellar", Z),
            ("zigbee2mqtt/cellar/temperature", b"21.5"),
            ("zigbee2mqtt/cellar/duration", {"a": 1}),
        ],
        [("zigbee2mqtt/{device}", "zigbee2mqtt", ["cellar/temperature"])],
        {"zigbee2mqtt's bridge, availability and commands measure nothing": 2},
    ),
    (
        "topics that are an exception to a template come before it",
        [("s/d1/t", b"1"), ("s/d2/t", b"1"), ("s/d1/state", {"a": 1, "b": 2})],
        [("s/{device}/state", "json", ["d1/a", "d1/b"]), ("s/{device}/{measurement}", "number", ["d1/t", "d2/t"])],
        {},
    ),
    (
        "tasmota with all that it says besides",
        [
            ("tele/plug/SENSOR", T),
            ("tele/plug/STATE", {"Time": "2025-06-15T15:06:40", "Heap": 26}),
            ("tele/plug/LWT", b"Online"),
            ("stat/plug/POWER", b"ON"),
            ("cmnd/plug/TelePeriod", b"10"),
            ("tasmota/discovery/AABB/config", {"ip": "10.0.0.3", "ver": 1}),
        ],
        [("tele/{device}/SENSOR", "tasmota", ["plug/ENERGY.Power"])],
        {
            "Tasmota's own health, answers and commands are no measurements": 4,
            "they describe devices for Home Assistant": 1,
        },
    ),
    (
        "tasmota with the device in front",
        [
            ("tasmota/plug/tele/SENSOR", T),
            ("tasmota/pump/tele/SENSOR", T),
            ("tasmota/pump/stat/RESULT", {"POWER": "ON"}),
        ],
        [("tasmota/{device}/tele/SENSOR", "tasmota", ["plug/ENERGY.Power", "pump/ENERGY.Power"])],
        {"Tasmota's own health, answers and commands are no measurements": 1},
    ),
    (
        "shelly of both generations",
        [
            ("shellies/plug-1/relay/0/power", b"3.5"),
            ("shellies/plug-1/relay/0", b"on"),
            ("shellies/announce", {"id": "plug-1", "new_fw": False}),
            ("shellyplus-2/events/rpc", NOTIFY),
            ("shellyplus-2/status/switch:0", STATUS),
            ("shellyplus-2/online", b"true"),
            ("hall/shellyplus-3/status/switch:0", STATUS),
        ],
        [
            ("{device}/events/rpc", "shelly", ["shellyplus-2/switch:0.apower"]),
            ("shellies/{device}/#", "shelly", ["plug-1/relay.0.power"]),
            ("hall/{device}/status/#", "shelly", ["shellyplus-3/switch:0.apower"]),
        ],
        {"no number in it": 2, "Shelly's presence and commands measure nothing, and status repeats events/rpc": 2},
    ),
    (
        "our own JSON and numbers",
        [
            ("s/d1/t", {"time": NOW, "value": 1, "n": 2}),
            ("s/d2/h", {"time": NOW, "value": 1, "n": 2}),
            ("x/d1/co2", b"400"),
        ],
        [("s/{device}/{measurement}", "json", ["d1/t", "d2/h"]), ("x/{device}/{measurement}", "number", ["d1/co2"])],
        {},
    ),
    (
        "several fields, not the same of every device",
        [("w/roof", {"wind": 3, "air": {"t": 1}}), ("w/yard", {"soil": {"t": 2}, "state": "ok"})],
        [("w/{device}", "json", ["roof/wind", "roof/air.t", "yard/soil.t"])],
        {},
    ),
    (
        "msgpack",
        [("m/d/t", msgspec.msgpack.encode({"value": 1.5}))],
        [("m/{device}/{measurement}", "msgpack", ["d/t"])],
        {},
    ),
    (
        "a field that is a map elsewhere",
        [("w/a", {"x": 1, "y": 1}), ("w/b", {"x": {"z": 1}, "y": 2})],
        [("w/{device}", "json", ["a/y", "b/y"])],
        {},
    ),
    (
        "only texts",
        [("s/d/state", b"ON"), ("fieldgate/v1/g/status", b"1")],
        [],
        {"text, and no number": 1, "Fieldgate's own": 1},
    ),
    (
        "a name that cannot be a series",
        [("s/d1/t", b"1"), ("s//t", b"1")],
        [("s/{device}/{measurement}", "number", ["d1/t"])],
        {"their names cannot name a series": 1},
    ),
]


@pytest.mark.parametrize(
    ("messages", "sources", "left_out"), [row[1:] for row in PROPOSALS], ids=[row[0] for row in PROPOSALS]
)
def test_a_configuration_is_proposed_that_reads_what_was_heard(
    messages: list[tuple[str, Any]], sources: list[tuple[str, str, list[str]]], left_out: dict[str, int]
) -> None:
    proposal = proposed(*messages)
    found = [(one.source.topic, one.source.format, one.series) for one in proposal.sources]
    assert found == sources
    assert {reason: len(names) for reason, names in proposal.left_out.items()} == left_out
    if sources:
        assert read_back(proposal).source == tuple(one.source for one in proposal.sources)


def test_two_topics_of_one_series_are_warned_of() -> None:
    proposal = proposed(("s/d1/t", b"1"), ("s/d2/t", b"1"), ("weather/d1/t/x", b"1"), ("a/d1/t", {"value": 1}))
    remarks = {one.source.topic: one.remarks for one in proposal.sources}
    assert remarks["s/{device}/{measurement}"] == ("MIXED with other topics' readings: d1/t",)
    assert "MIXED with other topics' readings: d1/t" in configuration(proposal, SETTINGS)


@pytest.mark.parametrize(
    ("interval", "size"),
    [
        (S // 1000, 1),
        (S // 10, 1),
        (S // 5, 2),
        (S, 10),
        (round(1.04 * S), 10),
        (2 * S, 30),
        (300 * S, 3600),
        (86_400 * S, 86_400),
    ],
)
def test_a_window_holds_about_ten_readings(interval: int, size: int) -> None:
    assert window_size(interval) == size


def test_the_median_topic_sets_the_window() -> None:
    ear = Ear()
    for name, every in (("s/a/t", 1), ("s/b/t", 30), ("s/c/t", 3000)):
        for turn in range(3):
            ear.hear(name, b"1", False, NOW + turn * every * S)
    assert propose(ear, 30 * S).window_s == 300


def test_a_message_that_the_broker_kept_says_nothing_of_the_pace() -> None:
    ear = Ear()
    ear.hear("s/a/t", b"1", True, NOW)
    for turn in range(3):
        ear.hear("s/a/t", b"1", False, NOW + (5 + turn) * S)
    assert (ear.topics["s/a/t"].interval, propose(ear, 30 * S).sources[0].interval) == (S, S)


def test_the_ear_is_bounded_and_counts_what_it_does_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_TOPICS", 3)
    ear = Ear()
    for number in range(5):
        for _ in range(bounds.SAMPLES + 2):
            ear.hear(f"s/{number}", b"1", False, NOW)
    assert (list(ear.topics), ear.messages, ear.unheard) == (["s/0", "s/1", "s/2"], 35, 14)
    assert [len(topic.samples) for topic in ear.topics.values()] == [bounds.SAMPLES] * 3
    ear.hear("s/0", b"1" * (bounds.MAX_SAMPLE + 1), False, NOW)
    assert ear.topics["s/0"].large


def test_the_bytes_of_all_messages_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_BYTES", 1000)
    ear = Ear()
    for number in range(100):
        ear.hear(f"s/{number}", b"x" * 300, False, NOW)
    assert (len(ear.topics), ear.unheard) == (4, 96)


def test_the_file_says_all_that_was_given_and_every_part_of_it_can_be_read() -> None:
    broker = Broker(url="mqtts://b:8883", username="u", password_file="/etc/p", ca_file="/etc/ca.pem")
    text = configuration(proposed(("s/d1/t", b"1")), Settings("barn", '/da"ta\\/\x7f', broker, 5))
    read = config.parse(text)
    assert (read.name, read.data, read.devices) == ("barn", '/da"ta\\/\x7f', broker)
    assert read.source == (Source(topic="s/{device}/{measurement}", format="number"),)
    assert (int(read.window[0].size), len(read.window), len(read.score)) == (10 * S, 1, 1)
    with_options = "\n".join(
        line[2:] if line.startswith(("# [", "# when", "# series", "# m", "# url", "# token", "# listen")) else line
        for line in text.split("\n")
    )
    both = config.parse(with_options)
    assert (both.uplink.url, both.http.listen, len(both.rule), both.clean[0].max) == (
        "http://127.0.0.1:8480",
        "127.0.0.1:9273",
        1,
        100.0,
    )


def test_the_summary_tells_what_was_heard_and_what_was_left_out() -> None:
    ear = heard(("s/d1/t", b"1"), ("s/d2/t", b"1"), ("s/d1/state", b"ON"))
    assert summary(propose(ear, 30 * S), ear, SETTINGS) == [
        "Heard 6 messages on 3 topics in 30 s.",
        "  s/{device}/{measurement}  (number): 2 topics, 2 series, a message every 1 s",
        "      d1/t, d2/t",
        "Left out:",
        "  1 topics: text, and no number",
        "      s/d1/state",
        "Windows of 10 s.",
    ]


def test_a_stranger_s_name_cannot_end_a_line() -> None:
    evil = 's/d\n[uplink]\nurl = "http://evil"\x7f\x1b[2J/t'
    ear = heard((evil, b"1"), ("s/e/t", b"1"), ('s/e/"q\x7f"', {"a\n[b]": 1, 'c"]': 2, "d\x7f": 3, "e] #": 4, "f": 5}))
    proposal = propose(ear, 30 * S)
    read = read_back(proposal)
    assert (read.uplink.url, {source.format for source in read.source}) == ("", {"number", "json"})
    assert all(character.isprintable() for line in summary(proposal, ear, SETTINGS) for character in line)


LEVELS = st.sampled_from(
    ["a", "b", "temperature", "state", "sensor", "tele", "status", "SENSOR", "", "{x}", "é", "zigbee2mqtt"]
)
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
PAYLOADS = st.sampled_from(
    [b"", b"1.5", b"on", b"{}", b'{"value":1}', b'{"a":1,"b":{"c":2}}', b'{"a":{"b":1}}', b'{"b":"x","a":2,"time":"y"}']
    + [json.dumps(payload).encode() for payload in (Z, T, NOTIFY, STATUS, {"time": {"x": 1}}, {"ts": NOW // S, "q": 1})]
    + [msgspec.msgpack.encode({"value": 1})]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TOPICS, PAYLOADS), min_size=1, max_size=8))
def test_every_topic_is_read_as_promised_or_left_out(messages: list[tuple[str, bytes]]) -> None:
    ear = heard(*messages)
    proposal = propose(ear, 30 * S)
    topics = [name for one in proposal.sources for name in one.topics]
    assert sorted([*topics, *(name for names in proposal.left_out.values() for name in names)]) == sorted(ear.topics)
    if not proposal.sources:
        return
    sources = read_back(proposal).source
    assert sources == tuple(one.source for one in proposal.sources)
    decode = Decode(sources, SeriesTable(), no_recent(), 1)
    read = {
        name
        for topic in topics
        for payload in (sample.payload for sample in ear.topics[topic].samples)
        for name in decode.feed(Arrivals([topic], [payload], [], range(0), None, 1), NOW).names
    }
    assert read == {series for one in proposal.sources for series in one.series}

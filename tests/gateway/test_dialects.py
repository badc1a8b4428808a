"""What zigbee2mqtt, Tasmota and Shelly devices say, as tables of golden payloads, and what is no such thing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config
from gateway.config import DIALECTS, Source
from gateway.decode import MAX_NAME, MAX_PAYLOAD, Decode
from gateway.decode.dialects import SPEECH
from gateway.decode.discover import EARLIEST, MAX_DEPTH, MAX_LEAVES
from gateway.records import Arrivals, Decoded, SeriesTable, Tally, no_recent
from protocol.errors import ConfigurationRefused

S = 10**9
NOW = 1_750_000_000 * S
GOLDEN = Path(__file__).parents[1] / "golden" / "dialects"
CASES = [(dialect, case) for dialect in DIALECTS for case in json.loads((GOLDEN / f"{dialect}.json").read_text())]

Z = Source(topic="zigbee2mqtt/{device}", format="zigbee2mqtt")
T = Source(topic="tele/{device}/SENSOR", format="tasmota")
G1 = Source(topic="shellies/{device}/#", format="shelly")


def feed(source: Source | list[Source], *messages: tuple[str, bytes], limit: int = 1000) -> tuple[Decode, Decoded]:
    decode = Decode(source if isinstance(source, list) else [source], SeriesTable(limit=limit), no_recent(), 8)
    topics, payloads = [topic for topic, _ in messages], [payload for _, payload in messages]
    return decode, decode.feed(Arrivals(topics, payloads, [], range(0), None, 1), NOW)


def rows(decoded: Decoded) -> list[tuple[str, int, float]]:
    columns = decoded.readings.series.tolist(), decoded.readings.time.tolist(), decoded.readings.value.tolist()
    return [(decoded.names[series], time, value) for series, time, value in zip(*columns, strict=True)]


def as_bytes(payload: Any) -> bytes:
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()


@pytest.mark.parametrize(("dialect", "case"), CASES, ids=[f"{dialect}: {case['what']}" for dialect, case in CASES])
def test_a_golden_payload_becomes_readings(dialect: Any, case: dict[str, Any]) -> None:
    source = Source(topic=case["topic"], format=dialect, values=case.get("values", {}))
    _, decoded = feed(source, (case["heard"], as_bytes(case["payload"])))
    time = NOW if case["time"] is None else case["time"]
    assert rows(decoded) == [(name, time, value) for name, value in case["readings"].items()]
    assert decoded.tally == Tally(messages=1, decoded=1)


def test_formats_are_dialects_and_dialects_are_formats() -> None:
    assert tuple(SPEECH) == DIALECTS


BAD = [
    (Z, "zigbee2mqtt/a", b"", "json"),
    (Z, "zigbee2mqtt/a", b"online", "json"),
    (Z, "zigbee2mqtt/a", b'{"temperature":', "json"),
    (Z, "zigbee2mqtt/a", b'{"temperature":NaN}', "json"),
    (Z, "zigbee2mqtt/a", b'{"t":1,"x":"\xff"}', "json"),
    (Z, "zigbee2mqtt/a", b'{"\\ud800":1}', "json"),
    (Z, "zigbee2mqtt/a", b"21.5", "type"),
    (Z, "zigbee2mqtt/a", b'["temperature"]', "type"),
    (Z, "zigbee2mqtt/a", b'{"temperature":1e999}', "type"),
    (Z, "zigbee2mqtt/a", b'{"temperature":' + b"9" * 400 + b"}", "type"),
    (Z, "zigbee2mqtt/a", b'{"t":1,"last_seen":"yesterday"}', "time"),
    (Z, "zigbee2mqtt/a", b'{"t":1,"last_seen":{}}', "time"),
    (Z, "zigbee2mqtt/a", b'{"t":1,"last_seen":true}', "time"),
    (Z, "zigbee2mqtt/a", b'{"t":1,"last_seen":-4}', "time"),
    (Z, "zigbee2mqtt/a", b'{"x":' * MAX_DEPTH + b'{"x":1}' + b"}" * MAX_DEPTH, "depth"),
    (Z, "zigbee2mqtt/a", b'{"x":' + b"[" * 50_000, "depth"),
    (Z, "zigbee2mqtt/a", json.dumps({f"k{n}": n for n in range(MAX_LEAVES + 1)}).encode(), "leaves"),
    (Z, "zigbee2mqtt/a", b'{"t":1}' + b" " * MAX_PAYLOAD, "too_large"),
    (T, "tele/a/SENSOR", b'{"Time":"2025', "json"),
    (T, "tele/a/SENSOR", b'{"Epoch":[1],"ENERGY":{"Power":1}}', "time"),
    (G1, "shellies/a/relay/0", b'{"ison":tru', "json"),
    (G1, "shellies/a/input_event/0", b"[1,", "json"),
    (Z, "zigbee2mqtt//", b'{"t":1}', "topic"),
]


@pytest.mark.parametrize(
    ("source", "topic", "payload", "cause"), BAD, ids=[f"{cause}-{payload[:24]!r}" for _, _, payload, cause in BAD]
)
def test_a_bad_payload_costs_itself_only(source: Source, topic: str, payload: bytes, cause: str) -> None:
    good = {"zigbee2mqtt": "zigbee2mqtt/{}", "tasmota": "tele/{}/SENSOR", "shelly": "shellies/{}/x"}[source.format]
    decode, decoded = feed(
        source, (good.format("b"), b'{"v":1}'), (topic, payload), (good.format("c"), b'{"v":2}'), (topic, payload)
    )
    assert [name.split("/")[0] for name in decoded.names] == ["b", "c"]
    assert decoded.readings.value.tolist() == [1.0, 2.0]
    assert decoded.tally == Tally(messages=4, decoded=2, dead={cause: 2})
    assert [letter.payload for letter in decode.dead_letters] == [payload[:1024]] * 2


def test_the_bounds_themselves_are_allowed() -> None:
    deepest = b'{"x":' * (MAX_DEPTH - 1) + b'{"x":1}' + b"}" * (MAX_DEPTH - 1)
    most = json.dumps({f"k{n}": n for n in range(MAX_LEAVES)}).encode()
    _, decoded = feed(Z, ("zigbee2mqtt/a", deepest), ("zigbee2mqtt/b", most))
    assert (decoded.tally, decoded.readings.rows) == (Tally(messages=2, decoded=2), 1 + MAX_LEAVES)
    assert decoded.names[0] == "a/" + ".".join("x" * MAX_DEPTH)


def test_numbers_beyond_the_bound_count_only_where_they_are_wanted() -> None:
    many = json.dumps({f"k{n}": n for n in range(MAX_LEAVES + 1)}).encode()
    _, decoded = feed(
        Source(topic=Z.topic, format=Z.format, values={"last": f"k{MAX_LEAVES}"}), ("zigbee2mqtt/a", many)
    )
    assert rows(decoded) == [("a/last", NOW, float(MAX_LEAVES))]


def test_a_name_that_cannot_be_one_costs_its_reading_only() -> None:
    payload = json.dumps({"": 1, "é" * (MAX_NAME // 2): 2, "a/b": 3, "t": 4}).encode()
    _, decoded = feed(Z, ("zigbee2mqtt/d", payload))
    assert rows(decoded) == [("d/a.b", NOW, 3.0), ("d/t", NOW, 4.0)]
    assert decoded.tally == Tally(messages=1, decoded=1, refused={"name": 2})


def test_of_two_numbers_of_one_name_the_first_wins() -> None:
    _, decoded = feed(Z, ("zigbee2mqtt/d", b'{"a":{"b":1},"a.b":2}'))
    assert rows(decoded) == [("d/a.b", NOW, 1.0)]


def test_series_beyond_the_limit_are_refused_and_the_others_go_on() -> None:
    _, decoded = feed(Z, ("zigbee2mqtt/a", b'{"t":1,"h":2}'), ("zigbee2mqtt/a", b'{"t":3,"p":4}'), limit=1)
    assert rows(decoded) == [("a/t", NOW, 1.0), ("a/t", NOW + 1, 3.0)]
    assert decoded.tally == Tally(messages=2, decoded=2, refused={"series_limit": 2})


def test_the_readings_of_a_message_share_its_stamp_and_those_of_another_do_not() -> None:
    _, decoded = feed(T, *[("tele/a/SENSOR", b'{"ENERGY":{"Power":1,"Voltage":2}}')] * 2)
    assert [time for _, time, _ in rows(decoded)] == [NOW, NOW, NOW + 1, NOW + 1]


@pytest.mark.parametrize(("time", "stamp"), [(EARLIEST // S, EARLIEST), (EARLIEST // S - 1, NOW), (0, NOW)])
def test_a_clock_that_was_never_set_is_not_believed(time: int, stamp: int) -> None:
    _, decoded = feed(T, ("tele/a/SENSOR", b'{"Epoch":%d,"ENERGY":{"Power":1}}' % time))
    assert rows(decoded) == [("a/ENERGY.Power", stamp, 1.0)]


def test_dialects_and_other_formats_share_a_batch() -> None:
    number = Source(topic="n/{device}/{measurement}", format="number")
    _, decoded = feed(
        [Z, number, G1],
        *[("n/a/t", b"1"), ("zigbee2mqtt/b", b'{"t":2}'), ("shellies/c/sensor/humidity", b"3"), ("n/a/t", b"4")],
        *[("shellies/announce", b'{"id":"c"}'), ("x/y", b"5"), ("zigbee2mqtt/b", b"broken")],
    )
    assert sorted((name, value) for name, _, value in rows(decoded)) == [
        ("a/t", 1.0),
        ("a/t", 4.0),
        ("b/t", 2.0),
        ("c/sensor.humidity", 3.0),
    ]
    assert decoded.tally == Tally(messages=7, decoded=5, dead={"topic": 1, "json": 1})


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('value = "temperature"', "source[0].value"),
        ('time = "at"', "source[0].time"),
        ('time_unit = "ms"', "source[0].time_unit"),
        ('values = {a = "x", b = "x"}', "source[0].values"),
    ],
)
def test_what_a_dialect_knows_by_itself_is_refused(line: str, key: str) -> None:
    text = 'name = "g"\ndata = "d"\n[[source]]\ntopic = "zigbee2mqtt/{device}"\nformat = "zigbee2mqtt"\n'
    assert config.parse(text).source[0].format == "zigbee2mqtt"
    with pytest.raises(ConfigurationRefused) as refused:
        config.parse(text + line)
    assert refused.value.key == key


def trees(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    leaves = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
    return st.recursive(
        st.none() | leaves,
        lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=4),
        max_leaves=12,
    )


def numbers_of(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], float]:
    """Every number, and the path to it."""
    if isinstance(tree, dict):
        return {found: value for key, below in tree.items() for found, value in numbers_of(below, (*path, key)).items()}
    return {path: float(tree)} if isinstance(tree, int | float) else {}


@given(
    st.lists(
        st.binary(max_size=40) | trees(st.text(max_size=4)).map(lambda tree: json.dumps(tree).encode()), max_size=8
    )
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_and_the_accounting_closes(payloads: list[bytes]) -> None:
    messages = [
        (topic, payload) for payload in payloads for topic in ("zigbee2mqtt/a", "tele/a/SENSOR", "shellies/a/b")
    ]
    _, decoded = feed([Z, T, G1], *messages)
    tally = decoded.tally
    assert tally.messages == len(messages) == tally.decoded + sum(tally.dead.values())


@given(st.dictionaries(st.sampled_from("abc"), trees(st.sampled_from("abc")), max_size=3))
@settings(max_examples=200, deadline=None)
def test_every_number_is_a_reading_and_nothing_else_is(tree: dict[str, Any]) -> None:
    _, decoded = feed(Z, ("zigbee2mqtt/a", json.dumps(tree).encode()))
    wanted = {f"a/{'.'.join(path)}": value for path, value in numbers_of(tree).items() if len(path) <= MAX_DEPTH}
    assert {name: value for name, _, value in rows(decoded)} == wanted or decoded.tally.dead == {"depth": 1}

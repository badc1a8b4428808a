from __future__ import annotations

import json
import math
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Source
from gateway.decode import MAX_NAME, MAX_PAYLOAD, Decode, letters, routes
from gateway.decode.routes import Template
from gateway.decode.stamps import ABSENT, LATEST, UNREADABLE, Unit, read_times
from gateway.records import Arrivals, Decoded, Recent, SeriesTable, Tally, no_recent

S = 10**9
NOW = 1_700_000_000 * S
TOPIC = "sensors/{device}/{measurement}"


def make(*sources: Source, limit: int = 100, recent: Recent | None = None, memory: int = 8) -> Decode:
    return Decode(sources or [Source(topic=TOPIC)], SeriesTable(limit=limit), recent or no_recent(), memory)


def arrive(*messages: tuple[str, bytes], ids: tuple[int, ...] = (), dup: list[bool] | None = None) -> Arrivals:
    """QoS 1 are the first messages, one per packet id."""
    topics, payloads = [topic for topic, _ in messages], [payload for _, payload in messages]
    return Arrivals(topics, payloads, list(ids), range(len(ids)), dup, 1)


def rows(decoded: Decoded, names: list[str]) -> list[tuple[str, int, float]]:
    readings = decoded.readings
    columns = readings.series.tolist(), readings.time.tolist(), readings.value.tolist()
    return [(names[series], time, value) for series, time, value in zip(*columns, strict=True)]


def read(source: Source, payload: bytes, topic: str = "sensors/a/t") -> tuple[list[tuple[str, int, float]], Tally]:
    decoded = make(source).feed(arrive((topic, payload)), NOW)
    return rows(decoded, decoded.names), decoded.tally


@pytest.mark.parametrize(
    ("topic", "heard", "names"),
    [
        ("s/{device}/{measurement}", "s/a/t", ["a/t"]),
        ("s/{device}/{measurement}", "s/a", None),
        ("s/{device}/{measurement}", "s/a/t/x", None),
        ("s/{device}/{measurement}", "x/a/t", None),
        ("s/{device}/{measurement}", "s//t", [""]),
        ("s/{device}/{measurement}", "s/a/", [""]),
        ("{measurement}/+/{device}", "t/x/a", ["a/t"]),
        ("{device}/{measurement}/#", "a/t", ["a/t"]),
        ("{device}/{measurement}/#", "a/t/x/y", ["a/t"]),
        ("{device}/{measurement}/#", "a", None),
        ("{device}/{measurement}", "$SYS/t", None),
        ("$SYS/{device}/{measurement}", "$SYS/a/t", ["a/t"]),
        ("$share/group/s/{device}/{measurement}", "s/a/t", ["a/t"]),
        ("{device}/{measurement}", "a/" + "é" * 127, ["a/" + "é" * 127]),
        ("{device}/{measurement}", "a/" + "é" * 128, [""]),
    ],
)
def test_a_template_names_the_series_of_topics_it_matches(topic: str, heard: str, names: list[str] | None) -> None:
    assert MAX_NAME == 256
    assert Template(Source(topic=topic)).match(heard) == names


@pytest.mark.parametrize(
    ("source", "heard", "names"),
    [
        (Source(topic="#", device="d", measurement="m"), "any/where", ["d/m"]),
        (Source(topic="#", device="d", measurement="m"), "$SYS/uptime", None),
        (Source(topic="+/{measurement}", device="d"), "x/t", ["d/t"]),
        (Source(topic="s/{device}", values={"t": "a", "u": "b"}), "s/x", ["x/t", "x/u"]),
        (Source(topic="s/{device}/{measurement}", values={"t": "a"}), "s/x/env", ["x/env.t"]),
        (Source(topic="s/{device}", values={"": "a"}), "s/x", [""]),
        (Source(topic="{device}/x/{device}/{measurement}"), "hall/x/lamp/t", ["hall.lamp/t"]),
        (Source(topic="{device}/{device}/{measurement}"), "hall//t", [""]),
        (Source(topic="{device}/{measurement}/{measurement}"), "hall/air/t", ["hall/air.t"]),
        (Source(topic="s/{device}/#", format="shelly"), "s/d/relay/0/power", ["d/relay.0.power"]),
        (Source(topic="s/{device}/#", format="shelly"), "s/d", ["d/"]),
        (Source(topic="s/{device}/#", format="shelly"), "s/d/announce", []),
        (Source(topic="s/{device}/#", format="shelly"), "s//x", [""]),
        (Source(topic="s/{device}/#", format="shelly"), f"s/d/{'x' * 300}", [""]),
        (Source(topic="#", format="shelly", device="d"), "$SYS/x", None),
    ],
)
def test_fixed_names_and_several_values_name_series(source: Source, heard: str, names: list[str] | None) -> None:
    assert Template(source).match(heard) == names


T = 1_700_000_000


@pytest.mark.parametrize(
    ("time", "unit", "expected"),
    [
        (T, "auto", T * S),
        (T * 10**3 + 1, "auto", T * S + 10**6),
        (T * 10**6 + 1, "auto", T * S + 10**3),
        (T * 10**9 + 1, "auto", T * S + 1),
        (0, "auto", 0),
        (5, "ms", 5 * 10**6),
        (5, "us", 5 * 10**3),
        (5, "ns", 5),
        (1700000000.123456, "auto", T * S + 123_456_000),
        (1700000000.9999996, "s", (T + 1) * S),
        (1700000000123.456, "auto", T * S + 123_456_000),
        (1700000000123456.5, "us", T * S + 123_456_000),
        (1.7e18, "ns", T * S),
        ("2023-11-14T22:13:20Z", "auto", T * S),
        ("2023-11-14t22:13:20z", "auto", T * S),
        ("2023-11-14 23:13:20+01:00", "rfc3339", T * S),
        ("2023-11-14T22:13:20.123456789Z", "auto", T * S + 123_456_789),
        ("2023-11-14T22:13:20.1234567891Z", "auto", T * S + 123_456_789),
        ("2023-11-14T22:13:20.5", "auto", T * S + 5 * 10**8),
        (None, "auto", ABSENT),
        (LATEST, "ns", LATEST),
        (LATEST + 1, "ns", UNREADABLE),
        (-1, "auto", UNREADABLE),
        (-0.5, "s", UNREADABLE),
        (10**40, "auto", UNREADABLE),
        (10**12, "s", UNREADABLE),
        (1e300, "s", UNREADABLE),
        (math.nan, "auto", UNREADABLE),
        (math.inf, "s", UNREADABLE),
        ("2023-13-14T22:13:20Z", "auto", UNREADABLE),
        ("1969-12-31T23:59:59Z", "auto", UNREADABLE),
        ("2023-11-14", "auto", UNREADABLE),
        ("now", "auto", UNREADABLE),
        ("٢٠٢٣-11-14T22:13:20Z", "auto", UNREADABLE),
        ("2023-11-14T22:13:20Z", "s", UNREADABLE),
        (T, "rfc3339", UNREADABLE),
        (float(T), "rfc3339", UNREADABLE),
    ],
)
def test_a_time_is_read_alone_and_among_others(time: Any, unit: Unit, expected: int) -> None:
    assert read_times([time], unit).tolist() == [expected]
    among = [None, 7, "x", time, 7.0, 10**30, 10**12]
    assert read_times(among, unit).tolist()[3] == expected


@given(st.lists(st.integers(0, LATEST // 10**3), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_microseconds_as_seconds_come_back_exactly_until_2112(microseconds: list[int]) -> None:
    microseconds = [time % (1 << 52) for time in microseconds]
    assert read_times([time / 10**6 for time in microseconds], "s").tolist() == [time * 1000 for time in microseconds]


J = Source(topic=TOPIC)
NESTED = Source(topic=TOPIC, value="data.v", time="data.at")
SEVERAL = Source(topic="sensors/{device}/+", values={"t": "t", "p": "in.p"}, time="at")
MSGPACK = Source(topic=TOPIC, format="msgpack")
NUMBER = Source(topic=TOPIC, format="number")


def pack(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


@pytest.mark.parametrize(
    ("source", "payload", "expected"),
    [
        (J, b'{"time":1700000001,"value":1.5}', [("a/t", NOW + S, 1.5)]),
        (J, b' {"value":true , "other":[{"x":1}]}\n', [("a/t", NOW, 1.0)]),
        (J, b'{"value":7,"time":null}', [("a/t", NOW, 7.0)]),
        (NESTED, b'{"data":{"v":2,"at":1700000001000}}', [("a/t", NOW + S, 2.0)]),
        (SEVERAL, b'{"t":1,"in":{"p":2},"at":1700000001}', [("a/t", NOW + S, 1.0), ("a/p", NOW + S, 2.0)]),
        (SEVERAL, b'{"t":1}', [("a/t", NOW, 1.0)]),
        (SEVERAL, b'{"t":null,"in":{"p":2}}', [("a/p", NOW, 2.0)]),
        (SEVERAL, b'{"t":1,"in":null}', [("a/t", NOW, 1.0)]),
        (MSGPACK, pack({"time": 1700000001, "value": 1.5}), [("a/t", NOW + S, 1.5)]),
        (MSGPACK, pack({"value": math.inf}), [("a/t", NOW, math.inf)]),
        (MSGPACK, pack({"value": False}), [("a/t", NOW, 0.0)]),
        (NUMBER, b"21.5", [("a/t", NOW, 21.5)]),
        (NUMBER, b" -3e2\n", [("a/t", NOW, -300.0)]),
        (NUMBER, b"inf", [("a/t", NOW, math.inf)]),
    ],
)
def test_a_payload_becomes_readings(source: Source, payload: bytes, expected: list[tuple[str, int, float]]) -> None:
    assert read(source, payload) == (expected, Tally(messages=1, decoded=1))


@pytest.mark.parametrize("source", [MSGPACK, NUMBER], ids=["msgpack", "number"])
def test_not_a_number_is_a_reading_that_clean_will_count(source: Source) -> None:
    got, tally = read(source, pack({"value": math.nan}) if source is MSGPACK else b"nan")
    assert (len(got), math.isnan(got[0][2]), tally) == (1, True, Tally(messages=1, decoded=1))


DEEP = 50_000
BAD = [
    (J, b"", "json"),
    (J, b"{", "json"),
    (J, b'{"value":NaN}', "json"),
    (J, b'{"value":1}{"value":2}', "json"),
    (J, b'{"value":1},{"value":2}', "json"),
    (J, b'{"value":1,"time":"\xff"}', "json"),
    (J, b"5", "type"),
    (J, b'[{"value":1}]', "type"),
    (J, b'{"value":"1"}', "type"),
    (J, b'{"value":{"value":1}}', "type"),
    (J, b'{"value":1e400}', "type"),
    (NESTED, b'{"data":5}', "type"),
    (J, b"{}", "missing"),
    (J, b'{"value":null}', "missing"),
    (NESTED, b'{"data":null}', "missing"),
    (NESTED, b'{"data":{"at":1}}', "missing"),
    (SEVERAL, b'{"in":{}}', "missing"),
    (J, b'{"value":1,"time":true}', "time"),
    (J, b'{"value":1,"time":[1]}', "time"),
    (J, b'{"value":1,"time":-5}', "time"),
    (J, b'{"value":1,"time":1e999}', "time"),
    (NESTED, b'{"data":{"v":1,"at":{}}}', "time"),
    (SEVERAL, b'{"t":1,"at":"yesterday"}', "time"),
    (J, b'{"x":' + b"[" * DEEP, "depth"),
    (J, b'{"x":' + b'{"x":' * (DEEP // 5), "depth"),
    (MSGPACK, b"\x81\xa1x" + b"\x91" * DEEP, "depth"),
    (J, b'{"value":1}' + b" " * MAX_PAYLOAD, "too_large"),
    (MSGPACK, b"\xc1", "msgpack"),
    (MSGPACK, pack({"value": 1}) + b"\xc0", "msgpack"),
    (MSGPACK, pack({"value": "1"}), "type"),
    (MSGPACK, pack({"value": None}), "missing"),
    (MSGPACK, pack({"value": 1, "time": math.nan}), "time"),
    (NUMBER, b"on", "number"),
    (NUMBER, b"", "number"),
    (NUMBER, b"1_000", "number"),
    (NUMBER, b"1.0\x00", "number"),
    (NUMBER, b"\xff", "number"),
    (NUMBER, b"1" * (MAX_PAYLOAD + 1), "too_large"),
]


@pytest.mark.parametrize(
    ("source", "payload", "cause"),
    BAD,
    ids=[f"{source.format}-{cause}-{payload[:24]!r}" for source, payload, cause in BAD],
)
def test_a_bad_payload_costs_itself_only(source: Source, payload: bytes, cause: str) -> None:
    good = {"json": b'{"value":1,"t":1,"data":{"v":1}}', "number": b"1", "msgpack": pack({"value": 1})}[source.format]
    decode = make(source)
    messages = [("sensors/a/t", good), ("sensors/b/t", payload), ("sensors/c/t", good), ("sensors/d/t", payload)]
    decoded = decode.feed(arrive(*messages), NOW)
    assert decoded.names == ["a/t", "c/t"]
    assert decoded.readings.value.tolist() == [1.0, 1.0]
    assert decoded.tally == Tally(messages=4, decoded=2, dead={cause: 2})
    assert list(decode.dead_letters) == [
        (NOW, "sensors/b/t", cause, payload[:1024]),
        (NOW, "sensors/d/t", cause, payload[:1024]),
    ]


def test_payloads_that_would_join_over_their_border_do_not() -> None:
    decode = make()
    halves = [b'{"x":[{"value":1}', b'{"value":2}]}', b'{"value":3},{"value":4}', b'{"value":5}']
    decoded = decode.feed(arrive(*[(f"sensors/d{number}/t", half) for number, half in enumerate(halves)]), NOW)
    assert decoded.readings.value.tolist() == [5.0]
    assert decoded.tally == Tally(messages=4, decoded=1, dead={"json": 3})


def test_a_topic_without_a_source_is_dead_and_heard() -> None:
    decode = make()
    decoded = decode.feed(arrive(("other/a", b"1"), ("sensors/a/t", b'{"value":1}'), ("other/a", b"2")), NOW)
    assert decoded.tally == Tally(messages=3, decoded=1, dead={"topic": 2})
    assert decode.heard == {"other/a": 2}
    assert decode.dead_letters[1] == (NOW, "other/a", "topic", b"2")


def test_the_first_matching_source_in_configuration_order_has_the_topic() -> None:
    decode = make(
        Source(topic="s/{device}/raw", measurement="raw", format="number"), Source(topic="s/{device}/{measurement}")
    )
    decoded = decode.feed(arrive(("s/a/raw", b"1"), ("s/a/t", b'{"value":2}'), ("s/b/raw", b"3")), NOW)
    assert rows(decoded, decoded.names) == [("a/raw", NOW, 1.0), ("b/raw", NOW + 1, 3.0), ("a/t", NOW + 2, 2.0)]


def test_readings_without_event_time_never_share_a_stamp() -> None:
    decode, message = make(), ("sensors/a/t", b'{"value":1}')
    first = decode.feed(arrive(message, message), NOW)
    second = decode.feed(arrive(message, message), NOW)
    third = decode.feed(arrive(message), NOW + S)
    times = [decoded.readings.time.tolist() for decoded in (first, second, third)]
    assert times == [[NOW, NOW + 1], [NOW + 2, NOW + 3], [NOW + S]]


def test_while_our_clock_is_adrift_it_is_said_which_series_have_their_time_from_it() -> None:
    decode = make(Source(topic="s/{device}/{measurement}"))
    messages = arrive(("s/a/t", b'{"value":1}'), ("s/b/t", b'{"value":2,"time":1790000000}'), ("s/c/t", b'{"value":3}'))
    assert decode.feed(messages, 50).ours is None
    ours = decode.feed(messages, 50, adrift=True).ours
    assert ours is not None
    assert ours.tolist() == [0, 2]
    ours = decode.feed(arrive(("s/b/t", b'{"value":2,"time":1790000001}')), 60, adrift=True).ours
    assert ours is not None
    assert ours.tolist() == []


def test_series_beyond_the_limit_are_refused_and_the_others_go_on() -> None:
    decode = make(SEVERAL, limit=1)
    for names in (["a/t"], []):
        decoded = decode.feed(arrive(("sensors/a/x", b'{"t":1,"in":{"p":2}}'), ("sensors/b/x", b'{"t":3}')), NOW)
        assert decoded.names == names
        assert decoded.readings.series.tolist() == [0]
        assert decoded.tally == Tally(messages=2, decoded=2, refused={"series_limit": 2})


def test_a_series_is_made_by_its_first_good_reading() -> None:
    decode = make()
    assert decode.feed(arrive(("sensors/a/t", b"broken")), NOW).names == []
    assert decode.feed(arrive(("sensors/b/t", b'{"value":1}')), NOW).names == ["b/t"]
    assert decode.feed(arrive(("sensors/a/t", b'{"value":1}')), NOW).names == ["a/t"]


def test_a_redelivery_is_counted_and_not_recorded() -> None:
    decode = make()
    old, new = ("sensors/a/t", b'{"value":1}'), ("sensors/a/t", b'{"value":2}')
    first = decode.feed(arrive(old, ids=(5,)), NOW)
    assert first.recent.packet_ids.tolist() == [5]
    again = decode.feed(arrive(old, new, ids=(5, 6), dup=[True, True]), NOW)
    assert again.tally == Tally(messages=2, decoded=1, redelivered=1)
    assert again.readings.value.tolist() == [2.0]
    assert again.recent.packet_ids.tolist() == [6]


def test_what_tells_messages_apart_is_the_same_in_every_release() -> None:
    decode = make()
    messages = [
        ("sensors/a/t", b'{"value":1,"time":1790000000}'),
        ("sensors/a/t", b'{"value":2}'),
        ("sensors/a/t", b"?"),
    ]
    first = decode.feed(arrive(*messages, ids=(5, 6, 7)), NOW)
    hashes = first.recent.hashes.tolist()
    assert hashes == [2583248816, 1343451485, zlib.crc32(b"sensors/a/t?")]


@pytest.mark.parametrize(
    "payload", [b"broken", b'{"value":null}', b'{"value":7}', b'{"value":7,"time":1790000000}', b"[" * 4000]
)
def test_whatever_a_message_holds_its_redelivery_is_recognised(payload: bytes) -> None:
    decode = make()
    decode.feed(arrive(("sensors/a/t", payload), ("else/a", payload), ids=(5, 6)), NOW)
    again = decode.feed(arrive(("sensors/a/t", payload), ("else/a", payload), ids=(5, 6), dup=[True, True]), NOW)
    assert (again.tally, again.readings.rows) == (Tally(messages=2, redelivered=2), 0)


@pytest.mark.parametrize(
    ("message", "packet", "dup"),
    [
        (("sensors/a/t", b'{"value":1}'), 5, False),
        (("sensors/a/t", b'{"value":1}'), 6, True),
        (("sensors/b/t", b'{"value":1}'), 5, True),
        (("sensors/a/t", b'{"value":2}'), 5, True),
    ],
    ids=["no DUP", "another packet id", "another topic", "another payload"],
)
def test_what_is_not_exactly_the_same_message_is_recorded(message: tuple[str, bytes], packet: int, dup: bool) -> None:
    decode = make()
    decode.feed(arrive(("sensors/a/t", b'{"value":1}'), ids=(5,)), NOW)
    assert decode.feed(arrive(message, ids=(packet,), dup=[dup]), NOW).tally == Tally(messages=1, decoded=1)


def test_the_memory_of_redeliveries_survives_a_restart_and_holds_the_newest() -> None:
    messages = [("sensors/a/t", b'{"value":%d}' % number) for number in range(12)]
    before = make(memory=8).feed(arrive(*messages, ids=tuple(range(1, 13))), NOW)
    decode = make(memory=8, recent=before.recent)
    decode.feed(arrive(("sensors/a/t", b'{"value":99}'), ids=(13,)), NOW)
    again = decode.feed(arrive(*messages, ids=tuple(range(1, 13)), dup=[True] * 12), NOW)
    assert again.readings.value.tolist() == [0, 1, 2, 3, 4]
    assert again.tally == Tally(messages=12, decoded=5, redelivered=7)


def test_only_messages_of_quality_one_are_remembered() -> None:
    decode = make()
    topics, payloads = ["sensors/a/t"] * 3, [b'{"value":1}', b'{"value":2}', b'{"value":3}']
    decoded = decode.feed(Arrivals(topics, payloads, [9], [1], None, 1), NOW)
    assert decoded.recent.packet_ids.tolist() == [9]
    again = decode.feed(Arrivals(topics, payloads, [9], [1], [True], 1), NOW)
    assert again.tally == Tally(messages=3, decoded=2, redelivered=1)
    assert again.readings.value.tolist() == [1.0, 3.0]


def test_no_arrivals_are_no_readings() -> None:
    decoded = make().feed(arrive(), NOW)
    assert (decoded.readings.rows, decoded.names, decoded.tally) == (0, [], Tally())


def test_a_full_memory_of_topics_is_forgotten_and_counted_and_series_keep_their_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "MAX_SLOTS", 300)
    decode = make(limit=10_000)
    messages = [(f"sensors/d{number}/t", b'{"value":1}') for number in range(700)]
    first = decode.feed(arrive(*messages), NOW)
    second = decode.feed(arrive(*messages[::-1]), NOW)
    assert decode.forgotten == 1
    assert first.readings.series.tolist() == list(range(700))
    assert second.readings.series.tolist() == list(range(700))[::-1]


def test_the_dead_letter_ring_is_bounded_in_letters_and_bytes_and_so_are_the_topics_heard() -> None:
    decode = make()
    for number in range(1500):
        decode.feed(arrive((f"x/{number}", b"")), number)
    assert len(decode.dead_letters) == letters.MAX_LETTERS
    assert decode.dead_letters[0].topic == "x/500"
    assert list(decode.heard) == [f"x/{number}" for number in range(letters.MAX_HEARD)]
    for number in range(1500):
        decode.feed(arrive(("y" * 60_000, b"z" * 60_000)), number)
    kept = list(decode.dead_letters)
    assert sum(len(letter.payload) + 4 * len(letter.topic) for letter in kept) <= letters.MAX_BYTES
    assert {(len(letter.topic), len(letter.payload)) for letter in kept} == {(letters.KEPT_TOPIC, letters.KEPT)}


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63) | st.booleans()
anything = numbers | st.none() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
payloads_written = st.fixed_dictionaries({}, optional={"value": anything, "time": anything, "x": anything}).map(
    lambda item: json.dumps(item).encode()
)


def expected_of(payload: bytes) -> tuple[float, int] | None:
    """What the rules say, slowly."""
    try:
        item = json.loads(payload, parse_constant=lambda _: 1 / 0)
        value, time = item.get("value"), item.get("time")
    except (ValueError, ArithmeticError, AttributeError):
        return None
    if not isinstance(value, int | float) or isinstance(time, bool | list | dict):
        return None
    stamp = int(read_times([time], "auto")[0])
    return None if stamp == UNREADABLE else (float(value), stamp)


@given(st.lists(payloads_written | st.binary(max_size=12), max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_batch_gives_what_its_payloads_give_alone_and_the_accounting_closes(payloads: list[bytes]) -> None:
    decode = make()
    decoded = decode.feed(arrive(*[("sensors/a/t", payload) for payload in payloads]), NOW)
    wanted = [item for payload in payloads if (item := expected_of(payload)) is not None]
    assert decoded.readings.value.tolist() == [value for value, _ in wanted]
    stamped = [stamp for _, stamp in wanted]
    assert [t for t, stamp in zip(decoded.readings.time.tolist(), stamped, strict=True) if stamp != ABSENT] == [
        stamp for stamp in stamped if stamp != ABSENT
    ]
    tally = decoded.tally
    assert tally.messages == len(payloads) == tally.decoded + sum(tally.dead.values())
    assert tally.decoded == len(wanted) == decoded.readings.rows


@given(st.lists(st.binary(max_size=40), max_size=8), st.sampled_from(["json", "msgpack", "number"]))
@settings(max_examples=150, deadline=None)
def test_no_bytes_raise(payloads: list[bytes], kind: Any) -> None:
    decode = make(Source(topic=TOPIC, format=kind))
    decoded = decode.feed(arrive(*[("sensors/a/t", payload) for payload in payloads]), NOW)
    assert decoded.tally.messages == decoded.tally.decoded + sum(decoded.tally.dead.values())
    assert [column.dtype for column in decoded.readings] == [np.int32, np.int64, np.float64]

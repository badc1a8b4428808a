"""A message comes apart into what its frames hold; nonsense costs itself, and memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from cloud.store import Undecodable, Windows
from cloud.unpack import SLICE, unpack
from protocol.errors import FrameRefused
from protocol.frame import encode
from protocol.messages import (
    Alert,
    AlertsBody,
    AnswerBody,
    ClockDefinition,
    Cover,
    DefinitionsBody,
    Kind,
    Loss,
    LossesBody,
    Moments,
    PartBody,
    ReportBody,
    StatisticsBody,
    WindowsBody,
)
from tests.cloud.wire import DIGEST, Wire, definitions, windows_body

BIG = 1 << 63
"""The first integer that cannot be stored."""


def statistics(*entries: Moments, **changes: object) -> StatisticsBody:
    return msgspec.structs.replace(StatisticsBody(Cover(), "t2", 5, list(entries)), **changes)


def report(**changes: object) -> ReportBody:
    return msgspec.structs.replace(ReportBody(Cover(), "t2", 1, "applied", "", DIGEST, 5), **changes)


GOOD = Moments(["a", "b"], 10, [1.0, -1.0], [2.0, 1.0, 1.0, 2.0])


def moments(**changes: object) -> Moments:
    return msgspec.structs.replace(GOOD, **changes)


ANSWER = AnswerBody(Cover(1, 2), "m.1.2", 7, "train", 1, 0, b"\xff", 5, 1_250, 40, (10, 31), (0, 99), "")


def test_an_answer_without_names_is_the_part_that_it_says() -> None:
    message = Wire().frame("results", Kind.ANSWER, ANSWER)
    [([arrived], _size)] = unpack(message)
    assert arrived.holds == PartBody(
        *(Cover(1, 2), "m.1.2", 7, "train", 1, "done", "", b"\xff", 5, 1.25, 40, (0, 99), (10, 31))
    )


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"ended": 3}, "part"),
        ({"ended": -1}, "part"),
        ({"job": "../etc"}, "part"),
        ({"milliseconds": -1}, "part"),
        ({"reason": "x" * 257}, "part"),
        ({"stamp": BIG}, "range"),
        ({"readings": BIG}, "range"),
    ],
)
def test_an_answer_that_cannot_be_is_put_into_quarantine(changes: dict[str, object], cause: str) -> None:
    [([arrived], _size)] = unpack(Wire().frame("results", Kind.ANSWER, msgspec.structs.replace(ANSWER, **changes)))
    assert isinstance(arrived.holds, Undecodable)
    assert arrived.holds.cause == cause


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(Kind.STATISTICS, statistics(GOOD, alerts=3, shadow=4, version=2), id="statistics"),
        pytest.param(Kind.STATISTICS, statistics(), id="statistics of nothing yet"),
        pytest.param(
            Kind.STATISTICS, statistics(moments(scatter=[1.0, 1.0, 1.0, 1.0])), id="features that go together"
        ),
        pytest.param(Kind.REPORT, report(), id="applied"),
        pytest.param(Kind.REPORT, report(version=0, outcome="refused", reason="signature", digest=""), id="refused"),
        pytest.param(Kind.REPORT, report(outcome="rolled back", reason="worse"), id="rolled back"),
        pytest.param(Kind.REPORT, report(outcome="drifted", reason="features"), id="drifted"),
    ],
)
def test_results_hold_statistics_and_reports_too(kind: Kind, body: msgspec.Struct) -> None:
    ((arrived, _),) = unpack(Wire().frame("results", kind, body))
    assert arrived[0].holds == body


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        pytest.param(moments(features=["a", "a"]), "twice", id="a feature twice"),
        pytest.param(moments(features=["a", ""]), "name", id="a feature without a name"),
        pytest.param(moments(features=["a", "b" * 513]), "name", id="a name no baseline can hold"),
        pytest.param(moments(mean=[1.0]), "1 means", id="too few means"),
        pytest.param(moments(count=-1), "2 means", id="a negative count"),
        pytest.param(moments(count=1 << 40), "windows", id="more windows than there can be"),
        pytest.param(moments(mean=[float("nan"), 0.0]), "finite", id="no number"),
        pytest.param(moments(mean=[1e101, 0.0]), "no sensor", id="a mean that makes sums infinite"),
        pytest.param(moments(scatter=[1e201, 0.0, 0.0, 1.0]), "no sensor", id="a scatter likewise"),
        pytest.param(moments(scatter=[-1.0, 0.0, 0.0, 1.0]), "negative", id="a negative variance"),
        pytest.param(moments(scatter=[1.0, 2.0, 2.0, 1.0]), "no vectors", id="more together than alone"),
    ],
)
def test_statistics_that_can_be_nobodys_are_told(entry: Moments, detail: str) -> None:
    ((arrived, _),) = unpack(Wire().frame("results", Kind.STATISTICS, statistics(GOOD, entry)))
    refused = arrived[0].holds
    assert isinstance(refused, Undecodable)
    assert refused.cause == "statistics"
    assert detail in refused.detail


def test_frames_come_out_in_order_with_what_they_hold() -> None:
    wire = Wire()
    message = wire.frame("definitions", Kind.DEFINITIONS, definitions())
    message += wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 5, 0, 3), domain="boot"))
    message += wire.frame("results", Kind.LOSSES, LossesBody(Cover(), [Loss("telemetry", 1, 2, "spool_full")]))
    ((arrived, size),) = unpack(message)
    assert [(frame.lane, frame.seq) for frame in arrived] == [("definitions", 1), ("telemetry", 1), ("results", 1)]
    assert sum(frame.size for frame in arrived) == len(message)
    assert size > 0
    assert arrived[0].holds == definitions()
    windows = arrived[1].holds
    assert isinstance(windows, Windows)
    assert (windows.domain, windows.rows.count.tolist()) == ("boot", [3])


def clock(domain: str, shift: int) -> DefinitionsBody:
    return DefinitionsBody(Cover(), clocks=[ClockDefinition(domain, shift)])


@pytest.mark.parametrize(
    ("lane", "kind", "body", "cause"),
    [
        pytest.param("telemetry", Kind.WINDOWS, b"\xff", "body", id="no message"),
        pytest.param("telemetry", Kind.WINDOWS, b"x" * 500, "body", id="no message, compressed"),
        pytest.param("telemetry", Kind.WINDOWS, WindowsBody(Cover(), 1, b"?"), "columns", id="no columns"),
        pytest.param(
            "telemetry",
            Kind.WINDOWS,
            msgspec.structs.replace(windows_body((0, 5, 0, 3)), rows=2),
            "rows",
            id="another number of rows",
        ),
        pytest.param("telemetry", Kind.WINDOWS, windows_body((0, 5, 0, 3), domain="x" * 200), "domain", id="domain"),
        pytest.param("alerts", Kind.WINDOWS, windows_body((0, 5, 0, 3)), "kind", id="in the wrong lane"),
        pytest.param("telemetry", Kind.READINGS, b"raw", "kind", id="a record of the journal"),
        pytest.param("results", Kind.LOSSES, LossesBody(Cover(), [Loss("l", 1, 2, "c")]), "loss", id="unknown lane"),
        pytest.param("results", Kind.LOSSES, LossesBody(Cover(), [Loss("alerts", 3, 2, "c")]), "loss", id="backwards"),
        pytest.param("results", Kind.LOSSES, LossesBody(Cover(), [Loss("alerts", 0, 2, "c")]), "loss", id="zero"),
        pytest.param(
            "results", Kind.LOSSES, LossesBody(Cover(), [Loss("alerts", 1, 2, "c", BIG)]), "range", id="oldest"
        ),
        pytest.param("results", Kind.LOSSES, LossesBody(Cover(), [], {"recorded": BIG}), "range", id="recorded"),
        pytest.param("results", Kind.LOSSES, LossesBody(Cover(), stamp=BIG), "range", id="said"),
        pytest.param("definitions", Kind.DEFINITIONS, DefinitionsBody(Cover(), stamp=BIG), "range", id="packed"),
        pytest.param("definitions", Kind.DEFINITIONS, clock("boot-1", 1 << 62), "clock", id="a clock off by centuries"),
        pytest.param("definitions", Kind.DEFINITIONS, clock("", 5), "clock", id="a clock of no domain"),
        pytest.param("definitions", Kind.DEFINITIONS, clock("b" * 129, 5), "clock", id="a long domain"),
        pytest.param(
            "telemetry",
            Kind.WINDOWS,
            msgspec.structs.replace(windows_body((0, 5, 0, 3)), stamp=BIG),
            "range",
            id="journalled",
        ),
        pytest.param(
            "alerts", Kind.ALERTS, AlertsBody(Cover(), [Alert([0], 0, 0, BIG, 1.0, "r")]), "range", id="stamp"
        ),
        pytest.param(
            "alerts", Kind.ALERTS, AlertsBody(Cover(), [Alert([BIG], 0, 0, 0, 1.0, "r")]), "range", id="series"
        ),
        pytest.param(
            "alerts",
            Kind.ALERTS,
            AlertsBody(Cover(), [Alert([0], 0, 0, 0, 1.0, "r", missing=[BIG])]),
            "range",
            id="missing",
        ),
        pytest.param("results", Kind.STATISTICS, statistics(model="no/name"), "model", id="a model's name"),
        pytest.param("results", Kind.STATISTICS, statistics(version=-1), "model", id="a negative version"),
        pytest.param("results", Kind.STATISTICS, statistics(stamp=BIG), "range", id="when it was learnt"),
        pytest.param("results", Kind.STATISTICS, statistics(shadow=BIG), "range", id="alerts in the shadow"),
        pytest.param("results", Kind.STATISTICS, statistics(*[GOOD] * 5000), "statistics", id="too many entries"),
        pytest.param(
            "results",
            Kind.STATISTICS,
            statistics(*[moments(features=["a" * 500, "b" * 500])] * 1100),
            "statistics",
            id="too many bytes",
        ),
        pytest.param("results", Kind.REPORT, report(model=""), "model", id="no model's name"),
        pytest.param("results", Kind.REPORT, report(outcome="maybe"), "report", id="an unknown outcome"),
        pytest.param("results", Kind.REPORT, report(reason="x" * 257), "report", id="a long story"),
        pytest.param("results", Kind.REPORT, report(digest="x"), "report", id="no digest"),
        pytest.param("telemetry", Kind.STATISTICS, statistics(), "kind", id="statistics in the wrong lane"),
        pytest.param("telemetry", Kind.WINDOWS, windows_body((0, 5, 0, 1 << 62)), "range", id="a count too large"),
        pytest.param("telemetry", Kind.WINDOWS, windows_body((0, 5, 0, -1)), "range", id="a negative count"),
    ],
)
def test_a_well_framed_frame_that_holds_nonsense_is_told_by_cause(
    lane: str, kind: Kind, body: msgspec.Struct | bytes, cause: str
) -> None:
    wire = Wire()
    message = wire.frame(lane, kind, body) + wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 5, 0, 3)))
    ((arrived, _),) = unpack(message)
    refused = arrived[0].holds
    assert isinstance(refused, Undecodable)
    assert (refused.cause, bool(refused.body)) == (cause, True)
    assert isinstance(arrived[1].holds, Windows)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda good: good[:-1], "short", id="cut off"),
        pytest.param(lambda good: good + b"rest", "short", id="something after"),
        pytest.param(lambda good: good[:-1] + bytes([good[-1] ^ 1]), "crc", id="a bit turned"),
        pytest.param(lambda _: encode(Kind.WINDOWS, b"", lane=255, seq=1), "lane", id="the journal's lane"),
        pytest.param(lambda _: encode(Kind.WINDOWS, b"", lane=3, seq=0), "seq", id="sequence 0"),
        pytest.param(lambda _: encode(Kind.WINDOWS, b"", lane=3, seq=1 << 62), "seq", id="sequence too large"),
    ],
)
def test_what_is_no_frame_is_refused_whole(make: Callable[[bytes], bytes], reason: str) -> None:
    good = Wire().frame("telemetry", Kind.WINDOWS, windows_body((0, 5, 0, 3)))
    with pytest.raises(FrameRefused) as refused:
        unpack(good + make(good) if reason != "short" else make(good))
    assert refused.value.reason == reason


def test_a_message_that_unpacks_to_much_comes_in_slices() -> None:
    wire = Wire()
    message = b"".join(wire.frame("telemetry", Kind.WINDOWS, bytes(SLICE // 2)) for _ in range(6))
    assert len(message) < SLICE // 10
    sizes = [(len(arrived), size) for arrived, size in unpack(message)]
    assert sizes == [(2, SLICE)] * 3

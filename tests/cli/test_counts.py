"""What a demonstration counts, as tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.accounting import Stated, account
from cli.demo import counts
from cli.demo.counts import MARGIN, Edge, Reports, Sample

S = 10**9

METRICS = """\
# HELP fieldgate_readings_recorded_total readings in the journal
# TYPE fieldgate_readings_recorded_total counter
fieldgate_readings_recorded_total 1234.0
fieldgate_readings_dropped_total{reason="late"} 3.0
fieldgate_readings_dropped_total{reason="an \\"odd\\" one"} 1.0
fieldgate_readings_pending 20.0
fieldgate_spool_frames{lane="alerts"} 0.0
fieldgate_spool_frames{lane="telemetry"} 2.0
fieldgate_journal_fsync_seconds_bucket{le="0.001"} 5.0
process_cpu_seconds_total 1.5
"""


def report(pairs: dict[str, list[list[int]]], published: int, bytes_json: int = 0) -> bytes:
    return json.dumps({"pairs": pairs, "published": published, "bytes_json": bytes_json}).encode() + b"\n"


def window(start: int, **more: Any) -> dict[str, Any]:
    row = {"start": start * S, "size": S, "revision": 0, "count": 10, "minimum": 1.0, "maximum": 10.0, "stored": 0}
    return row | more


def test_metrics_are_read_by_name_and_label() -> None:
    read = counts.read_metrics(METRICS)
    assert read["fieldgate_readings_recorded_total"] == {"": 1234.0}
    assert read["fieldgate_readings_dropped_total"] == {"late": 3.0, 'an \\"odd\\" one': 1.0}
    assert "process_cpu_seconds_total" not in read


def test_a_gateway_is_idle_when_nothing_is_open_or_queued() -> None:
    edge = counts.edge_of(counts.read_metrics(METRICS))
    assert edge == Edge(recorded=1234, pending=20, queued=2, dropped={"late": 3.0, 'an \\"odd\\" one': 1.0})
    assert not edge.idle
    assert counts.edge_of({}).idle


def test_reports_grow_with_every_line() -> None:
    reports = Reports()
    reports.feed(report({"a": [[1, 3]], "b": []}, 5, 100))
    reports.feed(report({"a": [[1, 5]], "b": [[1, 1], [3, 3]]}, 9, 200))
    assert (reports.acknowledged, reports.count("published"), reports.count("bytes_json")) == (7, 9, 200)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b'{"pairs": {"a": [[1,', b"Traceback\n"], ids=["no", "empty", "cut", "other"]
)
def test_a_line_that_is_no_report_says_nothing(line: bytes) -> None:
    reports = Reports()
    reports.feed(line)
    assert (reports.acknowledged, reports.count("published")) == (0, 0)


def test_devices_that_were_killed_begin_again_with_counters_nobody_has_used() -> None:
    reports = Reports()
    assert reports.begin_again() == 1
    reports.feed(report({"a": [[1, 5]]}, 8, 80))
    assert reports.begin_again() == 5 + MARGIN
    reports.feed(report({"a": [[5 + MARGIN, 6 + MARGIN]]}, 3, 30))
    assert (reports.acknowledged, reports.count("published"), reports.count("bytes_json")) == (7, 11, 110)
    assert reports.begin_again() == 6 + 2 * MARGIN


def test_devices_killed_before_their_first_report_still_get_fresh_counters() -> None:
    reports = Reports()
    reports.feed(report({"a": [[1, 5]]}, 8))
    first = reports.begin_again()
    assert reports.begin_again() > first


def test_a_line_says_what_happened_since_the_last_one() -> None:
    before = Sample(10.0, 1000, 50, 2000, 0.5, 2, 2)
    now = Sample(11.0, 2280, 114, 2500, 0.42, 1, 2, learning="model 1 on 1 of 2", alerts=3)
    text = (
        "  11 s  1,280 readings/s      114 windows  1.10 B/reading  lag 0.4 s"
        "  model 1 on 1 of 2  3 alerts  1 of 2 online"
    )
    assert counts.line(before, now) == text


def test_a_line_at_the_beginning_has_nothing_to_divide_by() -> None:
    nothing = Sample(0.0, 0, 0, 0, None, 0, 2, learning="no model yet")
    text = "   0 s      0 readings/s        0 windows  - B/reading  lag -  no model yet  0 alerts  0 of 2 online"
    assert counts.line(nothing, nothing) == text


def test_a_line_says_what_waits_and_that_the_cloud_is_away() -> None:
    now = Sample(1.0, 0, 0, 0, None, 2, 2, queued=7, away=True)
    assert counts.line(now, now).endswith("  the cloud does not answer, 7 waiting")


def test_a_line_fits_a_terminal_when_all_is_well() -> None:
    before = Sample(1_998.0, 10**8, 10**6, 2 * 10**8, 0.5, 2, 2)
    now = Sample(1_999.0, 10**8 + 1300, 10**6 + 160, 3 * 10**8, 0.4, 2, 2, learning="model 12 on 2 of 2", alerts=345)
    assert len(counts.line(before, now)) <= 120


def test_a_gateway_that_has_just_come_back_counts_no_negative_rate() -> None:
    line = counts.line(Sample(1.0, 500, 0, 0, None, 2, 2), Sample(2.0, 0, 0, 0, None, 2, 2))
    assert "      0 readings/s" in line


def test_a_sample_adds_gateways_and_fleet_up() -> None:
    fleet: list[dict[str, Any]] = [
        {"lag_s": None, "windows": 3, "bytes": 100, "online": True, "alerts": 1, "shadow": 5, "models": {}},
        {"lag_s": 0.7, "windows": 4, "bytes": 50, "online": False, "alerts": 2, "shadow": 0, "models": {"m": 4}},
    ]
    assert counts.sample_of(3.0, [Edge(10, refused=1), Edge(5)], fleet) == Sample(
        3.0, 15, 7, 150, 0.7, 1, 2, learning="model 4 on 1 of 2", alerts=3, shadow=5, refused=1
    )


@pytest.mark.parametrize(
    ("edges", "models", "said"),
    [
        ([Edge(warming=2, seen=12, needed=60), Edge(warming=1, seen=30, needed=60)], [{}, {}], "warming up 12/60"),
        ([Edge(), Edge(warming=1, seen=30, needed=60)], [{"m": 1}, {}], "warming up 30/60"),
        ([Edge(), Edge()], [{}, {}], "no model yet"),
        ([Edge(), Edge()], [{"m": 3}, {"m": 2}], "model 2 on 2 of 2"),
    ],
    ids=["warming", "one of them warming", "before the first model", "running"],
)
def test_a_line_says_how_far_detectors_and_models_are(
    edges: list[Edge], models: list[dict[str, int]], said: str
) -> None:
    assert counts.learning(edges, [{"name": str(at), "models": one} for at, one in enumerate(models)]) == said


def test_windows_of_counters_become_statements() -> None:
    page = [window(5), window(6, count=0, minimum=None, maximum=None)]
    assert counts.stated(page) == [Stated(5 * S, 0, 10, 1, 10)]


def test_latency_is_from_a_windows_end_to_its_commit_for_windows_stated_once_while_devices_ran() -> None:
    page = [
        window(5, stored=6 * S + S // 2),
        window(6, stored=9 * S, revision=1),
        window(7, stored=12 * S),
    ]
    assert counts.latencies_ms(page, until=7 * S + 1) == [500.0]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([3.0], 0.99, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 3.0), ([1.0, 2.04], 0.99, 2.0)],
    ids=["none", "one", "middle", "last"],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, expected: float | None) -> None:
    assert counts.quantile(values, share) == expected


def test_the_result_is_one_object_with_the_names_that_were_promised() -> None:
    balance = account({}, {}, published=0)
    assert counts.result(
        balance,
        Sample(9.0, 1280, 64, 1500, 0.4, 2, 2, alerts=3, shadow=4, refused=1),
        dropped=2,
        frames={"received": 12, "duplicate": 1, "quarantined": 0},
        bytes_json=40_000,
        latencies=[300.0, 500.0],
        models={"gateway-1": 2, "gateway-2": 0},
        labelled=1,
        restarts={"broker": 0, "gateway-1": 2},
        seconds=9.04,
    ) == {
        "published": 0,
        "acknowledged": 0,
        "recorded": 1280,
        "dropped": 2,
        "windows_stored": 64,
        "frames": {"sent": 13, "duplicate": 1, "quarantined": 0},
        "bytes_json": 40_000,
        "bytes_up": 1500,
        "latency_ms": {"p50": 500.0, "p99": 500.0},
        "gateways": 2,
        "alerts": 3,
        "labelled": 1,
        "shadow": 4,
        "models": {"gateway-1": 2, "gateway-2": 0},
        "refused": 1,
        "restarts": {"gateway-1": 2},
        "seconds": 9.0,
        "queued": 0,
        "lost": 0,
    }

"""A replay in lines: windows and alerts as CSV, alerts and totals as a person reads them."""

from __future__ import annotations

import numpy as np
import pytest

from cli.replay import text
from protocol.messages import WINDOW_DTYPES, Alert, WindowRows

NAMES = ["pump/t", 'a,"b"/t', "c/t", "d/t", "e/t"]


@pytest.mark.parametrize(
    ("ns", "expected"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_250_000_000, "2023-11-14T22:13:20.25Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        ((1 << 62) - 1, "2116-02-20T23:53:38.427387903Z"),
    ],
)
def test_a_time_has_as_many_decimals_as_it_needs(ns: int, expected: str) -> None:
    assert text.moment(ns) == expected


@pytest.mark.parametrize(
    ("alert", "expected"),
    [
        (Alert([0], 0, 0, 9, 90.0, "value > 80", 0, 80.0, [1.0]), "value > 80  pump/t  90 beyond 80"),
        (
            Alert([0, 2, 3, 4], 0, 0, 9, 7.12345678, "odd", 3, 6.0, [0.1, 0.2, 0.4, 0.3]),
            "odd  d/t e/t c/t and 1 more  7.12346 beyond 6, by version 3 of the model",
        ),
        (Alert([0, 2], 0, 0, 9, 7.0, "odd"), "odd  pump/t c/t  7 beyond 0"),
    ],
    ids=["one series", "a group: who had most to do with it, and the model", "shares unknown"],
)
def test_an_alert_is_said_in_a_line(alert: Alert, expected: str) -> None:
    assert text.alert_said(alert, NAMES) == f"1970-01-01T00:00:00Z  {expected}"


def test_an_alert_is_a_line_of_csv() -> None:
    alert = Alert([0, 1], 5, 1, 9, 7.5, "odd, isn't it", 2, 6.0)
    assert text.alert_line(alert, NAMES) == '5,"odd, isn\'t it","pump/t a,""b""/t",7.5,6.0,1,2,9'
    assert len(text.ALERTS.split(",")) == 8


def test_a_window_is_a_line_of_csv() -> None:
    rows = WindowRows(*(np.array([1.0]).astype(dtype) for dtype in WINDOW_DTYPES.values()))
    assert list(text.window_lines(rows, NAMES)) == ['"a,""b""/t",1,1,1,1,1.0,1.0,1.0,1.0,1.0,1.0']
    assert text.WINDOWS.split(",") == list(WINDOW_DTYPES)


def test_a_difference_is_said_by_rule_shape_and_reason() -> None:
    summary = {
        "rules": {"odd": {"only_a": 1, "only_b": 2, "both": 1000}},
        "shapes": {"10 s": {"only_a": 0, "only_b": 3, "changed": 2, "columns": {"mean": 2, "last": 1}, "same": 5}},
        "removed": {"range": {"a": 1, "b": 2}},
        "late": {"a": 0, "b": 7},
        "early": {"windows": 0, "alerts": 4},
        "equal": False,
    }
    assert list(text.difference_said(summary)) == [
        "alerts    odd: only in A 1, only in B 2, in both 1,000",
        "windows   10 s: only in A 0, only in B 3, changed 2 (mean 2, last 1), same 5",
        "removed   range: in A 1, in B 2",
        "late      in A 0, in B 7",
        "early     4 alerts were taken to be on one side only before the other was heard to the end",
    ]


def test_damage_is_said() -> None:
    summary = {"readings": 5000, "series": 2, "records": 7, "readings_per_second": 1000, "damaged": 3}
    assert list(text.run_said(summary)) == [
        "read      5,000 readings of 2 series in 7 records, 1,000 readings/s",
        "damaged   3 records could not be read",
    ]

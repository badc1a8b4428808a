"""An alert as JSON, with names in place of numbers."""

from __future__ import annotations

import json

from gateway import alerts
from gateway.records import Alerts, Definitions, Outputs
from protocol.messages import Alert

NAMES = ["pump/temperature", "Pumpe-Süd/Öldruck"]


def test_each_alert_of_a_record_is_one_object_with_names() -> None:
    first = Alert([1, 0], 10, 0, 30, 7.5, "pumps", 3, 6.0, [0.75, 0.25], [0])
    outputs = Outputs([Definitions([], []), Alerts([first, Alert([0], 20, 1, 30, 1.5, "hot")], "boot-1")])
    assert [json.loads(one) for one in alerts.said(outputs, NAMES)] == [
        {
            "series": ["Pumpe-Süd/Öldruck", "pump/temperature"],
            "start": 10,
            "revision": 0,
            "stamp": 30,
            "score": 7.5,
            "rule": "pumps",
            "version": 3,
            "threshold": 6.0,
            "contributions": [0.75, 0.25],
            "missing": ["pump/temperature"],
            "domain": "boot-1",
        },
        {
            "series": ["pump/temperature"],
            "start": 20,
            "revision": 1,
            "stamp": 30,
            "score": 1.5,
            "rule": "hot",
            "version": 0,
            "threshold": 0.0,
            "contributions": [],
            "missing": [],
            "domain": "boot-1",
        },
    ]


def test_a_record_without_alerts_says_nothing() -> None:
    assert list(alerts.said(Outputs([Definitions([], [])]), NAMES)) == []

"""What the measurement of alerts counts on."""

from __future__ import annotations

import numpy as np

from gateway.config import parse
from gateway.derive import Derive
from gateway.records import Alerts, Readings, ReadingsRecord
from tests.bench.alert import A_SECOND, CONFIGURATION, DEVICES, MS, RULE, Load, Times, figures

S = 10**9
LOAD = Load(1_790_000_000 * S)


def test_a_message_is_found_again_by_its_device_and_time() -> None:
    for k in range(3 * DEVICES * A_SECOND):
        device, reading = LOAD.reading(k)
        assert LOAD.number(device, reading.time) == k


def test_windows_end_evenly_over_the_second() -> None:
    second = range(DEVICES * A_SECOND, 2 * DEVICES * A_SECOND)
    ends = [k for k in second if LOAD.reading(k)[1].time % S == 0]
    assert len(ends) == DEVICES
    assert max(np.diff(ends)) < 20  # ms


def test_the_alerts_waited_for_are_those_that_the_gateway_raises() -> None:
    messages = 6 * DEVICES * A_SECOND
    derive = Derive(parse(f'name = "bench"\ndata = "/nowhere"\n{CONFIGURATION}').pipeline)
    names = [f"{device}/heat" for device in range(DEVICES)]
    raised = []
    for first in range(0, messages, DEVICES):
        said = [LOAD.reading(k) for k in range(first, first + DEVICES)]
        columns = Readings(
            np.array([device for device, _ in said], np.int32),
            np.array([reading.time for _, reading in said], np.int64),
            np.array([reading.value for _, reading in said]),
        )
        now = LOAD.base + first * MS
        outputs = derive.feed(ReadingsRecord(now, columns, [] if first else names))
        raised += [alert for item in outputs.items if isinstance(item, Alerts) for alert in item.alerts]
    assert {alert.rule for alert in raised} == {RULE}
    by = sorted(LOAD.number(alert.series[0], alert.start + S) for alert in raised)
    assert [k for k in by if k >= DEVICES * A_SECOND] == LOAD.alerted(messages)


def test_figures_count_what_was_heard_and_what_was_not() -> None:
    sent = {k: k * MS for k in range(100)}
    delivered = {k: at + MS // 2 for k, at in sent.items()}
    heard = {k: sent[k] + 8 * MS for k in (50, 60, 70)}
    assert figures(Times(sent, delivered, heard), [50, 60, 70, 80]) == {
        "alerts": 3,
        "unheard": 1,
        "from_socket_ms": {"p50": 8.0, "p99": 8.0},
        "from_delivery_ms": {"p50": 7.5, "p99": 7.5},
        "plain_ms": {"p50": 0.5, "p99": 0.5},
        "p99_above_plain_ms": 7.5,
    }

"""Counts become metrics when somebody asks; a quantile is near the truth in fixed memory."""

from __future__ import annotations

import numpy as np
import pytest

from cloud.fleet import Fleet
from cloud.metrics import BUCKETS_S, Counters, Lag, Metrics


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_quantile_is_within_a_hundredth(share: float) -> None:
    lag = Lag()
    lags = np.random.default_rng(1).lognormal(20, 1, 20_000).astype(np.int64)
    for part in np.array_split(lags, 7):
        lag.observe(part)
    assert lag.quantile_ms(share) == pytest.approx(np.quantile(lags, share) / 1e6, rel=0.01)


def test_no_lag_and_absurd_lags_are_survived() -> None:
    lag = Lag()
    lag.observe(np.empty(0, np.int64))
    assert lag.quantile_ms(0.5) is None
    lag.observe(np.array([-(1 << 62), 0, (1 << 63) - 1]))
    assert lag.buckets.tolist() == [2, *[0] * (len(BUCKETS_S) - 1), 1]


def test_the_fixed_names_are_there() -> None:
    counters = Counters(frames_stored=3, frames_duplicate=2, frames_quarantined={"body": 1}, windows_stored=9)
    counters.alerts_stored, counters.chunks_sent, counters.wants_refused = 5, 6, {"busy": 7}
    counters.lag.observe(np.array([300_000_000]))
    lines = Metrics(counters, Fleet(), lambda: 4, lambda: {"t2": 8}).text().decode().splitlines()
    for line in (
        "fieldgate_frames_stored_total 3.0",
        "fieldgate_frames_duplicate_total 2.0",
        'fieldgate_frames_quarantined_total{cause="body"} 1.0',
        "fieldgate_windows_stored_total 9.0",
        "fieldgate_alerts_stored_total 5.0",
        'fieldgate_model_version{model="t2"} 8.0',
        "fieldgate_chunks_sent_total 6.0",
        'fieldgate_wants_refused_total{reason="busy"} 7.0',
        "fieldgate_gateways_online 0.0",
        "fieldgate_viewers 4.0",
        'fieldgate_window_lag_seconds_bucket{le="0.25"} 0.0',
        'fieldgate_window_lag_seconds_bucket{le="0.5"} 1.0',
        'fieldgate_window_lag_seconds_bucket{le="+Inf"} 1.0',
    ):
        assert line in lines

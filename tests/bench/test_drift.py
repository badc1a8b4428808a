"""What the measurement of drift counts on: sensors that age are noticed, and learnt anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import drift


def test_sensors_that_age_are_noticed_and_learnt_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "GATEWAYS", 1)
    monkeypatch.setattr(drift, "LABELLED", 0.3)
    rng = np.random.default_rng(7)
    batch, y = np.repeat([1, 2, 3], [300, 300, 500]), rng.integers(0, 6, 1_100)
    heaps = rng.normal(size=(6, 128))
    x = np.where(batch[:, None] < 3, heaps[y], 0.6 * heaps[y - 1]) + rng.normal(size=(1_100, 128))
    np.savez(tmp_path / "gas_drift.npz", X=x, y=y, batch=batch)
    known, later = drift.measure(tmp_path)
    assert (known["noticed"], known["versions"], later["windows"]) == ([], 1, 500)
    assert isinstance(later["noticed"], list)
    assert later["noticed"][0] < 250
    assert float(str(later["last"])) > float(str(later["frozen"])) + 0.1

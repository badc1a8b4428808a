"""Pins: who is kept at which version, and what that survives."""

from __future__ import annotations

import pytest

from cloud import pins
from cloud.pins import ALL, Pin, Pins
from protocol.errors import ModelRefused

OLD, NEW = Pin(1, 4, b"one"), Pin(3, 3, b"three")


def test_a_gateways_own_pin_counts_before_the_one_for_all() -> None:
    held = Pins()
    assert (held.of("state", "barn"), held.holds("state")) == (None, False)
    held.put("state", ALL, NEW)
    held.put("state", "barn", OLD)
    assert [held.of("state", gateway) for gateway in ("barn", "mill")] == [OLD, NEW]
    assert (held.holds("state"), held.holds("other")) == (True, False)
    assert held.versions() == {"state": {ALL: 3, "barn": 1}}


def test_a_pin_that_is_taken_off_is_forgotten_and_a_snapshot_keeps_the_others() -> None:
    held = Pins()
    held.put("state", ALL, NEW)
    held.put("state", "barn", OLD)
    assert held.take_off("state", ALL) == NEW
    assert held.take_off("state", ALL) is None
    again = Pins(held.snapshot())
    assert again.versions() == {"state": {"barn": 1}}
    assert (again.of("state", "barn"), again.of("state", "mill")) == (OLD, None)


def test_pins_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "MAX_PINS", 1)
    held = Pins()
    held.put("state", ALL, NEW)
    with pytest.raises(ModelRefused):
        held.put("state", "barn", OLD)

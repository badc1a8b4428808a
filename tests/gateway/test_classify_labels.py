"""Labels of devices: which was newest when, and when that is known."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.classify import labels as module
from gateway.classify.labels import Labels
from gateway.classify.windows import EVER, Rows

Row = tuple[int, int, float]


def rows(*some: Row) -> Rows:
    device, time, value = (np.array(column) for column in zip(*some, strict=True))
    return Rows(device, time, np.zeros(len(device), np.int64), value.astype(np.float64))


def fed(*some: Row) -> Labels:
    labels = Labels()
    labels.feed(rows(*some))
    return labels


def at(labels: Labels, *asked: tuple[int, int]) -> list[float | None]:
    """Give the label of devices at times; None where there is none."""
    found = labels.at(np.array([one for one, _ in asked]), np.array([time for _, time in asked]))
    return [None if np.isnan(value) else float(value) for value in found]


def test_a_label_counts_until_the_next_one_of_its_device() -> None:
    labels = fed((0, 10, 1.0), (1, 5, 7.0), (0, 20, 2.0))
    assert at(labels, (0, 9), (0, 10), (0, 19), (0, 20), (0, 99)) == [None, 1.0, 1.0, 2.0, 2.0]
    assert at(labels, (1, 4), (1, 5), (2, 5)) == [None, 7.0, None]
    assert at(Labels(), (0, 1)) == [None]


def test_the_first_of_repeats_counts_and_what_is_no_number_says_nothing() -> None:
    labels = fed((0, 10, 1.0), (0, 10, 2.0), (0, 11, float("nan")))
    assert at(labels, (0, 10), (0, 12)) == [1.0, 1.0]
    assert labels.known(np.array([0]), np.array([11])).tolist() == [False]


def test_what_a_window_is_is_known_when_a_label_at_its_end_or_after_has_come() -> None:
    labels = fed((0, 10, 1.0), (2, 30, 1.0))
    asked = ((0, 9), (0, 10), (0, 11), (1, 1), (2, 30), (9, 1))
    known = labels.known(np.array([one for one, _ in asked]), np.array([time for _, time in asked]))
    assert known.tolist() == [True, True, False, False, True, False]


def test_labels_that_say_the_same_again_are_kept_once() -> None:
    labels = fed(*((0, time, 1.0) for time in range(100)), (0, 100, 2.0))
    labels.feed(rows((0, 101, 2.0)))
    assert len(labels) == 2
    assert at(labels, (0, 99), (0, 101)) == [1.0, 2.0]


def test_what_nobody_needs_is_forgotten_but_for_what_is_in_force() -> None:
    labels = fed((0, 10, 1.0), (0, 20, 2.0), (0, 30, 3.0), (1, 5, 1.0), (1, 6, 2.0))
    labels.forget(np.array([25, EVER]))
    assert len(labels) == 4
    assert at(labels, (0, 15), (0, 25), (0, 30), (1, 5)) == [None, 2.0, 3.0, 1.0]


def test_it_holds_so_many_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LABELS", 4)
    labels = fed(*((number % 2, number, float(number)) for number in range(10)))
    assert len(labels) == 4
    assert at(labels, (0, 5), (0, 6), (1, 9)) == [None, 6.0, 9.0]

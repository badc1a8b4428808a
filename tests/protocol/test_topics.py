from __future__ import annotations

import pytest

from protocol.topics import gateway_of, matches, topic


def test_a_topic_carries_the_gateway_as_its_third_level() -> None:
    assert topic("barn-1", "status") == "fieldgate/v1/barn-1/status"
    assert topic("+", "status") == "fieldgate/v1/+/status"


@pytest.mark.parametrize(
    ("name", "gateway"),
    [
        ("fieldgate/v1/barn-1/status", "barn-1"),
        ("fieldgate/v1/barn-1/models/m/3", "barn-1"),
        ("fieldgate/v1/barn-1", None),
        ("fieldgate/v1//status", None),
        ("fieldgate/v2/barn-1/status", None),
        ("sensors/v1/barn-1/status", None),
    ],
)
def test_a_bus_topic_names_its_gateway_and_no_other_does(name: str, gateway: str | None) -> None:
    assert gateway_of(name) == gateway


@pytest.mark.parametrize(
    ("pattern", "name", "match"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("+/b", "a/b", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "b/a", False),
        ("a/+/#", "a", False),
        ("#", "a/b", True),
        ("#", "$SYS/load", False),
        ("+/load", "$SYS/load", False),
        ("$SYS/#", "$SYS/load", True),
    ],
)
def test_filters_match_as_the_standard_says(pattern: str, name: str, match: bool) -> None:
    assert matches(pattern, name) is match

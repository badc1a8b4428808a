"""What somebody asks for is read strictly, and resolved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloud.jobs import Question, Terms, chosen, question, read_spec, terms
from learning.work import registry
from protocol.errors import JobRefused

S = 10**9
NOW = 100_000 * S


def spec(**said: Any) -> Any:
    return read_spec(json.dumps({"work": "moments"} | said).encode())


def test_the_time_before_now_becomes_a_range_and_a_deadline_a_time() -> None:
    asked = spec(series=["*/x"], last="1h", priority=3, deadline="90s", partial=False)
    params = registry.pack_params(registry.find("moments"), {})
    assert question(asked, registry.find("moments"), NOW) == Question(
        "moments", 1, ("*/x",), NOW - 3600 * S, NOW, params
    )
    assert terms(asked, NOW) == Terms(3, NOW + 90 * S, False)


def test_gateways_are_chosen_by_pattern_and_by_label() -> None:
    labels = {"north": ("barn-*", "mill")}
    fleet = ["pier", "mill", "barn-2", "barn-1"]
    assert chosen(spec(), fleet, labels) == ["barn-1", "barn-2", "mill", "pier"]
    assert chosen(spec(gateways=["@north"]), fleet, labels) == ["barn-1", "barn-2", "mill"]
    with pytest.raises(JobRefused, match="south"):
        chosen(spec(gateways=["@south"]), fleet, labels)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        pytest.param({"wrok": "x"}, "unknown field", id="unknown key"),
        pytest.param({"series": []}, "series is 0", id="no series"),
        pytest.param({"priority": 0}, "priority is 0", id="priority"),
        pytest.param({"last": "1h", "from": 5}, "either last", id="two times"),
        pytest.param({"from": 5, "to": 5}, "after `from`", id="empty range"),
        pytest.param({"last": "soon"}, "a duration", id="no duration"),
        pytest.param({"deadline": "30d"}, "7d at most", id="too long"),
        pytest.param({"limit": -1}, "limit is -1", id="limit"),
    ],
)
def test_what_cannot_be_is_refused_with_why(said: dict[str, Any], why: str) -> None:
    with pytest.raises(JobRefused) as refused:
        spec(**said)
    assert why in refused.value.detail


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"x" * 70_000], ids=["empty", "array", "no text", "too long"])
def test_what_is_no_spec_is_refused(data: bytes) -> None:
    with pytest.raises(JobRefused):
        read_spec(data)


def test_parameters_that_are_not_the_works_own_are_refused() -> None:
    with pytest.raises(JobRefused, match="params"):
        question(spec(params={"nothing": 1}), registry.find("moments"), NOW)

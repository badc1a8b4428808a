"""Queries are read strictly, and what is described is what is served."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.routes import MAX_LIVE, ROUTES, ApiRefused, openapi

BY_NAME = {route.name: route for route in ROUTES}


def test_defaults_stand_in_for_what_is_not_said() -> None:
    read = BY_NAME["windows"].read({"series": "3", "from": "-5"})
    assert read == {"series": 3, "from": -5, "to": (1 << 63) - 1, "definition": None, "domain": "", "limit": 1000}
    assert BY_NAME["live"].read({"series": "1,2,"}) == {"series": [1, 2]}
    assert BY_NAME["live"].read({}) == {"series": ()}


@pytest.mark.parametrize(
    ("name", "query", "what", "do"),
    [
        pytest.param("windows", {}, "series is missing", "give a whole number of at least 0", id="missing"),
        pytest.param("windows", {"series": "x"}, "series is 'x'", "give a whole number of at least 0", id="no number"),
        pytest.param("windows", {"series": "-1"}, "series is -1", "give a whole number of at least 0", id="negative"),
        pytest.param("windows", {"series": "9" * 30}, f"series is '{'9' * 30}'", "give a whole", id="no int64"),
        pytest.param("windows", {"series": "\u0663"}, "series is '\u0663'", "give a whole", id="digits of elsewhere"),
        pytest.param("series", {"limit": "0"}, "limit is 0", "give a whole number from 1 to 10000", id="too few"),
        pytest.param("series", {"limit": "99999"}, "limit is 99999", "give a whole number from 1", id="too many"),
        pytest.param("series", {"gateway": "x" * 300}, "gateway has 300 characters", "give text", id="too long"),
        pytest.param("series", {"gatway": "x"}, "there is no parameter gatway", "did you mean gateway?", id="misspelt"),
        pytest.param("gateways", {"x": ""}, "there is no parameter x", "use none", id="none at all"),
        pytest.param("live", {"series": "1," * (MAX_LIVE + 1)}, "series has 65 ids", "give at most 64", id="ids"),
        pytest.param("live", {"series": "1,x"}, "series is 'x'", "give at most 64 ids", id="no id"),
    ],
)
def test_a_bad_query_is_refused_with_what_and_what_to_do(name: str, query: dict[str, str], what: str, do: str) -> None:
    with pytest.raises(ApiRefused) as refused:
        BY_NAME[name].read(query)
    assert (refused.value.status, refused.value.trouble.what) == (400, what)
    assert refused.value.trouble.do.startswith(do)


def test_the_description_names_every_route_and_resolves() -> None:
    described = openapi("1")
    assert set(described["paths"]) == {route.path for route in ROUTES}
    schemas = described["components"]["schemas"]
    assert {"WindowsPage", "LaneView", "GatewayView", "ErrorBody"} <= set(schemas)
    assert all(reference.rpartition("/")[2] in schemas for reference in _references(described))


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [item for value in node.values() for item in _references(value)]
    return [item for value in node for item in _references(value)] if isinstance(node, list) else []

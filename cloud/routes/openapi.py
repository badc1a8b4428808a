"""The description of all addresses that /openapi.json gives. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cloud.routes.bodies import ErrorBody
from cloud.routes.route import MAX_TEXT, Parameter, Route
from cloud.routes.table import ROUTES


def openapi(version: str, routes: Sequence[Route] = ROUTES) -> dict[str, Any]:
    """Describe the routes as OpenAPI 3.1."""
    answers = [route.answer for route in routes if isinstance(route.answer, type)]
    kinds: list[type] = [*answers, ErrorBody]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(kinds, schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fieldgate", "version": version},
        "paths": _paths(routes, by_kind),
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _paths(routes: Sequence[Route], schemas: dict[type, dict[str, Any]]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return paths


def _operation(route: Route, schemas: dict[type, dict[str, Any]]) -> dict[str, Any]:
    if isinstance(route.answer, str):
        content = {route.answer: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": schemas[route.answer]}}
    refused = {"description": "refused", "content": {"application/json": {"schema": schemas[ErrorBody]}}}
    sent = {"requestBody": {"required": True, "content": {route.body: {"schema": {}}}}} if route.body else {}
    return {
        **sent,
        "operationId": route.name,
        "summary": route.about,
        "parameters": [_parameter(parameter) for parameter in route.parameters],
        "responses": {"200": {"description": "the answer", "content": content}, "default": refused},
        "security": [] if route.access == "open" else [{"bearer": []}],
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT}
    if parameter.kind == "int":
        schema = {"type": "integer", "format": "int64", "minimum": parameter.least, "maximum": parameter.most}
    about = parameter.about + (f"; {parameter.expectation}" if parameter.kind == "ids" else "")
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": about,
        "schema": schema,
    }

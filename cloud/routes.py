"""Every address of the cloud: what it takes and gives, who may ask. `api` serves it, /openapi.json says it. Pure.

A request is refused with what is wrong, where, and what to do about it:

    {"error": {"what": "limit is 0", "where": "query parameter limit", "do": "give a whole number from 1 to 10000"}}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from cloud.placement import Plan
from cloud.store import MAX_ROWS
from cloud.store.answers import (
    AccountView,
    AlertsPage,
    GatewayView,
    JobView,
    LaneView,
    ModelView,
    QuarantinedView,
    ReportView,
    SeriesView,
    StandingView,
    TrainingView,
    WindowsPage,
)
from protocol.errors import FieldgateError

INT64 = (1 << 63) - 1
MAX_TEXT = 256
MAX_LIVE = 64
"""Series that one page may watch."""


class Trouble(msgspec.Struct):
    """What was wrong with a request, where in it, and what to do."""

    what: str
    where: str
    do: str


class ErrorBody(msgspec.Struct):
    """The body of every answer that is not a success."""

    error: Trouble


class GatewaysBody(msgspec.Struct):
    """The fleet."""

    gateways: list[GatewayView]


class SeriesBody(msgspec.Struct):
    """Series in the order of their ids; `next` is the `after` of the page after this one."""

    series: list[SeriesView]
    next: int | None


class LedgerBody(msgspec.Struct):
    """Lanes of the newest epochs of each gateway, and the gateways themselves; `now` (ns) is this cloud's time."""

    ledger: list[LaneView]
    gateways: list[AccountView]
    now: int


class QuarantineBody(msgspec.Struct):
    """Frames that were not understood, newest first."""

    quarantine: list[QuarantinedView]


class ModelsBody(msgspec.Struct):
    """Models by name, and what became of their versions on gateways, newest first."""

    models: list[ModelView]
    reports: list[ReportView]


class RollbackBody(msgspec.Struct):
    """A model's new version, and the earlier one whose content it has."""

    model: str
    version: int
    of: int


class PushBody(msgspec.Struct):
    """What became of a model that was pushed: its version, or None while the gateways of its training try it."""

    model: str
    version: int | None


class PinsBody(msgspec.Struct):
    """Versions that are kept, by model and then by gateway; "*" is all of them."""

    pins: dict[str, dict[str, int]]


class TrainingsBody(msgspec.Struct):
    """All trainings by name."""

    trainings: list[TrainingView]


class JobsBody(msgspec.Struct):
    """All jobs that are remembered, newest first, without parts and results; and standing ones, as configured."""

    jobs: list[JobView]
    standing: list[StandingView] = []


class LatencyView(msgspec.Struct):
    """Milliseconds from the end of a window to its commit, since this cloud started."""

    p50: float | None
    p99: float | None


class FramesView(msgspec.Struct):
    """Frames since this cloud started."""

    received: int
    duplicate: int
    quarantined: int


class StatsBody(msgspec.Struct):
    """What this cloud did since it started."""

    latency_ms: LatencyView
    frames: FramesView
    windows_stored: int
    bytes_received: int
    commits: int
    gateways_online: int


class WhoamiBody(msgspec.Struct):
    """Whom a gateway's token speaks for, and who answers."""

    gateway: str
    version: str  # of this cloud
    now: int  # ns, by this cloud's clock


class ApiRefused(FieldgateError):
    """A request that cannot be answered: the asker's fault, with the remedy."""

    def __init__(self, status: int, what: str, where: str, do: str, *, retry_after_s: int = 0) -> None:
        super().__init__(what)
        self.status = status
        self.trouble = Trouble(what, where, do)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter; `kind` "ids" is a list of integers parted by commas."""

    name: str
    kind: Literal["int", "text", "ids"]
    about: str
    default: Any = None
    required: bool = False
    least: int = 0
    most: int = INT64
    place: Literal["query", "path"] = "query"

    @property
    def expectation(self) -> str:
        """What a good value is."""
        if self.kind == "text":
            return f"text of at most {MAX_TEXT} characters"
        span = f"from {self.least} to {self.most}" if self.most < INT64 else f"of at least {self.least}"
        if self.kind == "ids":
            return f"at most {MAX_LIVE} ids, parted by commas"
        return f"a whole number {span}"

    def read(self, text: str | None) -> Any:
        """Turn the query's text into a value; ApiRefused says what was expected."""
        if text is None:
            if self.required:
                raise self._refused("is missing")
            return self.default
        if self.kind == "text":
            if len(text) > MAX_TEXT:
                raise self._refused(f"has {len(text)} characters")
            return text
        if self.kind == "ids":
            items = [item for item in text.split(",") if item]
            if len(items) > MAX_LIVE:
                raise self._refused(f"has {len(items)} ids")
            return [self._integer(item) for item in items]
        return self._integer(text)

    def _integer(self, text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
            raise self._refused(f"is {text[:MAX_TEXT]!r}")
        if not self.least <= (value := int(text)) <= self.most:
            raise self._refused(f"is {value}")
        return value

    def _refused(self, what: str) -> ApiRefused:
        return ApiRefused(400, f"{self.name} {what}", f"{self.place} parameter {self.name}", f"give {self.expectation}")


@dataclass(frozen=True, slots=True)
class Route:
    """One address. `access`: "open" to all, "reader" on loopback or with the admin token, "gateway" with its token.

    "admin" changes something: the admin token is asked for everywhere, as a bearer token: no other page can send it.
    """

    path: str
    name: str
    about: str
    access: Literal["open", "reader", "gateway", "admin"]
    answer: type | str  # a struct for JSON, or a media type
    parameters: tuple[Parameter, ...] = ()
    method: Literal["GET", "POST", "DELETE"] = "GET"
    body: str = ""  # media type of what is sent; "" is nothing

    def read(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Read all parameters; an unknown one is refused with the nearest known."""
        known = [parameter.name for parameter in self.parameters]
        for name in query:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, 0.5)
                do = f"did you mean {near[0]}?" if near else f"use {', '.join(known) or 'none'}"
                raise ApiRefused(400, f"there is no parameter {name[:MAX_TEXT]}", "query", do)
        return {parameter.name: parameter.read(query.get(parameter.name)) for parameter in self.parameters}


LIMIT = Parameter("limit", "int", "how many at most", 1000, least=1, most=MAX_ROWS)
GATEWAY = Parameter("gateway", "text", "of this gateway only")

ID = Parameter("id", "text", "the job's name", required=True, place="path")
SPEC = """Of `work` (what is computed), all else may be left out: `series` and `gateways` (patterns of names; `@label`),
`from` and `to` (event time, ns) or `last` ("24h"), `params` (the work's own), `priority` (1 to 100), `deadline`
("10m"), `partial` (true: what has not answered by then is left out), `limit` (readings, for work that sends some),
`windows` ("when away": where a gateway's readings cannot be had, the windows stored here will do; else "never")."""

ROUTES = (
    Route("/v1/gateways", "gateways", "The fleet.", "reader", GatewaysBody),
    Route(
        "/v1/series",
        "series",
        "Series by id.",
        "reader",
        SeriesBody,
        (
            GATEWAY,
            Parameter("match", "text", "names that match this glob, such as */temperature"),
            Parameter("after", "int", "ids above this", 0),
            LIMIT,
        ),
    ),
    Route(
        "/v1/windows",
        "windows",
        "Windows of one series, oldest first. Without `from`, the newest ones.",
        "reader",
        WindowsPage,
        (
            Parameter("series", "int", "the id of the series", required=True),
            Parameter("from", "int", "starts at or after this, in ns", least=-INT64),
            Parameter("to", "int", "starts before this, in ns", INT64, least=-INT64),
            Parameter("definition", "int", "of this window definition only"),
            Parameter("domain", "text", "the clock domain; empty is UTC", ""),
            LIMIT,
        ),
    ),
    Route(
        "/v1/alerts",
        "alerts",
        "Alerts, newest first. One without series is about the gateway itself.",
        "reader",
        AlertsPage,
        (GATEWAY, Parameter("before", "int", "raised before this, in ns", INT64), LIMIT),
    ),
    Route(
        "/v1/ledger", "ledger", "What each gateway handed over, per epoch and lane.", "reader", LedgerBody, (GATEWAY,)
    ),
    Route(
        "/v1/models",
        "models",
        "Models with their versions, which gateway runs which, and the reports that gateways sent.",
        "reader",
        ModelsBody,
        (Parameter("gateway", "text", "reports of this gateway only"), LIMIT),
    ),
    Route(
        "/v1/rollback",
        "rollback",
        "Publish an earlier version's content as a model's next version.",
        "admin",
        RollbackBody,
        (
            Parameter("model", "text", "the model's name", required=True),
            Parameter("version", "int", "go back to this one; without it, to the one before", least=1),
        ),
        "POST",
    ),
    Route(
        "/v1/models",
        "push",
        "Bring a model: a classifier, baseline or ONNX file. That of a training is tried by its gateways first.",
        "admin",
        PushBody,
        (
            Parameter("model", "text", "the model's name; a training's name for a classifier of its", required=True),
            Parameter("untried", "int", "1 puts it in force at once", 0, most=1),
        ),
        "POST",
        "application/octet-stream",
    ),
    Route(
        "/v1/pin",
        "pin",
        "Keep one gateway, or all, at a version of a model.",
        "admin",
        PinsBody,
        (
            Parameter("model", "text", "the model's name", required=True),
            Parameter("version", "int", "this one; without it, the newest", least=1),
            Parameter("gateway", "text", "this gateway only; without it nothing newer is published"),
        ),
        "POST",
    ),
    Route(
        "/v1/unpin",
        "unpin",
        "Take a pin off again.",
        "admin",
        PinsBody,
        (
            Parameter("model", "text", "the model's name", required=True),
            Parameter("gateway", "text", "of this gateway"),
        ),
        "POST",
    ),
    Route(
        "/v1/promote",
        "promote",
        "Put in force what a training's last run made, whatever the gate said of it.",
        "admin",
        TrainingsBody,
        (Parameter("name", "text", "the training's name", required=True),),
        "POST",
    ),
    Route(
        "/v1/trainings",
        "trainings",
        "What gateways learn together: rounds, and how they ended.",
        "reader",
        TrainingsBody,
    ),
    Route(
        "/v1/train",
        "train",
        "Begin a run of a training now.",
        "admin",
        TrainingsBody,
        (Parameter("name", "text", "the training's name", required=True),),
        "POST",
    ),
    Route("/v1/jobs", "jobs", "Jobs over the fleet, newest first.", "reader", JobsBody),
    Route("/v1/jobs", "submit", "Begin a job. " + SPEC, "admin", JobView, method="POST", body="application/json"),
    Route(
        "/v1/plan",
        "plan",
        "Say where each part of a job would be computed, why, what it would cost and when it would end.",
        "admin",
        Plan,
        method="POST",
        body="application/json",
    ),
    Route("/v1/jobs/{id}", "job", "A job with its parts and its result.", "reader", JobView, (ID,)),
    Route("/v1/jobs/{id}", "cancel", "End a job; nothing of it is merged.", "admin", JobView, (ID,), "DELETE"),
    Route("/v1/quarantine", "quarantine", "Frames that were not understood.", "reader", QuarantineBody, (LIMIT,)),
    Route("/v1/stats", "stats", "What this cloud did since it started.", "reader", StatsBody),
    Route(
        "/v1/live",
        "live",
        "Server-sent events: the fleet, alerts, models, and the windows of chosen series as they are committed.",
        "reader",
        "text/event-stream",
        (Parameter("series", "ids", "ids of series", ()),),
    ),
    Route("/v1/whoami", "whoami", "Whose token this is, this cloud's version and time.", "gateway", WhoamiBody),
    Route("/v1/uplink", "uplink", "The WebSocket that gateways speak on.", "gateway", "application/octet-stream"),
    Route("/openapi.json", "openapi", "This description.", "open", "application/json"),
    Route("/livez", "livez", "Whether this process answers.", "open", "text/plain"),
    Route("/readyz", "readyz", "Whether the store commits; 503 and the reason when not.", "open", "text/plain"),
    Route("/metrics", "metrics", "Counters in Prometheus' text format.", "reader", "text/plain"),
)


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

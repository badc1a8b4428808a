from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PubCompPacket,
    PublishPacket,
    PubRecPacket,
    PubRelPacket,
    QoS,
    SubscribePacket,
)

from cli.broker import EmbeddedBroker
from gateway.config import Broker
from gateway.intake import Intake, pacing
from gateway.intake.connection import MAX_PACKET, QUICKACK, pubacks
from gateway.records import Arrivals
from protocol.errors import ConfigurationRefused
from protocol.settings import Duration
from tests.fake_broker import DEADLINE_S, FakeBroker, Peer, publish

SECOND = 10**9


class Calm(Random):
    """Chance that never waits: a reconnect is at once; `longest` is what it might have been, each time."""

    def __init__(self) -> None:
        super().__init__(1)
        self.longest: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.longest.append(b)
        return a


class Listener:
    """An Intake, what arrived through it, and what it said of itself."""

    def __init__(
        self, broker: Broker, subscriptions: Sequence[tuple[str, int]], password: bytes | None, client_id: str
    ) -> None:
        self.batches: asyncio.Queue[Arrivals] = asyncio.Queue()
        self.states: asyncio.Queue[tuple[bool, str]] = asyncio.Queue()
        self.chance = Calm()
        self.intake = Intake(
            broker,
            client_id,
            subscriptions,
            password,
            self.batches.put_nowait,
            lambda connected, why: self.states.put_nowait((connected, why)),
            self.chance,
        )

    async def arrivals(self) -> Arrivals:
        async with asyncio.timeout(DEADLINE_S):
            return await self.batches.get()

    async def state(self) -> tuple[bool, str]:
        async with asyncio.timeout(DEADLINE_S):
            return await self.states.get()

    @property
    def confirms_at_once(self) -> bool:
        """Whether the kernel does not wait for an answer of ours to go with its confirmation."""
        connection = self.intake._connection
        assert connection is not None
        assert connection._transport is not None
        found: int = connection._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, QUICKACK)
        return found == 1

    async def messages(self, number: int) -> list[tuple[str, bytes]]:
        """The next messages, each acknowledged as it comes."""
        found: list[tuple[str, bytes]] = []
        while len(found) < number:
            batch = await self.arrivals()
            self.intake.acknowledge(batch.connection, batch.packet_ids)
            found += zip(batch.topics, batch.payloads, strict=True)
        return found


@asynccontextmanager
async def listening(
    url: str,
    subscriptions: Sequence[tuple[str, int]] = (("s/+/+", 1),),
    *,
    password: bytes | None = None,
    client_id: str = "gateway-1",
    **settings: Any,
) -> AsyncIterator[Listener]:
    listener = Listener(Broker(url=url, **settings), subscriptions, password, client_id)
    task = asyncio.create_task(listener.intake.run(), name="intake")
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def connected(broker: FakeBroker) -> Peer:
    peer = await broker.accept()
    await peer.greet()
    return peer


# Saying hello.


async def test_connect_asks_for_a_lasting_session_and_bounds_what_the_broker_may_send(fake_broker: FakeBroker) -> None:
    async with listening(
        fake_broker.url, [("a/+", 0), ("b", 1), ("a/+", 1)], receive_maximum=123, username="u", password=b"p"
    ):
        peer = await fake_broker.accept()
        connect = await peer.expect(ConnectPacket)
        assert (connect.client_id, connect.clean_start, connect.session_expiry_interval) == (
            "gateway-1",
            False,
            604_800,
        )
        assert (connect.receive_max, connect.max_packet_size, connect.topic_alias_max) == (123, MAX_PACKET, 0)
        assert (connect.username, connect.password, connect.keep_alive) == ("u", b"p", 60)
        peer.send(ConnAckPacket())
        subscribe = await peer.expect(SubscribePacket)
        assert [(item.pattern, int(item.max_qos)) for item in subscribe.topic_filters] == [("a/+", 1), ("b", 1)]


async def test_messages_that_follow_the_answer_in_one_read_arrive_after_the_word_that_we_are_connected(
    fake_broker: FakeBroker,
) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await fake_broker.accept()
        await peer.expect(ConnectPacket)
        peer.send(ConnAckPacket(session_present=True), publish(1, packet_id=1), publish(2, packet_id=2))
        batch = await listener.arrivals()
        assert listener.states.get_nowait()[0]
        assert (batch.payloads, batch.packet_ids, batch.connection) == ([b"1", b"2"], [1, 2], 1)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD, "bad user name or password"),
        (ConnAckReasonCode.NOT_AUTHORIZED, "not authorized"),
        (ConnAckReasonCode.SERVER_BUSY, "server busy"),
    ],
)
async def test_a_refusal_is_told_in_words_and_tried_again(
    fake_broker: FakeBroker, code: ConnAckReasonCode, words: str
) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await fake_broker.accept()
        await peer.expect(ConnectPacket)
        peer.send(ConnAckPacket(reason_code=code, reason_str="go away"))
        assert await listener.state() == (False, f"the broker refused the connection: {words} (go away)")
        await connected(fake_broker)
        assert (await listener.state())[0]


async def test_a_broker_of_mqtt_3_is_named_as_such(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await fake_broker.accept()
        peer.send(b"\x20\x02\x00\x01")
        assert await listener.state() == (False, "the broker answered in MQTT 3; MQTT 5 is needed")


async def test_a_refused_or_lessened_subscription_is_logged_with_its_topic_and_reason_once(
    fake_broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(fake_broker.url, [("a", 1), ("b", 1), ("c", 1)]) as listener:
        for _ in range(2):
            peer = await fake_broker.accept()
            await peer.greet(codes=[1, 0x87, 0])
            peer.send(publish(1))
            await listener.arrivals()
            peer.drop()
        assert [
            record.getMessage() for record in caplog.records if "sub" in record.message or "grants" in record.message
        ] == [
            "the broker refused the subscription to b: not authorized",
            "the broker grants c at most once only: unacknowledged readings may be lost",
        ]
        assert listener.intake.counters.subscriptions_refused == 1


# Acknowledging.


async def test_nothing_is_acknowledged_until_we_are_told_and_then_in_one_write(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        peer.send(publish(1, packet_id=10), publish(2), publish(3, packet_id=11))
        batch = await listener.arrivals()
        listener.intake.publish("witness", b"")
        assert (await peer.expect(PublishPacket)).topic == "witness"  # came first: no PUBACK before it
        listener.intake.acknowledge(batch.connection, batch.packet_ids)
        assert [(await peer.expect(PubAckPacket)).packet_id for _ in range(2)] == [10, 11]


@pytest.mark.parametrize("ids", [[], [1], [255, 256, 65_535], list(range(1, 3_000))])
def test_joined_acknowledgements_are_those_of_the_codec(ids: list[int]) -> None:
    assert pubacks(ids) == b"".join(PubAckPacket(number).write() for number in ids)


async def test_a_message_redelivered_after_a_drop_is_marked_and_acknowledged_on_the_new_connection(
    fake_broker: FakeBroker,
) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        peer.send(publish(1, packet_id=10))
        first = await listener.arrivals()
        assert (await listener.state())[1].endswith("(new session)")
        peer.drop()
        assert not (await listener.state())[0]
        listener.intake.acknowledge(first.connection, first.packet_ids)  # too late: the connection is gone
        peer = await fake_broker.accept()
        await peer.greet(ConnAckPacket(session_present=True))
        assert (await listener.state())[1].endswith("(session resumed)")
        peer.send(publish(1, packet_id=10, duplicate=True), publish(2, packet_id=11))
        again = await listener.arrivals()
        assert (again.packet_ids, again.duplicate, again.connection) == ([10, 11], [True, False], 2)
        listener.intake.acknowledge(first.connection, first.packet_ids)  # still the old one
        listener.intake.acknowledge(again.connection, again.packet_ids)
        assert [(await peer.expect(PubAckPacket)).packet_id for _ in range(2)] == [10, 11]
        counters = listener.intake.counters
        assert (counters.connections, counters.stale, counters.acknowledged, counters.sessions_lost) == (2, 2, 2, 0)


async def test_a_session_the_broker_forgot_is_counted(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        (await connected(fake_broker)).drop()
        peer = await connected(fake_broker)
        peer.send(publish(1))
        await listener.arrivals()
        assert listener.intake.counters.sessions_lost == 1


async def test_the_broker_can_fill_its_window_and_no_more_until_we_acknowledge(fake_broker: FakeBroker) -> None:
    window = 50
    async with listening(fake_broker.url, receive_maximum=window) as listener:
        peer = await fake_broker.accept()
        connect = await peer.greet()
        in_flight: set[int] = set()
        waiting = list(range(1, 301))
        payloads: list[bytes] = []
        while waiting or in_flight:
            take = [waiting.pop(0) for _ in range(min(len(waiting), connect.receive_max - len(in_flight)))]
            peer.send(*(publish(number, packet_id=number) for number in take))
            in_flight |= set(take)
            while in_flight:
                batch = await listener.arrivals()
                payloads += batch.payloads
                listener.intake.acknowledge(batch.connection, batch.packet_ids)
                for _ in batch.packet_ids:
                    in_flight.remove((await peer.expect(PubAckPacket)).packet_id)
        assert payloads == [str(number).encode() for number in range(1, 301)]


async def test_a_message_of_level_2_runs_its_course_though_we_never_ask_for_one(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        peer.send(PublishPacket("s/d/m", b"2", qos=QoS.EXACTLY_ONCE, packet_id=5))
        assert (await listener.arrivals()).payloads == [b"2"]
        assert (await peer.expect(PubRecPacket)).packet_id == 5
        peer.send(PubRelPacket(5))
        assert (await peer.expect(PubCompPacket)).packet_id == 5


# Bad input.


async def test_a_message_beyond_the_limit_is_acknowledged_and_counted_and_costs_no_other(
    fake_broker: FakeBroker,
) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        huge = PublishPacket("s/d/m", b"x" * (MAX_PACKET + 1), qos=QoS.AT_LEAST_ONCE, packet_id=3)
        largest = b"y" * (MAX_PACKET - 14)
        peer.send(huge, PublishPacket("s/d/m", largest), publish(1))
        assert await listener.messages(2) == [("s/d/m", largest), ("s/d/m", b"1")]
        assert (await peer.expect(PubAckPacket)).packet_id == 3
        assert listener.intake.counters.too_large == 1


async def test_an_illegible_message_is_acknowledged_and_counted(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        peer.send(b"\x32\x0a\x00\x01a\x00\x05\x02\xf0\xf0x!", publish(1))
        assert await listener.messages(1) == [("s/d/m", b"1")]
        assert (await peer.expect(PubAckPacket)).packet_id == 5
        assert listener.intake.counters.malformed == 1


async def test_an_error_of_ours_is_raised_and_not_taken_for_the_networks(fake_broker: FakeBroker) -> None:
    def broken(_: Arrivals) -> None:
        raise ZeroDivisionError

    intake = Intake(Broker(url=fake_broker.url), "g", [("s/#", 1)], None, broken, lambda *_: None, Calm())
    task = asyncio.create_task(intake.run())
    (await connected(fake_broker)).send(publish(1))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(ZeroDivisionError):
            await task


# Staying alive.


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (
            DisconnectPacket(reason_code=DisconnectReasonCode.SESSION_TAKEN_OVER),
            "the broker disconnected us: session taken over",
        ),
        (
            DisconnectPacket(reason_code=DisconnectReasonCode.SERVER_SHUTTING_DOWN, reason_str="at 5"),
            "the broker disconnected us: server shutting down (at 5)",
        ),
    ],
)
async def test_a_goodbye_is_told_in_words_after_its_last_messages(
    fake_broker: FakeBroker, packet: DisconnectPacket, words: str
) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        assert (await listener.state())[0]
        peer.send(publish(1), packet)
        assert (await listener.arrivals()).payloads == [b"1"]
        assert await listener.state() == (False, words)
        await connected(fake_broker)


async def test_an_idle_connection_is_kept_alive_by_pings_and_given_up_without_an_answer(
    fake_broker: FakeBroker,
) -> None:
    async with listening(fake_broker.url, keepalive=Duration(SECOND)) as listener:
        peer = await connected(fake_broker)
        assert (await listener.state())[0]
        await peer.expect(PingReqPacket)
        peer.send(PingRespPacket())
        await peer.expect(PingReqPacket)
        assert await listener.state() == (False, "the broker was silent for 0.5 s")
        await connected(fake_broker)


async def test_the_broker_may_ask_for_a_shorter_keepalive(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url):
        peer = await fake_broker.accept()
        await peer.greet(ConnAckPacket(server_keep_alive=1))
        await peer.expect(PingReqPacket)


async def test_subscriptions_that_are_never_answered_end_the_connection(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url, keepalive=Duration(SECOND)) as listener:
        peer = await fake_broker.accept()
        await peer.expect(ConnectPacket)
        peer.send(ConnAckPacket())
        assert (await listener.state())[0]
        await peer.expect(SubscribePacket)
        await peer.expect(PingReqPacket)
        peer.send(PingRespPacket())
        assert await listener.state() == (False, "the broker did not answer our subscriptions")


async def test_a_broker_that_is_away_at_start_is_told_once_and_found_when_it_comes(
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    async with listening(f"mqtt://127.0.0.1:{port}") as listener:
        connected, why = await listener.state()
        assert not connected
        assert why.startswith(f"127.0.0.1:{port} cannot be reached (")
        reachable = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await Peer(reader, writer).greet()
            reachable.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", port):
            async with asyncio.timeout(DEADLINE_S):
                await reachable.wait()
            assert (await listener.state())[0]
            assert listener.intake.connected


async def test_a_broker_that_comes_and_goes_is_asked_again_within_seconds_and_one_that_refuses_less_often(
    fake_broker: FakeBroker,
) -> None:
    async with listening(fake_broker.url) as listener:
        for _ in range(6):
            (await connected(fake_broker)).drop()
        for _ in range(2):
            peer = await fake_broker.accept()
            await peer.expect(ConnectPacket)
            peer.send(ConnAckPacket(reason_code=ConnAckReasonCode.SERVER_BUSY))
        await connected(fake_broker)
        assert listener.chance.longest == [0.5, 1, 2, 3, 3, 3, 30, 30]


async def test_cancelling_says_goodbye_and_keeps_the_session(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        peer.send(publish(1))
        await listener.arrivals()
    goodbye = await peer.expect(DisconnectPacket)
    assert (goodbye.reason_code, goodbye.session_expiry_interval) == (DisconnectReasonCode.NORMAL_DISCONNECTION, None)
    assert not listener.intake.connected


@pytest.mark.parametrize("steps", range(0, 24, 2))
async def test_an_intake_cancelled_at_any_moment_ends_and_leaves_nothing_behind(
    embedded_broker: EmbeddedBroker, steps: int
) -> None:
    async with listening(embedded_broker.url, client_id="brief") as listener:
        for _ in range(steps):
            await asyncio.sleep(0)
    assert not listener.intake.connected


# Pacing, back-pressure, and publishing.


async def test_short_reads_that_follow_one_another_are_gathered(
    fake_broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "BUSY_S", float("inf"))
    monkeypatch.setattr("gateway.intake.pacing.PAUSES", ((0, 0.05),))
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        for number in range(50):
            peer.send(publish(number))
            await peer.writer.drain()
            await asyncio.sleep(0)
        batches = [await listener.arrivals()]
        while sum(len(batch.topics) for batch in batches) < 50:
            batches.append(await listener.arrivals())
        assert len(batches) < 25


@pytest.mark.skipif(QUICKACK is None, reason="only Linux confirms at once when asked to")
async def test_what_was_read_is_confirmed_at_once_though_we_answer_later(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        for number in range(3):  # answers make the kernel wait for the next one
            peer.send(publish(number, packet_id=number + 1))
            assert len(await listener.messages(1)) == 1
            await peer.expect(PubAckPacket)
        peer.send(publish(9))
        await listener.arrivals()
        assert listener.confirms_at_once


async def test_while_paused_nothing_is_read_and_the_connection_stays_alive(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url, keepalive=Duration(SECOND)) as listener:
        peer = await connected(fake_broker)
        peer.send(publish(1))
        await listener.arrivals()
        listener.intake.pause()
        peer.send(publish(2))
        for _ in range(3):
            await peer.expect(PingReqPacket)
        assert listener.batches.empty()
        assert listener.intake.connected
        listener.intake.resume()
        assert (await listener.arrivals()).payloads == [b"2"]


async def test_a_pause_outlives_the_connection(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        listener.intake.pause()
        peer = await connected(fake_broker)
        assert (await listener.state())[0]
        peer.send(publish(1))
        listener.intake.publish("witness", b"")
        await peer.expect(PublishPacket)
        assert listener.batches.empty()
        listener.intake.resume()
        assert (await listener.arrivals()).payloads == [b"1"]


async def test_a_message_we_publish_goes_out_at_once_or_is_counted_as_dropped(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        listener.intake.publish("alerts", b"too early")
        peer = await fake_broker.accept()
        await peer.greet(ConnAckPacket(max_packet_size=100))
        assert (await listener.state())[0]
        listener.intake.publish("alerts", b"too large" * 20)
        listener.intake.publish("alerts", b"now", retain=True)
        sent = await peer.expect(PublishPacket)
        assert (sent.topic, sent.payload, sent.retain, int(sent.qos)) == ("alerts", b"now", True, 0)
        counters = listener.intake.counters
        assert (counters.published, counters.unpublished) == (1, 2)


async def test_a_broker_that_does_not_read_cannot_fill_our_memory(fake_broker: FakeBroker) -> None:
    async with listening(fake_broker.url) as listener:
        peer = await connected(fake_broker)
        assert (await listener.state())[0]
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(40):
            listener.intake.publish("alerts", b"x" * (1 << 19))
            await asyncio.sleep(0)
        assert listener.intake.counters.unpublished > 0
        assert listener.intake._connection._transport.get_write_buffer_size() <= MAX_PACKET  # type: ignore[union-attr]


# Real brokers.


async def _round_trip(url: str, count: int = 200, **settings: Any) -> None:
    """One client, its own messages."""
    async with listening(url, [("s/+/m", 1)], **settings) as listener:
        assert (await listener.state())[0]
        expected = [(f"s/{number}/m", str(number).encode()) for number in range(count)]
        for topic, payload in expected:
            listener.intake.publish(topic, payload)
        assert await listener.messages(count) == expected


async def test_readings_come_through_the_embedded_broker(embedded_broker: EmbeddedBroker) -> None:
    await _round_trip(embedded_broker.url)


async def test_readings_come_through_mosquitto(mosquitto: Callable[..., str]) -> None:
    await _round_trip(mosquitto())


async def test_mosquitto_redelivers_what_was_not_acknowledged_when_the_connection_was_lost(
    mosquitto: Callable[..., str],
) -> None:
    url = mosquitto()
    async with listening(url, [("s/+/m", 1)]) as listener:
        assert (await listener.state())[0]
        listener.intake.publish("s/0/m", b"ours")
        assert await listener.messages(1) == [("s/0/m", b"ours")]  # so the broker has our subscription
        await _publish_at_least_once(url, "s/1/m", b"kept")
        first = await listener.arrivals()
        assert (first.payloads, first.duplicate) == ([b"kept"], None)
        listener.intake._connection._transport.abort()  # type: ignore[union-attr]
        again = await listener.arrivals()
        assert (again.payloads, again.packet_ids, again.duplicate) == ([b"kept"], first.packet_ids, [True])
        listener.intake.acknowledge(again.connection, again.packet_ids)


async def _publish_at_least_once(url: str, topic: str, payload: bytes) -> None:
    """A device: it connects, publishes, and waits for its PUBACK."""
    host, port = url.removeprefix("mqtt://").split(":")
    peer = Peer(*await asyncio.open_connection(host, int(port)))
    peer.send(ConnectPacket("device"))
    await peer.expect(ConnAckPacket)
    peer.send(PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=1))
    await peer.expect(PubAckPacket)
    peer.drop()


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """A mosquitto password file that knows `gate` with `secret`."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed (Debian: apt-get install mosquitto)")
    path = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(path), "gate", "secret"], check=True)
    return path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for loopback, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    pem, key_pem = directory / "cert.pem", directory / "key.pem"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_pem.write_bytes(key.private_bytes(*form))
    return pem, key_pem


async def test_readings_come_through_tls_with_user_name_and_password(
    mosquitto: Callable[..., str], certificate: tuple[Path, Path], passwords: Path
) -> None:
    pem, key = certificate
    url = mosquitto(
        f"certfile {pem}", f"keyfile {key}", f"password_file {passwords}", "allow_anonymous false", tls=True
    )
    await _round_trip(url, ca_file=str(pem), username="gate", password=b"secret")
    async with listening(url, ca_file=str(pem), username="gate", password=b"wrong") as listener:
        assert await listener.state() == (False, "the broker refused the connection: not authorized")


async def test_a_certificate_that_is_not_trusted_is_refused_with_the_reason(
    mosquitto: Callable[..., str], certificate: tuple[Path, Path]
) -> None:
    pem, key = certificate
    url = mosquitto(f"certfile {pem}", f"keyfile {key}", tls=True)
    async with listening(url) as listener:
        connected, why = await listener.state()
        assert not connected
        assert "CERTIFICATE_VERIFY_FAILED" in why


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_tls_files_that_cannot_be_read_are_refused_by_their_key(key: str) -> None:
    broker = Broker(url="mqtts://localhost", **{key: "/nowhere.pem"})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationRefused, match=rf"devices\.{key} = '/nowhere.pem'"):
        Intake(broker, "g", [], None, lambda _: None, lambda *_: None, Random(1))


@pytest.mark.parametrize("qos", [0, 1])
async def test_every_message_of_a_blaster_arrives_and_is_acknowledged(free_port: Callable[[], int], qos: int) -> None:
    port, count = free_port(), 5_000
    command = [sys.executable, "-m", "tests.bench.blaster", "--port", str(port), "--qos", str(qos)]
    blaster = await asyncio.create_subprocess_exec(
        *command, "--messages", str(count), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert blaster.stdout is not None
    assert blaster.stderr is not None
    await blaster.stderr.readline()  # ready
    async with listening(f"mqtt://127.0.0.1:{port}", [("sensors/+/+", qos)], receive_maximum=300) as listener:
        messages = await listener.messages(count)
        summary = json.loads(await blaster.stdout.readline())
    await blaster.wait()
    assert len(set(messages)) == count
    assert (summary["acknowledged"], summary["complete"]) == (count * qos, True)

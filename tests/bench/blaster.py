"""A fake MQTT 5 broker that sends pre-encoded PUBLISHes as fast as its one client reads, and counts what comes back.

    python -m tests.bench.blaster --port 1883 --qos 1 --messages 1000000 --payload json

It waits for a client, answers CONNECT and SUBSCRIBE, sends, honours the client's Receive Maximum, and prints one JSON
object when everything has been sent and (QoS 1) acknowledged. Then it answers pings until the client leaves or is
killed, at most `--linger` seconds. Payload i is a reading of device i % devices, one interval after that device's
reading before it.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import mqtt5
import numpy as np

ACK = 4
BLOCK = 256 << 10
ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """All packets joined; packet i is data[offsets[i]:offsets[i + 1]]."""

    data: memoryview
    offsets: list[int]
    qos: int

    @property
    def messages(self) -> int:
        return len(self.offsets) - 1


def encode(messages: int, qos: int, payload: str, *, devices: int = 100, interval_ms: int = 100) -> Load:
    """Encode every packet beforehand; packet ids go round, so no two in flight are equal."""
    start = 1_700_000_000_000
    topics = [f"sensors/dev{number}/temperature" for number in range(devices)]
    packets = []
    for number in range(messages):
        stamp = start + number // devices * interval_ms
        value = 20 + number * 7919 % 1000 / 100
        text = f'{{"time":{stamp},"value":{value:.2f}}}' if payload == "json" else f"{value:.2f}"
        packet_id = number % 65_535 + 1 if qos else None
        topic = topics[number % devices]
        packet = mqtt5.PublishPacket(topic, text.encode(), qos=mqtt5.QoS(qos), packet_id=packet_id)
        packets.append(packet.write())
    return Load(memoryview(b"".join(packets)), [0, *accumulate(map(len, packets))], qos)


class Client:
    """The one client: what it sends is read here."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.socket = connection
        self.acknowledged = 0
        self.gone = False
        self._waiting = b""

    def packets(self) -> Iterator[mqtt5.Packet]:
        """Read once (blocking), count acknowledgements, answer pings, give the rest."""
        received = self._receive()
        self.gone = not received
        data = self._waiting + received
        if not self._waiting and len(data) % ACK == 0 and _all_acks(data):
            self.acknowledged += len(data) // ACK
            return
        at = 0
        while at < len(data):
            try:
                packet, size = mqtt5.read(memoryview(data)[at:])
            except IndexError:
                break
            at += size
            if isinstance(packet, mqtt5.PubAckPacket):
                self.acknowledged += 1
            elif isinstance(packet, mqtt5.PingReqPacket):
                self.say(mqtt5.PingRespPacket())
            else:
                yield packet
        self._waiting = data[at:]

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(BLOCK)
        except ConnectionError:  # it was killed
            return b""

    def send(self, data: memoryview | bytes) -> int:
        """Send what goes at once; tell how much."""
        try:
            return self.socket.send(data)
        except ConnectionError:
            self.gone = True
            return 0

    def say(self, packet: mqtt5.ConnAckPacket | mqtt5.SubAckPacket | mqtt5.PingRespPacket) -> None:
        """Send a packet that is small."""
        self.send(packet.write())

    def readable(self, timeout: float) -> bool:
        """Wait for something to read."""
        return bool(select.select([self.socket], [], [], timeout)[0])


def _all_acks(data: bytes) -> bool:
    array = np.frombuffer(data, np.uint8)
    return bool((array[0::4] == 0x40).all() and (array[1::4] == 2).all())


def greet(client: Client, qos: int) -> int:
    """Answer CONNECT and SUBSCRIBE; give the client's Receive Maximum."""
    window = 65_535
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline and not client.gone:
        if not client.readable(1.0):
            continue
        for packet in client.packets():
            if isinstance(packet, mqtt5.ConnectPacket):
                window = packet.receive_max
                client.say(mqtt5.ConnAckPacket())
            elif isinstance(packet, mqtt5.SubscribePacket):
                codes = [mqtt5.SubAckReasonCode(qos) for _ in packet.topic_filters]
                client.say(mqtt5.SubAckPacket(packet.packet_id, codes))
                return window
    raise SystemExit("no client subscribed")


def blast(client: Client, load: Load, window: int) -> float:
    """Send everything, wait for the acknowledgements; give the seconds from first byte to last."""
    client.socket.setblocking(False)
    sent = at = 0
    total = load.messages
    began = time.perf_counter()
    while not client.gone and (sent < total or (load.qos and client.acknowledged < total)):
        allowed = min(total, client.acknowledged + window) if load.qos else total
        stop = load.offsets[allowed]
        wants = [client.socket] if at < stop else []
        readable, writable, _ = select.select([client.socket], wants, [], ANSWER_S)
        if not readable and not writable:
            raise SystemExit(f"nothing moved for {ANSWER_S} s: {client.acknowledged} of {sent} acknowledged")
        if readable:
            list(client.packets())
        if writable:
            at += client.send(load.data[at : min(at + BLOCK, stop)])
            sent = allowed if at == stop else sent
    client.socket.setblocking(True)
    return time.perf_counter() - began


def serve(listener: socket.socket, load: Load, linger: float) -> None:
    """Serve one client from its CONNECT to its end."""
    connection, _ = listener.accept()
    with connection:
        client = Client(connection)
        window = greet(client, load.qos)
        seconds = blast(client, load, window)
        sys.stdout.write(json.dumps(_summary(load, client, window, seconds)) + "\n")
        sys.stdout.flush()
        deadline = time.monotonic() + linger
        while not client.gone and client.readable(max(0.0, deadline - time.monotonic())):
            list(client.packets())


def _summary(load: Load, client: Client, window: int, seconds: float) -> dict[str, object]:
    return {
        "messages": load.messages,
        "qos": load.qos,
        "bytes": load.offsets[-1],
        "receive_maximum": window,
        "seconds": round(seconds, 4),
        "rate": round(load.messages / seconds),
        "acknowledged": client.acknowledged,
        "complete": not client.gone,
    }


def main(arguments: list[str]) -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--payload", choices=("json", "number"), default="json")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--interval-ms", type=int, default=100)
    parser.add_argument("--linger", type=float, default=30.0)
    options = parser.parse_args(arguments)
    load = encode(
        options.messages, options.qos, options.payload, devices=options.devices, interval_ms=options.interval_ms
    )
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        sys.stderr.write(f"ready on 127.0.0.1:{options.port}\n")
        sys.stderr.flush()
        serve(listener, load, options.linger)


if __name__ == "__main__":
    main(sys.argv[1:])

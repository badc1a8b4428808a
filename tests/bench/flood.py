"""A publisher of pre-encoded QoS 0 messages: `python -m tests.bench.flood --port P --messages N`."""

from __future__ import annotations

import argparse
import socket

import mqtt5

from tests.bench.blaster import encode


def main() -> None:
    """Connect, send everything, and leave in order."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    options = parser.parse_args()
    # 1,000 devices, each every 12 ms of event time: about the rate at which a broker passes it on, so event time keeps
    # step with real time.
    load = encode(options.messages, 0, "json", devices=1000, interval_ms=12)
    with socket.create_connection(("127.0.0.1", options.port)) as connection:
        connection.sendall(mqtt5.ConnectPacket("flood", clean_start=True, keep_alive=600).write())
        connection.recv(4096)
        connection.sendall(load.data)
        connection.sendall(mqtt5.DisconnectPacket().write())
        while connection.recv(4096):
            pass


if __name__ == "__main__":
    main()

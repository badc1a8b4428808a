"""The load for the benchmarks outlives its client, whichever way that ends."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import mqtt5
import pytest

from tests.bench.blaster import Client, blast, encode

LINGER = struct.pack("ii", 1, 0)  # closing resets the connection, as when a process is killed with bytes unread


@pytest.fixture
def ends() -> Iterator[tuple[Client, socket.socket]]:
    """Give a client as the blaster sees it, and its own end."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as theirs:
        ours, _ = listener.accept()
        with ours:
            yield Client(ours), theirs


def kill(theirs: socket.socket) -> None:
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    theirs.close()


@pytest.mark.parametrize("end", [kill, socket.socket.close], ids=["killed", "closed"])
def test_a_client_that_ends_while_it_is_listened_to_is_gone(ends: tuple[Client, socket.socket], end: object) -> None:
    client, theirs = ends
    assert callable(end)
    end(theirs)
    assert (list(client.packets()), client.gone) == ([], True)


def test_a_client_that_is_killed_while_it_is_sent_to_is_gone(ends: tuple[Client, socket.socket]) -> None:
    client, theirs = ends
    kill(theirs)
    client.say(mqtt5.PingRespPacket())
    assert client.gone


def test_a_load_whose_client_is_killed_ends(ends: tuple[Client, socket.socket]) -> None:
    client, theirs = ends
    load = encode(1000, 1, "number")
    kill(theirs)
    blast(client, load, 20)
    assert (client.gone, client.acknowledged) == (True, 0)

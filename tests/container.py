"""The container image at work, confined as deploy/compose.yaml does: `python -m tests.container IMAGE` prints JSON.

podman starts it without capabilities, with a root that cannot be written, its data on a volume. It must become ready,
take a frame, and when it is told to end commit what it has taken, and exit with 0. Run by deploy/container.sh.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from protocol.frame import decode, load, message
from protocol.messages import Kind, Receipt, Welcome
from tests.cloud.wire import Wire, definitions, windows_body
from tests.journeys.processes import get
from tests.waiting import until

CONFINED = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
MODEST = ["--network=host", "--cgroups=disabled", "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]
"""What asks less of the machine than podman does by itself: no bridge, no cgroups, no right to raise limits."""

DATA = "/var/lib/fieldgate"
BURST = 50
GRACE_S = 30


def podman(*arguments: str) -> str:
    """Run podman and give what it prints."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"podman {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


class Container:
    """The cloud in a container, on a volume of its own."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        self.volume = Path(podman("volume", "inspect", "--format", "{{.Mountpoint}}", name))
        self.pid = int(podman("inspect", "--format", "{{.State.Pid}}", name))

    async def ready(self) -> None:
        """Wait until it says so itself."""

        async def asked() -> bool:
            assert podman("inspect", "--format", "{{.State.Running}}", self.name) == "true", self.said()
            return await get(f"{self.url}/readyz") == b"ready\n"

        await until(asked, "the cloud in the container is ready", every=0.1)

    def said(self) -> str:
        """Give its output."""
        return podman("logs", self.name)

    def confinement(self) -> dict[str, Any]:
        """Give what the kernel says of its first process: user, capabilities, and whether its root can be written."""
        process = Path(f"/proc/{self.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
        options = {words[4]: words[5].split(",")[0] for words in mounts}
        return {
            "uid": int(status["Uid"].split()[0]),
            "capabilities": int(status["CapEff"], 16),
            "no_new_privileges": status["NoNewPrivs"] == "1",
            "writable": sorted(
                place for place, option in options.items() if option == "rw" and not place.startswith(("/dev", "/proc"))
            ),
        }

    def rows(self) -> int:
        """Count the windows in its database."""
        connection = sqlite3.connect(f"file:{self.volume / 'fieldgate.db'}?mode=ro", uri=True)
        with connection:
            count: int = connection.execute("SELECT count(*) FROM windows").fetchone()[0]
        connection.close()
        return count


@contextmanager
def started(image: str) -> Iterator[Container]:
    """Run the image while the block runs; leave nothing behind."""
    name = f"fieldgate-proof-{secrets.token_hex(4)}"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    listen = ["cloud", "run", "--listen", f"127.0.0.1:{port}", "--data", DATA]
    ready = f"FIELDGATE_READY=http://127.0.0.1:{port}/readyz"
    podman("volume", "create", name)
    try:
        podman(
            "run",
            "--detach",
            "--name",
            name,
            f"--volume={name}:{DATA}",
            "--env",
            ready,
            *CONFINED,
            *MODEST,
            image,
            *listen,
        )
        yield Container(name, port)
    finally:
        podman("rm", "--force", "--ignore", name)
        podman("volume", "rm", "--force", name)


@asynccontextmanager
async def uplink(container: Container, wire: Wire) -> AsyncIterator[ClientWebSocketResponse]:
    """Speak with the cloud as the gateway whose token its first start made."""
    token = (container.volume / f"{wire.gateway}.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        ClientSession() as session,
        session.ws_connect(f"{container.url}/v1/uplink", headers=headers, autoping=False) as socket,
    ):
        await socket.send_bytes(message(Kind.HELLO, wire.hello()))
        assert isinstance(await received(socket), Welcome)
        await socket.send_bytes(wire.frame("definitions", Kind.DEFINITIONS, definitions()))
        yield socket


async def received(socket: ClientWebSocketResponse) -> object:
    """Give the next message's body; None for a pong, and once the cloud has closed."""
    answer = await socket.receive(timeout=GRACE_S)
    if answer.type is not WSMsgType.BINARY:
        return None
    frame = decode(answer.data)
    return load(frame.kind, frame.body)


async def stored(socket: ClientWebSocketResponse, wire: Wire) -> int:
    """Wait for the receipt of all telemetry sent, or the connection's end; give how far the last receipt went."""
    upto = 0
    while upto < wire.seq["telemetry"] and not socket.closed:
        answer = await received(socket)
        if isinstance(answer, Receipt) and "telemetry" in answer.marks:
            upto = answer.marks["telemetry"].upto
    return upto


def window(number: int, wire: Wire) -> bytes:
    """Give a frame with one window, another one for each number."""
    return wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 10 * number, 0, 4)))


async def prove(image: str) -> dict[str, Any]:
    """Do all that the module's text says, and give the figures."""
    began = time.monotonic()
    with started(image) as container:
        await container.ready()
        figures: dict[str, Any] = {"image": image, "ready_s": round(time.monotonic() - began, 2)}
        figures |= container.confinement()
        podman("healthcheck", "run", container.name)
        wire = Wire("gateway-1")
        async with uplink(container, wire) as socket:
            await socket.send_bytes(window(0, wire))
            figures["stored"] = await stored(socket, wire)
            for number in range(1, BURST + 1):
                await socket.send_bytes(window(number, wire))
            await socket.ping()  # answered when all before it has been taken
            taken = [await received(socket)]
            while isinstance(taken[-1], Receipt):
                taken.append(await received(socket))
            podman("kill", "--signal=TERM", container.name)
            figures["receipted"] = max(
                [await stored(socket, wire), *(r.marks["telemetry"].upto for r in taken if isinstance(r, Receipt))]
            )
        figures["exit"] = int(podman("wait", container.name))
        figures["rows"] = container.rows()
        expected: dict[str, Any] = {"stored": 1, "receipted": 1 + BURST, "rows": 1 + BURST, "exit": 0}
        expected |= {"uid": 65532, "capabilities": 0, "no_new_privileges": True, "writable": [DATA]}
        assert {key: figures[key] for key in expected} == expected, f"{figures}\n{container.said()}"
    return figures


if __name__ == "__main__":
    print(json.dumps(asyncio.run(prove(sys.argv[1]))))  # noqa: T201 - what it is run for

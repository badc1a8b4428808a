"""The container image at work, confined as deploy/compose.yaml does: `python -m tests.container IMAGE` prints JSON.

podman starts it without capabilities, with a root that cannot be written, its data in one place. The cloud becomes
ready, takes a frame, and when it is told to end commits what it has taken and exits with 0; the gateway becomes ready,
acknowledges readings, and when it is told to end has all of them in its journal. Run by deploy/container.sh.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from cli.broker import EmbeddedBroker
from protocol.frame import decode, load, message
from protocol.messages import Kind, Receipt, Welcome
from tests.cloud.wire import Wire, definitions, windows_body
from tests.journeys.kept import replay
from tests.journeys.processes import get
from tests.journeys.site import WINDOWS, Site, finished, publishing
from tests.ports import free_port
from tests.waiting import until

CONFINED = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
MODEST = ["--network=host", "--cgroups=disabled", "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]
"""What asks less of the machine than podman does by itself: no bridge, no cgroups, no right to raise limits."""

UID, VOLUME = 65532, "/var/lib/fieldgate"
BURST = 50
READINGS = 500
PATIENCE_S = 30


def podman(*arguments: str) -> str:
    """Run podman and give what it prints."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"podman {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


class Container:
    """The image's command at work; `url` is where it says whether it is ready."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name, url
        self.pid = int(podman("inspect", "--format", "{{.State.Pid}}", name))

    async def ready(self) -> None:
        """Wait until it says so itself, and its health check agrees."""

        async def asked() -> bool:
            assert podman("inspect", "--format", "{{.State.Running}}", self.name) == "true", self.said()
            return await get(f"{self.url}/readyz") == b"ready\n"

        await until(asked, "what is in the container is ready", every=0.1)
        podman("healthcheck", "run", self.name)

    def said(self) -> str:
        """Give its output."""
        return podman("logs", self.name)

    def confinement(self) -> dict[str, Any]:
        """Give what the kernel says of its first process: user, capabilities, and where it may write."""
        process = Path(f"/proc/{self.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
        writable = [words[4] for words in mounts if words[5].split(",")[0] == "rw"]
        return {
            "uid": int(status["Uid"].split()[0]),
            "capabilities": int(status["CapEff"], 16),
            "no_new_privileges": status["NoNewPrivs"] == "1",
            "writable": {place for place in writable if not place.startswith(("/dev", "/proc"))},
        }

    def terminate(self) -> None:
        """SIGTERM, as an engine's stop sends it."""
        podman("kill", "--signal=TERM", self.name)

    def ended(self) -> int:
        """Wait for its end, and give the exit code."""
        return int(podman("wait", self.name))


@contextmanager
def started(image: str, url: str, data: Path, command: list[str], *mounts: str) -> Iterator[Container]:
    """Run a command of the image while the block runs, with `data` to write to; leave nothing behind."""
    data.mkdir(exist_ok=True)
    os.chown(data, UID, UID)
    name = f"fieldgate-proof-{secrets.token_hex(4)}"
    volumes = [f"--volume={mount}" for mount in (f"{data}:{data}", *mounts)]
    try:
        podman("run", f"--name={name}", "--detach", f"--env=FIELDGATE_READY={url}/readyz", *volumes, *CONFINED, *MODEST,
               image, *command)  # fmt: skip
        yield Container(name, url)
    finally:
        podman("rm", "--force", "--ignore", "--volumes", name)


def checked(figures: dict[str, Any], expected: dict[str, Any], data: Path) -> dict[str, Any]:
    """Give the figures, if they are what they must be, and the container was confined."""
    expected |= {"exit": 0, "uid": UID, "capabilities": 0, "no_new_privileges": True, "writable": {VOLUME, str(data)}}
    assert {key: figures[key] for key in expected} == expected, figures
    return {key: value for key, value in figures.items() if key != "writable"}


# The cloud.


@asynccontextmanager
async def uplink(cloud: Container, wire: Wire, token: str) -> AsyncIterator[ClientWebSocketResponse]:
    """Speak with the cloud as the gateway whose token its first start made."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        ClientSession() as session,
        session.ws_connect(f"{cloud.url}/v1/uplink", headers=headers) as socket,
    ):
        await socket.send_bytes(message(Kind.HELLO, wire.hello()))
        assert isinstance(await received(socket), Welcome)
        await socket.send_bytes(wire.frame("definitions", Kind.DEFINITIONS, definitions()))
        yield socket


async def received(socket: ClientWebSocketResponse) -> object:
    """Give the next message's body; None once the cloud has closed."""
    answer = await socket.receive(timeout=PATIENCE_S)
    if answer.type is not WSMsgType.BINARY:
        return None
    frame = decode(answer.data)
    return load(frame.kind, frame.body)


async def receipted(socket: ClientWebSocketResponse, upto: int = 0, wanted: int = sys.maxsize) -> int:
    """Take receipts of telemetry until one goes so far, or the end; give how far the last one went."""
    while upto < wanted and (answer := await received(socket)) is not None:
        if isinstance(answer, Receipt) and "telemetry" in answer.marks:
            upto = answer.marks["telemetry"].upto
    return upto


def window(number: int, wire: Wire) -> bytes:
    """Give a frame with one window, another one for each number."""
    return wire.frame("telemetry", Kind.WINDOWS, windows_body((0, 10 * number, 0, 4)))


async def prove_cloud(image: str, place: Path) -> dict[str, Any]:
    """Let the cloud take one frame; then let many of them, and the word to end, come in one moment."""
    data, port = place / "cloud", free_port()
    command = ["cloud", "run", "--listen", f"127.0.0.1:{port}", "--data", str(data)]
    wire = Wire("gateway-1")
    with started(image, f"http://127.0.0.1:{port}", data, command) as cloud:
        await cloud.ready()
        figures = cloud.confinement()
        async with uplink(cloud, wire, (data / "gateway-1.token").read_text().strip()) as socket:
            await socket.send_bytes(window(0, wire))
            figures["stored"] = upto = await receipted(socket, wanted=1)
            os.kill(cloud.pid, signal.SIGSTOP)
            for number in range(1, BURST + 1):
                await socket.send_bytes(window(number, wire))
            os.kill(cloud.pid, signal.SIGTERM)  # waits behind the frames, or beside them
            os.kill(cloud.pid, signal.SIGCONT)
            figures["receipted"] = await receipted(socket, upto)
        figures["exit"] = cloud.ended()
    figures["rows"] = count(data / "fieldgate.db")
    return checked(figures, {"stored": 1, "rows": figures["receipted"]}, data)


def count(database: Path) -> int:
    """Count the windows in a cloud's database."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    rows: int = connection.execute("SELECT count(*) FROM windows").fetchone()[0]
    connection.close()
    return rows


# The gateway.


async def prove_gateway(image: str, place: Path) -> dict[str, Any]:
    """Let devices publish, and the gateway end as soon as the broker has acknowledged it all."""
    with EmbeddedBroker(place, free_port(), free_port()) as broker:
        site = Site(place / "barn", broker.url, free_port(), more=WINDOWS)
        command = ["gateway", "run", str(site.path)]
        url = f"http://127.0.0.1:{site.port}"
        with started(image, url, site.data, command, f"{site.path}:{site.path}:ro") as gateway:
            await gateway.ready()
            figures = gateway.confinement()
            async with publishing(site, rate=500) as publisher:
                await until(lambda: publisher.sent >= READINGS, "enough is published")
                figures["acknowledged"] = await finished(publisher)
            await until(lambda: taken(url, figures["acknowledged"]), "the gateway has taken it all")
            gateway.terminate()
            figures["exit"] = gateway.ended()
        figures["journalled"] = replay(site).derive.totals.tally.decoded
    return checked(figures, {"journalled": figures["acknowledged"]}, site.data)


async def taken(url: str, messages: int) -> bool:
    """Whether so many messages have come in."""
    return f"fieldgate_messages_decoded_total {messages:.1f}" in (await get(f"{url}/metrics")).decode()


async def prove(image: str) -> dict[str, Any]:
    """Do all that the module's text says, and give the figures."""
    size = int(podman("image", "inspect", "--format", "{{.Size}}", image))
    with tempfile.TemporaryDirectory(prefix="fieldgate-proof-") as place:
        os.chmod(place, 0o755)  # noqa: PTH101 - the container's user must pass through; the loop has nothing else to do
        cloud, gateway = await prove_cloud(image, Path(place)), await prove_gateway(image, Path(place))
    return {"image": image, "mb": size // 10**6, "cloud": cloud, "gateway": gateway}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(prove(sys.argv[1]))))  # noqa: T201 - what it is run for

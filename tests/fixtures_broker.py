"""Brokers for tests: the embedded one, mosquitto where it is installed, and one that obeys the test (fake_broker)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from cli.broker import EmbeddedBroker
from tests.fake_broker import FakeBroker
from tests.ports import free_port


@pytest.fixture(scope="session", name="free_port")
def free_port_given() -> Callable[[], int]:
    return free_port


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker"), free_port(), free_port()) as broker:
        yield broker


def _mosquitto() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed (Debian: apt-get install mosquitto)")
    return found


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said: list[str] = []
        while not any(" running" in line for line in said):
            line = process.stderr.readline()
            assert line, f"mosquitto ended: {''.join(said)}"
            said.append(line)
        socket.create_connection(("127.0.0.1", port)).close()
        yield
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`mosquitto(*lines, tls=False, port=0)` starts one with these configuration lines and gives its address."""
    program = _mosquitto()
    with ExitStack() as stack:

        def start(*lines: str, tls: bool = False, port: int = 0) -> str:
            port = port or free_port()
            path = tmp_path / f"mosquitto-{port}.conf"
            own = [f"listener {port} 127.0.0.1", "persistence false", "log_dest stderr"]
            own += ["user root"] if os.geteuid() == 0 else []  # else it could not read the test's files
            anonymous = [] if any(line.startswith("allow_anonymous") for line in lines) else ["allow_anonymous true"]
            path.write_text("\n".join([*own, *anonymous, *lines]))
            stack.enter_context(_running([program, "-c", str(path)], port))
            return f"mqtts://localhost:{port}" if tls else f"mqtt://127.0.0.1:{port}"

        yield start


@pytest_asyncio.fixture
async def fake_broker() -> AsyncIterator[FakeBroker]:
    async with FakeBroker() as broker:
        yield broker

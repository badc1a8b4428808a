"""systemd as a service sees it: a socket of the test's own that hears what the service tells."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import DEADLINE_S


class Listener:
    """Hears a service's datagrams; `heard` is every line so far, in order."""

    def __init__(self, ear: socket.socket, address: str) -> None:
        self._ear = ear
        self.environment = {"NOTIFY_SOCKET": address}
        self.heard: list[str] = []

    def pinged_every(self, ms: int) -> dict[str, str]:
        """Give a service's environment: where to tell, and that a ping must come so often."""
        return self.environment | {"WATCHDOG_USEC": str(ms * 1000)}

    async def hear(self, beginning: str) -> str:
        """Wait for the next line whose beginning matches."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                lines = (await asyncio.get_running_loop().sock_recv(self._ear, 4096)).decode().split("\n")
                self.heard += lines
                if found := [line for line in lines if re.match(beginning, line)]:
                    return found[0]

    def silent(self) -> bool:
        """Whether nothing has been told that was not heard."""
        try:
            self._ear.recv(4096, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False


@contextmanager
def listening(place: Path | str) -> Iterator[Listener]:
    """Listen on a path, or on a name of the abstract namespace ("@name"), while the block runs."""
    address = str(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0" + address[1:] if address.startswith("@") else address)
        ear.setblocking(False)
        yield Listener(ear, address)

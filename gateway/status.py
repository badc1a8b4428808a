"""The gateway's own /livez, /readyz and /metrics, on loopback. Everything is read at scrape time."""

from __future__ import annotations

import os
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from gateway.http import Answer, Server
from gateway.vitals import Syncs, Vitals
from protocol.errors import ConfigurationRefused


class Status:
    """The gateway's HTTP face; `fsync` takes the seconds of each journal commit."""

    def __init__(self, read: Callable[[], Vitals]) -> None:
        self.read = read
        self.fsync = Syncs()
        self._server: Server | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens, if anywhere."""
        return self._server.address if self._server is not None else None

    async def listen(self, address: str) -> None:
        """Listen on `host:port`, and from then on nowhere else. "" is nowhere; ConfigurationRefused if it is taken."""
        before, self._server = self._server, await self._listening(address) if address else None
        if before is not None:
            await before.close()

    async def _listening(self, address: str) -> Server:
        server = Server({"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics})
        where = urlsplit(f"//{address}")
        try:
            await server.listen(where.hostname, where.port)
        except OSError as error:
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror  # asyncio's has the address in it
            raise ConfigurationRefused("http.listen", address, f"an address that is free and ours ({why})") from error
        return server

    async def close(self) -> None:
        """Listen no more."""
        await self.listen("")

    def _livez(self) -> Answer:
        return Answer("alive\n")

    def _readyz(self) -> Answer:
        lacking = self.read().lacking
        status = HTTPStatus.SERVICE_UNAVAILABLE if lacking else HTTPStatus.OK
        return Answer("\n".join(lacking or ["ready"]) + "\n", status)

    def _metrics(self) -> Answer:
        from gateway import metrics  # noqa: PLC0415 - loaded when somebody asks, see there

        return Answer(metrics.text(self.read(), self.fsync))

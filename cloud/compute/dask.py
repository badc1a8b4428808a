"""An existing Dask cluster, reached over TLS: with the extra `dask`.

Dask pickles what it sends and unpickles what comes back: whoever is in the cluster, or has a certificate of its
authority, is trusted as this cloud is. Names of hosts are not verified, the authority is.

| bound | answer when it is passed |
|---|---|
| REACH_S to the scheduler, and as long for its first worker | ComputeUnavailable |
| WALL_S for one answer | Died("late"), or ComputeUnavailable if no worker is left |
| workers that die over it, as the cluster allows (four) | Died("crash") |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from cloud.certificates import context
from cloud.compute import Died, Out
from cloud.config import Compute as Settings
from protocol.errors import ComputeUnavailable, ConfigurationRefused

REACH_S = 10.0
WALL_S = 600.0
LARGEST = "1GiB"
"""Dask warns of more in one task; answers of a group of gateways are less."""


class Dask:
    """A client of the cluster, connected as long as somebody is inside."""

    def __init__(self, settings: Settings) -> None:
        if find_spec("distributed") is None:
            expectation = "the extra `dask` to be installed: pip install 'fieldgate[dask]'"
            raise ConfigurationRefused("compute.scheduler", settings.scheduler, expectation)
        context("compute", settings.ca_file, settings.cert_file, settings.key_file)
        self._settings = settings
        self._client: Any = None
        self._users = 0
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> None:
        """Come in."""
        self._users += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take leave of the scheduler if this was the last."""
        self._users -= 1
        if not self._users:
            await self._leave()

    async def run(self, work: Callable[..., Out], *given: object) -> Out:
        """Run it on a worker; one that dies over it is replaced by another."""
        client = await self._connected()
        future = client.submit(work, *given, pure=False)
        try:
            async with asyncio.timeout(WALL_S):
                answer: Out = await future
        except TimeoutError:
            await self._give_up(client, future)
            raise Died("late") from None
        except (OSError, CancelledError) as error:  # the connection's, or the scheduler's that went
            await self._leave()
            raise ComputeUnavailable(f"{self._settings.scheduler}: {error}") from None
        except _killed():
            raise Died("crash") from None
        return answer

    async def look(self) -> str:
        """Say how many workers there are."""
        async with self:
            client = await self._connected()
            return f"{self._settings.scheduler}, {len(await client.nthreads())} workers"

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> Any:
        distributed = await asyncio.to_thread(import_module, "distributed")  # it takes a second
        dask = import_module("dask")
        dask.config.set({"distributed.admin.large-graph-warning-threshold": LARGEST})
        settings = self._settings
        security = distributed.Security(
            require_encryption=True,
            tls_ca_file=settings.ca_file,
            tls_client_cert=settings.cert_file,
            tls_client_key=settings.key_file or None,
        )
        client = distributed.Client(
            settings.scheduler, security=security, asynchronous=True, timeout=REACH_S, set_as_default=False
        )
        try:
            await client
            await client.wait_for_workers(1, timeout=REACH_S)
        except (OSError, TimeoutError) as error:
            await client.close()
            raise ComputeUnavailable(f"{settings.scheduler}: {error or 'no answer'}") from None
        return client

    async def _give_up(self, client: Any, future: Any) -> None:
        await future.cancel()
        if not await client.nthreads():
            raise ComputeUnavailable(f"{self._settings.scheduler}: no worker is left")

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _killed() -> type[Exception]:
    """Give what Dask raises for a task over which workers died."""
    killed: type[Exception] = import_module("distributed.scheduler").KilledWorker
    return killed

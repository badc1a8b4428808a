"""One cloud: its directory, its processes, and what its API says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from cloud.tokens import Tokens
from tests.journeys.kept import Replay, replay
from tests.journeys.processes import Child, get, python
from tests.journeys.site import Site
from tests.waiting import until

CLOUD = python("-m", "cli.main", "cloud", "run")

Held = dict[tuple[str, str, int], tuple[int, bytes]]
"""Series, definition (its digest) and start of a window, to its revision and the rest of the row, bit for bit."""


@dataclass(frozen=True)
class Cloud:
    """One cloud's directory; processes come and go."""

    directory: Path
    port: int
    more: str = ""

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.path.write_text(f'listen = "127.0.0.1:{self.port}"\ndata = "{self.directory / "data"}"\n{self.more}')

    @property
    def public_key(self) -> str:
        """The key that gateways pin, in hexadecimal digits."""
        return Tokens.open(self.directory / "data").signer().public.hex()

    @property
    def admin(self) -> str:
        """The admin's token."""
        return Tokens.open(self.directory / "data").token_file("admin").read_text().strip()

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.directory / "cloud.toml"

    def enrol(self, gateway: str, port: int = 0) -> str:
        """Make a token, and give the part of a gateway's configuration that leads here (or to another port)."""
        tokens = Tokens.open(self.directory / "data")
        tokens.issue(gateway)
        return (
            f'[uplink]\nurl = "http://127.0.0.1:{port or self.port}"\n'
            f'token_file = "{tokens.token_file(gateway)}"\npack_interval = "50ms"\n'
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Child]:
        """Run a cloud process while the block runs; it is ready."""
        log = self.directory / "cloud.log"
        child = Child(await CLOUD(log, [str(self.path)]), log)
        try:
            await until(lambda: self._ready(child), "the cloud is ready")
            yield child
        finally:
            await child.close()

    async def _ready(self, child: Child) -> bool:
        assert child.running, child.said()
        return bool(await get(f"http://127.0.0.1:{self.port}/livez"))

    async def ask(self, path: str) -> Any:
        """Give the JSON that a path answers; None while nobody does."""
        answer = await get(f"http://127.0.0.1:{self.port}{path}")
        return json.loads(answer) if answer else None

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Give the JSON that the admin is answered."""
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.admin}"}) as session:
            url = f"http://127.0.0.1:{self.port}{path}"
            async with session.request(method, url, json=body) as answer:
                found = await answer.json()
                assert answer.status == 200, found
                return found

    async def series(self, gateway: str) -> dict[str, int]:
        """Give a gateway's series by name."""
        answer = await self.ask(f"/v1/series?gateway={gateway}&limit=1000") or {"series": []}
        return {one["name"]: one["id"] for one in answer["series"]}

    async def windows(self, gateway: str, domain: str = "") -> Held:
        """Give all windows of a gateway in a clock domain; no window may come twice."""
        held: Held = {}
        for name, number in (await self.series(gateway)).items():
            start = 0
            while start is not None:
                page = await self.ask(f"/v1/windows?series={number}&from={start}&limit=1000&domain={domain}")
                digests = {one["id"]: one["digest"] for one in page["definitions"]}
                for row in page["windows"]:
                    key = (name, digests[row["definition"]], row["start"])
                    assert key not in held, f"{key} comes twice"
                    held[key] = row["revision"], _bytes(row)
                start = page["next"]
        return held


def expected(uninterrupted: Replay, domain: str = "") -> Held:
    """Give the windows that an uninterrupted replay of a gateway's journal states, in a clock domain."""
    rows = uninterrupted.stated(domain).rows
    digests = {number: digest for digest, number in uninterrupted.derive.definitions.items()}
    return {
        (name, digests[definition], start): (revision, rows[key])
        for key in sorted(rows)
        for name, definition, start, revision in [key]
    }


async def agree(cloud: Cloud, site: Site) -> bool:
    """Whether no window is open, and the cloud has exactly what the gateway's journal says."""
    uninterrupted = replay(site)
    return not uninterrupted.derive.pending and await holds(cloud, site, uninterrupted)


async def holds(cloud: Cloud, site: Site, uninterrupted: Replay) -> bool:
    """Whether the cloud has exactly these windows, in every clock domain."""
    domains = ["", *uninterrupted.elsewhere]
    return all([await cloud.windows(site.name, one) == expected(uninterrupted, one) for one in domains])


def _bytes(row: dict[str, Any]) -> bytes:
    singles = np.array([row["mean"], row["deviation"]], np.float32)
    doubles = np.array([row["minimum"], row["maximum"], row["first"], row["last"]], np.float64)
    return np.int64(row["count"]).tobytes() + singles.tobytes() + doubles.tobytes()

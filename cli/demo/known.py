"""What is known of a demonstration's processes: asked while it runs, and added up at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from cli.accounting import Account, Stated, account, declared_pairs, dropped_readings
from cli.demo import counts, scrape
from cli.demo.counts import Edge, Reports
from cli.demo.labels import Labels, turns
from cli.demo.plan import Gateway
from cli.demo.rounds import Rounds
from cli.demo.scrape import Unanswered


class Known:
    """Who does not answer keeps what was last known of him."""

    def __init__(self, gateways: tuple[Gateway, ...], *, learning: bool = False) -> None:
        self.learning = learning
        self.cloud_url = ""  # known once it listens
        self.cloud_away = False  # it did not answer when it was last asked
        self.since = 0  # ns: no window of this run begins earlier
        self.reports = {gateway.name: Reports() for gateway in gateways}
        self.edges = {gateway.name: Edge() for gateway in gateways}
        self.fleet: list[dict[str, Any]] = []
        self.rounds = Rounds()
        self.last = counts.sample_of(0, list(self.edges.values()), [])
        self._gateways = gateways
        self._counters: dict[str, list[Mapping[str, Any]]] = {}  # windows of the devices' counters, by gateway/device
        self._labelled = 0  # alerts on anomalies that people had labelled

    async def look(self, at: float) -> None:
        """Ask everybody, `at` seconds after the beginning."""
        asked = [self._look_at(gateway) for gateway in self._gateways]
        await asyncio.gather(*asked, self._look_at_fleet())
        self.last = counts.sample_of(at, list(self.edges.values()), self.fleet, away=self.cloud_away)

    async def _look_at(self, gateway: Gateway) -> None:
        try:
            self.edges[gateway.name] = await scrape.edge(gateway.port)
        except Unanswered:
            return

    async def _look_at_fleet(self) -> None:
        try:
            self.fleet, self.cloud_away = await scrape.fleet(self.cloud_url), False
            if self.learning:
                self.rounds.feed(await scrape.trainings(self.cloud_url))
        except Unanswered:
            self.cloud_away = True

    async def balance(self, stopped: int) -> tuple[Account, list[float]]:
        """Compare acknowledgements with what the cloud has; give latencies, in ms, until `stopped`, in ns."""
        self._labelled = 0
        pairs = {f"{name}/{device}": known for name, one in self.reports.items() for device, known in one.pairs.items()}
        windows: dict[str, list[Stated]] = {}
        latencies: list[float] = []
        try:
            for name in self.reports:
                await self._read(name, windows, latencies, stopped)
            await self._count_labelled()
        except Unanswered:
            self.cloud_away = True
        declared = sum(declared_pairs(edge.dropped) for edge in self.edges.values())
        published = sum(one.count("published") for one in self.reports.values())
        return account(pairs, windows, published=published, declared=declared), latencies

    async def _read(self, name: str, into: dict[str, list[Stated]], latencies: list[float], stopped: int) -> None:
        for device, number in (await scrape.counters(self.cloud_url, name)).items():
            self._counters[f"{name}/{device}"] = held = []
            async for page in scrape.windows(self.cloud_url, number, self.since):
                into.setdefault(f"{name}/{device}", []).extend(counts.stated(page))
                latencies += counts.latencies_ms(page, stopped)
                held += page

    async def _count_labelled(self) -> None:
        labels = Labels.read()
        for alert in await scrape.alerts(self.cloud_url):
            if not alert["names"]:  # about the gateway itself
                continue
            gateway, device = alert["gateway"], alert["names"][0].removesuffix("/value")
            counters = self._counters.get(f"{gateway}/{device}", [])
            self._labelled += labels.holds(device, turns(counters, alert["start"], self.reports[gateway].firsts))

    def result(
        self, balance: Account, latencies: list[float], restarts: Mapping[str, int], seconds: float
    ) -> dict[str, Any]:
        """Give what `demo --json` prints."""
        frames = {
            kind: sum(one["frames"][kind] for one in self.fleet) for kind in ("received", "duplicate", "quarantined")
        }
        learnt = {"rounds": self.rounds.rounds} if self.learning else {}
        return learnt | counts.result(
            balance,
            self.last,
            dropped=sum(dropped_readings(edge.dropped) for edge in self.edges.values()),
            frames=frames,
            bytes_json=sum(one.count("bytes_json") for one in self.reports.values()),
            latencies=latencies,
            models=counts.versions(self.fleet),
            labelled=self._labelled,
            restarts=restarts,
            seconds=seconds,
        )

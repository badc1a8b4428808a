"""The gateway's own /livez, /readyz and /metrics, on loopback. Everything is read at scrape time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.derive import Totals
from gateway.records import count
from gateway.score import Progress

FSYNC_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. A good SSD syncs in about 1 ms, an SD card in 5 to 50; above 100 ms it holds up the commit interval."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a gateway says of itself at one moment. Byte counts are of files on the disk."""

    totals: Totals
    unread: dict[str, int]  # messages acknowledged before anybody could decode them, by cause
    pending: int
    frames_sent: int
    frames_receipted: int
    cloud_connected: bool
    journal_bytes: int
    journal_written: int
    spool_frames: dict[str, int]
    spool_bytes: dict[str, int]
    progress: Progress
    models: dict[str, int]  # the version of each model that scores
    models_refused: dict[str, int]  # manifests and parts, by reason
    lacking: list[str]  # why it is not ready; empty when it is
    broker_drops: int = 0  # messages of this or other clients that the broker says it dropped


class VitalsCollector(Collector):
    """Plain counters as metric families, made when somebody asks."""

    def __init__(self, read: Callable[[], Vitals]) -> None:
        self.read = read

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        vitals = self.read()
        yield from _arrivals(vitals)
        yield from _results(vitals)
        yield from _scores(vitals)
        yield from _models(vitals)
        yield from _storage(vitals)


def _arrivals(vitals: Vitals) -> Iterator[Metric]:
    totals = vitals.totals
    tally = totals.tally
    dead = dict(tally.dead)
    count(dead, vitals.unread)
    yield _counter("messages_received", "MQTT messages taken in", tally.messages + sum(vitals.unread.values()))
    yield _counter("messages_decoded", "messages that became readings", tally.decoded)
    yield _counter("messages_redelivered", "messages recognised as sent before", tally.redelivered)
    yield _counters("messages_dead", "messages that could not be read, by cause", "cause", dead)
    yield _counter("readings_recorded", "readings in the journal", totals.recorded)
    dropped = dict(totals.removed)
    count(dropped, tally.refused)
    count(dropped, {"late": totals.late, "broker": vitals.broker_drops})
    yield _counters("readings_dropped", "readings that are in no window, by reason", "reason", dropped)
    yield _counter("readings_windowed", "readings inside windows that have been stated", totals.windowed)
    yield _gauge("readings_pending", "readings inside windows that are still open", vitals.pending)


def _results(vitals: Vitals) -> Iterator[Metric]:
    yield _counter("windows_closed", "windows stated, revisions included", vitals.totals.windows)
    yield _counter("frames_sent", "frames sent up", vitals.frames_sent)
    yield _counter("frames_receipted", "frames the cloud has committed", vitals.frames_receipted)
    yield _gauge("cloud_connected", "1 while the uplink is open", int(vitals.cloud_connected))


def _scores(vitals: Vitals) -> Iterator[Metric]:
    totals, progress = vitals.totals, vitals.progress
    yield _counter("alerts", "alerts raised, by rules and by what has been learnt", totals.alerts)
    yield _counters("alerts_shadow", "alerts that a model would have raised", "model", totals.shadow)
    yield _counter("windows_scored", "windows of groups that detectors have scored", totals.scored)
    yield _counters("windows_unscored", "windows left out, by reason", "reason", totals.unscored)
    groups = {"warming": progress.warming, "scoring": progress.scoring}
    yield _gauges("score_groups", "groups that learn, and groups that score by themselves", "state", groups)
    yield _gauge("score_windows_seen", "windows that the least of the learning groups has seen", progress.seen)
    yield _gauge("score_windows_needed", "windows that it needs", progress.needed)


def _models(vitals: Vitals) -> Iterator[Metric]:
    yield _gauges("model_version", "version of the model that scores", "model", vitals.models)
    refused = vitals.models_refused
    yield _counters("models_refused", "manifests and parts of models that were refused, by reason", "reason", refused)


def _storage(vitals: Vitals) -> Iterator[Metric]:
    yield _gauge("journal_bytes", "bytes of journal on the disk", vitals.journal_bytes)
    yield _counter("journal_written_bytes", "bytes written to the journal", vitals.journal_written)
    yield _gauges("spool_frames", "frames that wait for a receipt", "lane", vitals.spool_frames)
    yield _gauges("spool_bytes", "bytes of spool on the disk", "lane", vitals.spool_bytes)


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"fieldgate_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"fieldgate_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"fieldgate_{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"fieldgate_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


class Status:
    """The gateway's HTTP face; `fsync` takes the seconds of each journal commit."""

    def __init__(self, read: Callable[[], Vitals]) -> None:
        self.read = read
        self.registry = CollectorRegistry()
        self.registry.register(VitalsCollector(read))
        self.fsync = Histogram(
            "fieldgate_journal_fsync_seconds",
            "time of one journal fsync",
            registry=self.registry,
            buckets=FSYNC_BUCKETS,
        )

    async def serve(self, listen: str) -> web.AppRunner:
        """Listen on `host:port`; the caller cleans the runner up."""
        app = web.Application()
        app.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        address = urlsplit(f"//{listen}")
        await web.TCPSite(runner, address.hostname, address.port).start()
        return runner

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        lacking = self.read().lacking
        return web.Response(text="\n".join(lacking or ["ready"]) + "\n", status=503 if lacking else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), content_type="text/plain", charset="utf-8")

"""The gateway's own /livez, /readyz and /metrics, on loopback. Everything is read at scrape time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.derive import Totals
from gateway.http import Answer, Server
from gateway.records import count
from gateway.reload import Reloads
from gateway.score import Progress
from protocol.errors import ConfigurationRefused

if TYPE_CHECKING:
    from gateway.classes import Standing

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
    reloads: Reloads
    classes: Standing | None = None
    broker_drops: int = 0  # messages of this or other clients that the broker says it dropped
    disk: tuple[int, int] = (0, 0)  # bytes free, and how many should be
    budget: tuple[int, int] | None = None  # bytes sent up today, and how many may be; None: any number
    journal_dropped: Mapping[str, int] = field(default_factory=dict)  # bytes of history, by cause
    frames_dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)  # declared lost, by lane and cause


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
        yield from _reloads(vitals.reloads)


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
    if vitals.budget is not None:
        yield _gauge("uplink_spent_bytes", "bytes sent up since midnight UTC", vitals.budget[0])
        yield _gauge("uplink_budget_bytes", "bytes that may be sent up in a day", vitals.budget[1])
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
    unusable = vitals.totals.unusable
    yield _counters("models_unusable", "models taken that cannot score, by reason", "reason", unusable)
    if vitals.classes is not None:
        yield from _classes(vitals.classes)


def _classes(standing: Standing) -> Iterator[Metric]:
    text = "windows of raw readings that a classifier has said the class of"
    yield _pairs(CounterMetricFamily, "windows_classified", text, ("model", "class"), standing.classified)
    left_out = standing.left_out
    yield _counters(
        "classify_left_out", "windows or readings not classified or not said, by reason", "reason", left_out
    )
    text = "1 for whose word is said: of the version in force, of a head of its own, of the version before"
    yield _pairs(GaugeMetricFamily, "classifier_used", text, ("model", "by"), standing.used)
    text = "share of right answers over windows whose label came afterwards"
    yield _pairs(GaugeMetricFamily, "classifier_accuracy", text, ("model", "by"), standing.live)
    text = "times that what a classifier sees had changed"
    yield _pairs(CounterMetricFamily, "classifier_drifts", text, ("model", "what"), standing.drifts)


def _storage(vitals: Vitals) -> Iterator[Metric]:
    yield _gauge("journal_bytes", "bytes of journal on the disk", vitals.journal_bytes)
    yield _counter("journal_written_bytes", "bytes written to the journal", vitals.journal_written)
    yield _gauges("spool_frames", "frames that wait for a receipt", "lane", vitals.spool_frames)
    yield _gauges("spool_bytes", "bytes of spool on the disk", "lane", vitals.spool_bytes)
    lost = vitals.frames_dropped
    yield _pairs(CounterMetricFamily, "frames_dropped", "frames declared lost", ("lane", "cause"), lost)
    yield _gauge("disk_free_bytes", "bytes free on the disk that holds the data", vitals.disk[0])
    yield _gauge("disk_floor_bytes", "bytes that should be free there", vitals.disk[1])
    given_up = vitals.journal_dropped
    yield _counters("journal_dropped_bytes", "bytes of history dropped for the disk, by cause", "cause", given_up)


def _reloads(reloads: Reloads) -> Iterator[Metric]:
    yield _counters("reloads", "times the configuration was read again, by outcome", "outcome", reloads.outcomes)
    yield _gauge("reload_seconds", "time that the last reload took which succeeded", reloads.took / 1e9)
    yield _gauge("reload_timestamp_seconds", "when the configuration in force was read", reloads.at / 1e9)


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"fieldgate_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
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


def _pairs(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    labels: tuple[str, str],
    values: Mapping[tuple[str, str], float],
) -> CounterMetricFamily | GaugeMetricFamily:
    made = family(f"fieldgate_{name}", text, labels=labels)
    for key, value in sorted(values.items()):
        made.add_metric(key, value)
    return made


class Status:
    """The gateway's HTTP face; `fsync` takes the seconds of each journal commit."""

    def __init__(self, read: Callable[[], Vitals]) -> None:
        self.read = read
        self._server: Server | None = None
        self.registry = CollectorRegistry()
        self.registry.register(VitalsCollector(read))
        self.fsync = Histogram(
            "fieldgate_journal_fsync_seconds",
            "time of one journal fsync",
            registry=self.registry,
            buckets=FSYNC_BUCKETS,
        )

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
        return Answer(generate_latest(self.registry).decode())

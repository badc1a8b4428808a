"""A gateway's vitals as Prometheus reads them, made when somebody asks; loaded then too: it is a tenth of a start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.records import count
from gateway.reload import Reloads
from gateway.vitals import FSYNC_BUCKETS, Syncs, Vitals

if TYPE_CHECKING:
    from gateway.cascade import Standing as Asked
    from gateway.classes import Standing


class Families(Collector):
    """Plain counters as metric families."""

    def __init__(self, vitals: Vitals, syncs: Syncs) -> None:
        self.vitals, self.syncs = vitals, syncs

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        vitals = self.vitals
        yield from _arrivals(vitals)
        yield from _results(vitals)
        yield from _scores(vitals)
        yield from _models(vitals)
        yield from _storage(vitals)
        yield from _reloads(vitals.reloads)
        yield _histogram("journal_fsync_seconds", "time of one journal fsync", self.syncs)


def text(vitals: Vitals, syncs: Syncs) -> str:
    """Give all metrics in the text format."""
    registry = CollectorRegistry()
    registry.register(Families(vitals, syncs))
    return generate_latest(registry).decode()


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
    if vitals.cascade is not None:
        yield from _cascade(vitals.cascade)


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


def _cascade(standing: Asked) -> Iterator[Metric]:
    yield _counters("cascade_asked", "windows that the cloud was asked about", "model", standing.asked)
    yield _counters("cascade_answered", "windows that it has said the class of", "model", standing.answered)
    yield _gauges("cascade_labels", "answers kept as labels for training", "model", standing.kept)
    text = "unsure windows not asked about, or answers not taken, by reason"
    yield _counters("cascade_left_out", text, "reason", standing.left_out)


def _storage(vitals: Vitals) -> Iterator[Metric]:
    yield _gauge("journal_bytes", "bytes of journal on the disk", vitals.journal_bytes)
    yield _gauge("journal_pending_bytes", "bytes that wait for a commit", vitals.journal_pending)
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


def _histogram(name: str, text: str, syncs: Syncs) -> HistogramMetricFamily:
    bounds = [*map(str, FSYNC_BUCKETS), "+Inf"]
    buckets = list(zip(bounds, accumulate(syncs.counts), strict=True))
    return HistogramMetricFamily(f"fieldgate_{name}", text, buckets=buckets, sum_value=syncs.seconds)

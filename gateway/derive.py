"""One journal record in, its outputs out: the only place that knows the order clean, window, score.

Rules:

1. `feed(record)` is a function of state and record alone, `now` being the record's stamp. Live, recovery, `replay` and
   tests all come through it, one record per call, so a crash is answered by replay.
2. Whatever changes a result is a record: readings, a tick, a change of configuration, a word about the clock.
3. Definitions come before the outputs that refer to them. The number of a window definition is its digest's for ever:
   another meaning gets another number, so that rows on their way up never change theirs.
4. Of one record definitions come first, then windows, then alerts, then what was learnt.
5. A model's content was checked before it became a record. One that cannot be read all the same is not used, counted.
6. Accounting closes after every record: recorded = windowed + removed(reason) + late + pending.
7. Devices that stamp their readings are in UTC, whatever our clock says. What has its time from our clock is in the
   clock domain in force: UTC, or one of its own from a clock record to the next, while stamps are not UTC. When such a
   domain ends, its open windows are stated in it; what makes UTC of it is stated when it is known, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import msgspec
import numpy as np

from gateway.bursts import Bursts
from gateway.clean import Clean
from gateway.config import PipelineConfig, digest, parse_pipeline, pipeline_text
from gateway.domains import Domains
from gateway.records import (
    Alerts,
    ClockRecord,
    Closed,
    ConfigurationRecord,
    Definitions,
    DropsRecord,
    ModelRecord,
    Output,
    Outputs,
    ReadingsRecord,
    Record,
    State,
    Swapped,
    Tally,
    TickRecord,
    count,
)
from gateway.score import NOTHING, Outcome, Progress, Scoring
from gateway.window import Passed, Windowing
from learning import baseline
from protocol.errors import ModelRefused
from protocol.manifest import read_sealed
from protocol.messages import Alert, SeriesDefinition, WindowDefinition, WindowRows

NO_OUTPUTS = Outputs([])
"""Of a step that had nothing to do; never changed."""


@dataclass(slots=True)
class Totals:
    """Cumulative counts since the journal began; they survive a crash because they are replayed."""

    tally: Tally = field(default_factory=Tally)
    recorded: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    late: int = 0
    windowed: int = 0
    windows: int = 0  # rows stated, revisions included
    scored: int = 0  # windows of groups, by detectors
    unscored: dict[str, int] = field(default_factory=dict)  # windows that a detector or rule left out, by reason
    alerts: int = 0
    raised: dict[str, int] = field(default_factory=dict)  # alerts, by [[score]] or [[rule]]
    shadow: dict[str, int] = field(default_factory=dict)  # that models would have raised where they do not score
    unusable: dict[str, int] = field(default_factory=dict)  # models that could not be read, by reason

    def counts(self) -> dict[str, int]:
        """Give all counts under flat names, as they are declared to the cloud."""
        flat = {
            "messages": self.tally.messages,
            "recorded": self.recorded,
            "windowed": self.windowed,
            "late": self.late,
            "alerts": self.alerts,
        }
        flat |= {f"dead.{cause}": number for cause, number in self.tally.dead.items()}
        flat |= {f"refused.{reason}": number for reason, number in self.tally.refused.items()}
        return flat | {f"removed.{reason}": number for reason, number in self.removed.items()}


class Derive:
    """The pure function of the gateway, with its state: names, stages, totals."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self.names: list[str] = []
        self.definitions: dict[str, int] = {}  # the number of every window definition announced, by digest
        self.models: dict[str, ModelRecord] = {}  # what came over the bus and scores, by name
        self.totals = Totals()
        self.clock = Domains()
        self._clean = Clean(config)
        self._window = Windowing(config)
        self._scoring = Scoring(config)
        self._bursts = Bursts()
        self._windows_announced = False
        self._numbers = np.empty(0, np.int32)  # of each configured window, once announced

    @property
    def domain(self) -> str:
        """The clock domain that our stamps are in; "" is UTC."""
        return self.clock.domain

    @property
    def pending(self) -> int:
        """Readings in windows that have not been stated yet."""
        return self._window.pending

    @property
    def drops(self) -> int:
        """How many messages the devices' broker is known to have dropped."""
        return self._bursts.total

    def due(self) -> int:
        """When (ns) a tick would change something; NEVER if nothing waits for time."""
        return min(self._window.due(), self._scoring.due(), self._bursts.due())

    def progress(self) -> Progress:
        """Tell how far the detectors are in learning what is normal."""
        return self._scoring.progress()

    def feed(self, record: Record) -> Outputs:
        """Apply one record and return its outputs, in order; an output's index is its ordinal."""
        match record:
            case ReadingsRecord():
                return self._readings(record)
            case TickRecord(stamp):
                rows, passed = self._window.tick(stamp)
                outcome = self._scoring.feed(rows, self._window.passed, stamp)
                return self._state([], rows, _and(outcome, self._bursts.tick(stamp), stamp), passed)
            case ConfigurationRecord():
                return self._configure(record)
            case ClockRecord():
                return self._take_clock(record)
            case ModelRecord():
                return self._swap(record)
            case DropsRecord(stamp, total):
                outputs = Outputs([])
                self._state_outcome(outputs.items, _and(NOTHING, self._bursts.feed(total, stamp), stamp))
                return outputs

    def _take_clock(self, record: ClockRecord) -> Outputs:
        leap = self._window.leap(record.leap, record.stamp)
        self._clean.leap(leap)
        self._scoring.leap(leap, self._window.adrift(np.arange(len(self.names), dtype=np.int32)))
        self.clock.leap(record.stamp, leap)
        if not self.clock.ends(record):
            return Outputs([])
        outputs = self._land(record.stamp)
        if known := self.clock.feed(record):
            outputs.items.append(Definitions([], [], known))
        self._believe()
        return outputs

    def _land(self, now: int) -> Outputs:
        """State what is open in the clock domain that ends."""
        if not self.domain:
            return Outputs([])
        rows, passed = self._window.land()
        outputs = self._state([], rows, self._scoring.feed(rows, self._window.passed, now), passed)
        self._window.landed()
        return outputs

    def _believe(self) -> None:
        self._clean.offset = self.clock.offset
        self._window.believe(self.clock.offset)

    def _swap(self, record: ModelRecord) -> Outputs:
        manifest = read_sealed(record.manifest)
        self.models[manifest.name] = record
        if reason := self._use(record):
            count(self.totals.unusable, {reason: 1})
        return Outputs([Swapped(manifest.name, manifest.version, manifest.digest, record.stamp)])

    def _use(self, record: ModelRecord) -> str:
        """Let a model score; give the reason if it cannot."""
        manifest = read_sealed(record.manifest)
        if manifest.schema != baseline.SCHEMA:  # a classifier is asked, it does not score
            return ""
        try:
            model = baseline.decode(record.content)
        except ModelRefused as error:
            return error.reason
        self._scoring.use(manifest.name, model, manifest.version)
        return ""

    def define(self, names: Sequence[str]) -> None:
        """Make series known, in order; their integers follow on from those known before."""
        self.names.extend(names)
        self._clean.define(names)
        self._window.define(names)
        self._scoring.define(names)

    def announced(self) -> Definitions:
        """Give all that was announced so far and still counts: every series, and the windows configured now."""
        series = [SeriesDefinition(number, name) for number, name in enumerate(self.names)]
        windows = self._window_definitions() if self._windows_announced else []
        return Definitions(series, windows, self.clock.definitions())

    def _readings(self, record: ReadingsRecord) -> Outputs:
        first = len(self.names)
        if record.names:
            self.define(record.names)
        items = self._definitions(first, record.names)
        self.totals.tally.add(record.tally)
        self.totals.recorded += record.readings.rows
        before = self._drift(record) if self.domain else NO_OUTPUTS
        items.extend(before.items)
        kept, removed = self._clean.feed(record.readings, record.stamp, record.ours)
        rows, passed = self._window.feed(kept, record.stamp)
        count(removed, passed.removed)
        outcome = self._scoring.feed(rows, self._window.passed, record.stamp)
        outputs = self._state(items, rows, outcome, passed._replace(removed=removed))
        if before.items:
            verdicts = [*before.verdicts, *outputs.verdicts]
            return replace(outputs, windowed=before.windowed + outputs.windowed, verdicts=verdicts)
        return outputs

    def _drift(self, record: ReadingsRecord) -> Outputs:
        """Note which devices are in the clock domain from here on; state what they had open before it."""
        ours = record.readings.series if record.ours is None else record.ours
        rows, passed = self._window.leave(ours)
        outcome = self._scoring.feed(rows, self._window.passed, record.stamp) if rows.rows else NOTHING
        outputs = self._state([], rows, outcome, passed) if rows.rows else NO_OUTPUTS
        self._window.drift(ours)
        return outputs

    def _definitions(self, first: int, names: Sequence[str]) -> list[Output]:
        windows = [] if self._windows_announced else self._window_definitions()
        self._windows_announced = True
        series = [SeriesDefinition(first + at, name) for at, name in enumerate(names)]
        return [Definitions(series, windows)] if series or windows else []

    def _window_definitions(self) -> list[WindowDefinition]:
        self._take_numbers()
        return [
            WindowDefinition(number, digest(window, self.config.clean), int(window.size), int(window.step))
            for number, window in zip(self._numbers.tolist(), self.config.window, strict=True)
        ]

    def _take_numbers(self) -> None:
        """Give each configured window its number: the one it had before, or the next."""
        known = self.definitions
        digests = [digest(window, self.config.clean) for window in self.config.window]
        numbers = [known.setdefault(name, max(known.values(), default=-1) + 1) for name in digests]
        self._numbers = np.array(numbers, np.int32)

    def _state(self, items: list[Output], rows: WindowRows, outcome: Outcome, passed: Passed) -> Outputs:
        if rows.rows:
            items.extend(self._closed(rows._replace(definition=self._numbers[rows.definition])))
            self.totals.windows += rows.rows
        self._state_outcome(items, outcome)
        count(self.totals.removed, passed.removed)
        self.totals.late += passed.late
        self.totals.windowed += passed.windowed
        return Outputs(items, passed.removed, passed.late, passed.windowed, outcome.verdicts)

    def _closed(self, rows: WindowRows) -> list[Output]:
        if not self.domain:
            return [Closed(rows)]
        adrift = self._window.adrift(rows.series)
        parts = (("", ~adrift), (self.domain, adrift))
        return [
            Closed(WindowRows._make(column[which] for column in rows), domain) for domain, which in parts if which.any()
        ]

    def _raised(self, alerts: list[Alert]) -> list[Output]:
        if not self.domain:
            return [Alerts(alerts)]
        parted: dict[str, list[Alert]] = {}
        for alert in alerts:
            adrift = not alert.series or self._window.adrift(np.array(alert.series, np.int32)).any()
            parted.setdefault(self.domain if adrift else "", []).append(alert)
        return [Alerts(alerts, domain) for domain, alerts in sorted(parted.items())]

    def _state_outcome(self, items: list[Output], outcome: Outcome) -> None:
        if outcome is NOTHING:
            return
        if outcome.alerts:
            items.extend(self._raised(outcome.alerts))
        items.extend(outcome.learnt)
        totals = self.totals
        totals.scored += sum(len(verdicts.series) for verdicts in outcome.verdicts)
        count(totals.unscored, outcome.left_out)
        totals.alerts += len(outcome.alerts)
        count(totals.raised, outcome.raised)
        count(totals.shadow, outcome.shadow)

    def _configure(self, record: ConfigurationRecord) -> Outputs:
        known = {score.name for score in self.config.score}
        self.config = parse_pipeline(record.text)
        self._clean.configure(self.config)
        rows, passed = self._window.configure(self.config, record.stamp)
        self._windows_announced = False
        outcome = self._scoring.configure(self.config, rows, record.stamp)
        for model in self.models.values():
            self._use(model)
        self._scoring.introduce(known, outcome)
        # Rows that vanish with their definition are stated before the new numbers are announced.
        outputs = self._state([], rows, outcome, passed)
        outputs.items.extend(self._definitions(len(self.names), []))
        return outputs

    def snapshot(self) -> State:
        """Give all state; `restore` continues from it bit for bit."""
        return {
            "config": pipeline_text(self.config),
            "names": list(self.names),
            "domain": self.domain,
            "clock": self.clock.snapshot(),
            "announced": self._windows_announced,
            "definitions": dict(self.definitions),
            "models": [[model.stamp, model.manifest, model.content] for model in self.models.values()],
            "totals": asdict(self.totals),
            "clean": self._clean.snapshot(),
            "window": self._window.snapshot(),
            "score": self._scoring.snapshot(),
            "bursts": self._bursts.snapshot(),
        }

    @classmethod
    def restore(cls, state: State) -> Derive:
        """Continue from a snapshot, under the configuration it was made with."""
        derive = cls(parse_pipeline(state["config"]))
        derive.define(state["names"])
        derive.clock = Domains.restore(state["domain"], state.get("clock", {}))
        derive._believe()
        derive._windows_announced = state["announced"]
        derive.definitions = dict(state.get("definitions", {}))
        for stamp, manifest, content in state.get("models", []):
            derive._swap(ModelRecord(stamp, manifest, content))
        if derive._windows_announced:
            derive._take_numbers()
        derive.totals = msgspec.convert(state["totals"], Totals)
        derive._clean.restore(state["clean"])
        derive._window.restore(state["window"])
        if "score" in state:  # a checkpoint of an earlier version has none: detectors begin anew
            derive._scoring.restore(state["score"])
        if "bursts" in state:
            derive._bursts.restore(state["bursts"])
        return derive


def _and(outcome: Outcome, alerts: list[Alert], now: int) -> Outcome:
    """Give what was scored with alerts that are about the gateway itself."""
    if alerts and outcome is NOTHING:
        outcome = Outcome(now)
    for alert in alerts:
        outcome.alert(alert)
    return outcome
